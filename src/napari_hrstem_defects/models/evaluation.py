"""Scores of a classifier on labelled patches, and the layout of the published table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.metrics import (
    AMBIVALENT,
    CLEAN_BELOW,
    DEFECTIVE_ABOVE,
    PATCH_CLASSES,
    classification,
)
from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.data import LabelledImage, PatchSet
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.near_copies import copied, overlapping
from napari_hrstem_defects.models.preparing import filter_patches, resize
from napari_hrstem_defects.models.sampling import grid_patches
from napari_hrstem_defects.models.store import StoredModel

#: The metrics of the published table, in its order.
METRICS = ("accuracy", "precision", "specificity", "recall")
#: Sets of table 1 of [D] and what it calls them.
TABLE_1_ROWS = {"train": "train", "test": "test", "defect_free": "defect-free"}
#: Probability above which a patch is called defective.
THRESHOLD = 0.5
#: How often test images are drawn for the scatter of a finished model's metrics, and how many of them ([D]).
DRAWS, DRAWN_IMAGES = 6, 3


def defect_probability(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability that a patch is anything but clean, from those of the classes; the first class is the clean one."""
    out: NDArray[np.float32] = 1 - probabilities[..., 0]
    return out


@dataclass(frozen=True, eq=False)
class Predictions:
    """Classes of patches, true and predicted.

    Attributes
    ----------
    classes : tuple of str
    source : array of str (n,)
        Their images.
    truth, found : int arrays (n,)
        Numbers of classes.
    nearer : int array (n,) or None
        The same as `truth` with the class to which patches with 1 to 10 % defect area are nearer.
    alone : bool array (n, classes) or None
        Prediction of each network of an ensemble by itself.
    """

    classes: Sequence[str]
    source: NDArray[np.str_]
    truth: NDArray[np.integer]
    found: NDArray[np.integer]
    nearer: NDArray[np.integer] | None = None
    alone: NDArray[np.bool_] | None = None

    def scores(self, chosen: Any = slice(None)) -> dict[str, Any]:
        """Scores over some of the patches, by default over all.

        Parameters
        ----------
        chosen
            An index of the patches.

        Returns
        -------
        dict
            See :func:`napari_hrstem_defects.core.metrics.classification`. Where `nearer` is known also
            ``with_ambivalent``, the metrics with all patches as in `nearer`; where `alone` is, ``binary``, the
            confusion of each network by itself against the rest.
        """
        truth, found = self.truth[chosen], self.found[chosen]
        out = classification(truth, found, classes=self.classes)
        if self.nearer is not None:
            both = classification(self.nearer[chosen], found)
            names = (*METRICS, "balanced_accuracy", "count", "ambivalent", "confusion")
            out["with_ambivalent"] = {name: both[name] for name in names}
        if self.alone is not None:
            out["binary"] = {
                name: classification(truth == k, own, classes=("other", name))["confusion"]
                for (k, name), own in zip(enumerate(self.classes), self.alone[chosen].T, strict=True)
            }
        return out

    def of_images(self, names: Sequence[str]) -> dict[str, Any]:
        """Scores over the patches of images."""
        return self.scores(np.isin(self.source, names))


def classify_images(model: StoredModel, images: Sequence[LabelledImage]) -> Predictions:
    """Classify all patches of labelled images, those of the model's size on the grid that an analysis uses."""
    contract = model.contract
    secondary = contract.training.get("secondary", "defective")
    images = [replace(image, secondary=secondary) for image in images]
    patches = grid_patches(images, contract.patch_px, contract.preprocessing)
    probability = defect_probability(kind_of(contract.kind).predict(model, patches.pixels))
    assert patches.shares is not None
    middle = (CLEAN_BELOW + DEFECTIVE_ABOVE) / 2
    nearer = np.where(patches.labels == AMBIVALENT, patches.shares > middle, patches.labels)
    found = (probability > THRESHOLD).astype(np.intp)
    return Predictions(PATCH_CLASSES, patches.source, patches.labels, found, nearer)


def classify_patches(model: StoredModel, patches: PatchSet, *, filtered: bool = False) -> Predictions:
    """Classify patches.

    Parameters
    ----------
    model : StoredModel
    patches : PatchSet
        Resampled if they have another size than the model's. Its classes must be those of the model, or the model
        must be one of clean and defective, and every class but the first counts as defective.
    filtered : bool
        The patches are filtered already.

    Raises
    ------
    ModelError
        If the classes do not fit.
    """
    contract = model.contract
    truth = _labels_for(contract.classes, patches)
    pixels = resize(patches.pixels, (len(patches), contract.patch_px, contract.patch_px))
    if not filtered:
        pixels = filter_patches(pixels, contract.preprocessing.get("filter", "none"))
    probabilities = kind_of(contract.kind).predict(model, pixels)
    # Of two classes by the threshold on the second, of more the most probable.
    found = probabilities.argmax(axis=1)
    if len(contract.classes) == 2:
        found = (defect_probability(probabilities) > THRESHOLD).astype(np.intp)
    alone = probabilities > THRESHOLD if contract.kind == "fft-ensemble" else None
    return Predictions(contract.classes, patches.source, truth, found, alone=alone)


def _labels_for(classes: Sequence[str], patches: PatchSet) -> NDArray[np.intp]:
    names = np.array(patches.classes)[patches.labels]
    if set(patches.classes) <= set(classes):
        return np.array([list(classes).index(name) for name in names], np.intp)
    if tuple(classes) == PATCH_CLASSES:
        return (patches.labels > 0).astype(np.intp)
    raise ModelError(
        f"The patches have the classes {', '.join(patches.classes)}, the model has {', '.join(classes)}; "
        "evaluate it on patches of its own classes."
    )


def evaluate_images(model: StoredModel, images: Sequence[LabelledImage]) -> dict[str, Any]:
    """Scores of a finished classifier on labelled images.

    Images that it was trained on are recognised by their pixels and scored apart: of them it may know every patch.

    Returns
    -------
    dict
        The scores over all unseen images with defects (over the other unseen ones if there are none, over all images
        if none is unseen); ``repeated``: mean and standard deviation over `DRAWS` random draws of `DRAWN_IMAGES` of
        them, or over them where there are no more; ``defect_free``: the specificity over unseen images without
        defects; ``unseen``, ``with_defects``: how many images were unseen, and how many of those have defects;
        ``seen``: names of images it was trained on, and ``trained_on``, the scores over them; ``recognisable``: False
        if the model file does not list its training images, as after a training on patches; ``images``: of each;
        ``table_1``: see :func:`table_1`.
    """
    known = {item["sha256"] for item in model.contract.training.get("images", ()) if item["part"] != "test"}
    predictions = classify_images(model, images)
    seen = [image.name for image in images if image.sha256 in known]
    fresh = [image for image in images if image.sha256 not in known]
    defective = [image.name for image in fresh if image.has_defects]
    clean = [image.name for image in fresh if not image.has_defects]
    trained_on = [image.name for image in images if image.has_defects and image.sha256 in known]
    rng = np.random.default_rng(0)
    drawn = {
        part: [predictions.of_images(draw) for draw in _draws(names, rng)]
        for part, names in (("train", trained_on), ("test", defective), ("defect_free", clean))
        if names
    }
    out = predictions.of_images(defective or clean or [image.name for image in images])
    del out["with_ambivalent"]
    out |= {
        "table_1": table_1(
            {part: spread([item["with_ambivalent"] for item in scores]) for part, scores in drawn.items()}
        ),
        "images": {
            image.name: {
                "sha256": image.sha256,
                "defects": image.has_defects,
                **predictions.of_images([image.name]),
            }
            for image in images
        },
        "seen": seen,
        "unseen": len(fresh),
        "with_defects": len(defective),
        "recognisable": "images" in model.contract.training,
    }
    if len(defective) > 1:
        each, of = (DRAWN_IMAGES, "images") if len(defective) > DRAWN_IMAGES else (1, "image")
        out["repeated"] = {**spread(drawn["test"]), "draws": len(drawn["test"]), "images": each, "of": of}
    if clean:
        # Without defects there is no precision and no recall.
        specificity = predictions.of_images(clean)
        rates = {name: specificity[name] for name in ("accuracy", "specificity", "count")}
        out["defect_free"] = {**rates, "images": len(clean)}
    if seen:
        out["trained_on"] = predictions.of_images(seen)
        del out["trained_on"]["with_ambivalent"]
    return out


def _draws(names: Sequence[str], rng: np.random.Generator) -> list[list[str]]:
    """Random draws of images where there are enough, else each by itself."""
    if len(names) > DRAWN_IMAGES:
        return [rng.choice(names, DRAWN_IMAGES, replace=False).tolist() for _ in range(DRAWS)]
    return [[name] for name in names]


def evaluate_patches(model: StoredModel, patches: PatchSet) -> dict[str, Any]:
    """Scores of a finished classifier on a table of patches.

    Patches that it was trained on are recognised by their pixels and scored apart; those that share pixels with them
    are left out.

    Returns
    -------
    dict
        The scores over the unseen patches (over all, if none is unseen); ``repeated``: mean and standard deviation
        over the sources, where there are several; ``seen``: how many it was trained on, and ``trained_on``, the
        scores over them; ``left_out``: how many were left out; ``recognisable``: False if the model file does not list
        its training patches, as after a training on images.
    """
    known = set(model.contract.training.get("patches", ()))
    seen = np.array([mark in known for mark in patches.marks], bool)
    shared = np.zeros(len(patches), bool)
    fresh = np.flatnonzero(~seen)
    if seen.any() and len(fresh):
        if patches.corners is not None:
            shared[fresh] = overlapping(patches.take(fresh), patches.take(seen))
        else:
            shared[fresh] = copied(patches.pixels[fresh], patches.pixels[seen])
    unseen = ~seen & ~shared
    chosen = unseen if unseen.any() else np.ones(len(patches), bool)
    predictions = classify_patches(model, patches)
    out = {
        **predictions.scores(chosen),
        "unseen": int(unseen.sum()),
        "seen": int(seen.sum()),
        "left_out": int(shared.sum()),
        "recognisable": "patches" in model.contract.training,
    }
    sources = np.unique(patches.source[chosen])
    if len(sources) > 1:
        scores = [predictions.scores(chosen & (patches.source == source)) for source in sources]
        out["repeated"] = {**spread(scores), "draws": len(scores), "images": 1, "of": "source"}
    if seen.any():
        out["trained_on"] = predictions.scores(seen)
    return out


def added(confusions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Confusion of several repetitions together."""
    counts = np.sum([confusion["counts"] for confusion in confusions], axis=0)
    return {"classes": confusions[0]["classes"], "counts": counts.tolist()}


def spread(scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of the sample) of each metric over repetitions; those that are defined."""
    out = {}
    for name in (*METRICS, "balanced_accuracy"):
        values = [item[name] for item in scores if item.get(name) is not None and not math.isnan(item[name])]
        out[name] = {
            "mean": float(np.mean(values)) if values else math.nan,
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
        }
    return out


def table_1(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of table 1 of [D]: train, test and defect-free, ambivalent patches included in all of them.

    Parameters
    ----------
    metrics : mapping
        Of the sets ``train``, ``test`` and ``defect_free``, or of those with ``_with_ambivalent``, what :func:`spread`
        returned.

    Returns
    -------
    dict
        Name of the row → metric → ``mean`` and ``std``. Images without defects have neither precision nor recall.

    References
    ----------
    .. [D] Dennler et al., Micron 146 (2021) 103069, table 1.
    """
    out = {}
    for part, row in TABLE_1_ROWS.items():
        scores = stated(metrics, f"{part}_with_ambivalent") or stated(metrics, part)
        left_out = ("precision", "recall") if part == "defect_free" else ()
        if scores:
            out[row] = {name: scores[name] for name in METRICS if name in scores and name not in left_out}
    return out


def class_report(confusion: Mapping[str, Any]) -> dict[str, Any]:
    """Precision, recall, F1 and support of each class, their mean and their mean weighted by support.

    Parameters
    ----------
    confusion : mapping
        ``classes`` and ``counts`` (rows: truth), as of :func:`~napari_hrstem_defects.core.metrics.classification`.

    Returns
    -------
    dict
        ``classes``: name → ``precision``, ``recall``, ``f1`` (0 where nothing was found or right) and ``support``;
        ``macro`` and ``weighted``: the same of all; ``accuracy``.

    References
    ----------
    .. [M] Marvin, Holt et al., github.com/NoHolt/ML-Hackathon-2025.
    """
    from sklearn.metrics import classification_report

    counts = np.asarray(confusion["counts"])
    truth, found = (indices.ravel() for indices in np.indices(counts.shape))
    report = classification_report(
        truth, found, sample_weight=counts.ravel(), output_dict=True, zero_division=0
    )

    def row(name: str) -> dict[str, Any]:
        *values, support = report[name].values()
        return {**dict(zip(("precision", "recall", "f1"), values, strict=True)), "support": int(support)}

    return {
        "classes": {name: row(str(k)) for k, name in enumerate(confusion["classes"])},
        "macro": row("macro avg"),
        "weighted": row("weighted avg"),
        "accuracy": report["accuracy"],
    }


def report_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Rows of text of what :func:`class_report` returned."""
    rows = {**report["classes"], "macro average": report["macro"], "weighted average": report["weighted"]}
    out = [["", "precision", "recall", "F1", "support"]]
    for name, row in rows.items():
        *rates, support = row.values()
        out.append([name, *(f"{rate:.3f}" for rate in rates), str(support)])
    return out


def stated(metrics: Mapping[str, Any], part: str) -> dict[str, Any]:
    """What a model file says about itself, as far as :func:`table` can show it; a file may say anything.

    Parameters
    ----------
    metrics : mapping
        Of the contract.
    part : str
        ``"train"``, ``"test"``, ...

    Returns
    -------
    dict
        Of each metric that is there ``mean`` and ``std``.
    """
    scores = metrics.get(part)
    if not isinstance(scores, Mapping):
        return {}
    tables = {name: scores[name] for name in METRICS if isinstance(scores.get(name), Mapping)}
    ends = {name: {end: value.get(end) for end in ("mean", "std")} for name, value in tables.items()}
    return {
        name: value
        for name, value in ends.items()
        if all(end is None or (isinstance(end, int | float) and abs(end) < 1e9) for end in value.values())
    }


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of text in the layout of the published table: set, then the four metrics in percent.

    Parameters
    ----------
    rows : mapping
        Name of the set → what :func:`spread` returned, or plain scores.
    """
    cells = ([name, *(_percent(scores.get(metric)) for metric in METRICS)] for name, scores in rows.items())
    return [["", *METRICS], *cells]


def _percent(value: Any) -> str:
    ends = (value["mean"], value["std"]) if isinstance(value, Mapping) else (value,)
    known = [f"{100 * end:.1f}" for end in ends if end is not None and not math.isnan(end)]
    return " ± ".join(known) or "–"


def plain(value: Any) -> Any:
    """What JSON can hold: None for what is no finite number."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
