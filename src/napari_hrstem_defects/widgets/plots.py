"""A plot in the panel; histogram of the severity, loss of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_hrstem_defects.widgets.layout import box
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.theme import Colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Size of letters, in pt.
LETTERS = 8
#: Points closer together than so many in a plot would hide the line.
_MOST_POINTS = 60
#: Curves, which differ in their dashes as well: name, colour, style.
_LOSSES = (("training loss", "#D55E00", "-"), ("validation loss", "#56B4E9", "--"))


class Plot(QWidget):
    """One pair of axes in the colours of the theme; matplotlib is imported when there is something to draw.

    Parameters
    ----------
    draw : callable
        ``draw(axes, value, colours)`` draws a value.
    name, tooltip : str
    empty : str
        Shown as long as there is nothing to draw.
    margins : tuple of int
        Beside, above and below the axes (left, right, above, below), in px of the screen.
    """

    #: ``(x)``: a person pressed the mouse button at a value, or moves it with the button down.
    pressed, dragged = Signal(float), Signal(float)

    def __init__(
        self,
        draw: Callable[[Axes, Any, Colours], None],
        name: str,
        tooltip: str,
        empty: str = "",
        margins: tuple[int, int, int, int] = (42, 10, 22, 30),
    ) -> None:
        super().__init__()
        self._draw, self._margins = draw, margins
        self._colours: Colours | None = None
        self._value: Any = ()
        self._canvas: Any = None
        self._outdated = False
        self._empty = QLabel(empty)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        box(QVBoxLayout(self), self._empty)
        self.setAccessibleName(name)
        self.setToolTip(f"<qt>{tooltip}</qt>")

    def value(self) -> Any:
        """What is drawn."""
        return self._value

    def setValue(self, value: Any) -> None:
        """Draw something else; what is empty: nothing."""
        if value != self._value:
            self._value = value
            self.redraw()

    @property
    def axes(self) -> Axes:
        """The axes, once there was something to draw."""
        return self._canvas.figure.axes[0]

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self._colours = colours
        self.redraw()

    def resizeEvent(self, event: Any) -> None:
        """Texts keep their size, so the axes do not."""
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        """Leave room for the texts around the axes."""
        if self._canvas is not None:
            left, right, above, below = self._margins
            width, height = max(self.width(), left + right + 1), max(self.height(), above + below + 1)
            size = (width - left - right) / width, (height - above - below) / height
            self.axes.set_position((left / width, below / height, *size))

    def showEvent(self, event: Any) -> None:
        """Draw what changed while it was hidden."""
        super().showEvent(event)
        if self._outdated:
            self.redraw()

    def redraw(self) -> None:
        """Draw all of it anew, as soon as the window has time for it, and it is visible and knows its colours."""
        self._outdated = not self.isVisible()
        if self._outdated or self._colours is None:
            return
        filled = bool(self._value)
        if filled and self._canvas is None:
            self._make_canvas()
        self._empty.setVisible(not filled)
        if self._canvas is not None:
            self._canvas.setVisible(filled)
        if filled:
            ground = self._colours.background.name()
            self._canvas.figure.set_facecolor(ground)
            self.axes.set_facecolor(ground)
            # Clearing the axes would make all ticks anew, which takes longer than the rest.
            for bars in list(self.axes.containers):
                bars.remove()
            for artist in (*self.axes.lines, *self.axes.patches):
                artist.remove()
            self._draw(self.axes, self._value, self._colours)
            self._arrange()
            self._canvas.draw_idle()

    def _make_canvas(self) -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        canvas = self._canvas = FigureCanvasQTAgg(Figure(layout=None))
        canvas.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        canvas.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        # The wheel is the panel's, and the mouse ours.
        canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        layout: Any = self.layout()
        layout.addWidget(canvas)

    def mousePressEvent(self, event: Any) -> None:
        """The left button is down at a place of the plot, also beside the axes."""
        self._follow(event, event.button(), self.pressed)

    def mouseMoveEvent(self, event: Any) -> None:
        """The mouse is dragged."""
        self._follow(event, event.buttons(), self.dragged)

    def _follow(self, event: Any, held: Any, signal: Any) -> None:
        if self._value and held & Qt.MouseButton.LeftButton:
            place = event.position() * self._canvas.device_pixel_ratio
            signal.emit(float(self.axes.transData.inverted().transform((place.x(), place.y()))[0]))


def draw_histogram(axes: Axes, shown: tuple[Histogram, float | None, float | None], colours: Colours) -> None:
    """Severities (logarithmic counts), the threshold and how far defects are grown."""
    histogram, threshold, low = shown
    axes.set_axis_off()
    counts = np.log1p(histogram.counts)
    axes.stairs(counts, histogram.edges, fill=True, color=colours.accent.name())
    axes.set_xlim(*histogram.edges[[0, -1]])
    axes.set_ylim(0, 1.05 * max(counts.max(), 1))
    for value, style in ((low, ":"), (threshold, "-")):
        if value is not None:
            axes.axvline(value, color=colours.text.name(), linestyle=style, linewidth=1.2)


def draw_losses(axes: Axes, losses: Sequence[tuple[float, float]], colours: Colours) -> None:
    """Losses on the training and on the validation part, one pair an epoch."""
    draw_curves(axes, range(1, len(losses) + 1), losses, _LOSSES, "epoch", colours)
    axes.set_xlim(0, len(losses) + 0.2)
    axes.set_ylim(0, 1.05 * float(np.max(losses)) or 1.0)


def draw_axes(axes: Axes, colours: Colours, ticks: int = 4) -> None:
    """Axes with few ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(ticks, integer=ticks < 4))
    axes.tick_params(which="both", colors=colours.text.name(), labelsize=LETTERS)
    axes.spines[:].set_color(colours.text.name())
    axes.spines[["top", "right"]].set_visible(False)


def draw_curves(
    axes: Axes, x: Sequence[int], values: Any, curves: Iterable[Any], axis: str, colours: Colours
) -> None:
    """Curves of a name, colour and style each, their values in columns, over whole numbers of `axis`."""
    from matplotlib.ticker import MaxNLocator

    marker, ink = "." if len(x) <= _MOST_POINTS else "", colours.text.name()
    for line, (name, colour, style) in zip(np.transpose(values), curves, strict=True):
        axes.plot(x, line, style, color=colour, marker=marker, label=name, clip_on=False)
    draw_axes(axes, colours)
    axes.set_xlabel(axis, color=ink, fontsize=LETTERS, labelpad=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    draw_legend(axes, colours)


def draw_legend(axes: Axes, colours: Colours) -> None:
    """Names of the curves, side by side above the axes."""
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 0.96), "ncols": 2, "frameon": False}
    ink = colours.text.name()
    axes.legend(labelcolor=ink, fontsize=LETTERS, handlelength=1, columnspacing=1, **place)
