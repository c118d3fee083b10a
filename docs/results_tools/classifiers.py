"""Section "classifiers": the screening, trained networks and one that compares, on lattices known and unknown."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.models import compact, evaluation, softmax, vgg16
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.options import TrainingOptions
from napari_hrstem_defects.models.preparing import cut_patches, resize
from napari_hrstem_defects.models.sampling import sample_patches
from results_tools import page, real, workers
from results_tools.classifier_data import (
    CLEAN_IMAGES,
    IMAGES,
    LEFT_OUT_STRUCTURES,
    LEFT_OUT_ZONES,
    MOST_STRETCH,
    PARTS,
    SHAPE,
    TRAINING_STRUCTURES,
    TRAINING_ZONES,
    VALIDATION_STRUCTURES,
    Judged,
    judged,
    one,
)
from results_tools.comparing import (
    PX_PER_PERIOD,
    STATISTICS,
    RelativeInputs,
    build_relative,
    defect_probabilities,
    fit_relative,
    join_inputs,
)

#: Parts that decide whether a classifier is bundled.
GATE = ("gate, structure types", "gate, zone axis")
#: Repeated splits, images drawn for the test of each, and the seed of the draws.
SPLITS, TEST_IMAGES, SEED = 6, 3, 3026100
#: Real images without defects, and the largest share of their patches that may be called defective.
PERFECT = ("dso_perfect", "dumbbell_perfect", "bssn_perfect", "pto_sro")
MOST_FALSE_ALARMS = 0.05
#: End of the name of a crystal seen along the zone axis that was left out.
ZONE_112 = " 112"
#: Thresholds tried on the validation part.
THRESHOLDS = tuple(np.round(np.arange(0.5, 0.96, 0.05), 2))
RELATIVE_EPOCHS = 12
#: Compact network: half the resolution, which is a fourth of the time.
COMPACT_PX, COMPACT_PER_CLASS, COMPACT_EPOCHS = 64, 300, 12
#: VGG16: every so many patches of the other images are judged; passes of its dense layers, patches a step.
VGG_EVERY, VGG_EPOCHS, VGG_BATCH = 8, 15, 16
#: Accuracy, precision, specificity and recall of Dennler et al. (2021) in percent, and specificity without defects.
PUBLISHED = {"training": (92.4, 87.7, 93.4, 90.4), "test": (88.1, 79.7, 89.0, 82.6)}
PUBLISHED_CLEAN = 99.5
_AUTHORS = "VGG16, Dennler et al. (2021)"
#: What the candidate for bundling is called in the tables.
COMPARING = "comparing network"

Counts = NDArray[np.intp]


def counts_of(truth: NDArray[np.int8], defective: NDArray[np.bool_]) -> Counts:
    """True negatives, false positives, false negatives and true positives; ambivalent patches are left out."""
    clear = truth != metrics.AMBIVALENT
    return np.bincount(2 * truth[clear] + defective[clear], minlength=4)


def scores_of(counts: Counts) -> dict[str, float]:
    """Accuracy, precision, specificity and recall, in that order; NaN where there is nothing to count."""
    negative, false, missed, positive = (int(n) for n in counts)
    return {
        "accuracy": _ratio(negative + positive, int(counts.sum())),
        "precision": _ratio(positive, positive + false),
        "specificity": _ratio(negative, negative + false),
        "recall": _ratio(positive, positive + missed),
    }


def _ratio(some: int, of: int) -> float:
    return some / of if of else float("nan")


@dataclass(frozen=True, eq=False)
class Comparing:
    """A trained comparing network and the threshold that was chosen with it.

    Attributes
    ----------
    network : keras.Model
    threshold : float
    epochs : int
    cpu_s : float
        Of the training.
    """

    network: Any
    threshold: float
    epochs: int
    cpu_s: float

    def verdict(self, image: Judged) -> NDArray[np.bool_]:
        """Which patches are defective; none where the image shows no lattice, as in the pipeline."""
        if image.inputs is None:
            return np.zeros(image.screen.shape, bool)
        return defect_probabilities(self.network, image.inputs) > self.threshold


def train_comparing(
    training: Sequence[Judged], validation: Sequence[Judged], epochs: int = RELATIVE_EPOCHS
) -> Comparing:
    """Train on some structure types; stop, and choose the threshold, on another one."""
    keras().utils.set_random_seed(SEED)
    parts = [_clear(training), _clear(validation)]
    network = build_relative()
    begin = time.process_time()
    history = fit_relative(network, parts[0], parts[1], epochs=epochs, seed=SEED)
    seconds = time.process_time() - begin
    said = defect_probabilities(network, parts[1][0])
    right = [float(np.mean((said > threshold) == parts[1][1])) for threshold in THRESHOLDS]
    return Comparing(network, float(THRESHOLDS[int(np.argmax(right))]), history.epochs, seconds)


def _clear(images: Sequence[Judged]) -> tuple[RelativeInputs, NDArray[np.int8]]:
    inputs, labels = [], []
    for image in images:
        truth = image.training_truth()
        clear = truth != metrics.AMBIVALENT
        if image.inputs is not None and clear.any():
            inputs.append(image.inputs.take(clear))
            labels.append(truth[clear])
    return join_inputs(inputs), np.concatenate(labels)


def draws() -> list[NDArray[np.intp]]:
    """Test images of each split."""
    rng = np.random.default_rng(SEED)
    return [np.sort(rng.choice(IMAGES, TEST_IMAGES, replace=False)) for _ in range(SPLITS)]


Verdict = Callable[[Judged], NDArray[np.bool_]]


def measured(
    data: Mapping[str, Sequence[Judged]], verdicts: Sequence[Verdict], trained: bool, every: int = 1
) -> dict[str, dict[str, Any]]:
    """Scores of one classifier, `verdicts` for each split, in the layout of the published table.

    Parameters
    ----------
    data : mapping
        The parts but those for training.
    verdicts : sequence of callable
        One for each split that was made.
    trained : bool
        Whether it was trained on the other images of each split.
    every : int
        Which of the patches are judged in images that no split is made of.

    Returns
    -------
    dict
        Row → metric → mean and standard deviation over the splits.
    """
    splits = draws()[: len(verdicts)]
    rows: dict[str, list[dict[str, float]]] = {}
    for verdict, test in zip(verdicts, splits, strict=True):
        known = [_judged(image, verdict) for image in data["known"]]
        train = [n for n in range(len(known)) if n not in test]
        if trained:
            rows.setdefault("training", []).append(scores_of(np.sum([known[n] for n in train], axis=0)))
        rows.setdefault("test", []).append(scores_of(np.sum([known[n] for n in test], axis=0)))
        others = [_judged(data["left out"][n], verdict, every) for n in test]
        rows.setdefault("left out", []).append(scores_of(np.sum(others, axis=0)))
        for row, part in (("test", "known clean"), ("left out", "left out clean")):
            clean = np.sum([_judged(image, verdict, every) for image in data[part]], axis=0)
            rows[row][-1]["defect-free specificity"] = scores_of(clean)["specificity"]
    return {row: _spread(each) for row, each in rows.items()}


def _judged(image: Judged, verdict: Verdict, every: int = 1) -> Counts:
    defective = verdict(image)
    # A verdict on some of the patches only names no others.
    chosen = np.arange(len(image.screen))[_offset(image, every) :: every]
    if len(defective) == len(chosen):
        whole = np.zeros(len(image.screen), bool)
        whole[chosen] = defective
        defective = whole
    thinned = dataclasses.replace(image, truths=image.truths[:, chosen])
    return counts_of(thinned.best_truth(defective[chosen]), defective[chosen])


def _offset(image: Judged, every: int) -> int:
    return len(image.name) % every  # not always the same corner of the grid


def _spread(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    out = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        values = values[~np.isnan(values)]
        out[name] = {
            "mean": float(values.mean()) if len(values) else float("nan"),
            "std": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        }
    return out


def train_compact(data: Mapping[str, Sequence[Judged]], splits: int, epochs: int) -> list[Verdict]:
    """One compact network for each split."""
    out = []
    for number, test in enumerate(draws()[:splits]):
        images = [_labelled(image) for n, image in enumerate(data["known"]) if n not in test]
        train = sample_patches(images[:-2], COMPACT_PX, COMPACT_PER_CLASS, seed=SEED + number)
        validation = sample_patches(images[-2:], COMPACT_PX, 40, seed=SEED + 50 + number)
        options = TrainingOptions(epochs=epochs, seed=SEED + number)
        with tempfile.TemporaryDirectory() as folder:
            fitted = compact.fit(train, validation, options, workspace=Path(folder))
        model = SimpleNamespace(networks=fitted.networks)

        def verdict(image: Judged, model: Any = model) -> NDArray[np.bool_]:
            patches = cut_patches(image.pixels, image.grid, COMPACT_PX, {})
            return evaluation.defect_probability(compact.predict(model, patches)) > evaluation.THRESHOLD

        out.append(verdict)
    return out


def _labelled(image: Judged) -> LabelledImage:
    """An image at the scale at which its patches have the compact network's size."""
    factor = COMPACT_PX / image.grid.size
    shape = tuple(max(COMPACT_PX, round(side * factor)) for side in image.grid.shape)
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * side / n).astype(int), side - 1)
        for n, side in zip(shape, image.grid.shape, strict=True)
    )
    return LabelledImage(
        image.name, resize(image.pixels, shape), image.labels[np.ix_(rows, columns)], simulated=True
    )


def train_vgg(data: Mapping[str, Sequence[Judged]], splits: int, epochs: int) -> list[Verdict]:
    """The dense layers of VGG16 for each split, on the features of a base of random weights."""
    keras().utils.set_random_seed(SEED)
    base = vgg16.build_vgg16(None)
    features_of = keras().Model(base.inputs, base.get_layer("flatten").input)
    features: dict[str, NDArray[np.float32]] = {}
    for part in ("known", "known clean", "left out", "left out clean"):
        for image in data[part]:
            patches = cut_patches(image.pixels, image.grid, 128, {"filter": "log", "scope": "frame"})
            if part != "known":
                patches = patches[_offset(image, VGG_EVERY) :: VGG_EVERY]
            features[image.name + part] = np.concatenate(
                [
                    np.asarray(features_of.predict_on_batch(vgg16.network_input(patches[n : n + 16])))
                    for n in range(0, len(patches), 16)
                ]
            )
    parts = {id(image): part for part in data for image in data[part]}
    out = []
    for number, test in enumerate(draws()[:splits]):
        keras().utils.set_random_seed(SEED + number)
        head = _dense_layers(vgg16.build_vgg16(None))
        own = [n for n in range(IMAGES) if n not in test]
        labels = [data["known"][n].truths[0] for n in own]
        inputs = np.concatenate([features[data["known"][n].name + "known"] for n in own])
        truth = np.concatenate(labels)
        chosen = truth != metrics.AMBIVALENT
        pixels = np.zeros((int(chosen.sum()), 1, 1), np.float32)
        weights = softmax.class_weights(
            PatchSet(pixels, truth[chosen], metrics.PATCH_CLASSES, np.array(["known"] * len(pixels)))
        )
        head.compile(keras().optimizers.Adam(1e-5), "categorical_crossentropy", jit_compile=False)
        head.fit(
            inputs[chosen],
            np.eye(2, dtype=np.float32)[truth[chosen]],
            batch_size=VGG_BATCH,
            epochs=epochs,
            class_weight=weights,
            verbose=0,
        )

        def verdict(image: Judged, head: Any = head) -> NDArray[np.bool_]:
            said = np.asarray(head.predict_on_batch(features[image.name + parts[id(image)]]))
            return evaluation.defect_probability(said) > evaluation.THRESHOLD

        out.append(verdict)
    return out


def _dense_layers(network: Any) -> Any:
    """What follows the base of VGG16, as a network of its own."""
    flatten = network.get_layer("flatten")
    inputs = keras().Input(flatten.input.shape[1:])
    x = inputs
    for layer in network.layers[network.layers.index(flatten) :]:
        x = layer(x)
    return keras().Model(inputs, x)


def training_free(data: Mapping[str, Sequence[Judged]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows of the screening, by itself and as the pipeline revises it."""
    return {
        "screening": measured(data, [lambda image: image.screen] * SPLITS, False),
        "screening, revised by the pipeline": measured(data, [lambda image: image.pipeline] * SPLITS, False),
    }


def gate(
    images: Sequence[Judged], perfect: Sequence[Judged], comparing: Comparing
) -> tuple[list[dict[str, Any]], bool]:
    """Whether the comparing network is better than the screening where it must be.

    Parameters
    ----------
    images : sequence of Judged
        Simulated, of lattices left out of the training.
    perfect : sequence of Judged
        Real images without defects.
    comparing : Comparing

    Returns
    -------
    tuple of (list of dict, bool)
        A row for each classifier on each set, and whether all conditions are met.
    """
    verdicts: dict[str, Verdict] = {
        "screening": lambda image: image.screen,
        "screening, revised by the pipeline": lambda image: image.pipeline,
        COMPARING: comparing.verdict,
    }
    zones = [image for image in images if not image.crystal.endswith(ZONE_112)]
    sets = {
        "left out": images,
        "left out, structure types": zones,
        "left out, zone axis 112": [image for image in images if image.crystal.endswith(ZONE_112)],
        **{image.name: [image] for image in perfect},
    }
    rows = []
    for name, members in sets.items():
        for classifier, verdict in verdicts.items():
            counts = np.sum([_judged(image, verdict) for image in members], axis=0)
            rows.append(
                {
                    "set": name,
                    "classifier": classifier,
                    "images": len(members),
                    "patches": int(counts.sum()),
                    **scores_of(counts),
                    "false_alarms": int(counts[1]),
                }
            )
    accuracy = {row["classifier"]: row["accuracy"] for row in rows if row["set"] == "left out"}
    alarms = [
        1 - row["specificity"]
        for row in rows
        if row["classifier"] == COMPARING and row["set"] in [image.name for image in perfect]
    ]
    better = accuracy[COMPARING] > max(v for k, v in accuracy.items() if k != COMPARING)
    return rows, bool(better and alarms and max(alarms) <= MOST_FALSE_ALARMS)


def real_perfect(folder: Path) -> list[Judged]:
    """Real images without defects; none where the folder is not there."""
    out = []
    for name in PERFECT if folder.is_dir() else ():
        pixels = hd.read(folder / f"{name}.tif").frame().pixels
        truth = real.read_truth(folder, name)
        out.append(judged(name, pixels, [np.where(truth == metrics.IGNORE, 0, truth).astype(np.uint8)]))
    return out


def section(folder: Path, real_folder: Path, *, processes: int, quick: bool = False) -> str:
    """Simulate, train, measure, write the tables and return the text."""
    wanted = {
        name: 8 if quick and part.count > IMAGES + CLEAN_IMAGES else part.count
        for name, part in PARTS.items()
    }
    tasks = [
        (name, index, name in ("training", "validation", *GATE))
        for name, count in wanted.items()
        for index in range(count)
    ]
    found = workers.run(one, tasks, processes)
    data: dict[str, list[Judged]] = {}
    for task, image in zip(tasks, found, strict=True):
        data.setdefault(task[0], []).append(image)
    splits, epochs = (2, 1) if quick else (SPLITS, 0)
    comparing = train_comparing(data["training"], data["validation"], epochs or RELATIVE_EPOCHS)
    rows = training_free(data)
    rows["compact"] = measured(data, train_compact(data, splits, epochs or COMPACT_EPOCHS), True)
    rows[COMPARING] = measured(data, [comparing.verdict] * SPLITS, False)
    rows["VGG16"] = measured(data, train_vgg(data, splits, epochs or VGG_EPOCHS), True, VGG_EVERY)
    gated, passed = gate(
        [image for part in GATE for image in data[part]], real_perfect(real_folder), comparing
    )
    write_tables(folder, rows, gated)
    return text(rows, gated, passed, about(data, comparing))


def about(data: Mapping[str, Sequence[Judged]], comparing: Comparing) -> dict[str, Any]:
    """Numbers that the text mentions."""
    return {
        "images": len(data["training"]),
        "patches": len(_clear(data["training"])[1]),
        "validation": len(_clear(data["validation"])[1]),
        "gate": sum(len(data[part]) for part in GATE),
        "parameters": comparing.network.count_params(),
        "threshold": comparing.threshold,
        "epochs": comparing.epochs,
        "cpu_s": comparing.cpu_s,
    }


def write_tables(
    folder: Path, rows: Mapping[str, Mapping[str, Mapping[str, Any]]], gated: Sequence[Mapping[str, Any]]
) -> None:
    """``classifiers.csv`` and ``classifiers_gate.csv``."""
    page.write_csv(
        folder / "classifiers.csv",
        [
            {
                "classifier": classifier,
                "set": row,
                **{
                    f"{metric}_{kind}".replace(" ", "_"): value[kind]
                    for metric, value in values.items()
                    for kind in ("mean", "std")
                },
            }
            for classifier, each in rows.items()
            for row, values in each.items()
        ],
    )
    page.write_csv(folder / "classifiers_gate.csv", gated)


_TEXT = """\
## Patch classifiers

Trained networks against the training-free screening. The published set, 13 images with defects and 28 without, is not
public: the numbers here are of **simulated** images of {side} px in the same numbers, the published ones of **real**
images. The data differ, so a difference between the two says nothing about the classifiers. *Known lattices* are
{known};
*left out* are {unknown}, of which no network saw an image.
{splits} times {tests} of the 13 images are drawn for the test, and a network is trained on the other {others}; given
are mean ± standard deviation over the splits in percent. *Defect-free* is the specificity on the {clean} images without
defects. Ambivalent patches (1 to 10 % defect area) are left out; where two grains may be the reference the better view
counts, for every classifier.

{table}

* *Screening* needs no training; *revised by the pipeline* is its verdict after the severity map was looked at: what an
  analysis shows. The verdicts of trained networks are given as they are, without that revision.
* *Compact* was trained on {per_class} views of each class for at most {compact_epochs} passes a split, on patches at
  half the resolution ({compact_px} px), stopped by two of the ten images: far too little for a network that starts
  from nothing.
* *VGG16* had no ImageNet weights: its base has random weights, and only the dense layers were trained, on the patches
  of ten images for {vgg_epochs} passes; of the images outside the splits one patch in {vgg_every} was judged. That is
  no transfer learning and says nothing about the published network. Training the whole network was beyond two
  processors.
* The *comparing network* is described below. It was trained once, on other images of the known lattices, so the spread
  is that of the test images alone.

### A pretrained classifier?

One was to be bundled if it is better than the screening, by itself and as revised, on lattices that it never saw, and
calls at most {most_alarms:.0%} of the patches of each real image without defects defective. The candidate sees a patch
together with the typical patch of its image, both at {px:g} px per lattice period, their autocorrelations, and
{numbers} numbers about the patch among all patches of the image, the score of the screening included. It has
{parameters} parameters and was stopped after {epochs} passes ({cpu_s:.0f} s of processor time) on {patches} patches of
{images} simulated images, half of them stretched and sheared by up to {stretch:.0%}. It was stopped by, and its
threshold of {threshold:g} chosen on, {validation} patches of another structure type ({validation_structures}). The
{gate} simulated images of left-out lattices and the real images were only scored. (The simulated ones replace a first
such set, in which all images of the unknown structure types happened to be perfect; the network stayed as it was.)

{gate_table}

{verdict}

*pto_sro* is a stack of two perovskites that grow on each other; no such film was in the training. As numbers:
[classifiers.csv](results/classifiers.csv), [classifiers_gate.csv](results/classifiers_gate.csv).
"""
_PASSED = "Both conditions are met."
_FAILED = "**{reasons}: no pretrained classifier is bundled.**"


def text(
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
    gated: Sequence[Mapping[str, Any]],
    passed: bool,
    numbers: Mapping[str, Any],
) -> str:
    """The section."""
    return _TEXT.format(
        side=" × ".join(map(str, SHAPE)),
        known=f"{', '.join(TRAINING_STRUCTURES)} along {', '.join(TRAINING_ZONES)}",
        unknown=f"{' and '.join(LEFT_OUT_STRUCTURES)} along any axis, and the zone axis {', '.join(LEFT_OUT_ZONES)}",
        splits=SPLITS,
        tests=TEST_IMAGES,
        others=IMAGES - TEST_IMAGES,
        clean=CLEAN_IMAGES,
        table=_table(rows),
        compact_px=COMPACT_PX,
        per_class=COMPACT_PER_CLASS,
        compact_epochs=COMPACT_EPOCHS,
        vgg_epochs=VGG_EPOCHS,
        vgg_every=VGG_EVERY,
        most_alarms=MOST_FALSE_ALARMS,
        px=PX_PER_PERIOD,
        numbers=len(STATISTICS),
        parameters=f"{numbers['parameters']:,}".replace(",", " "),
        epochs=numbers["epochs"],
        cpu_s=numbers["cpu_s"],
        patches=numbers["patches"],
        images=numbers["images"],
        stretch=MOST_STRETCH,
        threshold=numbers["threshold"],
        validation=numbers["validation"],
        validation_structures=", ".join(VALIDATION_STRUCTURES),
        gate=numbers["gate"],
        gate_table=_gate_table(gated),
        verdict=_PASSED if passed else _FAILED.format(reasons=_reasons(gated)),
    )


def _table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    names = {"training": "training images", "test": "known lattices", "left out": "left out"}
    body = []
    for classifier, each in rows.items():
        for row, values in each.items():
            body.append(
                (
                    classifier,
                    names[row],
                    *(
                        _percent(values.get(metric))
                        for metric in (*evaluation.METRICS, "defect-free specificity")
                    ),
                )
            )
    for row, published in PUBLISHED.items():
        clean = f"{PUBLISHED_CLEAN:.1f}" if row == "test" else "–"
        body.append((_AUTHORS, f"their {row} images, real", *(f"{value:.1f}" for value in published), clean))
    head = ("classifier", "judged on", *evaluation.METRICS, "defect-free")
    return page.table(head, body).strip()


def _percent(value: Mapping[str, float] | None) -> str:
    if value is None or np.isnan(value["mean"]):
        return "–"
    spread = "" if np.isnan(value["std"]) else f" ± {100 * value['std']:.1f}"
    return f"{100 * value['mean']:.1f}{spread}"


def _gate_table(rows: Sequence[Mapping[str, Any]]) -> str:
    body = [
        (
            row["set"],
            row["patches"],
            row["classifier"],
            *(_share(row[metric]) for metric in evaluation.METRICS),
            _share(1 - row["specificity"]),
        )
        for row in rows
    ]
    return page.table(("set", "patches", "classifier", *evaluation.METRICS, "false alarms"), body).strip()


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"


def _reasons(rows: Sequence[Mapping[str, Any]]) -> str:
    accuracy = {row["classifier"]: row["accuracy"] for row in rows if row["set"] == "left out"}
    reasons = []
    for name, value in accuracy.items():
        if name != COMPARING and accuracy[COMPARING] <= value:
            own = accuracy[COMPARING]
            reasons.append(
                f"the {name} is as good or better on left-out lattices ({_share(value)} against {_share(own)} %)"
            )
    alarms = {row["set"]: 1 - row["specificity"] for row in rows if row["classifier"] == COMPARING}
    for name in PERFECT:
        if alarms.get(name, 0) > MOST_FALSE_ALARMS:
            reasons.append(f"false alarms on {name} ({_share(alarms[name])} %)")
    if not any(name in alarms for name in PERFECT):
        reasons.append("the real images were not there")
    sentence = "; ".join(reasons)
    return sentence[:1].upper() + sentence[1:]
