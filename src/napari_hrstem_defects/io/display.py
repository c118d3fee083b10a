"""Pixels for figures: contrast, size on the page, colour-blind-safe colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # Not at once: colours are asked for by what must start fast.
    from matplotlib.axes import Axes

    from napari_hrstem_defects.io.frames import FrameResult

# Okabe & Ito's colour-blind-safe palette.
SYMMETRY_COLOUR = "#D55E00"  # vermillion
AMORPHOUS_COLOUR = "#56B4E9"  # sky blue
BEST_PATCH_COLOUR = "#F0E442"  # yellow

#: Of the second domain, the third, ...: reddish purple, blue, orange, bluish green, grey.
DOMAIN_COLOURS = ("#CC79A7", "#0072B2", "#E69F00", "#009E73", "#BBBBBB")
_DOMAIN_OPACITY = 0.22

#: Colours of the severity: perceptually uniform, readable in grey and over a grey image.
COLOUR_MAP = "inferno"

#: Longer sides are reduced for display: a panel of the figure has about this many dots.
_MAX_SIDE_PX = 1000
#: Share of the darkest and of the brightest pixels that may saturate, so that a hot pixel does not hide the lattice.
_SATURATED = 0.005
_LABEL_OPACITY = 0.5


@dataclass(frozen=True, eq=False)
class Display:
    """Reduced copies of the maps of a result.

    Attributes
    ----------
    shape : tuple of int
        Shape of the original ``(y, x)``.
    grey : float array
        The image, 0...1.
    severity : float array
    labels : uint8 array
    valid_mask : bool array
    domains : uint8 array
        0 the reference.
    """

    shape: tuple[int, int]
    grey: NDArray[np.float32]
    severity: NDArray[np.float32]
    labels: NDArray[np.uint8]
    valid_mask: NDArray[np.bool_]
    domains: NDArray[np.uint8]

    @classmethod
    def of(cls, found: FrameResult) -> Display:
        """Reduce a result for display."""
        height, width = found.labels.shape
        factor = -(-max(height, width) // _MAX_SIDE_PX)
        pixels = found.micrograph.frame().pixels
        low, high = np.quantile(
            pixels[:: max(1, factor // 2), :: max(1, factor // 2)], (_SATURATED, 1 - _SATURATED)
        )
        if not high > low:
            low, high = 0.0, 1.0
        grey = np.clip((_blocks(pixels, factor).mean(axis=(1, 3)) - low) / (high - low), 0, 1)
        # The largest value of a block, not the mean: thin faults must not fade when a large image is reduced.
        return cls(
            (height, width),
            grey,
            _blocks(found.pixels("severity"), factor).max(axis=(1, 3)),
            _blocks(found.labels, factor).max(axis=(1, 3)),
            np.asarray(_blocks(found.pixels("valid_mask"), factor).any(axis=(1, 3)), np.bool_),
            np.asarray(_blocks(found.pixels("domains"), factor)[:, 0, :, 0], np.uint8),
        )

    def show(self, axes: Axes, picture: NDArray[np.floating]) -> None:
        """Draw a grey or RGB picture so that the axes are in pixels of the original."""
        height, width = self.shape
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        interpolation = "antialiased" if min(self.shape) > 200 else "nearest"
        axes.imshow(
            picture, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=interpolation, aspect="auto"
        )
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)

    def severity_overlay(self, low: float, high: float) -> NDArray[np.floating]:
        """Colours over the dimmed image: nothing where the severity is `low`, full colour from half of the range."""
        from matplotlib import colormaps

        scaled = np.clip((self.severity - low) / (high - low), 0, 1)
        colours = colormaps[COLOUR_MAP](scaled)[..., :3]
        opacity = np.clip(0.25 + 1.2 * scaled, 0, 0.9)[..., None]
        picture = (1 - opacity) * 0.8 * self.grey[..., None] + opacity * colours
        # Not assessed: washed out.
        return np.where(self.valid_mask[..., None], picture, 0.55 * picture + 0.45 * 0.6)

    def label_overlay(self) -> NDArray[np.floating]:
        """The image with the labels in colour and their outlines in full colour."""
        return _coloured(
            self.grey, self.labels, {1: SYMMETRY_COLOUR, 2: AMORPHOUS_COLOUR}, opacity=_LABEL_OPACITY
        )

    def domain_overlay(self) -> NDArray[np.floating]:
        """The image with all domains but the reference tinted and outlined."""
        colours = {int(n): domain_colour(int(n)) for n in np.unique(self.domains) if n > 0}
        return _coloured(self.grey, self.domains, colours, opacity=_DOMAIN_OPACITY)


def domain_colour(number: int) -> str:
    """Colour of a domain: number 0 is the reference."""
    return BEST_PATCH_COLOUR if number == 0 else DOMAIN_COLOURS[(number - 1) % len(DOMAIN_COLOURS)]


def _coloured(
    grey: NDArray[np.floating], values: NDArray[np.uint8], colours: Mapping[int, str], *, opacity: float
) -> NDArray[np.floating]:
    """A grey picture with areas in colour and their outlines in full colour."""
    from matplotlib.colors import to_rgb

    picture = np.repeat(grey[..., None], 3, axis=2)
    for value, colour in colours.items():
        mask = values == value
        share = np.where(mask & ~_outline(mask), opacity, 1.0)[..., None]
        tinted = (1 - share) * picture + share * np.array(to_rgb(colour))
        picture = np.where(mask[..., None], tinted, picture)
    return picture


def severity_range(severity: NDArray[np.float32], threshold: float | None) -> tuple[float, float]:
    """Ends of the colour scale, given the threshold; None: it is in other units, or unknown."""
    top = float(np.quantile(severity, 0.998))
    if threshold is not None:
        # The same scale for most images, so that figures can be compared; a clean image stays dark.
        return 0.0, min(max(top, 2 * threshold), 5 * threshold)
    # As published, it is 0 where nothing was compared.
    low = float(np.quantile(severity[severity > 0], 0.02)) if top > 0 else 0.0
    return low, top if top > low else low + 1.0


def _blocks(array: NDArray[np.generic], factor: int) -> NDArray[np.generic]:
    """View of shape (n_y, factor, n_x, factor); the rim is repeated where it does not divide."""
    height, width = array.shape
    padded = (
        np.pad(array, ((0, -height % factor), (0, -width % factor)), mode="edge") if factor > 1 else array
    )
    return padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask that touch something else, two pixels wide."""
    from scipy.ndimage import binary_erosion

    width = max(1, round(max(mask.shape) / 400))
    return mask & ~binary_erosion(mask, iterations=width, border_value=1)
