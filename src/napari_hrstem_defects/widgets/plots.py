"""Plots of the panel: histogram of the severity with the threshold, areas against time, loss of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from qtpy.QtCore import Qt, Signal

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.theme import Colours

#: Size of letters, in pt.
_LETTERS = 8
#: Points closer together than so many in a plot would hide the line.
_MOST_POINTS = 60
#: Curves, told apart by the dashes too: name, colour, style; those of the areas by their keys.
_LOSSES = (("training loss", "#D55E00", "-"), ("validation loss", "#56B4E9", "--"))
_AREAS = {
    "symmetry_defect": ("symmetry", SYMMETRY_COLOUR, "-"),
    "amorphous": ("amorphous", AMORPHOUS_COLOUR, "--"),
}


class Plot(FigureCanvasQTAgg):
    """One pair of axes in the colours of the theme.

    Parameters
    ----------
    colours : Colours
    name, tooltip : str
    """

    def __init__(self, colours: Colours, name: str, tooltip: str) -> None:
        super().__init__(Figure(layout=None))
        self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._colours = colours
        self.setAccessibleName(name)
        self.setToolTip(f"<qt>{tooltip}</qt>")
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.mpl_connect("button_press_event", self._pressed)
        self.mpl_connect("motion_notify_event", self._pressed)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self._colours = colours
        self.redraw()

    def wheelEvent(self, event: Any) -> None:
        """Leave the wheel to the panel's scroll bar."""
        event.ignore()

    def x_of(self, value: float) -> float:
        """Where a value lies from left to right, in pixels of the widget."""
        return float(self.axes.transData.transform((value, 0))[0] / self.device_pixel_ratio)

    def redraw(self) -> None:
        """Draw all of it anew, as soon as the window has time for it."""
        ink = self._colours
        self.figure.set_facecolor(ink.background.name())
        self.axes.clear()
        self.axes.set_facecolor(ink.background.name())
        self._draw_contents(ink.text.name())
        self.draw_idle()

    def _draw_contents(self, ink: str) -> None:
        raise NotImplementedError

    def _say(self, text: str, ink: str) -> None:
        """A sentence in the place of what is not there yet."""
        self.axes.set_axis_off()
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": self.axes.transAxes}
        self.axes.text(0.5, 0.5, text, color=ink, fontsize=_LETTERS, **middle)

    def _draw_curves(
        self, x: Sequence[int], values: Sequence[Sequence[float]], curves: Any, axis: str, ink: str
    ) -> None:
        axes = self.axes
        marker = "." if len(x) <= _MOST_POINTS else ""
        for line, (name, colour, style) in zip(np.transpose(values), curves, strict=True):
            axes.plot(x, line, style, color=colour, marker=marker, label=name, clip_on=False)
        axes.set_position((0.16, 0.24, 0.81, 0.58))
        axes.set_xlabel(axis, color=ink, fontsize=_LETTERS, labelpad=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(colors=ink, labelsize=_LETTERS)
        axes.spines[:].set_color(ink)
        axes.spines[["top", "right"]].set_visible(False)
        place: dict[str, Any] = {
            "loc": "lower right",
            "bbox_to_anchor": (1, 0.98),
            "ncols": 2,
            "frameon": False,
        }
        axes.legend(labelcolor=ink, fontsize=_LETTERS, **place)

    def _pressed(self, event: Any) -> None:
        """The left button is down at a place of the plot, also beside the axes."""
        # While the mouse moves only the buttons that are held say it.
        held = event.button == 1 or any(button == 1 for button in event.buttons or ())
        if held:
            x, _ = self.axes.transData.inverted().transform((event.x, event.y))
            self._pointed(float(x), moved=event.name != "button_press_event")

    def _pointed(self, x: float, *, moved: bool) -> None:
        """A person pointed at a value."""


class HistogramView(Plot):
    """Histogram of the severity (logarithmic) and the threshold, which follows the mouse in it."""

    #: ``(severity)``: a person pointed at a severity.
    pointed = Signal(float)

    def __init__(self, colours: Colours) -> None:
        super().__init__(
            colours,
            "severity histogram",
            "How many pixels have which severity (logarithmic). Solid line: the threshold, which exceeds what chance "
            "gives but for so many false marks; dotted: how far a defect is grown.",
        )
        self.setFixedHeight(42)
        self._shown: tuple[Histogram | None, float | None, float | None] = (None, None, None)
        self.redraw()

    def thresholds(self) -> tuple[float | None, float | None]:
        """The threshold and how far defects are grown, None where they are unknown."""
        return self._shown[1:]

    def setValue(self, histogram: Histogram | None, threshold: float | None, low: float | None) -> None:
        """Show a histogram (None: nothing yet), the threshold and how far defects are grown."""
        if (histogram, threshold, low) != self._shown:
            self._shown = histogram, threshold, low
            self.redraw()

    def _draw_contents(self, ink: str) -> None:
        histogram, threshold, low = self._shown
        self.axes.set_axis_off()
        if histogram is None:
            self._say("severity histogram: after a run", ink)
            return
        counts = np.log1p(histogram.counts)
        self.axes.stairs(counts, histogram.edges, fill=True, color=self._colours.accent.name())
        self.axes.set_xlim(*histogram.edges[[0, -1]])
        self.axes.set_ylim(0, 1.05 * max(counts.max(), 1))
        for value, style in ((low, ":"), (threshold, "-")):
            if value is not None:
                self.axes.axvline(value, color=ink, linestyle=style, linewidth=1.2)

    def _pointed(self, x: float, *, moved: bool) -> None:
        if self._shown[0] is not None:
            self.pointed.emit(min(max(x, 0.0), float(self._shown[0].edges[-1])))


class AreaPlot(Plot):
    """Share of the image that is marked, frame by frame; a click goes to a frame."""

    #: ``(frame)``
    frameChosen = Signal(int)

    def __init__(self, colours: Colours) -> None:
        what = "Share of the image that is marked, frame by frame; click to go to a frame"
        super().__init__(colours, "area of the defects against time", what)
        self._areas: list[dict[str, float]] = []
        self._frame = 0
        self.setMinimumSize(250, 90)

    def value(self) -> list[dict[str, float]]:
        """The shares shown."""
        return self._areas

    def setValue(self, areas: Sequence[dict[str, float]], frame: int) -> None:
        """Show other shares, and mark the frame that the viewer shows."""
        if (list(areas), frame) != (self._areas, self._frame):
            self._areas, self._frame = list(areas), frame
            self.redraw()

    def _draw_contents(self, ink: str) -> None:
        values = [[100 * area[key] for key in _AREAS] for area in self._areas]
        if values:
            self._draw_curves(range(len(values)), values, _AREAS.values(), "frame", ink)
            self.axes.set_xlim(0, max(len(values) - 1, 1))
            # One percent at least: less is noise.
            self.axes.set_ylim(0, max(1.0, 1.05 * np.max(values)))
            self.axes.yaxis.set_major_formatter("{x:.3g} %")
            self.axes.axvline(self._frame, color=ink, linestyle=":", linewidth=1)

    def _pointed(self, x: float, *, moved: bool) -> None:
        if self._areas and not moved:
            self.frameChosen.emit(min(max(round(x), 0), len(self._areas) - 1))


class LossPlot(Plot):
    """Loss on the patches trained on, and on others; the second one tells when it is enough."""

    def __init__(self, colours: Colours) -> None:
        what = "Loss, epoch by epoch; training ends when that on the validation part falls no more"
        super().__init__(colours, "loss of the training", what)
        self._losses: list[tuple[float, float]] = []
        self.setMinimumSize(260, 110)
        self.redraw()

    def value(self) -> list[tuple[float, float]]:
        """Losses on the training and on the validation part, one pair an epoch."""
        return list(self._losses)

    def clear(self) -> None:
        """Begin anew."""
        self._losses = []
        self.redraw()

    def add(self, training: float, validation: float) -> None:
        """Another epoch is finished."""
        self._losses.append((training, validation))
        self.redraw()

    def _draw_contents(self, ink: str) -> None:
        if not self._losses:
            self._say("loss: after the first epoch", ink)
            return
        numbers = range(1, len(self._losses) + 1)
        self._draw_curves(numbers, self._losses, _LOSSES, "epoch", ink)
        self.axes.set_xlim(0, len(self._losses) + 0.2)
        self.axes.set_ylim(0, 1.05 * float(np.max(self._losses)) or 1.0)
