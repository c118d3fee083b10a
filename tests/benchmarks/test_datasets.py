"""Data sets: the parts, copies kept together, the truth of own simulations."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_hrstem_defects as hd
from benchmarks.accuracy import datasets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One image of each set of files."""
    pixels = np.random.default_rng(0).random((64, 64), np.float32)
    for name in ("sim_b", "real", "real2/masks"):
        (tmp_path / name).mkdir(parents=True)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 30:34] = 1
    mask[:, 34:] = 2
    for path in ("sim_b/D01.tif", "real/gold.tif", "real2/gold_a.tif", "real2/gold_b.tif"):
        tifffile.imwrite(tmp_path / path, pixels)
    for path in (
        "sim_b/D01_label.png",
        "real/gold_mask.png",
        "real2/masks/gold_a.png",
        "real2/masks/gold_b.png",
    ):
        Image.fromarray(mask).save(tmp_path / path)
    about = {"material": "InP + GaAs", "pixel_size_nm": 0.056533, "label_files": {"main": "D01_label.png"}}
    about |= {"defect_free": False, "defects": ["twin"], "notes": []}
    (tmp_path / "sim_b" / "D01.json").write_text(json.dumps(about))
    return tmp_path


def test_sets_of_files(folder: Path) -> None:
    found = {image.name: image for image in datasets.images(("sim_b", "real", "real2"), data=folder)}
    assert set(found) == {"D01", "gold", "gold_a", "gold_b"}
    ((_, (truth,)),) = found["D01"].load().frames
    assert truth.tolerance_px == pytest.approx(6.0)  # 0.6 lattice constants of 10 px
    assert (found["D01"].load().content, found["gold"].load().content) == (
        "twin",
        "defect + other grain or phase",
    )
    for name in ("gold", "gold_a"):
        ((micrograph, (left, right)),) = found[name].load().frames
        assert micrograph.frame_shape == (64, 64)
        assert ((left.labels > 0) == (np.arange(64) >= 30)).all()
        assert ((right.labels > 0) == (np.arange(64) < 34)).all()
        assert right.other.sum() == 30 * 64


def test_copies_are_one_source_in_one_part(folder: Path) -> None:
    first, second = datasets.images(("real2",), data=folder)
    assert first.source == second.source == "gold"
    assert first.part == second.part == datasets.part_of("gold")


def test_absent_folder_is_an_empty_group(tmp_path: Path) -> None:
    assert datasets.images(("sim_b", "real", "real2"), data=tmp_path) == []


def test_parts_share_nothing_and_a_limit_holds_for_each() -> None:
    own = {part: datasets.images(("own",), part) for part in datasets.PARTS}
    assert not {image.name for image in own["tuning"]} & {image.name for image in own["test"]}
    limited = datasets.images(("own",), "all", limit=2)
    assert [image.name for image in limited] == [
        image.name for part in datasets.PARTS for image in own[part][:2]
    ]


def test_own_truth_of_a_large_second_grain_has_two_views() -> None:
    sim = hd.simulate("twin", 7004, shape=(256, 256))
    sample = datasets.simulated(sim)
    ((_, truths),) = sample.frames
    assert len(truths) == 2
    first, second = truths
    assert ((first.labels == datasets.IGNORED) == sim.ignore).all()
    both = (first.labels != datasets.IGNORED) & (second.labels != datasets.IGNORED)
    # The wall is a defect in both views, either grain in one.
    assert not ((first.labels == 0) & (second.labels == 0))[both].any()
    for view in truths:
        assert (view.labels == 0).mean() > 0.2
    assert (sample.content, sample.extent) == ("twin", "")
    assert {target.kind for target in first.targets} == {"second grain", "twin boundary"}


@pytest.mark.parametrize(
    ("defects", "extent"), [(("vacancy",), "point"), (("dislocation",), "core"), ((), "")]
)
def test_extent_of_small_defects(defects: tuple[str, ...], extent: str) -> None:
    sim = hd.simulate("set", 3, material="si", zone_axis="110", defects=defects, shape=(256, 256))
    assert datasets.simulated(sim).extent == extent
