"""The same images, changed in ways that change nothing that matters: what passes should go on passing."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

import napari_hrstem_defects as hd
from benchmarks.accuracy.datasets import Image, Sample, Target, Truth
from benchmarks.accuracy.run import about, in_processes, measure, record
from benchmarks.accuracy.tables import Row, markdown, write_csv

Array = NDArray[Any]

TABLE = "stability"


def _zoomed(image: Array, order: int, factor: float) -> Array:
    # Fewer pixels than before would alias.
    if order and factor < 1:
        image = ndimage.gaussian_filter(image, 0.4)
    return np.asarray(ndimage.zoom(image, factor, order=order, mode="mirror", grid_mode=True))


def _turned(image: Array, order: int, degrees: float) -> Array:
    """Turned about the centre, without the corners."""
    out = ndimage.rotate(image, degrees, order=3 * order, reshape=False, mode="mirror")
    return out[tuple(slice(int(0.16 * n), int(0.84 * n)) for n in out.shape)]


def _span(image: Array) -> Array:
    low, high = np.quantile(image, (0.001, 0.999))
    return np.clip((image - low) / (high - low), 0, 1)


def _jpeg(image: Array) -> Array:
    file = io.BytesIO()
    Picture.fromarray(np.uint8(255 * _span(image))).save(file, "JPEG", quality=80)
    return np.asarray(Picture.open(file), np.float32)


#: Change → what it does to an array (y, x), given the order of interpolation: 0 for masks.
PLACES: dict[str, Callable[[Array, int], Array]] = {
    "upside down": lambda image, order: image[::-1],
    "turned by 90°": lambda image, order: image.T[::-1],
    "turned by 12°": lambda image, order: _turned(image, order, 12),
    "37 and 29 px cut off": lambda image, order: image[37:, 29:],
    "scaled by 0.85": lambda image, order: _zoomed(image, order, 0.85),
    "scaled by 1.2": lambda image, order: _zoomed(image, order, 1.2),
}
#: Change → what it does to grey values.
VALUES: dict[str, Callable[[Array], Array]] = {
    "unchanged": lambda image: image,
    "JPEG, quality 80": _jpeg,
    "gamma 0.7": lambda image: _span(image) ** 0.7,
    "noise, 20 % of the contrast": lambda image: (
        image + np.random.default_rng(0).normal(0, 0.2 * image.std(), image.shape)
    ),
    "brightness 0.75 to 1.25": lambda image: (
        (image - np.quantile(image, 0.001)) * np.linspace(0.75, 1.25, image.shape[1])
    ),
}
#: A hole beside the middle, where one third of the shorter side is larger than it: its truth is empty.
HOLE = "a hole of 6 periods"
CHANGES = (*VALUES, *PLACES, HOLE)


def _hole(image: Array) -> tuple[Array, Array] | None:
    """An image with a dark hole of uneven outline, and where it is; None where there is no room."""
    lattice = hd.analyze(hd.Micrograph(image), stop="preprocess").results["preprocess"].typical
    if lattice is None or 18 * lattice.period_px > min(image.shape):
        return None
    period = lattice.period_px
    y, x = np.indices(image.shape)
    y, x = y - 0.4 * image.shape[0], x - 0.6 * image.shape[1]
    angle = np.arctan2(y, x)
    hole = np.hypot(y, x) < 3 * period * (1 + 0.12 * np.sin(3 * angle) + 0.06 * np.sin(7 * angle))
    low, high = np.quantile(image, (0.02, 0.98))
    vacuum = low - (high - low) / 2 + np.random.default_rng(0).normal(0, 0.03 * (high - low), image.shape)
    # An edge is a little unsharp.
    weight = ndimage.gaussian_filter(hole.astype(np.float32), 0.12 * period)
    return image * (1 - weight) + vacuum * weight, hole


def _outside(truth: Truth, hole: Array) -> tuple[Target, ...]:
    """Targets that a hole leaves."""
    cut = (Target(t.kind, t.box, t.mask & ~hole[t.box]) for t in truth.targets)
    return tuple(target for target in cut if target.mask.any())


def changed(sample: Sample, change: str) -> Sample | None:
    """A sample whose images and truths are changed alike, without pixel size; None where that cannot be done."""

    def moved(mask: Array) -> Array:
        return np.ascontiguousarray(PLACES[change](mask, 0)) if change in PLACES else mask

    def seen(truth: Truth) -> Truth:
        numbers = np.zeros(truth.labels.shape, np.int32)
        for k, target in enumerate(truth.targets, 1):
            numbers[target.box][target.mask] = k
        numbers = moved(numbers)
        targets = [
            Target(truth.targets[k].kind, box, numbers[box] == k + 1)
            for k, box in enumerate(ndimage.find_objects(numbers))
            if box is not None
        ]
        return replace(truth, labels=moved(truth.labels), other=moved(truth.other), targets=tuple(targets))

    frames = []
    for micrograph, truths in sample.frames:
        pixels = np.asarray(micrograph.frame().pixels, np.float32)
        if change == HOLE:
            found = _hole(pixels)
            if found is None:
                return None
            pixels, hole = found
            views = tuple(
                replace(
                    t, labels=np.where(hole, 2, t.labels), other=t.other & ~hole, targets=_outside(t, hole)
                )
                for t in truths
            )
            frames.append((hd.Micrograph(np.asarray(pixels, np.float32)), views))
            continue
        pixels = PLACES[change](pixels, 1) if change in PLACES else VALUES[change](pixels)
        views = tuple(seen(truth) for truth in truths)
        frames.append((hd.Micrograph(np.ascontiguousarray(pixels, np.float32)), views))
    return replace(sample, frames=tuple(frames))


def one(image: Image, change: str) -> Row | None:
    """Scores of an image after one change; None where that cannot be made."""
    sample = changed(image.load(), change)
    if sample is None:
        return None
    scores = measure(sample, hd.Recipe())[0]
    kept = ("dice", "auroc", "false", "hit", "other", "amorphous", "passed", "error")
    return {**about(image, sample), "change": change, **{key: scores.get(key, "") for key in kept}}


def run(images: Sequence[Image], *, jobs: int = 1, out: Path) -> list[Row]:
    """Score every image after every change and write the table.

    Parameters
    ----------
    images : sequence of Image
    jobs : int
    out : Path

    Returns
    -------
    list of dict
    """
    found = in_processes(one, [(image, change) for image in images for change in CHANGES], jobs)
    rows = [row for row in found if row is not None]
    write_csv(out / f"{TABLE}.csv", rows)
    record(out, TABLE)
    return rows


def table(rows: Sequence[Row]) -> str:
    """How many images of each group pass after each change."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    lines = []
    for change in (*CHANGES, "all"):
        line = [change]
        for group in groups:
            passed = [
                row["passed"] for row in rows if row["group"] == group and change in ("all", row["change"])
            ]
            line.append(f"{int(sum(passed))} of {len(passed)}")
        lines.append(line)
    return markdown(("change", *groups), lines)
