"""Lay the class map of ``hrstem-defects scan`` over its image, and compare it with the mask of a simulated image.

python examples/scan_overlay.py IMAGE SCAN_FOLDER OVERLAY.png [CLASSES.png]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import label2rgb

import napari_hrstem_defects as hd

UNCERTAIN = 255


def main(image: str, folder: str, overlay: str, mask: str = "") -> None:
    """Write the overlay; with a mask of the true classes print how many defects have their class."""
    pixels = hd.read(image).frame().pixels
    found = hd.read(Path(folder) / "class_map.tif").data
    classes = [
        entry["name"] for entry in json.loads((Path(folder) / "scan.json").read_text("utf-8"))["classes"]
    ]
    coloured = label2rgb(np.where(found == UNCERTAIN, len(classes), found), pixels, alpha=0.35, bg_label=0)
    Image.fromarray(np.rint(255 * coloured).astype(np.uint8)).save(overlay)
    if not mask:
        return
    truth = np.asarray(Image.open(mask))
    objects, count = ndimage.label(truth)
    # An object has the class that most of its pixels have.
    given = [np.bincount(found[objects == k]).argmax() for k in range(1, count + 1)]
    true = [truth[objects == k][0] for k in range(1, count + 1)]
    right = sum(int(a == b) for a, b in zip(given, true, strict=True))
    away = ndimage.distance_transform_edt(truth == 0) > 64 if count else np.ones(truth.shape, bool)
    false = (found[away] > 0) & (found[away] != UNCERTAIN)
    names = [("uncertain" if n == UNCERTAIN else classes[n]) for n in given]
    print(f"{right} of {count} defects have their class ({', '.join(names) or 'none there'})")
    print(f"further than a window from them {100 * false.mean():.1f} % of the area has the class of a defect")


if __name__ == "__main__":
    main(*sys.argv[1:])
