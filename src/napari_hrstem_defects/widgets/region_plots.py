"""Plots of the regions beside their table: sizes, profile across one, areas against time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.layout import box
from napari_hrstem_defects.widgets.plots import LETTERS, Plot, draw_axes, draw_curves, draw_legend
from napari_hrstem_defects.widgets.theme import Colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_hrstem_defects.core.regions import Region

#: Bars of the sizes.
_BARS = 10
#: Curves of the areas by their keys: name, colour, style.
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


def draw_areas(axes: Axes, shown: tuple[Sequence[Mapping[str, float]], int], colours: Colours) -> None:
    """Share of the image that is marked, frame by frame, and the frame that the viewer shows."""
    areas, frame = shown
    values = [[100 * area[key] for key in _AREAS] for area in areas]
    draw_curves(axes, range(len(values)), values, _AREAS.values(), "frame", colours)
    axes.set_xlim(0, max(len(values) - 1, 1))
    # One percent at least: less is noise.
    axes.set_ylim(0, max(1.0, 1.05 * np.max(values)))
    axes.yaxis.set_major_formatter("{x:.3g} %")
    axes.axvline(frame, color=colours.text.name(), linestyle=":", linewidth=1)


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
    draw_axes(axes, colours, ticks=3)
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
    draw_axes(axes, colours)
    axes.set_xlim(profile.positions[0], profile.positions[-1])
    axes.set_ylim(low, high + 0.05 * (high - low or 1.0))
    width = f"mean over {profile.width:.{1 if profile.width < 10 else 0}f} {profile.unit}"
    # From the right, for it is wider than the axes in a small plot.
    place: dict[str, Any] = {"loc": "right", "fontsize": LETTERS, "labelpad": 0}
    axes.set_xlabel(f"distance ({profile.unit}), {width}", color=ink, **place)
    draw_legend(axes, colours)


class SizeView(QWidget):
    """Histogram of the areas or lengths of the regions, profile across one, or areas against time; chosen above it."""

    #: ``(frozenset of int)``: numbers of the regions of a bar; none where the click was beside the bars.
    barChosen = Signal(object)
    #: ``(frame)``
    frameChosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.choice = QComboBox()
        self.choice.setAccessibleName("what is shown of the regions")
        self.choice.addItems([*_SIZES[False], "Profile across"])
        self.choice.currentIndexChanged.connect(lambda _: self._show())
        self.plot = Plot(
            draw_sizes,
            "sizes of the regions",
            "Histogram of the sizes of regions, in bins of equal ratio; click a bar to select its regions",
            "no regions",
            (22, 12, 6, 20),
        )
        self.series = Plot(
            draw_areas,
            "area of the defects against time",
            "Area fraction of defects in each frame; click to go to a frame",
        )
        self.profile = Plot(
            draw_profile,
            "profile across the region",
            "Severity and image across the selected region, along a line through its centre, perpendicular to its long "
            "axis",
            "select one region",
            (30, 10, 20, 34),
        )
        self.profile.setMinimumSize(205, 70)
        self.plot.setMinimumSize(116, 50)
        self.series.setMinimumSize(205, 70)
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
