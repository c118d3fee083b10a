"""The state of an image and its corrections, without a viewer or Qt."""

import weakref
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.core.regions import Region, find_regions
from napari_hrstem_defects.widgets.corrections import (
    ClassMap,
    Correction,
    Labelled,
    after_stroke,
    place_of,
)
from napari_hrstem_defects.widgets.model import STEP_NAMES, Document, Inputs, outdated


class _Layer:
    """As much of an image layer as a document looks at."""

    rgb = multiscale = False

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.data = np.zeros(shape, np.float32)


def _measure(labels: Any) -> tuple[Region, ...]:
    return find_regions(labels, np.ones(labels.shape))


def _labelled(labels: Any) -> Labelled:
    found = _measure(labels)
    return Labelled(labels, found)


@pytest.fixture
def labels() -> Any:
    """A bar of label 1, larger than a square of label 2."""
    made = np.zeros((40, 60), np.uint8)
    made[5:10, 5:45] = 1
    made[20:30, 50:58] = 2
    return made


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"recipe": Recipe().replace({"segment.false_marks": 0.5})}, "segment"),
        ({"recipe": Recipe().replace({"variance.fraction": 0.1})}, "variance"),
        ({"point": (3.0, 4.0)}, "best_patch"),
        ({"patches": np.ones((2, 2), bool)}, "classify"),
        ({"pixel_size": 0.02}, "segment"),
        ({"painted": {0: Correction(np.array([1]), np.array([1], np.uint8))}}, None),
    ],
)
def test_what_was_changed_makes_its_step_and_those_after_it_out_of_date(change: Any, first: Any) -> None:
    before = Inputs(Recipe())
    expected = set(STEP_NAMES[len(STEP_NAMES) if first is None else STEP_NAMES.index(first) :])
    if first in ("classify", "best_patch"):
        expected.discard("variance")  # of the image alone
    assert outdated(before, Inputs(**{"recipe": Recipe(), **change})) == expected


def test_published_variance_filter_follows_the_best_patch() -> None:
    published = Recipe.published()
    assert "variance" in outdated(Inputs(published), Inputs(published, point=(3.0, 4.0)))


def test_stroke_erased_and_undone(labels: Any) -> None:
    painted = labels.copy()
    painted[0, :3] = 2
    first = after_stroke(None, labels, painted, labels)
    assert first is not None
    assert (first.pixels.tolist(), first.labels.tolist()) == ([0, 1, 2], [2, 2, 2])
    # Half of it is erased, and a found pixel as well.
    erased = painted.copy()
    erased[0, :2] = 0
    erased[5, 5] = 0
    second = after_stroke(first, painted, erased, labels)
    assert second is not None
    assert (second.pixels.tolist(), second.labels.tolist()) == ([2, 5 * 60 + 5], [2, 0])
    assert_array_equal(second.apply(labels), erased)
    # As found again: nothing is painted any more.
    assert after_stroke(second, erased, labels, labels) is None


def test_verdicts_stay_with_their_pixels_and_are_undone(labels: Any) -> None:
    layer = _Layer(labels.shape)
    document = Document(weakref.ref(layer), "image")  # type: ignore[arg-type]
    document.labelled[0] = _labelled(labels)
    document.review(0, [1, 2], True)
    document.review(0, [2], False)
    assert document.reviewed() == {1: "accepted", 2: "rejected"}
    assert len(document.by_hand.reviewed) == 2
    # The square grows and is the larger one now, so the numbers change places; the bar is gone.
    grown = np.where(labels == 2, labels, 0).astype(np.uint8)
    grown[15:35, 40:60] = 2
    document.labelled[0] = _labelled(grown)
    assert document.reviewed() == {1: "rejected"}
    document.labelled[0] = _labelled(labels)
    for expected in ({1: "accepted", 2: "accepted"}, {}):
        document.undo()
        assert document.reviewed() == expected


def test_pixel_of_a_bent_region_lies_in_it() -> None:
    ring = np.zeros((21, 21), np.int32)
    ring[2:19, 2:19] = 1
    ring[5:16, 5:16] = 0
    assert ring[place_of(ring, 1)] == 1


def test_a_second_scan_does_not_compete_with_the_first(labels: Any) -> None:
    """A class is the type where most of a region has it; a type that is known better stays."""

    def scanned(name: str, share: float) -> ClassMap:
        inside = np.zeros(labels.shape, np.uint8)
        inside[5:10, 5 : 5 + round(40 * share)] = 1
        return ClassMap(inside, ("bulk", name), name, (), np.zeros((2, *labels.shape), np.float32), 64, None)

    found = _labelled(labels)
    assert [region.type for region in found.regions] == ["unknown", "unknown"]
    surely = found.classified(scanned("SF", 1.0))
    assert [(r.type, r.confidence) for r in surely.regions] == [("SF", 1.0), ("unknown", 0.0)]
    again = surely.classified(scanned("twin", 0.5))
    assert [(r.type, r.confidence) for r in again.regions] == [("twin", 0.5), ("unknown", 0.0)]
    assert again.classified(None).regions == found.regions
    # With corrections as well: the painted region has no class in the map.
    painted = labels.copy()
    painted[35, :50] = 1
    correction = after_stroke(None, labels, painted, labels)
    corrected = found.corrected(correction, _measure, scanned("SF", 1.0))
    assert {r.bbox: r.type for r in corrected.regions}[5, 5, 10, 45] == "SF"
    assert corrected.painted == {next(r.id for r in corrected.regions if r.bbox[0] == 35)}
    assert [r.type for r in corrected.classified(None).regions] == ["unknown"] * 3
