"""Large images in tiles: the same labels as without, away from seams."""

import errno
import os

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_hrstem_defects import Micrograph, analyze, simulate
from napari_hrstem_defects.batch import analyze_files, replay
from napari_hrstem_defects.batch.tiles import MARGIN_PX, TILE_PX, tiles_of
from napari_hrstem_defects.core import pipeline
from napari_hrstem_defects.io import load

pytestmark = pytest.mark.usefixtures("quick_figures")


def test_tiles_cover_the_image_once_and_reach_beyond():
    shape = (1000, 1700)
    times = np.zeros(shape, int)
    tiles = tiles_of(shape, 800)
    for tile in tiles:
        times[tile.inner] += 1
        for outer, inner, length in zip(tile.outer, tile.inner, shape, strict=True):
            assert outer.stop - outer.start <= 800
            assert outer.start == max(inner.start - MARGIN_PX, 0)
            assert outer.stop == min(inner.stop + MARGIN_PX, length)
    assert (times == 1).all()
    assert len(tiles_of((800, 800), 800)) == 1


def save(path, made):
    np.save(path, np.asarray(made.micrograph.data))
    return path


def test_a_fault_through_several_tiles_is_one_region(tmp_path):
    made = simulate("si_stacking_fault", seed=3, px_per_period=16.0, shape=(900, 900))
    image = save(tmp_path / "image.npy", made)
    out = tmp_path / "out"
    (row,) = analyze_files([image], out, pixel_size_nm=0.03, tile_px=760)
    assert row.status == "done"
    found = load(out / "image")
    assert found.info["tile_px"] == 760
    # The largest; others are specks.
    theirs = analyze(Micrograph(np.asarray(made.micrograph.data), 0.03)).regions[0]
    mine = found.regions[0]
    assert mine["length_px"] > 760
    assert mine["area_px"] > 0.9 * sum(row["area_px"] for row in found.regions)
    assert mine["type"] == theirs.type
    assert mine["length_nm"] == pytest.approx(theirs.length_nm, rel=0.05)
    assert mine["at_rim"] == theirs.at_rim
    assert found.severity.shape == found.variance.shape == (900, 900)
    (row,) = analyze_files([image], out, pixel_size_nm=0.03, tile_px=760)
    assert row.status == "skipped"


def test_tiles_are_shared_out_kept_and_continued(tmp_path, monkeypatch):
    made = simulate("si_stacking_fault", seed=3, px_per_period=16.0, shape=(520, 900))
    image = save(tmp_path / "image.npy", made)
    kept = tmp_path / "out" / ".image.tiles"

    def done():
        return {path.name: path.stat().st_mtime_ns for path in kept.glob("*.tif")}

    (row,) = analyze_files([image], tmp_path / "out", tile_px=520, cancelled=lambda: len(done()) == 2)
    assert (row.status, row.message) == ("cancelled", "2 of 4 tiles analysed")
    before = done()
    analysed, analyze = [], pipeline.analyze
    monkeypatch.setattr(
        pipeline,
        "analyze",
        lambda image, *args, **options: analysed.append(1) or analyze(image, *args, **options),
    )
    (row,) = analyze_files([image], tmp_path / "out", tile_px=520)
    assert row.status == "done"
    assert len(analysed) == 2
    assert len(before) == 2
    assert not kept.exists()
    analyze_files([image], tmp_path / "zarr", tile_px=520, image_format="ome-zarr")
    first, second = (load(tmp_path / name / "image") for name in ("out", "zarr"))
    for name in ("labels", "severity", "variance"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    (row,) = analyze_files([image], tmp_path / "two", tile_px=520, jobs=2)
    assert row.status == "done"
    for name in ("labels.tif", "severity.tif", "regions.csv"):
        assert (tmp_path / "out" / "image" / name).read_bytes() == (
            tmp_path / "two" / "image" / name
        ).read_bytes()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files are not allocated here")
def test_a_full_disk_where_tiles_are_put_together(tmp_path, monkeypatch):
    made = simulate("si_perfect", seed=3, px_per_period=16.0, shape=(300, 640))
    image, out = save(tmp_path / "image.npy", made), tmp_path / "out"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    (row,) = analyze_files([image], out, tile_px=600)
    assert row.status == "failed"
    assert "No space left on device" in row.message
    assert {path.name for path in out.iterdir()} == {".image.tiles", "summary.csv"}
    monkeypatch.undo()
    # As a process leaves it that is killed there.
    (out / ".image.x1y2.partial").mkdir()
    (out / ".image.tiles" / "severity.raw").write_bytes(bytes(10))
    (row,) = analyze_files([image], out, tile_px=600)
    assert row.status == "done"
    assert {path.name for path in out.iterdir()} == {"image", "summary.csv"}
    assert load(out / "image").severity.shape == (300, 640)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the cluster
def test_tiles_on_a_cluster_are_those_of_one_process(tmp_path):
    from distributed import LocalCluster

    made = simulate("si_stacking_fault", seed=3, px_per_period=16.0, shape=(520, 900))
    image = save(tmp_path / "image.npy", made)
    analyze_files([image], tmp_path / "alone", tile_px=600)
    out = tmp_path / "out"
    kept = out / ".image.tiles"

    def done():
        return {path.name: path.stat().st_mtime_ns for path in kept.glob("*.tif")}

    before, later = {}, {}

    def stop():
        before.update(done())
        return len(before) >= 2

    def progress(fraction, text):
        later.update(done())

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        options = {"tile_px": 600, "scheduler": cluster.scheduler_address}
        (row,) = analyze_files([image], out, **options, cancelled=stop)
        assert row.status == "cancelled"
        (row,) = analyze_files([image], out, **options, progress=progress)
    assert row.status == "done"
    assert before.items() <= later.items()  # none is analysed twice
    assert not kept.exists()
    for name in ("labels.tif", "severity.tif", "regions.csv"):
        assert (out / "image" / name).read_bytes() == (tmp_path / "alone" / "image" / name).read_bytes()


def test_best_patch_by_hand_counts_in_its_tile_and_is_refused_outside(tmp_path):
    image = save(tmp_path / "image.npy", simulate("si_perfect", seed=3, px_per_period=16.0, shape=(300, 640)))
    (row,) = analyze_files([image], tmp_path / "out", tile_px=600, best_patch=(150.0, 400.0))
    assert row.status == "done"
    best = load(tmp_path / "out" / "image").best_patches[0]
    assert (best.y, best.x, best.placed) == (150.0, 400.0, "hand")
    assert replay(tmp_path / "out" / "image" / "analysis.json", tmp_path / "again").differing == ()
    (row,) = analyze_files([image], tmp_path / "other", tile_px=600, best_patch=(150.0, 700.0))
    assert row.status == "failed"
    assert "outside the image" in row.message


def test_a_pixel_size_that_no_crystal_has_is_left_out(tmp_path):
    made = simulate("si_stacking_fault", seed=3, px_per_period=16.0, shape=(400, 640))
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path,
        np.asarray(made.micrograph.data, np.float32),
        imagej=True,
        resolution=(0.5, 0.5),  # pixels per nm: periods of 32 nm
        metadata={"unit": "nm"},
    )
    (row,) = analyze_files([path], tmp_path / "out", tile_px=600)
    assert "which no crystal shows" in row.message
    found = load(tmp_path / "out" / "image")
    assert found.regions
    assert {row["length_nm"] for row in found.regions} == {None}


def test_labels_are_those_of_the_whole_image_away_from_seams(tmp_path):
    made = simulate("si_demo", seed=11, px_per_period=16.0, shape=(700, 1400))
    whole = analyze(Micrograph(np.asarray(made.micrograph.data), 0.03))
    analyze_files([save(tmp_path / "image.npy", made)], tmp_path / "out", pixel_size_nm=0.03, tile_px=760)
    found = load(tmp_path / "out" / "image")
    mine, theirs = found.labels > 0, whole.labels > 0
    both = np.count_nonzero(mine & theirs)
    assert 2 * both / (np.count_nonzero(mine) + np.count_nonzero(theirs)) > 0.99
    # Labels differ by less than a lattice period, and only at their edges.
    edge = theirs ^ ndimage.binary_erosion(theirs)
    assert not (mine != theirs)[ndimage.distance_transform_edt(~edge) > 16].any()
    for mine, theirs in zip(found.regions, whole.regions, strict=True):
        assert mine["area_nm2"] == pytest.approx(theirs.area_nm2, rel=0.05)
    # Every tile has a model patch of its own: the severity is alike, not equal.
    assert np.median(np.abs(found.severity - whole.severity)[whole.valid_mask]) < 0.5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tiles_of_the_usual_size_at_4096(tmp_path):
    """Sixteen copies of a simulated image beside each other, whose edges are faults that cross the seams."""
    part = np.asarray(simulate("si_demo", seed=11, px_per_period=16.0, shape=(1024, 1024)).micrograph.data)
    pixels = np.tile(part.astype(np.float32), (4, 4))
    np.save(tmp_path / "image.npy", pixels)
    whole = analyze(Micrograph(pixels))
    analyze_files([tmp_path / "image.npy"], tmp_path / "out", tile_px=TILE_PX)
    found = load(tmp_path / "out" / "image")
    assert found.info["tile_px"] == TILE_PX
    theirs = whole.labels > 0
    seams = np.zeros(pixels.shape, bool)
    for tile in tiles_of(pixels.shape, TILE_PX):
        for axis, part in enumerate(tile.inner):
            if part.start:
                seams[(slice(part.start - 16, part.start + 16), slice(None))[:: 1 - 2 * axis]] = True
    assert 0.01 < seams.mean() < 0.05
    differ = (found.labels != whole.labels) & ~seams
    # By less than a lattice period, and only at the edges of regions.
    edge = theirs ^ ndimage.binary_erosion(theirs)
    assert not differ[ndimage.distance_transform_edt(~edge) > 16].any()
    dice = 1 - np.count_nonzero(differ) / (np.count_nonzero(theirs) + np.count_nonzero(found.labels))
    assert dice > 0.98
