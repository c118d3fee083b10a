"""An analysis made without the numerics: tests of files and tables need numbers, not the right ones."""

import dataclasses

import numpy as np
import pytest

from napari_hrstem_defects import Micrograph, Recipe
from napari_hrstem_defects.core.analysis import (
    STEPS,
    Chosen,
    Classified,
    Compared,
    Divided,
    Listed,
    Preprocessed,
    Segmented,
    Varied,
)
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.regions import Region

from ..helpers import crystal


def fake_micrograph(shape=(96, 128), pixel_size_nm=0.02, name="crystal.tif", seed=0, **metadata):
    return Micrograph(crystal(shape, seed=seed, noise=0.2), pixel_size_nm, name, metadata)


def fake_analysis(
    micrograph=None, recipe=None, *, best_patch=None, warnings=("The best patch is doubtful.",)
):
    """A defect band in the upper third and an amorphous lower right corner."""
    micrograph = micrograph or fake_micrograph()
    frame = micrograph.frame()
    height, width = frame.pixels.shape
    labels = np.zeros((height, width), np.uint8)
    labels[height // 4 : height // 3] = 1
    labels[3 * height // 4 :, 3 * width // 4 :] = 2
    severity = (frame.pixels + 10 * (labels > 0)).astype(np.float32)
    valid_mask = np.zeros((height, width), bool)
    valid_mask[8:-8, 8:-8] = True
    grid = PatchGrid((height, width), 32)
    scores = np.linspace(0, 6, grid.counts[0] * grid.counts[1], dtype=np.float32).reshape(grid.counts)
    size = micrograph.pixel_size_nm
    regions = []
    for number, label in enumerate((1, 2), start=1):
        ys, xs = np.nonzero(labels == label)
        box = (int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)
        nm = (
            (None,) * 3
            if size is None
            else (ys.size * size**2, (box[3] - box[1]) * size, (box[2] - box[0]) * size)
        )
        regions.append(
            Region(
                id=number,
                label=label,
                centroid=(float(ys.mean()), float(xs.mean())),
                bbox=box,
                area_px=float(ys.size),
                length_px=float(box[3] - box[1]),
                width_px=float(box[2] - box[0]),
                area_nm2=nm[0],
                length_nm=nm[1],
                width_nm=nm[2],
                orientation_deg=0.0,
                to_lattice_deg=None,
                mean_severity=10.5,
                max_severity=11.0,
            )
        )
    placed = BestPatch(height / 2, width / 2, 32)
    if isinstance(best_patch, BestPatch):
        placed = best_patch
    elif best_patch is not None:
        placed = BestPatch(float(best_patch[0]), float(best_patch[1]), 32, "hand")
    patches = PatchTable(grid, scores, 3.0, scores > 3.0)
    lattice = Lattice((12.0, 0.0), (0.0, 12.0), 12.0, 0.9)
    # Intermediate results are never written.
    results = {
        "preprocess": Preprocessed(),
        "domains": Divided(),
        "classify": Classified(patches),
        "best_patch": Chosen(placed),
        "variance": Varied(np.full((height, width), 0.25, np.float32), labels == 2),
        "symmetry": Compared(severity, valid_mask, lattice=lattice, area_periods=height * width / 12**2),
        "segment": Segmented(labels, patches),
        "regions": Listed(tuple(regions)),
    }
    timings = {**dict.fromkeys(STEPS, 0.1), "symmetry": 0.25}
    return Analysis(micrograph, recipe or Recipe(), results, timings, {"symmetry": tuple(warnings)})


def with_values(analysis, **values):
    """An analysis with other values of some of its results' fields."""
    results = {}
    for step, result in analysis.results.items():
        own = {field.name for field in dataclasses.fields(result)} & values.keys()
        results[step] = dataclasses.replace(result, **{name: values[name] for name in own})
    return dataclasses.replace(analysis, results=results)


@pytest.fixture
def change():
    return with_values


@pytest.fixture
def make_micrograph():
    return fake_micrograph


@pytest.fixture
def make_analysis():
    return fake_analysis
