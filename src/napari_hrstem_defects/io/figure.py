"""The overview of a result: one figure, fit for a slide."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from napari_hrstem_defects.core.pipeline import Analysis
from napari_hrstem_defects.core.regions import Region
from napari_hrstem_defects.io.charts import CENTRED, DPI, FONT, PNG, name_axes
from napari_hrstem_defects.io.display import (
    AMORPHOUS_COLOUR,
    BEST_PATCH_COLOUR,
    COLOUR_MAP,
    SYMMETRY_COLOUR,
    Display,
    domain_colour,
    severity_range,
)
from napari_hrstem_defects.io.frames import FrameResult

# Everything below in inches.
_MARGIN = 0.35
_GAP = 0.3
_TITLE = 0.3  # above each panel
_STRIP = 0.62  # below each panel: colour bar, legend
_LINE = 0.26  # one line of the header
_CHART = 1.5  # defect area against time
_ROW_WIDTH = 13.33  # of a widescreen slide
_MAX_PANEL_HEIGHT = 5.6
_MIN_PANEL_WIDTH = 3.4  # room for the legend
_MIN_WIDTH = 9.0  # room for the header
_WIDE = 1.9  # images wider than this times their height are put below each other
_WIDE_PANEL_HEIGHT = 2.3
_SCALE_BAR = 0.45  # the scale bar is about this long at least
_NUMBERED = 12  # the largest regions carry their number


class _Layout(NamedTuple):
    """Size of the figure and of a panel, and the panels' lower left corners, from the lower left of the figure."""

    width: float
    height: float
    panel: tuple[float, float]
    corners: Sequence[tuple[float, float]]

    @classmethod
    def of(cls, shape: tuple[int, ...], lines: int, series: bool) -> _Layout:
        """For an image of some shape, a header of some lines and perhaps a chart."""
        aspect = shape[1] / shape[0]
        top = _MARGIN + lines * _LINE
        bottom = _CHART if series else 0.1
        if aspect > _WIDE:
            width = min(_WIDE_PANEL_HEIGHT * aspect, _ROW_WIDTH - 2 * _MARGIN)
            height = max(width / aspect, 0.3)
            whole = max(width + 2 * _MARGIN, _MIN_WIDTH)
            step = _TITLE + height + _STRIP
            total = top + 3 * step + bottom
            left = (whole - width) / 2
            corners = [(left, bottom + _STRIP + i * step) for i in (2, 1, 0)]
        else:
            column = (_ROW_WIDTH - 2 * _MARGIN - 2 * _GAP) / 3
            height = min(column / aspect, _MAX_PANEL_HEIGHT)
            width = max(height * aspect, 0.3)
            column = max(width, _MIN_PANEL_WIDTH)
            whole = max(3 * column + 2 * _GAP + 2 * _MARGIN, _MIN_WIDTH)
            step = column + (whole - 2 * _MARGIN - 3 * column) / 2
            total = top + _TITLE + height + _STRIP + bottom
            left = _MARGIN + (column - width) / 2
            corners = [(left + i * step, bottom + _STRIP) for i in range(3)]
        return cls(whole, total, (width, height), corners)

    def axes(self, figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place in inches."""
        return figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )


def overview_figure(
    analysis: Analysis | FrameResult, *, frame: int = 0, series: Sequence[Mapping[str, float]] | None = None
) -> Figure:
    """Image with best patch and scale bar, severity, labels, and the main numbers.

    Parameters
    ----------
    analysis : Analysis or FrameResult
        A whole analysis, or what was kept of one.
    frame : int
        Which frame of a series it is.
    series : sequence of mapping, optional
        Defect fractions of every frame of the series, drawn against time.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; no window, no global state.
    """
    found = FrameResult.of(analysis) if isinstance(analysis, Analysis) else analysis
    display = Display.of(found)
    header = _header(found, frame, series)
    layout = _Layout.of(found.labels.shape, len(header), series is not None)
    figure = Figure(figsize=(layout.width, layout.height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _draw_header(figure, layout, header)
    width, height = layout.panel
    draw = (_draw_image, _draw_severity, _draw_labels)
    for (left, bottom), panel in zip(layout.corners, draw, strict=True):
        axes = layout.axes(figure, left, bottom, width, height)
        axes.set_axis_off()
        # The strip below is as wide as the panel, but never too narrow for its text.
        strip_width = max(width, _MIN_PANEL_WIDTH)
        strip = layout.axes(figure, left + (width - strip_width) / 2, bottom - _STRIP, strip_width, _STRIP)
        strip.set_axis_off()
        panel(axes, strip, found, display)
    if series is not None:
        _draw_series(figure, layout, series, frame)
    return figure


def save_overview(
    path: Path,
    analysis: Analysis | FrameResult,
    *,
    frame: int = 0,
    series: Sequence[Mapping[str, float]] | None = None,
) -> None:
    """Write :func:`overview_figure` as PNG."""
    overview_figure(analysis, frame=frame, series=series).savefig(path, **PNG)


def _header(
    found: FrameResult, frame: int, series: Sequence[Mapping[str, float]] | None
) -> list[tuple[str, str]]:
    """Lines of text and their style."""
    micrograph, record = found.micrograph, found.record
    size = micrograph.pixel_size_nm
    height, width = found.labels.shape
    facts = [f"{width} × {height} px"]
    if size is not None:
        facts += [f"{width * size:.3g} × {height * size:.3g} nm", f"{size:.4g} nm/px"]
    # The period that set the scales: that of the image as a whole, steadier than one patch's.
    lattice = (record["typical_lattice"] or record["lattice"]) if record["best_patch"] else None
    if lattice is None:
        facts.append("no lattice found")
    else:
        period = lattice["period_px"]
        nm = "" if size is None else f" ({period * size:.3g} nm)"
        facts.append(f"period {period:.1f} px{nm}")
    count = len(found.regions)
    facts.append("no defect regions" if not count else f"{count} defect region{'s' if count > 1 else ''}")
    marked = sum(record["fractions"][key] for key in ("symmetry_defect", "amorphous"))
    facts.append(f"{100 * marked:.1f} % of the image marked")
    name = micrograph.name
    if series is not None:
        name = name.removesuffix(f"[{frame}]")
        name += f", frame {frame} (of 0…{len(series) - 1}, the one with the most defects)"
    if len(name) > 90:
        name = f"{name[:44]}…{name[-44:]}"  # both ends of a file name distinguish files
    lines = [(name, "name"), (" · ".join(facts), "facts")]
    if warnings := record["warnings"]:
        more = len(warnings) - 1
        text = warnings[0] + (f" (and {more} more in analysis.json)" if more else "")
        lines += [(line, "warning") for line in textwrap.wrap("⚠ " + text, 115)[:3]]
    return lines


def _draw_header(figure: Figure, layout: _Layout, lines: Sequence[tuple[str, str]]) -> None:
    styles: dict[str, dict[str, Any]] = {
        "name": {"fontsize": 14, "fontweight": "bold"},
        "facts": {"fontsize": 10.5, "color": "0.25"},
        "warning": {"fontsize": 10, "color": "#8a4b00"},
    }
    # Narrow figures: shrink rather than cut.
    available = layout.width - 2 * _MARGIN
    for i, (text, style) in enumerate(lines):
        y = 1 - (_MARGIN / 2 + (i + 0.5) * _LINE + 0.05) / layout.height
        options = {**styles[style], "family": FONT, "va": "center"}
        label = figure.text(_MARGIN / layout.width, y, text, parse_math=False, **options)
        length = label.get_window_extent().width / DPI
        if length > available:
            label.set_fontsize(options["fontsize"] * available / length)


def _note(strip: Axes, text: str, y: float = 0.72, size: float = 10) -> None:
    strip.text(0.5, y, text, fontsize=size, **CENTRED)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11.5, family=FONT, pad=5)


def _draw_image(axes: Axes, strip: Axes, found: FrameResult, display: Display) -> None:
    several = len(found.domains) > 1
    display.show(axes, display.domain_overlay() if several else display.grey)
    _title(axes, "Image and lattices" if several else "Image")
    _draw_scale_bar(axes, found)
    best = found.record["best_patch"]
    if best is None:
        _note(strip, "no best patch: no lattice was found")
        return
    axes.add_patch(_patch_square(best["y"], best["x"], best["size"], BEST_PATCH_COLOUR))
    placed = "placed by hand" if best["placed"] == "hand" else "chosen automatically"
    handle = Rectangle((0, 0), 1, 1, fill=False, edgecolor=BEST_PATCH_COLOUR, linewidth=2)
    # Where there are many entries they stand side by side.
    text = f"best patch, {best['size']} px" + (f", {placed}" if len(found.domains) <= 3 else "")
    entries: list[tuple[Any, str]] = [(handle, text)]
    for number, row in enumerate(found.domains[1:], start=1):
        colour = domain_colour(number)
        axes.add_patch(_patch_square(row["patch_y_px"], row["patch_x_px"], row["patch_size_px"], colour))
        entries.append((Patch(facecolor=colour), _domain_text(row)))
    _legend(strip, entries, columns=1 if len(entries) <= 3 else 2)


def _domain_text(row: Mapping[str, Any]) -> str:
    """What a domain is, in few words."""
    relation = row["coincidence"] or row["relation"]
    angle = row["misorientation_deg"]
    turned = "" if angle is None or row["relation"] != "rotated" else f" {angle:.1f}°"
    return f"{relation}{turned}, {'intact' if row['crystal'] == 'yes' else 'defect'}"


def _patch_square(y: float, x: float, edge: int, colour: str) -> Rectangle:
    square = Rectangle((x - edge / 2, y - edge / 2), edge, edge, fill=False, edgecolor=colour, linewidth=1.8)
    square.set_path_effects([withStroke(linewidth=3.2, foreground="black")])
    return square


def _draw_severity(axes: Axes, strip: Axes, found: FrameResult, display: Display) -> None:
    threshold, valid_mask = found.record["threshold"], found.pixels("valid_mask")
    low, high = severity_range(found.pixels("severity"), threshold)
    display.show(axes, display.severity_overlay(low, high))
    _title(axes, "Symmetry breaking")
    if not valid_mask.all() and axes.get_window_extent().width / DPI >= _MIN_PANEL_WIDTH:
        axes.set_title("pale: not assessed", loc="right", fontsize=9, color="0.35", family=FONT, pad=5)
    if found.record["best_patch"] is None or not valid_mask.any():
        _note(strip, "not computed")
        return
    bar = strip.inset_axes((0.02, 0.62, 0.96, 0.16))
    mappable = ScalarMappable(Normalize(low, high), COLOUR_MAP)
    colour_bar = Colorbar(bar, mappable, orientation="horizontal", extend="max")
    colour_bar.outline.set_linewidth(0.6)
    bar.tick_params(labelsize=9, length=2.5, pad=2)
    published = found.recipe.mode == "published"
    unit = "severity (Mahalanobis distance)" if published else "severity (robust standard deviations)"
    if threshold is not None and low < threshold < high:
        place = bar.get_xaxis_transform()
        bar.plot(threshold, 1.35, "v", markersize=5, color="black", clip_on=False, transform=place)
        marks = found.recipe.segment.false_marks
        unit += f"\n▼ threshold {threshold:.1f}: {marks:g} false marks per image"
    _note(strip, unit, 0.1, 9)


def _draw_labels(axes: Axes, strip: Axes, found: FrameResult, display: Display) -> None:
    display.show(axes, display.label_overlay())
    _title(axes, "Labels")
    share = found.record["fractions"]
    entries = [
        (Patch(facecolor=SYMMETRY_COLOUR), f"symmetry defect {100 * share['symmetry_defect']:.1f} %"),
        (Patch(facecolor=AMORPHOUS_COLOUR), f"amorphous {100 * share['amorphous']:.1f} %"),
    ]
    _legend(strip, entries)
    for region in found.regions[:_NUMBERED]:
        _draw_number(axes, region, found.labels.shape)


def _draw_number(axes: Axes, region: Region, shape: tuple[int, ...]) -> None:
    """The region's number on it, or next to it where it would cover it."""
    y, x = region.centroid
    small = min(region.bbox[2] - region.bbox[0], region.bbox[3] - region.bbox[1]) < 0.04 * max(shape)
    # Towards the middle of the image, so that it is not cut at the rim.
    offset = (8 if x < shape[1] / 2 else -8, -8 if y < shape[0] / 2 else 8) if small else (0, 0)
    inset_y, inset_x = (min(0.02 * max(shape), 0.25 * n) for n in shape)
    place = min(max(x, inset_x), shape[1] - 1 - inset_x), min(max(y, inset_y), shape[0] - 1 - inset_y)
    number = axes.annotate(
        str(region.id), place, offset, textcoords="offset points", color="white", fontsize=8.5, **CENTRED
    )
    number.set_path_effects([withStroke(linewidth=2.2, foreground="black")])


def _legend(strip: Axes, entries: Sequence[tuple[Any, str]], columns: int = 2) -> None:
    handles, labels = zip(*entries, strict=True)
    strip.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.95),
        ncols=min(len(entries), columns),
        frameon=False,
        borderaxespad=0,
        handlelength=1.2,
        handleheight=1.0,
        columnspacing=1.2,
        labelspacing=0.3,
        prop={"family": FONT, "size": 10 if len(entries) <= 2 else 8.5},
    )


def _draw_scale_bar(axes: Axes, found: FrameResult) -> None:
    """A bar of a round length, about a fifth of the width, in the lower left corner."""
    width, size = found.labels.shape[1], found.micrograph.pixel_size_nm
    unit = 1.0 if size is None else size
    # Sized in inches on the page, so that it looks alike on every shape.
    px_per_inch = width / (axes.get_window_extent().width / DPI)
    length = round_length(min(max(0.22 * width, _SCALE_BAR * px_per_inch), 0.7 * width) * unit)
    bar = AnchoredSizeBar(
        axes.transData,
        length / unit,
        f"{length:g} {'px' if size is None else 'nm'}",
        "lower left",
        label_top=True,
        size_vertical=0.05 * px_per_inch,
        color="white",
        pad=0.4,
        borderpad=0.5,
        sep=2,
        fontproperties=FontProperties(family=FONT, size=9.5),
    )
    bar.patch.set(facecolor="black", alpha=0.6, linewidth=0)
    axes.add_artist(bar)


def round_length(length: float) -> float:
    """Largest of 1, 2, 5 × 10ⁿ that does not exceed `length`.

    Examples
    --------
    >>> round_length(3.1), round_length(0.07), round_length(10)
    (2.0, 0.05, 10.0)
    """
    exponent = math.floor(math.log10(length))
    candidates = [float(f"{digit}e{exponent}") for digit in (1, 2, 5)]
    return max((value for value in candidates if value <= length), default=candidates[0])


def _draw_series(figure: Figure, layout: _Layout, series: Sequence[Mapping[str, float]], frame: int) -> None:
    left = _MARGIN + 0.45
    axes = layout.axes(figure, left, 0.45, layout.width - left - _MARGIN, _CHART - 0.75)
    for key, colour in (("symmetry_defect", SYMMETRY_COLOUR), ("amorphous", AMORPHOUS_COLOUR)):
        values = [100 * entry[key] for entry in series]
        axes.plot(values, color=colour, linewidth=1.6, marker="o", markersize=3)
    axes.axvline(frame, color="0.4", linewidth=1, linestyle=":")
    axes.set_xlim(-0.5, len(series) - 0.5)
    axes.set_ylim(0, max(1.1 * axes.dataLim.ymax, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8.5)
    name_axes(axes, "frame", "area (%)", 9)
