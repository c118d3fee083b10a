"""Types of regions: fit the classifier on simulated micrographs, and measure it on others.

python -m benchmarks.accuracy.types fit     writes core/defect_types.json
python -m benchmarks.accuracy.types score   writes docs/results/types*.csv and prints tables
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import napari_hrstem_defects as hd
from benchmarks.accuracy import run
from benchmarks.accuracy.tables import Row, cell, markdown, mean, write_csv
from benchmarks.accuracy.types_truth import region_truth, true_masks
from napari_hrstem_defects.core import defect_types
from napari_hrstem_defects.core.defect_types import FEATURES, region_classifier
from napari_hrstem_defects.core.regions import find_regions, label_regions
from napari_hrstem_defects.core.type_classifier import CONFIDENT, TYPES, TypeClassifier, default_classifier
from napari_hrstem_defects.simulation.sets import SET_DEFECTS, sample

Floats = NDArray[np.float64]

COEFFICIENTS = Path(defect_types.__file__).with_suffix(".json")
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
#: Every content of the sets, and a coherent film.
CONTENTS = (*SET_DEFECTS, ("film",))
#: Contents of which few regions are found, or that look alike.
RARE = (
    ("inversion domain",),
    ("dislocation",),
    ("vacancy",),
    ("twin lamella",),
    ("antiphase boundary",),
    ("substitution",),
    ("stacking fault lamella",),
    ("amorphous",),
)
#: Walls between lattices, which are given as labels as a person would paint them.
WALLS = ("twin boundary", "grain boundary", "interface")
SMALL = ((512, 512), (640, 640), (768, 768))
#: Types of areas that are crystal.
ORDERED_AREAS = ("second grain", "second phase", "inversion domain", "twin lamella")
#: Share of them that a person labels as amorphous.
MISLABELLED = 0.1
#: Features that are 0 where the domains are not known.
OF_DOMAINS = ("other_turn", "other_rotated", "other_inverted", "other_phase")
#: Trial strengths of the penalty on the weights. Taken is the strongest whose share of right types in cross-validation
#: is within one standard error of the best: what is gained beyond holds for these simulations only.
PENALTIES = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
FOLDS = 5
#: Share of the within-class covariance that is replaced by its diagonal: some types have few regions.
SHRINKAGE = 0.3
#: Standardised features are limited to this.
MOST_DEVIATION = 5.0
#: Share of the training regions that are farther from the centre of their type than the limit.
UNUSUAL = 0.005


@dataclass(frozen=True)
class Set:
    """Simulated micrographs: `count` of ``sample(i, seed, defective, defects=contents)``.

    Attributes
    ----------
    crystal : str
        ``domains.crystal`` of the recipe: which lattices count as intact.
    shapes : tuple of (int, int), optional
        In turn; the simulator's own if there are none.
    painted : bool
        Whether the walls of the truth are taken as regions as well.
    """

    seed: int
    count: int
    contents: tuple[tuple[str, ...], ...]
    defective: float = 1.0
    crystal: str = "phases"
    shapes: tuple[tuple[int, int], ...] = ()
    painted: bool = False


TRAINING = (
    *(Set(seed, 420, CONTENTS, 0.92, shapes=(*SMALL, (1024, 1024))) for seed in (31, 41)),
    *(Set(seed, 176, RARE, shapes=SMALL) for seed in (34, 44)),
    Set(36, 41, (("grain boundary",), ("twin",)), shapes=SMALL),
    Set(33, 41, (("twin",), ("grain boundary",)), crystal="all", shapes=SMALL, painted=True),
    Set(35, 30, (("film",),), crystal="reference", shapes=SMALL, painted=True),
)
#: Only scored; features, views and penalties were chosen by cross-validation and with seeds 2026011 to 2026013, 31415,
#: 27182, 141421, 161803 and 577215.
TEST = Set(8675309, 8 * len(CONTENTS), CONTENTS)


def regions(chosen: Set, index: int) -> list[Row]:
    """Regions of one micrograph with their true types and their features."""
    shape = {"shape": chosen.shapes[index % len(chosen.shapes)]} if chosen.shapes else {}
    sim = sample(index, chosen.seed, chosen.defective, defects=chosen.contents, films=True, **shape)
    # Types by the present coefficients are not needed, and these may lack a new feature.
    recipe = hd.Recipe().replace({"domains.crystal": chosen.crystal})
    analysis = hd.analyze(sim.micrograph, recipe, stop="segment")
    patch, parameters = analysis.best_patch, sim.description["parameters"]
    found = [
        (analysis.labels, true_masks(sim.defects, patch, sim.labels.shape, grains=chosen.crystal != "all"))
    ]
    if chosen.painted:
        walls = [(d.kind, d.mask) for d in sim.defects if d.kind in WALLS]
        found += [(mask.astype(np.uint8), [(kind, kind, mask)]) for kind, mask in walls]
    rows: list[Row] = []
    for drawn, (labels, masks) in enumerate(found):
        known = region_classifier(
            labels, analysis.prepared, analysis.lattice, patch, analysis.domains, analysis.field
        )
        if known is None:
            continue
        numbers = label_regions(labels)
        for region in find_regions(labels, analysis.severity, lattice=analysis.lattice):
            y0, x0, y1, x1 = region.bbox
            window = (slice(y0, y1), slice(x0, x1))
            truth, several = region_truth(masks, window, numbers[window] == region.id, round(sim.period_px))
            rows.append(
                {
                    "name": sim.micrograph.name,
                    "seed": chosen.seed,
                    "contrast": parameters["mode"],
                    "dose": float(parameters["dose"]),
                    "period_px": float(sim.period_px),
                    "region": region.id,
                    "area_periods": float(region.area_px / sim.period_px**2),
                    "drawn": bool(drawn),
                    "several": several,
                    "truth": truth,
                    "features": known.features(region),
                }
            )
    return rows


def measured(sets: Sequence[Set], jobs: int) -> list[Row]:
    """Regions of all micrographs of some sets."""
    tasks = [(chosen, index) for chosen in sets for index in range(chosen.count)]
    return [row for rows in run.in_processes(regions, tasks, jobs) for row in rows]


# -- fit --------------------------------------------------------------------------------------------------------


def fit(rows: Sequence[Row]) -> tuple[TypeClassifier, dict[str, float]]:
    """Fit the classifier; the penalty by cross-validation over micrographs.

    Returns
    -------
    TypeClassifier
    losses : dict
        Cross-validated mean log loss of every penalty, and its accuracy, unknown below `CONFIDENT`.
    """
    rows, names = [*rows, *_of_unknown_sense(rows)], tuple(FEATURES)
    # Many regions of one image are no independent evidence, nor are several views of one region.
    many = Counter(_group(row) for row in rows)
    views = [_views(row) for row in rows]
    weight = np.array(
        [
            many[_group(row)] ** -0.5 * share
            for row, seen in zip(rows, views, strict=True)
            for _, share in seen
        ]
    )
    values = np.array([[view[name] for name in names] for seen in views for view, _ in seen])
    rows = [row for row, seen in zip(rows, views, strict=True) for _ in seen]
    truths = [row["truth"] or "unknown" for row in rows]
    types = tuple(name for name in TYPES if name in truths)
    target = np.array([types.index(name) for name in truths])
    groups = np.array([_group(row)[0] for row in rows])
    mean_, scale = values.mean(axis=0), values.std(axis=0) + 1e-3
    standard = np.clip((values - mean_) / scale, -MOST_DEVIATION, MOST_DEVIATION)
    fold = np.unique(groups, return_inverse=True)[1] % FOLDS
    losses = {}
    for penalty in PENALTIES:
        probable = np.zeros((len(target), len(types)))
        for k in range(FOLDS):
            train = fold != k
            model = _logistic(standard[train], target[train], weight[train], penalty)
            probable[np.ix_(~train, model.classes_)] = model.predict_proba(standard[~train])
        hit = np.maximum(probable[np.arange(len(target)), target], np.finfo(float).tiny)
        losses[f"loss {penalty:g}"] = float(-np.log(hit).mean())
        clear = probable.max(axis=1) >= CONFIDENT
        given = np.where(clear, probable.argmax(axis=1), types.index("unknown"))
        losses[f"accuracy {penalty:g}"] = float((given == target).mean())
    most = max(losses[f"accuracy {penalty:g}"] for penalty in PENALTIES)
    enough = most - math.sqrt(most * (1 - most) / len(target))
    taken = next(penalty for penalty in PENALTIES if losses[f"accuracy {penalty:g}"] >= enough)
    model = _logistic(standard, target, weight, taken)
    centres = np.array([standard[target == i].mean(axis=0) for i in range(len(types))])
    gaps = standard - centres[target]
    covariance = gaps.T @ gaps / len(gaps)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance) + 0.1)
    sizes, axes = np.linalg.eigh(covariance)
    whitening = axes / np.sqrt(sizes)
    limit = float(np.quantile(np.linalg.norm(gaps @ whitening, axis=1), 1 - UNUSUAL))
    weights, bias = model.coef_.T, model.intercept_
    return TypeClassifier(
        names, types, mean_, scale, weights, bias, centres, whitening, MOST_DEVIATION, limit
    ), losses


def _of_unknown_sense(rows: Sequence[Row]) -> list[Row]:
    """Points that do not enhance the lattice again, as if its columns were neither bright nor dark: unknown then."""
    return [
        {**row, "truth": "", "features": {**row["features"], "spot_brighter": 0.0}}
        for row in rows
        if row["truth"] in ("vacancy-like", "interstitial-like") and row["features"]["spot_excess"] == 0
    ]


def _group(row: Row) -> tuple[str, str]:
    """Micrograph and type of a region."""
    return f"{row['seed']} {row['name']}", row["truth"] or "unknown"


def _views(row: Row) -> list[tuple[dict[str, float], float]]:
    """Features of a region and their weight: as measured, and as if it were painted where the domains are not known.

    A person may label an ordered area as amorphous; that does not make it so.
    """
    features = row["features"]
    if not any(features[name] for name in OF_DOMAINS):
        return [(features, 1.0)]
    alone = {**features, **dict.fromkeys(OF_DOMAINS, 0.0)}
    if row["truth"] not in ORDERED_AREAS:
        return [(features, 0.5), (alone, 0.5)]
    rest = (1 - MISLABELLED) / 2
    return [(features, rest), (alone, rest), ({**alone, "beside_lost": 1.0}, MISLABELLED)]


def _logistic(values: Floats, target: NDArray[np.intp], weight: Floats, penalty: float) -> LogisticRegression:
    """Multinomial logistic regression with a quadratic penalty on the weights."""
    return LogisticRegression(C=1 / penalty, max_iter=1000).fit(values, target, sample_weight=weight)


def to_json(fitted: TypeClassifier) -> str:
    """Text of the file of coefficients, four significant digits."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [plain(each) for each in value]
        return float(f"{value:.4g}") if isinstance(value, float) else value

    lines = [f"{json.dumps(key)}: {json.dumps(plain(value))}" for key, value in vars(fitted).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


# -- score ------------------------------------------------------------------------------------------------------


def classified(rows: Sequence[Row], classifier: TypeClassifier) -> list[Row]:
    """Rows of the table: the type and the confidence instead of the features."""
    out = []
    for row in rows:
        kind, confidence = classifier.classify(row["features"])
        kept = {key: value for key, value in row.items() if key not in ("features", "seed")}
        out.append({**kept, "type": kind, "confidence": confidence})
    return out


def tables(rows: Sequence[Row]) -> str:
    """Accuracy, confusion and reliability as Markdown."""
    true = [row for row in rows if row["truth"]]
    false = [row for row in rows if not row["truth"]]
    typed = [row for row in true if row["type"] != "unknown"]
    kinds = [name for name in TYPES if any(row["truth"] == name for row in true)]
    summary: list[Sequence[Any]] = [
        ("accuracy, unknown counted as wrong", len(true), _right(true)),
        ("mean recall of the types", len(true), mean(_right(_of(true, name)) for name in kinds)),
        (f"accuracy of the types given (confidence {CONFIDENT:g} or more)", len(typed), _right(typed)),
        (
            "no defect simulated there: unknown",
            len(false),
            mean(float(row["type"] == "unknown") for row in false),
        ),
    ]
    counts = confusion(rows)
    reliability = []
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.97), (0.97, 1.01)):
        members = [row for row in rows if low <= row["confidence"] < high]
        stated = mean(row["confidence"] for row in members)
        reliability.append((f"{low:g} to {min(high, 1):g}", len(members), cell(stated), _right(members)))
    return "\n".join(
        (
            markdown(("", "regions", ""), summary),
            markdown(tuple(counts[0]) if counts else (), [tuple(row.values()) for row in counts]),
            markdown(("confidence", "regions", "mean", "right"), reliability),
        )
    )


def confusion(rows: Sequence[Row]) -> list[Row]:
    """One row for each true type: how often each type was given, and the recall."""
    true = [row for row in rows if row["truth"]]
    given = [name for name in TYPES if any(row["type"] == name for row in true)]
    out: list[Row] = []
    for name in (name for name in TYPES if _of(true, name)):
        members = _of(true, name)
        counts = {other: sum(row["type"] == other for row in members) for other in given}
        out.append({"true type": name, "regions": len(members), **counts, "recall": _right(members)})
    return out


def _of(rows: Sequence[Row], name: str) -> list[Row]:
    return [row for row in rows if row["truth"] == name]


def _right(rows: Sequence[Row]) -> float:
    return mean(float(row["type"] == row["truth"]) for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.types", description=__doc__)
    parser.add_argument("command", choices=("fit", "score"))
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    if options.command == "fit":
        fitted, losses = fit(measured(TRAINING, options.jobs))
        COEFFICIENTS.write_text(to_json(fitted), "utf-8")
        print(json.dumps(losses))
        return 0
    rows = classified(measured((TEST,), options.jobs), default_classifier())
    write_csv(RESULTS / "types.csv", rows)
    write_csv(RESULTS / "types_confusion.csv", confusion(rows))
    run.record(RESULTS, "types")
    print(tables(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
