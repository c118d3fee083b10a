"""Patches with the class of the defect that they show."""

from typing import Any

import numpy as np
import pytest

from napari_hrstem_defects.simulation import class_patches as module
from napari_hrstem_defects.simulation.class_patches import SCHEMES, class_patches
from napari_hrstem_defects.simulation.simulate import SimulatedMicrograph, simulate


@pytest.mark.parametrize("name", SCHEMES)
def test_class_patches(name: str, images: dict[str, SimulatedMicrograph]) -> None:
    made = class_patches(SCHEMES[name], 2, seed=2, per_image=2, px_per_period=12.0)
    assert made.classes[0] == "Bulk"
    assert np.bincount(made.labels).tolist() == [2] * len(made.classes)
    assert made.pixels.shape == (2 * len(made.classes), 64, 64)
    assert all(image.period_px == pytest.approx(12.0) for image in images.values())


def test_patches_are_repeated_by_their_seed() -> None:
    made, again, other = (
        class_patches(SCHEMES["STO"], 2, seed=seed, per_image=2).pixels for seed in (2, 2, 3)
    )
    np.testing.assert_array_equal(again, made)
    assert not np.array_equal(other, made)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> dict[str, SimulatedMicrograph]:
    """The micrographs that patches were cut from, by their names."""
    made = {}

    def remember(*args: Any, **kwargs: Any) -> SimulatedMicrograph:
        image = simulate(*args, **kwargs)
        made[image.micrograph.name] = image
        return image

    monkeypatch.setattr(module, "simulate", remember)
    return made


def test_point_defects_are_inside_and_clean_patches_are_clean(images: dict[str, SimulatedMicrograph]) -> None:
    made = class_patches(SCHEMES["STO"], 6, seed=1, per_image=2)
    for label, source, corner in zip(made.labels, made.source, made.corners.astype(int), strict=True):
        window = tuple(slice(n, n + 64) for n in corner)
        kinds = {d.kind for d in images[source].defects if d.mask[window].any()}
        if label == 0:
            assert not kinds
        else:
            wanted = SCHEMES["STO"].shown[made.classes[label]]
            assert wanted in kinds
            inner = tuple(slice(n + 8, n + 56) for n in corner)
            assert any(d.mask[inner].any() for d in images[source].defects if d.kind == wanted)


def test_crystal_is_seen_on_both_sides_of_planar_defects(images: dict[str, SimulatedMicrograph]) -> None:
    made = class_patches(SCHEMES["CdTe"], 6, seed=4, per_image=3)
    for label, source, corner in zip(made.labels, made.source, made.corners.astype(int), strict=True):
        wanted = SCHEMES["CdTe"].shown.get(made.classes[label], "")
        if wanted in ("twin boundary", "intrinsic stacking fault", "extrinsic stacking fault"):
            inner = min(round(1.5 * images[source].period_px), 31)
            middle = tuple(slice(n + inner, n + 64 - inner) for n in corner)
            assert any(d.mask[middle].any() for d in images[source].defects if d.kind == wanted)
