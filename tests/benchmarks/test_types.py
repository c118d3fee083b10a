"""Fit of the classifier of types: what it learns from regions whose type their features give away."""

import numpy as np
import pytest

from benchmarks.accuracy import types
from napari_hrstem_defects.core.defect_types import FEATURES
from napari_hrstem_defects.core.type_classifier import TypeClassifier

#: The last: nothing that was simulated.
KINDS = ("stacking fault", "dislocation core", "amorphous", "")


@pytest.fixture(scope="module")
def rows():
    """Four kinds, each with its own feature raised, twelve regions in each of twenty micrographs."""
    rng = np.random.default_rng(0)
    names = list(FEATURES)
    found = []
    for image in range(20):
        for _ in range(12):
            kind = int(rng.integers(len(KINDS)))
            values = rng.normal(size=len(names))
            values[kind] += 6
            features = dict(zip(names, values.tolist(), strict=True)) | dict.fromkeys(types.OF_DOMAINS, 0.0)
            found.append(
                {
                    "name": f"image {image}",
                    "seed": 1,
                    "truth": KINDS[kind],
                    "features": features,
                }
            )
    return found


def test_types_that_features_tell_apart_are_learnt(rows):
    fitted, losses = types.fit(rows)
    given = [fitted.classify(row["features"])[0] for row in rows]
    assert (
        np.mean([kind == (row["truth"] or "unknown") for kind, row in zip(given, rows, strict=True)]) > 0.97
    )
    assert max(value for name, value in losses.items() if name.startswith("accuracy")) > 0.97
    # An unpenalised bias makes the weighted mean probability of each type its weighted frequency.
    groups = [(row["name"], row["truth"]) for row in rows]
    weight = np.array([groups.count(group) ** -0.5 for group in groups])
    probable = np.array([list(fitted.probabilities(row["features"]).values()) for row in rows])
    truth = np.array([[(row["truth"] or "unknown") == kind for kind in fitted.types] for row in rows])
    assert weight @ probable == pytest.approx(weight @ truth, rel=1e-2)


def test_types_hold_where_the_domains_are_not_known(rows):
    """In training a domain gives one kind away; without the domains the other feature has to do."""
    taught = [
        {**row, "features": {**row["features"], "other_rotated": 1.0}} if row["truth"] == "amorphous" else row
        for row in rows
    ]
    fitted, _ = types.fit(taught)
    for some in (rows, taught):
        lost = [row["features"] for row in some if row["truth"] == "amorphous"]
        assert np.mean([fitted.classify(features)[0] == "amorphous" for features in lost]) > 0.9


def test_what_is_unlike_all_regions_is_unknown(rows):
    fitted, _ = types.fit(rows)
    strange = dict.fromkeys(FEATURES, -1e3)
    assert fitted.classify(strange) == ("unknown", 0.0)


def test_coefficients_survive_their_file(rows):
    fitted, _ = types.fit(rows)
    again = TypeClassifier.from_json(types.to_json(fitted))
    for row in rows[:20]:
        kind, confidence = fitted.classify(row["features"])
        other, close = again.classify(row["features"])
        assert (kind, pytest.approx(confidence, abs=5e-3)) == (other, close)
