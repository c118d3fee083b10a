"""Large images in tiles: the same labels as without, away from seams."""

import numpy as np
import pytest

from napari_hrstem_defects import Micrograph, analyze, simulate
from napari_hrstem_defects.batch import analyze_files, replay
from napari_hrstem_defects.batch.tiles import MARGIN_PX, tile_edge, tiles_of
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io import load


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


def test_which_images_are_done_in_tiles():
    def edge(side, mode="lattice", asked=None):
        image = Micrograph(np.broadcast_to(np.float32(0), (64, side)))
        return tile_edge(image, Recipe() if mode == "lattice" else Recipe.published(), asked)

    assert [edge(8192), edge(8193), edge(8193, "published")] == [0, 4096, 0]
    assert [edge(5000, asked=1000), edge(900, asked=1000), edge(9000, asked=0)] == [1000, 0, 0]


def dice(one, other):
    both = np.count_nonzero(one & other)
    return 2 * both / max(np.count_nonzero(one) + np.count_nonzero(other), 1)


@pytest.mark.slow
def test_labels_are_those_of_the_whole_image(tmp_path):
    made = simulate("si_demo", seed=11, px_per_period=16.0, shape=(2048, 2048))
    np.save(tmp_path / "image.npy", np.asarray(made.micrograph.data))
    whole = analyze(Micrograph(np.asarray(made.micrograph.data), 0.03))
    out = tmp_path / "out"
    (row,) = analyze_files([tmp_path / "image.npy"], out, pixel_size_nm=0.03, tile_px=1408)
    assert row.status == "done"
    found = load(out / "image")
    assert found.info["tile_px"] == 1408
    assert dice(found.labels > 0, whole.labels > 0) > 0.97
    # The amorphous area and the fault lie in several tiles and are one region each; all else is specks.
    assert all(row["area_px"] < 0.01 * found.regions[1]["area_px"] for row in found.regions[2:])
    assert {row["kind"] for row in found.regions[:2]} == {"amorphous", "symmetry"}
    for mine, theirs in zip(found.regions[:2], whole.regions[:2], strict=True):
        assert mine["type"] == theirs.type
        assert mine["length_nm"] == pytest.approx(theirs.length_nm, rel=0.02)
        assert mine["area_nm2"] == pytest.approx(theirs.area_nm2, rel=0.1)
        assert mine["at_rim"] == theirs.at_rim
    assert found.severity.shape == found.variance.shape == (2048, 2048)
    judged = whole.judged
    assert np.median(np.abs(found.severity - whole.severity)[judged]) < 0.3
    (row,) = analyze_files([tmp_path / "image.npy"], out, pixel_size_nm=0.03, tile_px=1408)
    assert row.status == "skipped"
    assert replay(out / "image" / "analysis.json", tmp_path / "again").differing == ()
