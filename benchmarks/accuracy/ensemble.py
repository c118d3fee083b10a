"""Gate for an FFT ensemble trained on simulations: images beyond its training's ranges, and perfect real crystals.

python -m benchmarks.accuracy.ensemble MODEL...   writes docs/results/ensemble_gate*.csv, prints tables and the verdict

The models are trained by the commands of docs/ensemble.md. Exit status 1: a model did not pass.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import run
from benchmarks.accuracy.datasets import DEFAULT_DATA, images
from benchmarks.accuracy.tables import Row, cell, markdown, write_csv
from napari_hrstem_defects.core.image_lattice import typical_lattice
from napari_hrstem_defects.core.metrics import classification
from napari_hrstem_defects.models.fft_ensemble import FFTEnsemble
from napari_hrstem_defects.models.preparing import resize
from napari_hrstem_defects.models.scan import UNCERTAIN, scan
from napari_hrstem_defects.models.store import StoredModel, load_model
from napari_hrstem_defects.simulation.class_patches import PX_PER_PERIOD, SCHEMES, Scheme, class_patches
from napari_hrstem_defects.simulation.presets import stream

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
#: Least balanced accuracy beyond all ranges. On the perfect real images no false class is allowed.
LEAST_ACCURACY = 0.85
#: Of the simulated test images; no training uses it.
SEED = 20261129
#: Patches of each class from one draw of the parameters: from two micrographs, of the clean class one without and one
#: with defects.
PER_DRAW = 12
#: Property → parameters of the simulation and the ranges below and above those of the training, one of which is drawn
#: from. Thickness is its change from the middle to the rim; ``jitter`` is in lattice periods.
OUTSIDE: Mapping[str, Mapping[str, tuple[tuple[float, float], ...]]] = {
    "dose": {"dose": ((8, 25), (4000, 12000))},
    "probe": {"probe_nm": ((0.06, 0.075), (0.21, 0.23))},
    "thickness": {"wedge": ((0.35, 0.6),)},
    "distortion": {
        "jitter": ((0.05, 0.08),),
        "drift": ((-0.03, -0.02), (0.02, 0.03)),
        "bending": ((0.4, 0.55),),
    },
}
#: Which properties lie outside; the gate is the last.
CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    **{name: (name,) for name in OUTSIDE},
    "all": tuple(OUTSIDE),
}


def parameters(properties: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """Parameters of :func:`simulate` with which some properties lie outside the training's ranges."""
    px = float(np.exp(rng.uniform(*np.log(PX_PER_PERIOD))))
    drawn: dict[str, Any] = {"px_per_period": px}
    for name in properties:
        for key, ranges in OUTSIDE[name].items():
            values = [float(rng.uniform(*ranges[int(rng.integers(len(ranges)))])) for _ in range(2)]
            if key == "jitter":
                drawn["jitter_px"] = values[0] * px
            else:
                drawn[key] = tuple(values) if key == "drift" else values[0]
    return drawn


def draws(
    scheme: Scheme, condition: str, per_class: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Patches and labels of one condition, `PER_DRAW` of each class a draw; all conditions show the same places."""
    for number in range(-(-per_class // PER_DRAW)):
        seed = int(stream(SEED, number).integers(2**31))
        drawn = parameters(CONDITIONS[condition], stream(seed, "parameters"))
        made = class_patches(
            scheme, min(PER_DRAW, per_class - number * PER_DRAW), seed, per_image=PER_DRAW // 2, **drawn
        )
        yield made.pixels, made.labels


def simulated(model: StoredModel, scheme: Scheme, condition: str, per_class: int) -> list[Row]:
    """A row a true class: how often each class was found, and the recall."""
    pixels, labels = (np.concatenate(part) for part in zip(*draws(scheme, condition, per_class), strict=True))
    return confusion(
        model.contract.classes, labels, FFTEnsemble().predict(model, pixels).argmax(axis=1), condition
    )


def confusion(
    classes: tuple[str, ...], labels: NDArray[np.integer], found: NDArray[np.integer], condition: str
) -> list[Row]:
    """A row a true class and one of the means, whose recall is the balanced accuracy."""
    scores = classification(labels, found, classes=classes)
    counts = scores["confusion"]["counts"]
    rows: list[Row] = [
        {
            "outside": condition,
            "truth": name,
            "patches": sum(row),
            **{f"found {other}": n for other, n in zip(classes, row, strict=True)},
            "recall": row[k] / sum(row),
        }
        for k, (name, row) in enumerate(zip(classes, counts, strict=True))
    ]
    mean = {"outside": condition, "truth": "all", "patches": scores["count"]}
    return [*rows, {**mean, "recall": scores["balanced_accuracy"]}]


def real(model: StoredModel, data: Path) -> list[Row]:
    """A row a perfect real image, scanned at the scale that the networks know: shares of its area of each class."""
    period = float(np.sqrt(np.prod(PX_PER_PERIOD)))
    rows: list[Row] = []
    for image in images(("real",), data=data):
        sample = image.load()
        if sample.content != "perfect":
            continue
        pixels = sample.frames[0][0].frame().pixels
        lattice = typical_lattice(pixels).lattice
        factor = 1.0 if lattice is None else period / lattice.period_px
        height, width = (max(model.contract.patch_px, round(side * factor)) for side in pixels.shape)
        found = scan(model, resize(pixels, (height, width)))
        shares = {name: float((found.labels == k).mean()) for k, name in enumerate(model.contract.classes)}
        rows.append(
            {
                "image": image.name,
                "period_px": float("nan") if lattice is None else float(lattice.period_px),
                **shares,
                "uncertain": float((found.labels == UNCERTAIN).mean()),
                "false regions": len(found.regions),
            }
        )
    return rows


def verdict(rows: Sequence[Row], perfect: Sequence[Row]) -> tuple[bool, str]:
    """Whether a model passes, and a sentence that says why."""
    accuracy = next(row["recall"] for row in rows if row["outside"] == "all" and row["truth"] == "all")
    false = [str(row["image"]) for row in perfect if row["false regions"]]
    passed = bool(perfect) and accuracy >= LEAST_ACCURACY and not false
    text = f"balanced accuracy beyond all ranges {accuracy:.3f}, at least {LEAST_ACCURACY:g} wanted; "
    text += f"false classes on {len(false)} of {len(perfect)} perfect real images"
    if false:
        text += f" ({', '.join(false)})"
    return passed, ("passed: " if passed else "not passed: ") + text


def tables(rows: Sequence[Row]) -> str:
    """Rows as a table."""
    head = tuple(rows[0]) if rows else ()
    return markdown(head, [tuple(row.get(key) for key in head) for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the models; 1 if one did not pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.ensemble", description=__doc__)
    parser.add_argument(
        "model", nargs="+", type=Path, help="model file of an ensemble of the simulated classes"
    )
    parser.add_argument("--per-class", type=int, default=240, help="test patches of each class and condition")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder of real")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(arguments)
    schemes = {scheme.classes: name for name, scheme in SCHEMES.items()}
    all_rows: list[Row] = []
    all_perfect: list[Row] = []
    passes = True
    for path in options.model:
        model = load_model(path)
        name = schemes.get(tuple(model.contract.classes))
        if name is None:
            parser.error(f"{path}: its classes are those of no scheme of `hrstem-defects simulate`.")
        rows: list[Row] = []
        for condition in CONDITIONS:
            rows += simulated(model, SCHEMES[name], condition, options.per_class)
            print(f"{name}, outside {condition}: {cell(rows[-1]['recall'])}", file=sys.stderr, flush=True)
        perfect = real(model, options.data)
        passed, text = verdict(rows, perfect)
        passes &= passed
        print(f"{tables(rows)}\n{tables(perfect)}\n{name}: {text}")
        all_rows += [{"material": name, **row} for row in rows]
        all_perfect += [{"material": name, **row} for row in perfect]
    write_csv(options.out / "ensemble_gate.csv", all_rows)
    write_csv(options.out / "ensemble_gate_real.csv", all_perfect)
    run.record(options.out, "ensemble_gate", seed=SEED)
    return int(not passes)


if __name__ == "__main__":
    sys.exit(main())
