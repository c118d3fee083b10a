"""Fit the rate of false marks: ``python -m benchmarks.accuracy.calibration [--count N] [--jobs N]``.

Counts local maxima of the severity in clean simulated micrographs (own simulator, tuning seed) and in parts of them,
and fits the number of peaks above z per squared period, ``10^(RATE − SLOPE·z)``, the constants of core/calibration.py.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy import ndimage

import napari_hrstem_defects as hd
from benchmarks.accuracy.datasets import OWN_SETS
from napari_hrstem_defects.simulation.sets import sample

#: Severities at which peaks are counted: below, noise merges into few maxima; above, there are too few.
LEVELS = np.arange(3.0, 4.6, 0.25)
#: Edge of the parts that are analysed by themselves, as shares of the shorter side.
PARTS = (1.0, 0.5, 0.3)


def peaks(index: int) -> tuple[float, list[int]]:
    """Assessed area in squared periods of one micrograph and its parts, and its peaks above each of `LEVELS`."""
    area, counts = 0.0, np.zeros(len(LEVELS), int)
    pixels = np.asarray(sample(index, OWN_SETS["tuning"][0], 0.0).micrograph.data)
    rng = np.random.default_rng(index)
    for share in PARTS:
        edge = int(share * min(pixels.shape))
        if edge < 128:
            continue
        y, x = (int(rng.integers(0, n - edge + 1)) for n in pixels.shape)
        analysis = hd.analyze(hd.Micrograph(pixels[y : y + edge, x : x + edge]), stop="symmetry")
        if analysis.typical is None:
            continue
        severity = np.where(analysis.valid_mask, analysis.severity, 0)
        highest = ndimage.maximum_filter(severity, round(1.5 * analysis.typical.period_px))
        found = severity[(severity == highest) & (severity > LEVELS[0])]
        counts += (found[:, None] > LEVELS).sum(axis=0)
        area += analysis.area_periods
    return area, counts.tolist()


def main() -> None:
    """Print the fitted constants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(peaks, range(options.count)))
    area = sum(row[0] for row in rows)
    rate = np.sum([row[1] for row in rows], axis=0) / area
    for level, value in zip(LEVELS, rate, strict=True):
        print(f"severity {level:.2f}: {value:.2e} peaks per squared period")
    slope, constant = np.polyfit(LEVELS, np.log10(np.maximum(rate, 0.3 / area)), 1)
    print(f"RATE {constant:.2f}, SLOPE {-slope:.2f}; area {area:.0f} squared periods")


if __name__ == "__main__":
    main()
