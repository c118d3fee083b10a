"""Goes on with a result that was exported earlier and is opened again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_hrstem_defects.core.errors import HrstemDefectsError
from napari_hrstem_defects.core.recipe import Recipe
from napari_hrstem_defects.io.loading import load_info
from napari_hrstem_defects.io.saving import INFO_FILE
from napari_hrstem_defects.widgets.correction import PAINTED
from napari_hrstem_defects.widgets.document import ByHand
from napari_hrstem_defects.widgets.roles import entry, role_of, tag

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_hrstem_defects.widgets.session import Session


def take_up(session: Session, labels: Labels | None) -> None:
    """Analyse the image of a result folder as it was analysed, and find the corrections by hand again.

    What is found automatically is the same again; where the labels of the folder differ from it they were painted.

    Parameters
    ----------
    session : Session
    labels : Labels or None
        The layer of the labels, as the reader of result folders made it; None: it is gone again.
    """
    viewer = session.viewer
    if labels is None or viewer is None or labels not in viewer.layers:
        return
    folder = entry(labels)["folder"]
    image = next((layer for layer in session.images() if entry(layer).get("folder") == folder), None)
    if image is None:
        session.noticed.emit(
            f"{folder}: the image of this result is no longer where it was, so the result can only be looked at."
        )
        return
    try:
        info = load_info(Path(folder) / INFO_FILE)
        recipe = Recipe.from_dict(info["recipe"])
    except HrstemDefectsError as error:
        session.noticed.emit(str(error))
        return
    session.choose(image)
    document = session.document
    assert document is not None
    for layer in viewer.layers:
        role = role_of(layer)
        if role is not None and entry(layer).get("folder") == folder:
            tag(layer, source=document.source_id)
            document.outputs[role, ""] = layer.unique_id
            session.edits.watch(layer)
    point = info["best_patch_by_hand"]
    document.by_hand = ByHand(None if point is None else (point[0], point[1])).told_by(recipe)
    session.recipe = recipe
    frames = labels.data if document.is_stack else [labels.data]
    records = info.get("frames", [info])
    document.saved = {
        number: np.array(frame, np.uint8)
        for number, (frame, record) in enumerate(zip(frames, records, strict=False))
        if PAINTED in record["warnings"]
    }
    if document.is_stack:
        session.runs.series()
    else:
        session.runs.all()
