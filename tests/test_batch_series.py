"""Time series: linked into histories, resumed at the frame where they stopped, shared out to processes."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from benchmarks.growing_fault import growing_fault
from napari_hrstem_defects import Recipe
from napari_hrstem_defects.batch import analyze_files, locks, replay
from napari_hrstem_defects.batch.locks import locked
from napari_hrstem_defects.batch.options import FromFrame, Options
from napari_hrstem_defects.batch.series import Series
from napari_hrstem_defects.cli.analyze import placement_of
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.errors import HrstemDefectsError
from napari_hrstem_defects.io import load, read
from napari_hrstem_defects.io.frames import FrameResult

pytestmark = pytest.mark.usefixtures("quick_figures")

FRAMES, RATE_NM, DRIFT_NM, PIXEL_NM = 6, 0.25, (-0.03, 0.045), 0.03
SCALES = {"pixel_size_nm": PIXEL_NM, "frame_time_s": 0.5}


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """Six frames of a fault that grows by 0.25 nm a frame, of a specimen that drifts by (1, −1.5) px a frame."""
    path = tmp_path_factory.mktemp("movie") / "fault.npy"
    np.save(path, np.stack(list(growing_fault(FRAMES, rate_nm=RATE_NM, drift_nm=DRIFT_NM))))
    return path


@pytest.fixture(scope="module")
def result(movie, tmp_path_factory):
    """The movie analysed in one go."""
    out = tmp_path_factory.mktemp("result")
    (row,) = analyze_files([movie], out, **SCALES)
    assert row.status == "done"
    return out / "fault"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def analysed(monkeypatch):
    """Names of the frames that are analysed."""
    names, analyze = [], pipeline.analyze

    def counted(micrograph, *args, **options):
        names.append(micrograph.name)
        return analyze(micrograph, *args, **options)

    monkeypatch.setattr(pipeline, "analyze", counted)
    return names


def done(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / ".fault.series").glob("*.tif")}


def same(folder, other):
    """Whether two results say the same, byte for byte where nothing is a time."""
    files = ("labels.tif", "severity.tif", "variance.tif", "patches.csv", "regions.csv", "histories.csv")
    return [name for name in files if (folder / name).read_bytes() != (other / name).read_bytes()] == []


def test_a_growing_fault_is_one_history_with_its_rate(result):
    found = load(result)
    (history,) = found.histories
    assert (history["first_frame"], history["last_frame"], history["frames"]) == (0, 5, 6)
    assert history["type"] == "intrinsic stacking fault"
    assert history["length_rate_nm_per_frame"] == pytest.approx(RATE_NM, rel=0.05)
    low, high = (history[f"length_rate_{end}_nm_per_frame"] for end in ("low", "high"))
    assert low < history["length_rate_nm_per_frame"] < high
    assert history["length_rate_nm_per_s"] == pytest.approx(2 * history["length_rate_nm_per_frame"], rel=1e-6)
    assert [row["history"] for row in found.regions] == [1] * FRAMES
    assert [row["frame"] for row in found.regions] == list(range(FRAMES))
    assert found.labels.shape == (FRAMES, 256, 256)
    drifts = np.array([frame["drift_px"] for frame in found.frames])
    assert drifts[0].tolist() == [0, 0]
    assert drifts[1:] == pytest.approx(np.tile([1.0, -1.5], (FRAMES - 1, 1)), abs=0.15)
    assert (result / "histories.png").stat().st_size > 0
    assert not (result.parent / ".fault.series").exists()


def test_a_series_goes_on_at_the_frame_where_it_stopped(movie, out, result, analysed):
    (row,) = analyze_files([movie], out, **SCALES, cancelled=lambda: len(done(out)) == 4)
    assert row.status == "cancelled"
    before = done(out)
    assert len(before) == 4
    analysed.clear()
    (row,) = analyze_files([movie], out, **SCALES)
    assert row.status == "done"
    # The last frame has the longest fault: it is what the overview shows.
    assert analysed == [f"fault.npy[{t}]" for t in range(4, FRAMES)]
    assert same(out / "fault", result)


def row_of(out):
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    return row


def test_the_table_grows_with_the_frames(movie, out, monkeypatch):
    from napari_hrstem_defects.batch import run

    monkeypatch.setattr(run, "_LOOK_S", 0.0)
    rows = []

    def progress(fraction, text):
        if (out / "summary.csv").exists():  # not yet while the series is planned
            rows.append(row_of(out))

    (row,) = analyze_files([movie], out, progress=progress, cancelled=lambda: len(done(out)) == 4)
    assert rows.pop()["status"] == "cancelled"
    assert {row["status"] for row in rows} == {"running"}
    counts = [int(row["frames_done"]) for row in rows]
    assert counts == sorted(counts)
    assert set(counts) == {1, 2, 3}
    assert rows[-1]["message"] == "3 of 6 frames analysed"
    assert (row.status, row.frames_done, row.frames) == ("cancelled", 4, 6)
    assert row_of(out)["message"] == "4 of 6 frames analysed"
    (row,) = analyze_files([movie], out)
    assert (row.status, row.frames_done, row.frames) == ("done", 6, 6)
    assert (row_of(out)["status"], row_of(out)["frames_done"]) == ("done", "6")
    # What is there stays in the table until another takes its place.
    (row,) = analyze_files([movie], out, overwrite=True, cancelled=lambda: len(done(out)) == 2)
    assert row.status == "cancelled"
    assert row_of(out)["status"] == "done"


def test_a_frame_that_another_run_works_at_is_left_to_it(movie, out, result, analysed):
    def stop():
        return len(done(out)) == 5

    analyze_files([movie], out, **SCALES, cancelled=lambda: bool(done(out)))
    analysed.clear()
    with locked(out / ".fault.series" / ".000002.lock"):
        analyze_files([movie], out, **SCALES, cancelled=stop)
    assert analysed == [f"fault.npy[{t}]" for t in (1, 3, 4, 5)]
    analyze_files([movie], out, **SCALES)
    assert same(out / "fault", result)


def test_a_series_is_written_while_others_work_at_it(movie, out, analysed):
    out.mkdir()
    series = Series(out / "kept", read(movie, as_dask=False), Recipe(), Options())
    series.begin({})
    found = series.results()
    with locked(series.folder / ".000001.lock"):
        assert next(found).micrograph.name == "fault.npy[0]"
        late = threading.Thread(target=lambda: next(found))
        late.start()
        deadline = time.monotonic() + 60
        while len(analysed) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        # Nothing else is left to do.
        late.join(0.3)
        assert late.is_alive()
        assert analysed == [f"fault.npy[{t}]" for t in (0, 2, 3, 4, 5)]
    late.join()
    assert analysed[5:] == ["fault.npy[1]"]
    assert [each.micrograph.name for each in found] == [f"fault.npy[{t}]" for t in range(2, 6)]
    assert len(analysed) == 6


def test_a_series_that_another_run_finishes_is_shared(movie, out, result):
    analyze_files([movie], out, **SCALES, cancelled=lambda: bool(done(out)))
    waited = []

    def stop():
        waited.append(len(done(out)) == FRAMES)
        return sum(waited) > 2

    with locked(out / ".fault.lock"):
        (row,) = analyze_files([movie], out, **SCALES, cancelled=stop)
    assert (row.status, row.message) == ("cancelled", "6 of 6 frames analysed")
    (row,) = analyze_files([movie], out, **SCALES)
    assert row.status == "done"
    assert same(out / "fault", result)


def test_another_series_of_the_same_name_is_not_shared(movie, out, tmp_path):
    other = tmp_path / "other" / "fault.npy"
    other.parent.mkdir()
    np.save(other, np.asarray(read(movie).data)[::-1])
    analyze_files([movie], out, cancelled=lambda: bool(done(out)))
    (row,) = analyze_files([other], out, cancelled=lambda: len(list(out.glob(".fault*.series"))) == 2)
    assert row.name.startswith("fault-")
    assert len(done(out)) == 1


def test_a_part_of_something_else_does_not_count(movie, out, result, tmp_path, analysed):
    """As a process leaves it that was late."""
    recipe = Recipe().replace({"segment.false_marks": "10"})
    for where, asked in ((out, Recipe()), (tmp_path / "other", recipe)):
        analyze_files([movie], where, asked, **SCALES, cancelled=lambda where=where: len(done(where)) == 2)
    name = ".fault.series/000001.tif"
    (out / name).write_bytes((tmp_path / "other" / name).read_bytes())
    analysed.clear()
    analyze_files([movie], out, **SCALES)
    assert "fault.npy[1]" in analysed
    assert same(out / "fault", result)


def test_where_another_run_failed_this_one_tries_itself(movie, out, result):
    def failed_elsewhere(fraction, text):
        if "frame 3 of" in text and not failures:
            failures.append(text)
            (out / ".fault.series" / "failed").touch()

    failures = []
    (row,) = analyze_files([movie], out, **SCALES, progress=failed_elsewhere)
    assert failures
    assert row.status == "done"
    assert same(out / "fault", result)


def test_several_begin_at_different_frames(movie, out, analysed):
    """So that they share the frames also where there are no locks."""
    out.mkdir()
    series = Series(out / "kept", read(movie, as_dask=False), Recipe(), Options(), place=(0, 3))
    series.begin({})
    list(series.work())
    assert analysed == [f"fault.npy[{t}]" for t in (0, 1, 4, 2, 5, 3)]


def test_where_one_fails_the_others_stop(movie, out, monkeypatch):
    out.mkdir()
    analyze, analysed = pipeline.analyze, []

    def broken(micrograph, *args, **options):
        if micrograph.name == "fault.npy[1]":
            raise MemoryError
        analysed.append(micrograph.name)
        return analyze(micrograph, *args, **options)

    monkeypatch.setattr(pipeline, "analyze", broken)
    one, other = (Series(out / "kept", read(movie, as_dask=False), Recipe(), Options()) for _ in range(2))
    one.begin({})
    with pytest.raises(MemoryError):
        list(one.work())
    assert other.resume({})
    list(other.work())
    assert analysed == ["fault.npy[0]"]
    monkeypatch.setattr(pipeline, "analyze", analyze)
    other.begin({})
    list(other.work())
    assert other.missing() == []


def test_two_runs_where_there_are_no_locks(movie, out, result, monkeypatch):
    monkeypatch.setattr(locks, "_take", lambda handle: True)
    rows = []

    def meanwhile(fraction, text):
        if "frame 4 of" in text and not rows:
            rows.append(None)
            rows[0] = analyze_files([movie], out, **SCALES)[0]

    (row,) = analyze_files([movie], out, **SCALES, progress=meanwhile)
    assert [rows[0].status, row.status] == ["done", "skipped"]
    assert same(out / "fault", result)
    assert {path.name for path in out.iterdir()} == {"fault", "summary.csv"}


def test_another_recipe_begins_anew(movie, out, analysed):
    for recipe in (Recipe(), Recipe().replace({"segment.false_marks": "0.2"})):
        begun = len(analysed)
        analyze_files([movie], out, recipe, cancelled=lambda begun=begun: len(analysed) >= begun + 2)
        assert "fault.npy[0]" in analysed[begun:]


def test_a_damaged_frame_and_one_of_other_pixels_are_analysed_again(movie, out, result, analysed):
    analyze_files([movie], out, **SCALES, cancelled=lambda: len(done(out)) == 3)
    kept = out / ".fault.series"
    (kept / "000001.tif").write_bytes((kept / "000001.tif").read_bytes()[:5000])
    (kept / "000002.tif").write_bytes((kept / "000000.tif").read_bytes())
    analysed.clear()
    analyze_files([movie], out, **SCALES)
    assert {"fault.npy[1]", "fault.npy[2]"} <= set(analysed)
    assert "fault.npy[0]" not in analysed
    assert same(out / "fault", result)


def test_an_input_that_goes_midway(movie, out, tmp_path):
    path = tmp_path / "movie.npy"
    np.save(path, np.asarray(read(movie).data))

    def progress(share, text):
        if "frame 3 of" in text:
            path.unlink(missing_ok=True)

    (row,) = analyze_files([path], out, progress=progress)
    assert row.status == "failed"
    assert row.message.startswith(f"{path}: the file cannot be read any more (")


def test_a_full_disk_midway(movie, out, result, monkeypatch):
    save = FrameResult.save

    def full(self, path, key, **options):
        if path.name == "000003.tif":
            raise OSError(28, "No space left on device")
        save(self, path, key, **options)

    monkeypatch.setattr(FrameResult, "save", full)
    (row,) = analyze_files([movie], out, **SCALES)
    assert row.status == "failed"
    assert "No space left on device" in row.message
    assert len(row.message.splitlines()) == 1
    assert sorted(done(out)) == [f"{t:06d}.tif" for t in range(3)]
    monkeypatch.undo()
    (row,) = analyze_files([movie], out, **SCALES)
    assert row.status == "done"
    assert same(out / "fault", result)


# -- the best patch -------------------------------------------------------------------------------------------


def test_best_patch_of_one_frame_for_all(movie, out):
    analyze_files([movie], out, best_patch=FromFrame(3))
    patches = load(out / "fault").best_patches
    assert {(p.y, p.x, p.size) for p in patches} == {(patches[3].y, patches[3].x, patches[3].size)}
    assert [p.placed for p in patches] == ["automatic" if t == 3 else "series" for t in range(FRAMES)]
    assert load(out / "fault").info["best_patch_from"] == {"frame": 3, "tracked": False}
    (row,) = analyze_files([movie], out, best_patch=FromFrame(3))
    assert row.status == "skipped"
    again = replay(out / "fault" / "analysis.json", out / "again")
    assert again.differing == ()
    (row,) = analyze_files([movie], out, best_patch=FromFrame(4), cancelled=lambda: bool(done(out)))
    assert row.status == "cancelled"  # not skipped


@pytest.mark.parametrize("point", [None, (100.0, 140.0)])
def test_best_patch_that_moves_with_the_drift(movie, out, point):
    analyze_files([movie], out, best_patch=FromFrame(0, True, point))
    found = load(out / "fault")
    places = np.array([(p.y, p.x) for p in found.best_patches])
    moved = places[0] + np.outer(range(FRAMES), [1.0, -1.5])
    low = found.best_patches[0].size / 2 - 0.5
    # It stays whole within the frame.
    assert places == pytest.approx(np.clip(moved, low, 255 - low), abs=0.5)
    if point is not None:
        assert places[0].tolist() == list(point)
        assert found.info["best_patch_by_hand"] == list(point)
        assert replay(out / "fault" / "analysis.json", out / "again").differing == ()


def test_best_patch_of_a_frame_that_is_not_there(movie, out):
    (row,) = analyze_files([movie], out, best_patch=FromFrame(FRAMES))
    assert row.status == "failed"
    assert "the series ends with frame 5" in row.message


def test_best_patch_on_the_command_line():
    assert placement_of("12,7.5") == (12.0, 7.5)
    assert placement_of("frame:3") == FromFrame(3)
    assert placement_of("track:0") == FromFrame(0, True)
    assert placement_of("track:10,20") == FromFrame(0, True, (10.0, 20.0))
    for text in ("3", "frame:1,2", "frame:-1", "other:3", "track:"):
        with pytest.raises(HrstemDefectsError, match="--best-patch"):
            placement_of(text)


# -- processes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_share_a_series_are_killed_and_go_on(movie, out, result):
    program = (sys.executable, "-c", "from napari_hrstem_defects.cli import main; main()")
    options = ("--pixel-size", str(PIXEL_NM), "--frame-time", "0.5", "--jobs", "2", "--quiet")
    child = subprocess.Popen([*program, "analyze", movie, "--out", out, *options], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(done(out)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    before = done(out)
    assert 2 <= len(before) < FRAMES
    told = []
    (row,) = analyze_files(
        [movie],
        out,
        **SCALES,
        jobs=2,
        progress=lambda fraction, text: told.append((text, done(out))),
    )
    assert row.status == "done"
    kept = [there for text, there in told if "frame" in text and there]
    assert all(there[name] == when for there in kept for name, when in before.items())
    assert [text for text, _ in told if "frame 6 of 6" in text]
    assert same(out / "fault", result)
