"""Plots of the panel: histogram of the severity with the threshold, areas against time, loss of a training."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.editors import box
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.theme import Colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_hrstem_defects.core.regions import Region

#: Size of letters, in pt.
_LETTERS = 8
#: Points closer together than so many in a plot would hide the line.
_MOST_POINTS = 60
#: Curves, which differ in their dashes as well: name, colour, style; those of the areas by their keys.
_LOSSES = (("training loss", "#D55E00", "-"), ("validation loss", "#56B4E9", "--"))
_AREAS = {
    "symmetry_defect": ("symmetry", SYMMETRY_COLOUR, "-"),
    "amorphous": ("amorphous", AMORPHOUS_COLOUR, "--"),
}
#: Sizes of regions by their names, in px and where the pixel size is known in nm.
_SIZES = (
    {"Area (px²)": "area_px", "Length (px)": "length_px"},
    {"Area (nm²)": "area_nm2", "Length (nm)": "length_nm"},
)


class Plot(QWidget):
    """One pair of axes in the colours of the theme; matplotlib is imported when there is something to draw.

    Parameters
    ----------
    colours : Colours
    name, tooltip : str
    empty : str
        Shown as long as there is nothing to draw.
    """

    #: Beside, above and below the axes (left, right, above, below), in px of the screen.
    margins: ClassVar[tuple[int, int, int, int]] = (42, 10, 22, 30)

    def __init__(self, colours: Colours, name: str, tooltip: str, empty: str = "") -> None:
        super().__init__()
        self._canvas: Any = None
        self._colours = colours
        self._outdated = False
        self._empty = QLabel(empty)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        box(QVBoxLayout(self), self._empty)
        self.setAccessibleName(name)
        self.setToolTip(f"<qt>{tooltip}</qt>")

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
            left, right, above, below = self.margins
            width, height = max(self.width(), left + right + 1), max(self.height(), above + below + 1)
            size = (width - left - right) / width, (height - above - below) / height
            self.axes.set_position((left / width, below / height, *size))

    def x_of(self, value: float) -> float:
        """Where a value lies from left to right, in pixels of the widget."""
        return float(self.axes.transData.transform((value, 1))[0] / self._canvas.device_pixel_ratio)

    def showEvent(self, event: Any) -> None:
        """Draw what changed while it was hidden."""
        super().showEvent(event)
        if self._outdated:
            self.redraw()

    def redraw(self) -> None:
        """Draw all of it anew, as soon as the window has time for it and it is visible."""
        self._outdated = not self.isVisible()
        if self._outdated:
            return
        filled = self._is_filled()
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
            self._draw_contents(self._colours.text.name())
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

    def _is_filled(self) -> bool:
        """Whether there is something to draw."""
        raise NotImplementedError

    def _draw_contents(self, ink: str) -> None:
        """Draw everything but the axes in a colour; each plot has its own."""
        raise NotImplementedError

    def _draw_axes(self, ink: str, ticks: int = 4) -> None:
        """Axes with few ticks."""
        from matplotlib.ticker import MaxNLocator

        axes = self.axes
        axes.yaxis.set_major_locator(MaxNLocator(ticks, integer=ticks < 4))
        axes.tick_params(which="both", colors=ink, labelsize=_LETTERS)
        axes.spines[:].set_color(ink)
        axes.spines[["top", "right"]].set_visible(False)

    def _draw_curves(
        self, x: Sequence[int], values: Sequence[Sequence[float]], curves: Any, axis: str, ink: str
    ) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = self.axes
        marker = "." if len(x) <= _MOST_POINTS else ""
        for line, (name, colour, style) in zip(np.transpose(values), curves, strict=True):
            axes.plot(x, line, style, color=colour, marker=marker, label=name, clip_on=False)
        self._draw_axes(ink)
        axes.set_xlabel(axis, color=ink, fontsize=_LETTERS, labelpad=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        place: dict[str, Any] = {
            "loc": "lower right",
            "bbox_to_anchor": (1, 0.96),
            "ncols": 2,
            "frameon": False,
        }
        axes.legend(labelcolor=ink, fontsize=_LETTERS, **place)

    def mousePressEvent(self, event: Any) -> None:
        """The left button is down at a place of the plot, also beside the axes."""
        self._follow(event, event.button(), moved=False)

    def mouseMoveEvent(self, event: Any) -> None:
        """The mouse is dragged."""
        self._follow(event, event.buttons(), moved=True)

    def _follow(self, event: Any, held: Any, *, moved: bool) -> None:
        if self._is_filled() and held & Qt.MouseButton.LeftButton:
            place = event.position() * self._canvas.device_pixel_ratio
            x, _ = self.axes.transData.inverted().transform((place.x(), place.y()))
            self._pointed(float(x), moved=moved)

    def _pointed(self, x: float, *, moved: bool) -> None:
        """A person pointed at a value."""


class HistogramView(Plot):
    """Histogram of the severity (logarithmic) and the threshold, which follows the mouse in it."""

    margins = (0, 0, 0, 0)
    #: ``(severity)``: a person pointed at a severity.
    pointed = Signal(float)

    def __init__(self, colours: Colours) -> None:
        super().__init__(
            colours,
            "severity histogram",
            "Histogram of the severity (logarithmic counts). Solid line: the threshold for the expected number of "
            "false marks; dotted: the lower threshold to which defects are grown.",
            "severity histogram: after a run",
        )
        self.setFixedHeight(42)
        self._shown: tuple[Histogram | None, float | None, float | None] = (None, None, None)

    def thresholds(self) -> tuple[float | None, float | None]:
        """The threshold and how far defects are grown, None where they are unknown."""
        return self._shown[1:]

    def setValue(self, histogram: Histogram | None, threshold: float | None, low: float | None) -> None:
        """Show a histogram (None: nothing yet), the threshold and how far defects are grown."""
        if (histogram, threshold, low) != self._shown:
            self._shown = histogram, threshold, low
            self.redraw()

    def _is_filled(self) -> bool:
        return self._shown[0] is not None

    def _draw_contents(self, ink: str) -> None:
        histogram, threshold, low = self._shown
        assert histogram is not None
        self.axes.set_axis_off()
        counts = np.log1p(histogram.counts)
        self.axes.stairs(counts, histogram.edges, fill=True, color=self._colours.accent.name())
        self.axes.set_xlim(*histogram.edges[[0, -1]])
        self.axes.set_ylim(0, 1.05 * max(counts.max(), 1))
        for value, style in ((low, ":"), (threshold, "-")):
            if value is not None:
                self.axes.axvline(value, color=ink, linestyle=style, linewidth=1.2)

    def _pointed(self, x: float, *, moved: bool) -> None:
        histogram = self._shown[0]
        assert histogram is not None
        self.pointed.emit(min(max(x, 0.0), float(histogram.edges[-1])))


class AreaPlot(Plot):
    """Share of the image that is marked, frame by frame; a click goes to a frame."""

    #: ``(frame)``
    frameChosen = Signal(int)

    def __init__(self, colours: Colours) -> None:
        what = "Area fraction of defects in each frame; click to go to a frame"
        super().__init__(colours, "area of the defects against time", what)
        self._areas: list[dict[str, float]] = []
        self._frame = 0
        self.setMinimumSize(250, 70)

    def value(self) -> list[dict[str, float]]:
        """The shares shown."""
        return self._areas

    def setValue(self, areas: Sequence[dict[str, float]], frame: int) -> None:
        """Show other shares, and mark the frame that the viewer shows."""
        if (list(areas), frame) != (self._areas, self._frame):
            self._areas, self._frame = list(areas), frame
            self.redraw()

    def _is_filled(self) -> bool:
        return bool(self._areas)

    def _draw_contents(self, ink: str) -> None:
        values = [[100 * area[key] for key in _AREAS] for area in self._areas]
        self._draw_curves(range(len(values)), values, _AREAS.values(), "frame", ink)
        self.axes.set_xlim(0, max(len(values) - 1, 1))
        # One percent at least: less is noise.
        self.axes.set_ylim(0, max(1.0, 1.05 * np.max(values)))
        self.axes.yaxis.set_major_formatter("{x:.3g} %")
        self.axes.axvline(self._frame, color=ink, linestyle=":", linewidth=1)

    def _pointed(self, x: float, *, moved: bool) -> None:
        if not moved:
            self.frameChosen.emit(min(max(round(x), 0), len(self._areas) - 1))


class SizePlot(Plot):
    """How many regions have which size, in bins of equal ratio; a click on a bar chooses its regions.

    Parameters
    ----------
    colours : Colours
    bars : int
    """

    margins = (22, 12, 6, 20)
    #: ``(frozenset of int)``: numbers of the regions of a bar; none where the click was beside the bars.
    barChosen = Signal(object)

    def __init__(self, colours: Colours, bars: int = 10) -> None:
        what = "Histogram of the sizes of regions, in bins of equal ratio; click a bar to select its regions"
        super().__init__(colours, "sizes of the regions", what, "no regions")
        self._number = bars
        self._sizes: dict[int, float] = {}
        self._bars: list[tuple[float, float, frozenset[int]]] = []
        self._selected: frozenset[int] = frozenset()
        self.setMinimumSize(140, 60)

    def setValue(self, sizes: Mapping[int, float]) -> None:
        """Show the sizes of regions, by their numbers."""
        if sizes != self._sizes:
            self._sizes = dict(sizes)
            self._bars = self._binned() if sizes else []
            self.redraw()

    def setSelected(self, numbers: Iterable[int]) -> None:
        """Mark the bars of some regions."""
        before, self._selected = self._selected, frozenset(numbers)
        if self._marked(before) != self._marked(self._selected):
            self.redraw()

    def bars(self) -> list[tuple[float, float, frozenset[int]]]:
        """Ends of each bar, and the numbers of its regions."""
        return self._bars

    def _binned(self) -> list[tuple[float, float, frozenset[int]]]:
        sizes = list(self._sizes.values())
        # A single size needs some width.
        low, high = min(sizes) / 1.01, max(sizes) * 1.01
        edges = np.geomspace(low, high, self._number + 1 if high > 1.1 * low else 2)
        numbers = np.array(list(self._sizes))
        where = np.searchsorted(edges, sizes, side="right") - 1
        return [
            (left, right, frozenset(numbers[where == i].tolist()))
            for i, (left, right) in enumerate(itertools.pairwise(edges.tolist()))
        ]

    def _marked(self, numbers: frozenset[int]) -> list[bool]:
        return [not numbers.isdisjoint(inside) for _, _, inside in self._bars]

    def _is_filled(self) -> bool:
        return bool(self._bars)

    def _draw_contents(self, ink: str) -> None:
        from matplotlib.ticker import FixedLocator, NullLocator

        axes = self.axes
        lefts, rights, inside = zip(*self._bars, strict=True)
        counts, marked = [len(numbers) for numbers in inside], self._marked(self._selected)
        axes.set_xscale("log")
        axes.bar(
            lefts,
            counts,
            np.subtract(rights, lefts),
            align="edge",
            color=[ink if mark else self._colours.accent.name() for mark in marked],
            edgecolor=self._colours.background.name(),
            hatch=["//" if mark else "" for mark in marked],
        )
        axes.set_xlim(lefts[0], rights[-1])
        axes.set_ylim(0, 1.05 * max(counts))
        self._draw_axes(ink, ticks=3)
        axes.xaxis.set_major_locator(FixedLocator(np.geomspace(lefts[0], rights[-1], 3).tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}" if value < 100 else f"{value:.0f}")

    def _pointed(self, x: float, *, moved: bool) -> None:
        if not moved:
            chosen = next((numbers for left, right, numbers in self._bars if left <= x < right), frozenset())
            self.barChosen.emit(chosen)


class SizeView(QWidget):
    """Histogram of the areas or of the lengths of the regions, or areas against time; chosen above it.

    Parameters
    ----------
    colours : Colours
    """

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.choice = QComboBox()
        self.choice.setAccessibleName("size shown in the histogram")
        self.choice.addItems(list(_SIZES[False]))
        self.choice.currentIndexChanged.connect(lambda _: self._show())
        self.plot, self.series = SizePlot(colours), AreaPlot(colours)
        self.barChosen = self.plot.barChosen
        self.setSelected = self.plot.setSelected
        self._regions: tuple[Region, ...] = ()
        self._in_nm = False
        layout = box(QVBoxLayout(self), self.choice, self.plot, self.series, spacing=1)
        for index in (1, 2):
            layout.setStretch(index, 1)
        self.series.hide()

    def setSeries(self, areas: Sequence[dict[str, float]], frame: int) -> None:
        """Offer, and show at first, the shares of the frames of a series; none: it is no series."""
        if bool(areas) != (self.choice.count() > len(_SIZES[False])):
            with signals_blocked(self.choice):
                if areas:
                    self.choice.addItem("Areas against time")
                else:
                    self.choice.removeItem(len(_SIZES[False]))
                self.choice.setCurrentIndex(len(_SIZES[False]) if areas else 0)
            self._show()
        self.series.setValue(areas, frame)

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.plot.setColours(colours)
        self.series.setColours(colours)

    def setValue(self, regions: Sequence[Region], *, in_nm: bool) -> None:
        """Show the sizes of regions."""
        if (tuple(regions), in_nm) != (self._regions, self._in_nm):
            self._regions, self._in_nm = tuple(regions), in_nm
            self._show()

    def _show(self) -> None:
        sizes, chosen = _SIZES[self._in_nm], self.choice.currentIndex()
        for index, text in enumerate(sizes):
            self.choice.setItemText(index, text)
        self.series.setVisible(chosen == len(sizes))
        self.plot.setVisible(chosen < len(sizes))
        if chosen < len(sizes):
            size = list(sizes.values())[chosen]
            self.plot.setValue({region.id: getattr(region, size) for region in self._regions})


class LossPlot(Plot):
    """Training and validation loss."""

    def __init__(self, colours: Colours) -> None:
        what = "Loss in each epoch; training ends when the validation loss no longer decreases"
        super().__init__(colours, "loss of the training", what, "loss: after the first epoch")
        self._losses: list[tuple[float, float]] = []
        self.setMinimumSize(260, 110)

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

    def _is_filled(self) -> bool:
        return bool(self._losses)

    def _draw_contents(self, ink: str) -> None:
        numbers = range(1, len(self._losses) + 1)
        self._draw_curves(numbers, self._losses, _LOSSES, "epoch", ink)
        self.axes.set_xlim(0, len(self._losses) + 0.2)
        self.axes.set_ylim(0, 1.05 * float(np.max(self._losses)) or 1.0)
