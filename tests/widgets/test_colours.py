"""Colours that mean something are told apart in any colour vision."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from qtpy.QtWidgets import QApplication
from skimage.color import deltaE_ciede2000, rgb2lab

from napari_hrstem_defects.io.display import (
    AMORPHOUS_COLOUR,
    BEST_PATCH_COLOUR,
    DOMAIN_COLOURS,
    SYMMETRY_COLOUR,
)
from napari_hrstem_defects.widgets.outputs import CLASS_COLOURS, CLEAN_COLOUR
from napari_hrstem_defects.widgets.theme import colours

from .conftest import contrast

#: Machado, Oliveira & Fernandes, IEEE Trans. Vis. Comput. Graph. 15 (2009) 1291: what is seen where one of the three
#: cones is missing, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
#: Two colours that differ by less are hard to tell apart as areas; one is the least that is seen side by side.
LEAST = 10.0


def seen(colour: str, vision: str) -> np.ndarray:
    """CIELAB of a colour as somebody sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(VISION[vision] @ linear, 0, 1)
    back = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(back[None, None]))[0, 0]


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    "colours",
    [
        (SYMMETRY_COLOUR, AMORPHOUS_COLOUR, BEST_PATCH_COLOUR),
        (CLEAN_COLOUR, SYMMETRY_COLOUR),
        DOMAIN_COLOURS,
        CLASS_COLOURS,
    ],
    ids=["labels", "patches", "lattices", "classes"],
)
def test_colours_are_told_apart(colours: tuple[str, ...], vision: str) -> None:
    for one, other in itertools.combinations(colours, 2):
        difference = float(deltaE_ciede2000(seen(one, vision), seen(other, vision)))
        assert difference > LEAST, f"{one} and {other}: {difference:.1f}"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_is_read_on_its_ground(theme: str) -> None:
    """As well as the Web Content Accessibility Guidelines 2.1 (1.4.3) ask for."""
    ink = colours(SimpleNamespace(theme=theme))
    for colour in (ink.text, ink.warning, ink.error):
        assert contrast(colour.getRgbF(), ink.background.getRgbF()) >= 4.5
    # An error is red, a warning amber.
    assert abs((ink.error.hsvHue() + 180) % 360 - 180) < 15
    assert 30 < ink.warning.hsvHue() < 60


def test_panel_and_dialog_follow_the_theme_while_they_are_open(bench: Any) -> None:
    made = bench("gaas_twin")
    made.run_all()
    made.panel.results.widget.show()
    dialog = made.panel.show_training()
    dialog.plot.setValue([(1.0, 2.0)])
    made.click(made.panel.auto)
    made.session.edits.place((300.0, 300.0))  # what follows is stale, in the colour of warnings
    for theme in ("light", "dark", "light"):
        made.viewer.theme = theme
        QApplication.processEvents()
        ink = colours(made.viewer)
        for plot in (made.panel.threshold.histogram, made.panel.results.sizes.plot, dialog.plot):
            ground, lines = to_hex(plot.axes.get_facecolor()), [line.get_color() for line in plot.axes.lines]
            assert ground == ink.background.name()
            assert plot is not made.panel.threshold.histogram or set(lines) == {ink.text.name()}
        assert ink.text.name() in made.panel.citation.text()
        assert ink.warning.name() in made.panel.groups["segment"].sign.text()
        assert f"theme_{theme}" in made.panel.styleSheet()  # of its tables, and those of the dialog
    dialog.close()
