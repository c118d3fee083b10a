"""A trained classifier for the pipeline."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.core.patches import PatchGrid, PatchTable
from napari_hrstem_defects.models import scale
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.evaluation import THRESHOLD, defect_probability
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import CancelCheck
from napari_hrstem_defects.models.preparing import cut_patches
from napari_hrstem_defects.models.process import KerasProcess
from napari_hrstem_defects.models.registry import find
from napari_hrstem_defects.models.scan import patch_scores
from napari_hrstem_defects.models.store import file_sha256, loaded, read_contract


class TrainedClassifier:
    """A model file as a :class:`~napari_hrstem_defects.core.patches.PatchClassifier`.

    Any kind serves: with more than two classes a patch is defective as far as it is not the first, clean one. Patches
    of another size than the model's are resampled to it; an FFT ensemble slides its windows over them instead.

    Parameters
    ----------
    name_or_file : str or path-like
        Of the registry, or a model file.
    name : str, optional
        Its name in results; default: as it was requested.
    threshold : float
        Probability above which a patch is defective.
    process : KerasProcess, optional
        Where Keras runs; default: in this process, which a program with a window must not do.
    cancelled : callable, optional
        Asked often while it runs in another process.

    Attributes
    ----------
    name : str
        What was asked for.
    path : Path
    sha256 : str
        Of the model file.
    contract : Contract

    Raises
    ------
    ModelError
        If there is no such model, or the file cannot be used. Networks are read with the first patches.
    """

    def __init__(
        self,
        name_or_file: str | os.PathLike[str],
        *,
        name: str | None = None,
        threshold: float = THRESHOLD,
        process: KerasProcess | None = None,
        cancelled: CancelCheck | None = None,
    ) -> None:
        self.name = os.fspath(name_or_file) if name is None else name
        self.path: Path = find(name_or_file).absolute()
        self.contract: Contract = read_contract(self.path)
        self.sha256: str = file_sha256(self.path)
        self.threshold = threshold
        self._process = process
        self._cancelled = cancelled

    @property
    def patch_px(self) -> int:
        """Edge in px of the patches that it was made for; 0 for ensembles, whose windows fit into any."""
        return 0 if self.contract.kind == "fft-ensemble" else self.contract.patch_px

    def classify(self, pixels: NDArray[np.float32], grid: PatchGrid) -> PatchTable:
        """Classify every patch of `grid` on the frame `pixels` (float32, ``(y, x)``, 0...1)."""
        call = scores_of if self._process is None else partial(self._process.call, scores_of)
        scores = call(self.path, self.sha256, pixels, grid, cancelled=self._cancelled)
        return PatchTable(grid, scores, self.threshold, scores > self.threshold, self.name, self.sha256)

    def warnings(
        self, grid: PatchGrid, pixel_size_nm: float | None, period_px: float | None
    ) -> tuple[str, ...]:
        """Sentence about an image of another scale than what the classifier was trained on; see :mod:`.scale`."""
        # The windows of an ensemble keep the image's pixels, other patches are resampled.
        factor = self.patch_px / grid.size if self.patch_px else 1.0
        return scale.warnings(self.contract, pixel_size_nm, period_px, factor)

    def __reduce__(self) -> tuple[Any, ...]:
        # To another process travels where the file is, not the networks.
        return partial(TrainedClassifier, name=self.name, threshold=self.threshold), (self.path,)


def scores_of(
    path: Path,
    sha256: str,
    pixels: NDArray[np.float32],
    grid: PatchGrid,
    *,
    cancelled: CancelCheck | None = None,
) -> NDArray[np.float32]:
    """Probability of each patch to be defective, shape ``(n_y, n_x)``; runs where Keras runs."""
    model = loaded(path, sha256)
    contract = model.contract
    if contract.kind == "fft-ensemble":
        return patch_scores(model, pixels, grid, cancelled=cancelled)
    patches = cut_patches(pixels, grid, contract.patch_px, contract.preprocessing)
    probabilities = kind_of(contract.kind).predict(model, patches, cancelled=cancelled)
    return defect_probability(probabilities).reshape(grid.counts).astype(np.float32)
