"""Section "classifiers": the screening and networks trained on few images, on lattices known and unknown."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.models import compact, evaluation, softmax, vgg16
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.options import TrainingOptions
from napari_hrstem_defects.models.preparing import cut_patches, resize
from napari_hrstem_defects.models.sampling import sample_patches
from results_tools import page, workers
from results_tools.classifier_data import (
    CLEAN_IMAGES,
    IMAGES,
    LEFT_OUT_STRUCTURES,
    LEFT_OUT_ZONES,
    PARTS,
    REVISED,
    SCREENING,
    SHAPE,
    TRAINING_STRUCTURES,
    TRAINING_ZONES,
    Judged,
    one,
)

#: Parts that the splits are made of and judged on.
SPLIT_PARTS = ("known", "known clean", "left out", "left out clean")
#: Repeated splits, images drawn for the test of each, and the seed of the draws.
SPLITS, TEST_IMAGES, SEED = 6, 3, 3026100
#: Compact network: half the resolution, which is a fourth of the time.
COMPACT_PX, COMPACT_PER_CLASS, COMPACT_EPOCHS = 64, 1500, 20
#: The same trained once on many more images of the known lattices: views of each class, images that stop it.
POOL, POOL_PER_CLASS, POOL_EPOCHS, POOL_STOPPING = "pool for compact", 8000, 10, 30
POOLED = "compact, more images"
#: VGG16: every so many patches of the other images are judged; passes of its dense layers, patches a step.
VGG_EVERY, VGG_EPOCHS, VGG_BATCH = 8, 15, 16
#: Accuracy, precision, specificity and recall of Dennler et al. (2021) in percent, and specificity without defects.
PUBLISHED = {"training": (92.4, 87.7, 93.4, 90.4), "test": (88.1, 79.7, 89.0, 82.6)}
PUBLISHED_CLEAN = 99.5
_AUTHORS = "VGG16, Dennler et al. (2021)"

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
        known = [counts_on(image, verdict) for image in data["known"]]
        train = [n for n in range(len(known)) if n not in test]
        if trained:
            rows.setdefault("training", []).append(scores_of(np.sum([known[n] for n in train], axis=0)))
        rows.setdefault("test", []).append(scores_of(np.sum([known[n] for n in test], axis=0)))
        others = [counts_on(data["left out"][n], verdict, every) for n in test]
        rows.setdefault("left out", []).append(scores_of(np.sum(others, axis=0)))
        for row, part in (("test", "known clean"), ("left out", "left out clean")):
            clean = np.sum([counts_on(image, verdict, every) for image in data[part]], axis=0)
            rows[row][-1]["defect-free specificity"] = scores_of(clean)["specificity"]
    return {row: _spread(each) for row, each in rows.items()}


def counts_on(image: Judged, verdict: Verdict, every: int = 1) -> Counts:
    """Counts of a verdict on an image, or on some of its patches."""
    defective = verdict(image)
    # A verdict on some of the patches only names no others.
    chosen = np.arange(image.truths.shape[1])[_offset(image, every) :: every]
    if len(defective) == len(chosen):
        whole = np.zeros(image.truths.shape[1], bool)
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


def train_compact(data: Mapping[str, Sequence[Judged]], number: int, epochs: int) -> Said:
    """A compact network for one split."""
    test = draws()[number]
    images = [_labelled(image) for n, image in enumerate(data["known"]) if n not in test]
    return _ask(data, _compact(images, 2, COMPACT_PER_CLASS, epochs, SEED + number))


def train_pooled(data: Mapping[str, Sequence[Judged]], per_class: int, epochs: int) -> Said:
    """A compact network on images outside the splits, for all of them."""
    images = [_labelled(image) for image in data[POOL]]
    return _ask(data, _compact(images, POOL_STOPPING, per_class, epochs, SEED))


def _compact(images: list[LabelledImage], stopping: int, per_class: int, epochs: int, seed: int) -> Verdict:
    """What a compact network says that was trained on all but the last images, which stop it."""
    train = sample_patches(images[:-stopping], COMPACT_PX, per_class, seed=seed)
    validation = sample_patches(images[-stopping:], COMPACT_PX, max(40, per_class // 8), seed=seed + 50)
    options = TrainingOptions(epochs=epochs, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        fitted = compact.fit(train, validation, options, workspace=Path(folder))
    model = SimpleNamespace(networks=fitted.networks)

    def verdict(image: Judged) -> NDArray[np.bool_]:
        patches = cut_patches(image.pixels, image.grid, COMPACT_PX, {})
        return evaluation.defect_probability(compact.predict(model, patches)) > evaluation.THRESHOLD

    return verdict


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


def train_vgg(data: Mapping[str, Sequence[Judged]], splits: int, epochs: int) -> list[Said]:
    """The dense layers of VGG16 for each split, on the features of a base of random weights."""
    keras().utils.set_random_seed(SEED)
    base = vgg16.build_vgg16(None)
    features_of = keras().Model(base.inputs, base.get_layer("flatten").input)
    features: dict[str, NDArray[np.float32]] = {}
    for part in SPLIT_PARTS:
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
            said = np.asarray(head.predict_on_batch(features[image.name + image.part]))
            return evaluation.defect_probability(said) > evaluation.THRESHOLD

        out.append(_ask(data, verdict))
    return out


def _dense_layers(network: Any) -> Any:
    """What follows the base of VGG16, as a network of its own."""
    flatten = network.get_layer("flatten")
    inputs = keras().Input(flatten.input.shape[1:])
    x = inputs
    for layer in network.layers[network.layers.index(flatten) :]:
        x = layer(x)
    return keras().Model(inputs, x)


def ready(
    data: Mapping[str, Sequence[Judged]], classifiers: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows of classifiers that are not trained here, by themselves and as the pipeline revises them."""
    names = [name + revised for name in classifiers for revised in ("", REVISED)]
    return {name: measured(data, [said_by(name)] * SPLITS, False) for name in names}


def said_by(name: str) -> Verdict:
    """Verdict of a classifier that came with the image."""
    return lambda image: image.verdicts[name]


def section(folder: Path, *, processes: int, quick: bool = False) -> str:
    """Simulate, train, measure, write the table and return the text."""
    counts = {name: PARTS[name].count for name in (*SPLIT_PARTS, POOL)}
    if quick:
        counts[POOL] = POOL_STOPPING + 10
    data = simulated(counts, (SCREENING,), processes)
    splits, epochs = (2, 1) if quick else (SPLITS, 0)
    rows = ready(data, (SCREENING,))
    tasks: list[tuple[Any, ...]] = [
        (train_compact, data, number, epochs or COMPACT_EPOCHS) for number in range(splits)
    ]
    tasks.append((train_pooled, data, 40 if quick else POOL_PER_CLASS, epochs or POOL_EPOCHS))
    tasks.append((train_vgg, data, splits, epochs or VGG_EPOCHS))
    *compacts, pooled, vgg = workers.run(_trained, tasks, processes)
    rows["compact"] = measured(data, [_heard(said) for said in compacts], True)
    rows[POOLED] = measured(data, [_heard(pooled)] * SPLITS, False)
    rows["VGG16"] = measured(data, [_heard(said) for said in vgg], True, VGG_EVERY)
    write_table(folder, rows)
    return text(rows)


def simulated(
    counts: Mapping[str, int], classifiers: tuple[str, ...], processes: int
) -> dict[str, list[Judged]]:
    """So many images of each part, with the verdicts of some classifiers."""
    tasks = [(name, index, classifiers) for name, count in counts.items() for index in range(count)]
    data: dict[str, list[Judged]] = {name: [] for name in counts}
    for task, image in zip(tasks, workers.run(one, tasks, processes), strict=True):
        data[task[0]].append(image)
    return data


#: What one classifier says of each image of the parts in :data:`SPLIT_PARTS`.
Said = dict[str, list[NDArray[np.bool_]]]


def _trained(train: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a process of its own."""
    return train(*arguments)


def _heard(said: Said) -> Verdict:
    """A classifier that was asked already."""

    def verdict(image: Judged) -> NDArray[np.bool_]:
        return said[image.part][image.index]

    return verdict


def _ask(data: Mapping[str, Sequence[Judged]], verdict: Verdict) -> Said:
    return {part: [verdict(image) for image in data[part]] for part in SPLIT_PARTS}


def write_table(
    folder: Path,
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
    name: str = "classifiers.csv",
) -> None:
    """Rows of the splits as numbers."""
    page.write_csv(
        folder / name,
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

* *Screening* needs no training; *revised by the pipeline* is a verdict after the severity map was looked at: what an
  analysis shows. The verdicts of networks trained here are given as they are, without that revision.
* *Compact* was trained on {per_class} views of each class for at most {compact_epochs} passes a split, on patches at
  half the resolution ({compact_px} px), stopped by two of the ten images. It learns these images rather than what a
  defect is: ten of as many lattices are too few for a network that starts from nothing.{more}
* *VGG16* had no ImageNet weights: its base has random weights, and only the dense layers were trained, on the patches
  of ten images for {vgg_epochs} passes; of the images outside the splits one patch in {vgg_every} was judged. That is
  no transfer learning and says nothing about the published network. Training the whole network was beyond two
  processors.

As numbers: [classifiers.csv](results/classifiers.csv).
"""
_MORE = """ *{name}* is the same, trained once for at most
  {epochs} passes on {per_class} views of each class of {pool} other images of the known lattices, {stopping} of which
  stop it. It sees a patch alone and has to guess what the crystal beside it looks like."""


def text(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The section."""
    return _TEXT.format(
        side=" × ".join(map(str, SHAPE)),
        known=f"{', '.join(TRAINING_STRUCTURES)} along {', '.join(TRAINING_ZONES)}",
        unknown=f"{' and '.join(LEFT_OUT_STRUCTURES)} along any axis, and the zone axis {', '.join(LEFT_OUT_ZONES)}",
        splits=SPLITS,
        tests=TEST_IMAGES,
        others=IMAGES - TEST_IMAGES,
        clean=CLEAN_IMAGES,
        table=table(rows, published=True),
        compact_px=COMPACT_PX,
        per_class=COMPACT_PER_CLASS,
        compact_epochs=COMPACT_EPOCHS,
        more=_MORE.format(
            name=POOLED.capitalize(),
            per_class=POOL_PER_CLASS,
            epochs=POOL_EPOCHS,
            pool=PARTS[POOL].count,
            stopping=POOL_STOPPING,
        )
        if POOLED in rows
        else "",
        vgg_epochs=VGG_EPOCHS,
        vgg_every=VGG_EVERY,
    )


def table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], published: bool = False) -> str:
    """Rows of the splits, with those of Dennler et al. (2021) if wanted."""
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
    for row, theirs in PUBLISHED.items() if published else ():
        clean = f"{PUBLISHED_CLEAN:.1f}" if row == "test" else "–"
        body.append((_AUTHORS, f"their {row} images, real", *(f"{value:.1f}" for value in theirs), clean))
    head = ("classifier", "judged on", *evaluation.METRICS, "defect-free")
    return page.table(head, body).strip()


def _percent(value: Mapping[str, float] | None) -> str:
    if value is None or np.isnan(value["mean"]):
        return "–"
    spread = "" if np.isnan(value["std"]) else f" ± {100 * value['std']:.1f}"
    return f"{100 * value['mean']:.1f}{spread}"
