"""Plots of the panel: histogram of the severity, sizes, areas and profiles of regions, loss of a training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.layout import box
from napari_hrstem_defects.widgets.outputs import Histogram
from napari_hrstem_defects.widgets.theme import Colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_hrstem_defects.core.regions import Region

#: Size of letters, in pt.
_LETTERS = 8
#: Points closer together than so many in a plot would hide the line.
_MOST_POINTS = 60
#: Bars of the sizes.
_BARS = 10
#: Curves, which differ in their dashes as well: name, colour, style; those of the areas by their keys.
_LOSSES = (("training loss", "#D55E00", "-"), ("validation loss", "#56B4E9", "--"))
_AREAS = {
    "symmetry_defect": ("symmetry", SYMMETRY_COLOUR, "-"),
    "amorphous": ("amorphous", AMORPHOUS_COLOUR, "--"),
}
#: A profile goes on for so many periods on both sides of the region, and is the mean over so many along it.
_BESIDE_PERIODS, _ALONG_PERIODS = 5, 8
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
        colours: Colours,
        draw: Callable[[Axes, Any, Colours], None],
        name: str,
        tooltip: str,
        empty: str = "",
        margins: tuple[int, int, int, int] = (42, 10, 22, 30),
    ) -> None:
        super().__init__()
        self._colours, self._draw, self._margins = colours, draw, margins
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
        """Draw all of it anew, as soon as the window has time for it and it is visible."""
        self._outdated = not self.isVisible()
        if self._outdated:
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
    _draw_curves(axes, range(1, len(losses) + 1), losses, _LOSSES, "epoch", colours)
    axes.set_xlim(0, len(losses) + 0.2)
    axes.set_ylim(0, 1.05 * float(np.max(losses)) or 1.0)


def draw_areas(axes: Axes, shown: tuple[Sequence[Mapping[str, float]], int], colours: Colours) -> None:
    """Share of the image that is marked, frame by frame, and the frame that the viewer shows."""
    areas, frame = shown
    values = [[100 * area[key] for key in _AREAS] for area in areas]
    _draw_curves(axes, range(len(values)), values, _AREAS.values(), "frame", colours)
    axes.set_xlim(0, max(len(values) - 1, 1))
    # One percent at least: less is noise.
    axes.set_ylim(0, max(1.0, 1.05 * np.max(values)))
    axes.yaxis.set_major_formatter("{x:.3g} %")
    axes.axvline(frame, color=colours.text.name(), linestyle=":", linewidth=1)


def _draw_axes(axes: Axes, colours: Colours, ticks: int = 4) -> None:
    """Axes with few ticks."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(ticks, integer=ticks < 4))
    axes.tick_params(which="both", colors=colours.text.name(), labelsize=_LETTERS)
    axes.spines[:].set_color(colours.text.name())
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curves(
    axes: Axes, x: Sequence[int], values: Any, curves: Iterable[Any], axis: str, colours: Colours
) -> None:
    from matplotlib.ticker import MaxNLocator

    marker, ink = "." if len(x) <= _MOST_POINTS else "", colours.text.name()
    for line, (name, colour, style) in zip(np.transpose(values), curves, strict=True):
        axes.plot(x, line, style, color=colour, marker=marker, label=name, clip_on=False)
    _draw_axes(axes, colours)
    axes.set_xlabel(axis, color=ink, fontsize=_LETTERS, labelpad=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _legend(axes, colours)


def _legend(axes: Axes, colours: Colours) -> None:
    """Names of the curves, side by side above the axes."""
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 0.96), "ncols": 2, "frameon": False}
    ink = colours.text.name()
    axes.legend(labelcolor=ink, fontsize=_LETTERS, handlelength=1, columnspacing=1, **place)


@dataclass(frozen=True)
class Bar:
    """Regions of a size between `low` and `high`; `marked` where one of them is selected."""

    low: float
    high: float
    numbers: frozenset[int]
    marked: bool


def size_bars(sizes: Mapping[int, float], selected: Iterable[int]) -> list[Bar]:
    """Bins of equal ratio of the sizes of regions, by their numbers."""
    if not sizes:
        return []
    # A single size needs some width.
    low, high = min(sizes.values()) / 1.01, max(sizes.values()) * 1.01
    edges = np.geomspace(low, high, _BARS + 1 if high > 1.1 * low else 2)
    numbers, where = np.array(list(sizes)), np.searchsorted(edges, list(sizes.values()), side="right") - 1
    inside = [frozenset(numbers[where == i].tolist()) for i in range(len(edges) - 1)]
    ends = itertools.pairwise(edges.tolist())
    return [
        Bar(*pair, found, not found.isdisjoint(selected)) for pair, found in zip(ends, inside, strict=True)
    ]


def draw_sizes(axes: Axes, bars: Sequence[Bar], colours: Colours) -> None:
    """How many regions have which size."""
    from matplotlib.ticker import FixedLocator, NullLocator

    ends = [*(bar.low for bar in bars), bars[-1].high]
    counts = [len(bar.numbers) for bar in bars]
    axes.set_xscale("log")
    axes.bar(
        ends[:-1],
        counts,
        np.diff(ends),
        align="edge",
        color=[(colours.text if bar.marked else colours.accent).name() for bar in bars],
        edgecolor=colours.background.name(),
        hatch=["//" if bar.marked else "" for bar in bars],
    )
    axes.set_xlim(ends[0], ends[-1])
    axes.set_ylim(0, 1.05 * max(counts))
    _draw_axes(axes, colours, ticks=3)
    axes.xaxis.set_major_locator(FixedLocator([ends[0], ends[-1]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}" if value < 1000 else f"{value:.0f}")
    # Both within the plot, however narrow it is.
    left, right = axes.get_xticklabels()
    left.set_horizontalalignment("left")
    right.set_horizontalalignment("right")


@dataclass(frozen=True)
class Profile:
    """Severity and image along a line through the centroid of a region, perpendicular to its long axis.

    Attributes
    ----------
    positions : tuple of float
        Distances from the centroid in `unit`, "nm" or "px"; they increase downwards or, for a vertical region, to the
        right.
    severity, image : tuple of float
        Means over `width`, along the region; NaN beyond the image.
    width : float
        In `unit`.
    unit : str
    """

    positions: tuple[float, ...]
    severity: tuple[float, ...]
    image: tuple[float, ...]
    width: float
    unit: str


def profile_across(
    region: Region, image: Any, severity: Any, period_px: float, size_nm: float | None
) -> Profile:
    """Profile across a region; only the pixels around it are read.

    Parameters
    ----------
    region : Region
    image, severity : array (y, x)
        Real; numpy or dask.
    period_px : float
        Lattice period.
    size_nm : float or None
        Pixel size; None: distances in px.
    """
    from skimage.measure import profile_line

    reach = round(region.width_px / 2 + _BESIDE_PERIODS * period_px)
    width = max(1, round(min(region.length_px / 2, _ALONG_PERIODS * period_px)))
    angle, centre = np.deg2rad(region.orientation_deg), np.array(region.centroid)
    across = reach * np.array([np.cos(angle), np.sin(angle)])
    first = np.maximum(np.floor(centre - reach - width).astype(int), 0)
    last = np.maximum(np.ceil(centre + reach + width).astype(int) + 1, 0)
    lines = []
    for pixels in (severity, image):
        near = np.asarray(pixels[first[0] : last[0], first[1] : last[1]], float)
        ends = centre - across - first, centre + across - first
        options = {"order": 1, "mode": "constant", "cval": np.nan, "reduce_func": _known_mean}
        lines.append(profile_line(near, *ends, width, **options))
    scale, unit = (1.0, "px") if size_nm is None else (size_nm, "nm")
    positions = scale * np.linspace(-reach, reach, len(lines[0]))
    return Profile(tuple(positions), tuple(lines[0]), tuple(lines[1]), scale * width, unit)


def _known_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def draw_profile(axes: Axes, profile: Profile, colours: Colours) -> None:
    """Severity in its unit, and the image scaled to the same height."""
    ink, severity, image = colours.text.name(), np.array(profile.severity), np.array(profile.image)
    low, high = float(np.nanmin(severity)), float(np.nanmax(severity))  # it is defined everywhere
    if (known := image[np.isfinite(image)]).size:
        scaled = low + (image - known.min()) * (high - low) / (np.ptp(known) or 1.0)
        axes.plot(profile.positions, scaled, "--", color=ink, linewidth=0.8, label="image (scaled)")
    axes.plot(profile.positions, severity, "-", color=SYMMETRY_COLOUR, label="severity")
    _draw_axes(axes, colours)
    axes.set_xlim(profile.positions[0], profile.positions[-1])
    axes.set_ylim(low, high + 0.05 * (high - low or 1.0))
    width = f"mean over {profile.width:.3g} {profile.unit}"
    axes.set_xlabel(f"distance ({profile.unit}), {width}", color=ink, fontsize=_LETTERS, labelpad=0)
    _legend(axes, colours)


class SizeView(QWidget):
    """Histogram of the areas or lengths of the regions, profile across one, or areas against time; chosen above it.

    Parameters
    ----------
    colours : Colours
    """

    #: ``(frozenset of int)``: numbers of the regions of a bar; none where the click was beside the bars.
    barChosen = Signal(object)
    #: ``(frame)``
    frameChosen = Signal(int)

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.choice = QComboBox()
        self.choice.setAccessibleName("what is shown of the regions")
        self.choice.addItems([*_SIZES[False], "Profile across"])
        self.choice.currentIndexChanged.connect(lambda _: self._show())
        self.plot = Plot(
            colours,
            draw_sizes,
            "sizes of the regions",
            "Histogram of the sizes of regions, in bins of equal ratio; click a bar to select its regions",
            "no regions",
            (22, 12, 6, 20),
        )
        self.series = Plot(
            colours,
            draw_areas,
            "area of the defects against time",
            "Area fraction of defects in each frame; click to go to a frame",
        )
        self.profile = Plot(
            colours,
            draw_profile,
            "profile across the region",
            "Severity and image across the selected region, along a line through its centre, perpendicular to its long "
            "axis",
            "select one region",
            (30, 10, 20, 34),
        )
        self.profile.setMinimumSize(250, 70)
        self.plot.setMinimumSize(116, 50)
        self.series.setMinimumSize(250, 70)
        self.plot.pressed.connect(self._bar_pressed)
        self.series.pressed.connect(self._frame_pressed)
        self._regions: tuple[Region, ...] = ()
        self._selected: frozenset[int] = frozenset()
        self._in_nm = False
        layout = box(QVBoxLayout(self), self.choice, self.plot, self.profile, self.series, spacing=1)
        for index in (1, 2, 3):
            layout.setStretch(index, 1)
        self.profile.hide()
        self.series.hide()

    def setValue(self, regions: Sequence[Region], *, in_nm: bool) -> None:
        """Show the sizes of regions."""
        if (tuple(regions), in_nm) != (self._regions, self._in_nm):
            self._regions, self._in_nm = tuple(regions), in_nm
            self._show()

    def setSelected(self, numbers: Iterable[int]) -> None:
        """Mark the bars of some regions."""
        self._selected = frozenset(numbers)
        self._show()

    def setSeries(self, areas: Sequence[Mapping[str, float]], frame: int) -> None:
        """Offer, and show at first, the shares of the frames of a series; none: it is no series."""
        last = len(_SIZES[False]) + 1
        if bool(areas) != (self.choice.count() > last):
            with signals_blocked(self.choice):
                if areas:
                    self.choice.addItem("Areas against time")
                else:
                    self.choice.removeItem(last)
                self.choice.setCurrentIndex(last if areas else 0)
            self._show()
        self.series.setValue((areas, frame) if areas else ())

    def setColours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.plot.setColours(colours)
        self.profile.setColours(colours)
        self.series.setColours(colours)

    def _show(self) -> None:
        sizes, chosen = _SIZES[self._in_nm], self.choice.currentIndex()
        for index, text in enumerate(sizes):
            self.choice.setItemText(index, text)
        self.profile.setVisible(chosen == len(sizes))
        self.series.setVisible(chosen > len(sizes))
        self.plot.setVisible(chosen < len(sizes))
        if chosen < len(sizes):
            size = list(sizes.values())[chosen]
            self.plot.setValue(size_bars({r.id: getattr(r, size) for r in self._regions}, self._selected))

    def _bar_pressed(self, x: float) -> None:
        inside = (bar.numbers for bar in self.plot.value() if bar.low <= x < bar.high)
        self.barChosen.emit(next(inside, frozenset()))

    def _frame_pressed(self, x: float) -> None:
        areas, _ = self.series.value()
        self.frameChosen.emit(min(max(round(x), 0), len(areas) - 1))
