"""Inserts a layer bit by bit: done at once, napari's own work for it holds up the window for too long."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: Letters that vispy measures a line of text by, before the first one is drawn; points have a text, mostly empty.
_LETTERS = "ÅÉÑŐjgpqy "
#: So many letters in one bit; each takes ten milliseconds.
_LETTERS_A_BIT = 2


def insert(viewer: ViewerModel, layer: Layer, position: Callable[[], int]) -> Generator[None, None, None]:
    """Insert a layer bit by bit; it is seen when all is done.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Layer
    position : callable
        Returns the place in the list of layers, when it is needed.

    Yields
    ------
    None
        Between two bits.
    """
    from napari.layers import Points

    if isinstance(layer, Points):
        yield from _letters(viewer)
    visible, layer.visible = layer.visible, False
    with _later(_tools(layer)) as tools:
        yield
        with _unselected(viewer):
            controls = _insert_bare(viewer, layer, position())
        try:
            yield
        finally:
            controls()
        yield
        while tools:
            tools.pop().visible = True
            yield
    with _later(_parts(viewer, layer)) as parts:
        layer.visible = visible
        while parts:
            yield
            parts.pop().visible = True


def _letters(viewer: ViewerModel) -> Iterator[None]:
    """Draw the letters that the first points will ask for; the canvas keeps them."""
    try:
        info = _canvas(viewer).font_info()
        font = info.font_manager.get_font(info.face)
        known = font._glyphs
    except AttributeError:
        return
    missing = [letter for letter in _LETTERS if letter not in known]
    for start in range(0, len(missing), _LETTERS_A_BIT):
        for letter in missing[start : start + _LETTERS_A_BIT]:
            font[letter]
        yield


def _tools(layer: Layer) -> list[Any]:
    """Overlays for the brush and the polygon of a label layer; they cannot be seen before their tool is taken."""
    overlays = getattr(layer, "_overlays", {}).values()
    return [overlay for overlay in overlays if getattr(overlay, "visible", False) and _is_off(overlay)]


def _is_off(overlay: Any) -> bool:
    return getattr(overlay, "enabled", True) is False


def _parts(viewer: ViewerModel, layer: Layer) -> list[Any]:
    """What points are drawn with besides their markers (highlight, text); each is compiled when it is first drawn."""
    from napari.layers import Points

    if not isinstance(layer, Points):
        return []
    try:
        parts = _canvas(viewer).layer_to_visual[layer].node._subvisuals[1:]
        return [part for part in parts if part.visible]
    except (AttributeError, KeyError, TypeError):
        return []


def _canvas(viewer: ViewerModel) -> Any:
    """Where the viewer draws.

    Raises
    ------
    AttributeError
        If there is no window, or napari is another than the one known here.
    """
    return viewer.window._qt_viewer.canvas


def _insert_bare(viewer: ViewerModel, layer: Layer, position: int) -> Callable[[], None]:
    """Insert a layer with an empty widget for its controls; what is returned puts the real ones there."""
    try:
        container = viewer.window._qt_viewer.controls
        add, show, widgets = container._add, container._populate, container.widgets
    except AttributeError:
        viewer.layers.insert(position, layer)
        return lambda: None
    from qtpy.QtWidgets import QWidget

    with viewer.layers.events.inserted.blocker(add):
        viewer.layers.insert(position, layer)
    container.addWidget(empty := QWidget())
    widgets[layer] = empty

    def controls() -> None:
        if widgets.get(layer) is not empty:
            return  # the layer is gone again
        with contextlib.suppress(RuntimeError):  # the window was closed meanwhile
            container.removeWidget(empty)
            empty.deleteLater()
            del widgets[layer]
            add(SimpleNamespace(value=layer))
            if viewer.layers.selection.active is layer:
                show()

    return controls


@contextlib.contextmanager
def _later(things: list[Any]) -> Iterator[list[Any]]:
    """What is visible is hidden inside, and given out to be shown one by one."""
    for thing in things:
        thing.visible = False
    left = list(things)
    try:
        yield left
    finally:
        # Also where nobody went on: nothing shall be missing for good.
        for thing in left:
            thing.visible = True


@contextlib.contextmanager
def _unselected(viewer: ViewerModel) -> Iterator[None]:
    """Layers inserted inside are not selected: that alone takes napari as long as to make them."""
    layers = viewer.layers
    before = getattr(layers, "_activate_on_insert", None)
    selected, active = set(layers.selection), layers.selection.active
    if before is not None:
        layers._activate_on_insert = False
    try:
        yield
    finally:
        if before is not None:
            layers._activate_on_insert = before
        if selected and set(layers.selection) != selected:
            layers.selection = selected
            layers.selection.active = active
