"""The kinds of classifiers that there are."""

from __future__ import annotations

from collections.abc import Mapping

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.base import Kind
from napari_hrstem_defects.models.compact import Compact
from napari_hrstem_defects.models.fft_ensemble import FFTEnsemble
from napari_hrstem_defects.models.vgg16 import VGG16

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (VGG16(), Compact(), FFTEnsemble())}


def kind_of(name: str) -> Kind:
    """Kind of a name; a ModelError if there is none."""
    if name not in KINDS:
        raise ModelError(f"There is no kind of classifier {name!r}; choose {', '.join(KINDS)}.")
    return KINDS[name]
