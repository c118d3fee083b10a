"""Many files: what is found, how results are named, what is done again, what is left after an interruption."""

import csv
import gc
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_hrstem_defects import Recipe
from napari_hrstem_defects.batch import analyze_files, evaluate_folders, find_inputs, replay
from napari_hrstem_defects.batch.inputs import result_names
from napari_hrstem_defects.batch.summary import COLUMNS
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.errors import HrstemDefectsError, ReadError, WriteError
from napari_hrstem_defects.io import load

from .helpers import crystal

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def write(path, seed=0, shape=(128, 128)):
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, crystal(shape, seed=seed))
    return path


def statuses(rows):
    return {row.name: row.status for row in rows}


def table(out):
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def names(folder):
    return {path.name for path in folder.iterdir()}


# -- what is found --------------------------------------------------------------------------------------------


def found(*named):
    return [entry.path.name for entry in find_inputs(named)]


def test_folders_stand_for_the_images_in_them(folder):
    for name in ("f10.tif", "f2.TIF", "notes.txt", ".hidden.tif", "f2_mask.png", "alone_mask.png", "f1.npy"):
        (folder / name).write_bytes(b"x")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "f3.tif").write_bytes(b"x")
    assert found(folder) == ["alone_mask.png", "f1.npy", "f2.TIF", "f10.tif"]


def test_files_folders_and_patterns_mixed_and_once(folder):
    for name in ("a.tif", "b.tif", "c.png", "c.csv"):
        (folder / name).write_bytes(b"x")
    assert found(folder / "b.tif", f"{folder}/*.tif", folder) == ["b.tif", "a.tif", "c.png"]
    assert found(f"{folder}/[ac].*") == ["a.tif", "c.png"]
    assert found(f"{folder.parent}/ima*") == ["a.tif", "b.tif", "c.png"]
    assert found(f"{folder.parent}/**/*.png") == ["c.png"]
    # Names with brackets are files first.
    (folder / "a[1].tif").write_bytes(b"x")
    assert found(folder / "a[1].tif") == ["a[1].tif"]


def test_nothing_found(folder):
    empty, pattern, missing = find_inputs([folder, f"{folder}/*.tif", folder / "missing.tif"])
    assert "there is no image in this folder" in empty.error
    assert "no image matches this pattern" in pattern.error
    assert missing.error is None  # reading it says so


# -- how results are named ------------------------------------------------------------------------------------


def nobody(name):
    return None


def test_equal_stems_get_different_names():
    assert result_names([Path("a.tif"), Path("b.c.dm3")], nobody) == ["a", "b.c"]
    paths = [Path("/x/a.tif"), Path("/x/a.dm3"), Path("/y/A.tif")]
    first = result_names(paths, nobody)
    assert len({name.lower() for name in first}) == 3
    assert "a" in {name.lower() for name in first}
    again = result_names(paths[::-1], nobody)
    assert first == again[::-1]


def test_the_owner_keeps_the_plain_stem(tmp_path):
    paths = [tmp_path / "a" / "x.tif", tmp_path / "b" / "x.tif"]
    for path in paths:
        write(path)
    names = result_names(paths, {"x": str(paths[1])}.get)
    assert names[1] == "x"
    assert names[0].startswith("x-")
    # If the owner is gone, the name is free.
    paths[1].unlink()
    assert result_names(paths[:1], {"x": str(paths[1])}.get) == ["x"]


@given(
    st.lists(st.text(min_size=1, max_size=8).filter(lambda s: "/" not in s and "\0" not in s), unique=True)
)
def test_names_are_unique_and_fit_for_files(stems):
    names = result_names([Path("/data") / f"{stem}.tif" for stem in stems], nobody)
    assert len({name.lower() for name in names}) == len(stems)
    for name in names:
        assert name.strip(" .") == name != ""
        assert not set(name) & set('<>:"|?*\\/\0')
        assert name.lower() != "summary.csv"


# -- one batch ------------------------------------------------------------------------------------------------


def test_batch(folder, out):
    write(folder / "good.tif")
    (folder / "bad.tif").write_text("no image")
    reports, finished = [], []
    rows = analyze_files(
        [folder, folder / "missing.tif"],
        out,
        progress=lambda fraction, text: reports.append((fraction, text)),
        finished=finished.append,
    )
    assert statuses(rows) == {"good": "done", "bad": "failed", "missing": "failed"}
    assert [row.name for row in rows] == ["bad", "good", "missing"]
    assert finished == rows
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any("good.tif: symmetry" in text for _, text in reports)
    written = table(out)
    assert tuple(written["good"]) == COLUMNS
    assert written["good"]["path"] == str(folder / "good.tif")
    assert float(written["good"]["seconds"]) > 0
    assert 0 <= float(written["good"]["symmetry_fraction"]) <= 1
    assert "bad.tif" in written["bad"]["message"]
    assert names(out) == {"good", "summary.csv"}


def test_two_files_of_one_stem(folder, out):
    a, b = write(folder / "a" / "x.tif", 1), write(folder / "b" / "x.tif", 2)
    for order in ([a, b], [b, a]):
        rows = analyze_files(order, out)
        shas = {row.path: load(out / row.name).info["input"]["path"] for row in rows}
        assert shas == {str(a): str(a), str(b): str(b)}
    assert all(row.status == "skipped" for row in rows)


def test_batches_into_one_folder_do_not_replace_each_other(folder, out):
    a, b = write(folder / "a" / "x.tif", 1), write(folder / "b" / "x.tif", 2)
    first = analyze_files([a], out)
    second = analyze_files([b], out)
    assert first[0].name == "x"
    assert second[0].name.startswith("x-")
    assert load(out / "x").info["input"]["path"] == str(a)
    assert set(table(out)) == {"x", second[0].name}


def test_what_is_there_is_not_made_again(folder, out, monkeypatch):
    path = write(folder / "a.tif")
    calls = []
    analyze = pipeline.analyze
    monkeypatch.setattr(
        pipeline, "analyze", lambda *args, **kwargs: calls.append(1) or analyze(*args, **kwargs)
    )

    def again(**options):
        calls.clear()
        (row,) = analyze_files([path], out, **options)
        assert row.status == ("done" if calls else "skipped")
        assert row.regions is not None
        return bool(calls)

    assert again()
    assert not again()
    assert again(overwrite=True)
    assert not again()
    changed = Recipe().replace({"segment.false_marks": 0.2})
    assert again(recipe=changed)
    assert not again(recipe=changed)
    assert again(recipe=changed, best_patch=(3, 3))  # moved inside the image, yet the same wish
    assert not again(recipe=changed, best_patch=(3, 3))
    assert again()
    assert again(pixel_size_nm=0.02)
    assert again()
    write(path, seed=5)
    assert again()
    (out / "a" / "overview.png").unlink()
    assert again()
    info = out / "a" / "analysis.json"
    info.write_text(info.read_text().replace('"napari-hrstem-defects": "', '"napari-hrstem-defects": "0.0.'))
    assert again()
    info.write_text("{")
    assert again()


def test_folders_of_others_are_left_alone(folder, out):
    path = write(folder / "a.tif")
    (out / "a").mkdir(parents=True)
    (out / "a" / "thesis.txt").write_text("precious")
    (row,) = analyze_files([path], out, overwrite=True)
    assert row.status == "failed"
    assert "other files" in row.message
    assert names(out / "a") == {"thesis.txt"}


def test_one_bad_frame_fails_the_series_and_the_others_are_kept(folder, out):
    frames = np.stack([crystal(), np.full((128, 128), 7, np.uint16)])
    tifffile.imwrite(folder / "series.tif", frames, photometric="minisblack")
    (row,) = analyze_files([folder], out)
    assert row.status == "failed"
    assert "series.tif[1]: all pixels have the same value" in row.message
    assert names(out) == {"summary.csv", ".series.series"}
    assert {path.name for path in (out / ".series.series").glob("*.tif")} == {"000000.tif"}


def test_internal_errors_cost_one_line(folder, out, monkeypatch):
    write(folder / "a.tif")
    write(folder / "b.tif")

    def broken(micrograph, *args, **kwargs):
        if micrograph.name == "a.tif":
            raise ZeroDivisionError("a\nbug")
        return analyze(micrograph, *args, **kwargs)

    analyze = pipeline.analyze
    monkeypatch.setattr(pipeline, "analyze", broken)
    rows = analyze_files([folder], out)
    assert statuses(rows) == {"a": "failed", "b": "done"}
    assert "internal error (ZeroDivisionError: a bug); please report it" in rows[0].message


def test_too_little_memory(folder, out, monkeypatch):
    write(folder / "a.tif")
    monkeypatch.setattr(pipeline, "analyze", lambda *args, **kwargs: bytearray(1 << 62))
    (row,) = analyze_files([folder], out)
    assert "not enough memory" in row.message


# -- interruptions --------------------------------------------------------------------------------------------


def test_interrupt_writes_the_table_and_leaves_nothing_half_done(folder, out, monkeypatch):
    for name in "abc":
        write(folder / f"{name}.tif")

    def interrupted(micrograph, *args, **kwargs):
        if micrograph.name == "b.tif":
            raise KeyboardInterrupt
        return analyze(micrograph, *args, **kwargs)

    analyze = pipeline.analyze
    monkeypatch.setattr(pipeline, "analyze", interrupted)
    with pytest.raises(KeyboardInterrupt):
        analyze_files([folder], out)
    assert {name: row["status"] for name, row in table(out).items()} == {
        "a": "done",
        "b": "cancelled",
        "c": "cancelled",
    }
    assert names(out) == {"a", "summary.csv"}
    monkeypatch.setattr(pipeline, "analyze", analyze)
    assert statuses(analyze_files([folder], out)) == {"a": "skipped", "b": "done", "c": "done"}


def test_cancel(folder, out):
    for name in "abc":
        write(folder / f"{name}.tif")
    seen = []
    rows = analyze_files([folder], out, finished=seen.append, cancelled=lambda: len(seen) >= 1)
    assert statuses(rows) == {"a": "done", "b": "cancelled", "c": "cancelled"}
    assert names(out) == {"a", "summary.csv"}


def test_leftovers_of_a_killed_batch_are_cleared(folder, out):
    write(folder / "a.tif")
    (out / ".a.x1y2.partial").mkdir(parents=True)
    (out / ".other.x1y2.partial").mkdir()
    analyze_files([folder], out)
    assert names(out) == {"a", ".other.x1y2.partial", "summary.csv"}


def test_rows_of_lost_results_go(folder, out):
    a, b = write(folder / "a.tif"), write(folder / "007.tif")
    analyze_files([a, b], out)
    assert set(table(out)) == {"a", "007"}
    analyze_files([a], out)
    assert set(table(out)) == {"a", "007"}
    (out / "007").rename(out.parent / "elsewhere")
    analyze_files([a], out)
    assert set(table(out)) == {"a"}


# -- other processes ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes(folder, out):
    for name in "abc":
        write(folder / f"{name}.tif", seed=ord(name))
    (folder / "bad.tif").write_text("no image")
    rows = analyze_files([folder], out, jobs=2)
    assert statuses(rows) == {"a": "done", "b": "done", "bad": "failed", "c": "done"}
    alone = analyze_files([folder], out.parent / "alone")
    assert statuses(alone) == statuses(rows)
    for name in "abc":
        np.testing.assert_array_equal(load(out / name).severity, load(out.parent / "alone" / name).severity)
    assert multiprocessing.active_children() == []


def test_all_processes_begin_at_once_and_end_unused():
    from napari_hrstem_defects.batch.workers import Processes

    before = set(multiprocessing.active_children())
    begin = time.monotonic()
    pool = Processes(2)
    begun = set(multiprocessing.active_children()) - before
    pool.close()
    assert len(begun) == 2
    assert time.monotonic() - begin < 20
    assert set(multiprocessing.active_children()) == before


_DEADLY = """
import os

def work(task):
    if task.name == "deadly":
        os._exit(9)
    return task.row("done")
"""


def test_a_process_that_dies_fails_its_image_only(folder, out, tmp_path, monkeypatch):
    from napari_hrstem_defects.batch import workers

    write(folder / "a.tif")
    write(folder / "deadly.tif")
    (tmp_path / "deadly.py").write_text(_DEADLY)
    monkeypatch.syspath_prepend(tmp_path)  # worker processes look there as well
    monkeypatch.setattr(workers, "_work", importlib.import_module("deadly").work)
    rows = analyze_files([folder], out, jobs=2)
    assert statuses(rows) == {"a": "done", "deadly": "failed"}
    assert "ended by the system" in rows[1].message


ANALYZE = (sys.executable, "-c", "from napari_hrstem_defects.cli import main; main()", "analyze")


@pytest.fixture
def start():
    """``start(*arguments)``: the command analyze in a process of its own, which ends with the test."""
    processes = []

    def begin(*arguments):
        command = [*ANALYZE, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, start_new_session=True, **pipes))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def children_of(pid):
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="POSIX signals and /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals(folder, out, start, number):
    """Interrupted or killed, a run ends with its workers and leaves whole results, and another goes on from there."""
    for index in range(8):
        write(folder / f"{index:02}.tif", shape=(256, 256), seed=index)
    process = start(folder, "--out", out, "--jobs", 2)
    wait_for((out / "summary.csv").exists, 240)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    begin = time.monotonic()
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10  # 5 on a machine that does nothing else
    wait_for(lambda: all(map(ended, workers)), 5)
    whole = {path.name for path in out.iterdir() if (path / "analysis.json").exists() and path.name[0] != "."}
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert "Interrupted; the same command" in errors
        assert "Traceback" not in errors
        results = table(out)
        assert len(results) == 8
        assert {row["status"] for row in results.values()} == {"done", "cancelled"}
        assert {name for name, row in results.items() if row["status"] == "done"} == whole
        assert names(out) == whole | {"summary.csv"}
    assert 0 < len(whole) < 8
    rows = analyze_files([folder], out)
    assert {row.name for row in rows if row.status == "skipped"} == whole
    assert names(out) == {row.name for row in rows} | {"summary.csv"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="POSIX signals and /proc")
def test_an_interrupt_while_all_begins(folder, out, start):
    """Ctrl-C reaches the workers before they can say what is to be done with it."""
    write(folder / "a.tif")
    process = start(folder, "--out", out, "--jobs", 2)
    wait_for(lambda: len(children_of(process.pid)) > 2, 60)  # workers and a helper of multiprocessing
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "Interrupted; the same command, run again, continues from there."


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="POSIX signals and /proc")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_worker_that_hangs_is_ended(folder, out, start, jobs):
    """As in a library's code that never returns, where no Python runs."""
    for index in range(8):
        write(folder / f"{index:02}.tif", shape=(256, 256), seed=index)
    process = start(folder, "--out", out, "--jobs", jobs)
    wait_for((out / "summary.csv").exists, 240)
    workers = [
        pid for pid in children_of(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(workers) == jobs
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10  # 5 on a machine that does nothing else
    assert process.returncode == 143
    assert errors.strip().startswith("Interrupted; the same command")
    wait_for(lambda: all(map(ended, workers)), 5)
    assert {row["status"] for row in table(out).values()} == {"done", "cancelled"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the cluster
def test_cluster(folder, out):
    from distributed import LocalCluster

    write(folder / "a.tif")
    (folder / "bad.tif").write_text("no image")
    tifffile.imwrite(
        folder / "s.tif", np.stack([crystal(seed=s) for s in range(2)]), photometric="minisblack"
    )
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        rows = analyze_files([folder], out, scheduler=cluster.scheduler_address)
        again = analyze_files([folder], out, scheduler=cluster.scheduler_address)
    assert statuses(rows) == {"a": "done", "bad": "failed", "s": "done"}
    assert statuses(again) == {"a": "skipped", "bad": "failed", "s": "skipped"}


@pytest.mark.filterwarnings("ignore")
def test_no_scheduler(folder, out, monkeypatch):
    from distributed import default_client

    from napari_hrstem_defects.batch import workers

    monkeypatch.setattr(workers, "_SCHEDULER_TIMEOUT_S", 1)
    write(folder / "a.tif")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"not dask" * 99), daemon=True).start()
        other = "tcp://127.0.0.1:{1}".format(*server.getsockname())
        for address in ("tcp://127.0.0.1:1", "nonsense://x", "tcp://:::", other):
            with pytest.raises(HrstemDefectsError, match="no dask scheduler answers"):
                analyze_files([folder], out, scheduler=address)
    gc.collect()  # where a client that is left behind complains
    with pytest.raises(ValueError, match="No clients found"):
        default_client()


# -- repeating ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "best_patch"), [(Recipe(), None), (Recipe(), (40, 50)), (Recipe.published(), None)]
)
def test_replay_gives_the_same_bits(folder, out, best_patch, recipe):
    data = crystal((192, 260))
    data[80:110, 60:] = np.roll(data, 5, axis=1)[80:110, 60:]
    tifffile.imwrite(folder / "a.tif", data)
    analyze_files([folder], out, recipe, best_patch=best_patch, pixel_size_nm=0.02)
    outcome = replay(out / "a" / "analysis.json", out.parent / "again")
    assert outcome.differing == ()
    assert outcome.changed == ()
    first, second = load(out / "a"), load(outcome.folder)
    assert outcome.folder == out.parent / "again" / "a"
    for name in ("labels", "severity", "variance"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    ignored = {"created": "", "timings": {}}
    assert {**first.info, **ignored} == {**second.info, **ignored}
    assert first.regions == second.regions


def test_replay_notices_other_pixels_and_moved_images(folder, out):
    path = write(folder / "a.tif")
    analyze_files([path], out)
    record = out / "a" / "analysis.json"
    moved = path.rename(folder / "b.tif")
    with pytest.raises(ReadError, match="there is no such file"):
        replay(record, out.parent / "again")
    assert replay(record, out.parent / "again", image=moved).differing == ()
    write(path, seed=3)
    with pytest.raises(ReadError, match="not those that were analysed"):
        replay(record, out.parent / "other")
    assert not (out.parent / "other").exists()


def test_replay_notices_other_labels(folder, out):
    analyze_files([write(folder / "a.tif")], out)
    record = out / "a" / "analysis.json"
    info = json.loads(record.read_text())
    info["labels_sha256"] = "0" * 64
    info["software"]["numpy"] = "1.0"
    record.write_text(json.dumps(info))
    outcome = replay(record, out.parent / "again")
    assert outcome.differing == (0,)
    assert outcome.changed == (f"numpy 1.0 → {np.__version__}",)


def test_ome_zarr(folder, out):
    """Another format is another result; what is kept of frames serves both; a lost chunk is noticed."""
    stack = np.stack([crystal(seed=s) for s in range(2)])
    stack[1, 40:70] = np.roll(stack[1], 5, axis=1)[40:70]
    tifffile.imwrite(folder / "s.tif", stack, photometric="minisblack")

    def status(**options):
        (row,) = analyze_files([folder], out, **options)
        return row.status

    zarr = {"image_format": "ome-zarr"}
    assert [status(**options) for options in (zarr, zarr, {}, {}, zarr)] == [
        "done",
        "skipped",
        "done",
        "skipped",
        "done",
    ]
    again = replay(out / "s" / "analysis.json", out.parent / "again")
    assert again.differing == ()
    assert (again.folder / "labels.ome.zarr").is_dir()
    np.testing.assert_array_equal(load(again.folder).severity, load(out / "s").severity)
    scores = evaluate_folders(out, out.parent / "again")
    assert scores["accuracy"] == 1
    assert scores["mean"]["auroc"] > 0.9
    assert load(out / "s").labels.any()
    for chunk in (out / "s" / "labels.ome.zarr").glob("0/c/1/*/*"):
        chunk.unlink()
    assert status(**zarr) == "done"
    assert load(out / "s").labels.any()


# -- damaged results, odd names -------------------------------------------------------------------------------


def damage_json(change):
    def damage(folder):
        path = folder / "analysis.json"
        info = json.loads(path.read_text())
        change(info)
        path.write_text(json.dumps(info))

    return damage


def other_labels(folder):
    labels = tifffile.imread(folder / "labels.tif")
    tifffile.imwrite(folder / "labels.tif", 1 - labels)


@pytest.fixture(scope="module")
def two_results(tmp_path_factory):
    """Two images and their results, whole again after each test."""
    folder, out = tmp_path_factory.mktemp("two") / "images", tmp_path_factory.mktemp("two") / "out"
    for name in ("a.tif", "b.tif"):
        write(folder / name)
    assert [row.ok for row in analyze_files([folder], out)] == [True, True]
    return folder, out


@pytest.mark.parametrize(
    "damage",
    [
        damage_json(lambda info: info.update(input=None)),
        damage_json(lambda info: info.pop("labels_sha256")),
        lambda folder: (folder / "analysis.json").write_text("[" * 100_000),
        lambda folder: (folder / "labels.tif").write_bytes(b""),
        lambda folder: (folder / "labels.tif").write_bytes((folder / "labels.tif").read_bytes()[:-200]),
        lambda folder: (folder / "regions.csv").unlink(),
        other_labels,
    ],
)
def test_one_damaged_result_is_made_anew_and_stops_no_other(two_results, damage):
    folder, out = two_results
    labels = load(out / "a").labels
    damage(out / "a")
    rows = analyze_files([folder], out)
    assert [row.status for row in rows] == ["done", "skipped"]
    np.testing.assert_array_equal(load(out / "a").labels, labels)
    assert [row.status for row in analyze_files([folder], out)] == ["skipped", "skipped"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text(folder, out):
    names = [b"a\xff.tif", b"a\xfe.tif", b"a\xfd.txt"]
    for name in names:
        write(Path(os.fsdecode(os.fsencode(folder) + b"/" + name)))
    rows = analyze_files([folder], out)
    assert [row.status for row in rows] == ["done", "done"]
    assert len({row.name for row in rows}) == 2
    for row in rows:
        row.name.encode()  # no surrogates
    assert {row["status"] for row in table(out).values()} == {"done"}
    assert [row.status for row in analyze_files([folder], out)] == ["skipped", "skipped"]
    again = replay(out / rows[0].name / "analysis.json", out / "again")
    assert not again.differing


def test_names_that_spreadsheets_would_run(folder, out, monkeypatch):
    monkeypatch.chdir(folder)
    odd = ["=1+1", "+a", "-b", "@c"]
    for name in odd:
        write(folder / f"{name}.tif")
    for status in ("done", "skipped"):
        rows = analyze_files([f"./{name}.tif" for name in odd], out)
        assert [(row.name, row.status) for row in rows] == [(name, status) for name in odd]
        assert list(table(out)) == [f"'{name}" for name in odd]


def test_long_names_are_cut_by_their_bytes():
    long = [Path("ä" * 124 + end + ".tif") for end in "xy"]
    names = result_names(long, lambda name: None)
    assert len(set(names)) == 2
    assert all(len(name.encode()) <= 200 for name in names)
    assert all(name.startswith("ä" * 90) for name in names)


@pytest.mark.parametrize(
    "text", ["\x00", "name,path\n\x00,a\n", "name\n" + "x" * 200_000, "x,y\n1,2\n", "\ufeff"]
)
def test_a_summary_that_is_none(folder, out, text):
    write(folder / "a.tif")
    out.mkdir()
    (out / "summary.csv").write_text(text)
    assert [row.status for row in analyze_files([folder], out)] == ["done"]
    assert list(table(out)) == ["a"]


# -- several runs, lost parents and clusters ------------------------------------------------------------------


@pytest.mark.slow
def test_two_runs_into_one_folder_share_it(folder, out, tmp_path, start):
    for index in range(4):
        write(folder / f"{index}.tif", seed=index)
    other = tmp_path / "other"
    write(other / "0.tif", seed=9)
    write(other / "x.tif", seed=10)
    runs = [start(*named, "--out", out) for named in ([folder], [other, folder])]
    for run in runs:
        _, errors = run.communicate(timeout=200)
        assert (run.returncode, errors) == (0, "")
    lines = table(out).values()
    # Two inputs are called 0: one of them gets another name.
    assert len(lines) == 6
    assert {row["status"] for row in lines} <= {"done", "skipped"}
    assert {Path(row["path"]) for row in lines} == {*folder.iterdir(), *other.iterdir()}
    assert names(out) == {row["name"] for row in lines} | {"summary.csv"}
    for row in lines:
        assert load(out / row["name"]).info["input"]["path"] == row["path"]


def test_a_lock_is_waited_for_and_freed(tmp_path):
    from napari_hrstem_defects.batch.locks import locked
    from napari_hrstem_defects.errors import Cancelled

    path = tmp_path / ".a.lock"
    with locked(path):
        assert path.exists()
        with pytest.raises(Cancelled), locked(path, lambda: True):
            pass
        assert path.exists()
    assert list(tmp_path.iterdir()) == []
    path.touch()  # of a process that was killed
    with locked(path, lambda: True):
        pass
    with locked(path) as ours, locked(path, wait=False) as theirs:
        assert (ours, theirs) == (True, False)
    with pytest.raises(WriteError, match="cannot be written there"), locked(tmp_path / "gone" / "lock"):
        pass


def test_a_folder_that_goes_midway(folder, out, monkeypatch):
    write(folder / "a.tif")
    write(folder / "b.tif")

    def removed(*args, **kwargs):
        shutil.rmtree(out, ignore_errors=True)
        return analyze(*args, **kwargs)

    analyze = pipeline.analyze
    monkeypatch.setattr(pipeline, "analyze", removed)
    with pytest.raises(WriteError, match="cannot be written there"):
        analyze_files([folder], out)


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_without_workers(folder, out, monkeypatch):
    from distributed import LocalCluster

    from napari_hrstem_defects.batch import workers

    monkeypatch.setattr(workers, "_ALONE_S", 0.5)
    write(folder / "a.tif")
    said = []
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(HrstemDefectsError, match="has had no worker for 2 s"),
    ):
        analyze_files([folder], out, scheduler=cluster.scheduler_address, timeout_s=2, notify=said.append)
    assert ["the dask cluster has no worker; waiting for up to 2 s." in text for text in said] == [True]
    assert [row["status"] for row in table(out).values()] == ["cancelled"]


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_goes(folder, out):
    from distributed import LocalCluster

    write(folder / "a.tif")
    cluster = LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp")
    polls = []

    def cancelled():
        polls.append(1)
        if len(polls) == 3:
            cluster.close()
        return False

    with pytest.raises(HrstemDefectsError, match="the dask scheduler is gone"):
        analyze_files([folder], out, scheduler=cluster.scheduler_address, timeout_s=60, cancelled=cancelled)
