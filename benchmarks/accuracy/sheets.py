"""Pictures to look at: image | labels over image | severity. They show data of others and are never committed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

import napari_hrstem_defects as hd

#: Longest side of a panel in px, and rows on a page.
PANEL_PX, ROWS = 420, 6
_TITLE_PX = 16
_COLOURS = {1: (232, 65, 60), 2: (47, 125, 225)}
#: Severity that is shown white (lattice mode: robust standard deviations).
_BRIGHTEST = 20.0


def save_sheet(path: Path, analysis: hd.Analysis, title: str) -> None:
    """Write one strip of three panels."""
    step = -(-max(analysis.labels.shape) // PANEL_PX)
    pixels = analysis.micrograph.frame().pixels[::step, ::step]
    low, high = np.percentile(pixels, (0.5, 99.5))
    grey = _grey((pixels - low) / max(float(high - low), 1e-12))
    marked = grey.copy()
    for label, colour in _COLOURS.items():
        mask = analysis.labels[::step, ::step] == label
        marked[mask] = (0.55 * marked[mask] + 0.45 * np.array(colour)).astype(np.uint8)
    if analysis.best_patch is not None:
        y, x, half = (
            v / step for v in (analysis.best_patch.y, analysis.best_patch.x, analysis.best_patch.size / 2)
        )
        drawn = Picture.fromarray(marked)
        ImageDraw.Draw(drawn).rectangle((x - half, y - half, x + half, y + half), outline=(39, 201, 63))
        marked = np.asarray(drawn)
    top = max(_BRIGHTEST, float(np.percentile(analysis.severity, 99.9)))
    panels = (grey, marked, _grey(analysis.severity[::step, ::step] / top))
    strip = Picture.fromarray(np.concatenate(panels, axis=0 if grey.shape[1] > 2 * grey.shape[0] else 1))
    page = Picture.new("RGB", (strip.width, strip.height + _TITLE_PX), "white")
    page.paste(strip, (0, _TITLE_PX))
    ImageDraw.Draw(page).text((2, 2), title, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)


def _grey(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    shade = (255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return np.repeat(shade[..., np.newaxis], 3, axis=-1)


def join(folder: Path, groups: Iterable[str]) -> list[Path]:
    """Stack the strips of each group, `ROWS` on a page; returns the pages ``sheet-<group>-<number>.png``."""
    pages = []
    for group in groups:
        strips = sorted(folder.glob(f"{group}-*.png"))
        for number in range(-(-len(strips) // ROWS)):
            rows = [Picture.open(path) for path in strips[number * ROWS : (number + 1) * ROWS]]
            page = Picture.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
            for k, row in enumerate(rows):
                page.paste(row, (0, sum(r.height for r in rows[:k])))
            pages.append(folder / f"sheet-{group}-{number + 1:02d}.png")
            page.save(pages[-1])
    return pages
