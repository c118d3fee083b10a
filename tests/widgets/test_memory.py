"""What stays in memory when images are closed."""

import gc
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import lattice_image

#: Images opened, run and closed; the first ones, in which modules are imported and caches filled, do not count.
IMAGES, WARM_UP = 20, 4
#: Growth for each image that may be noise: of the process, in MB, and of Python's objects (a layer has some thousand).
MOST_MB, MOST_OBJECTS = 1.0, 200


def _in_memory() -> tuple[float, int]:
    """MB of the process, and objects that Python keeps track of."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(gc.get_objects())


def test_a_closed_image_leaves_nothing_behind(desk: Any) -> None:
    """Neither its analysis nor its pixels: of a large image they fill the memory."""
    made = desk(lattice_image((256, 256)))
    made.run_all()
    made.click(made.panel.groups["segment"].button)  # starts from the analysis before
    made.wait()
    made.panel.results.table.step(1)
    document = made.document
    kept = [weakref.ref(thing) for thing in (document, document.analysis, document.layer.data)]
    del document
    made.viewer.layers.clear()
    made.qtbot.wait(200)
    gc.collect()
    assert [thing() for thing in kept] == [None] * len(kept)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts memory as Linux does")
def test_memory_does_not_grow_with_twenty_images(desk: Any, record_property: Any) -> None:
    made = desk(None)
    found = []
    for number in range(IMAGES):
        made.add(lattice_image((256, 256), seed=number), name=f"image {number}")
        made.run_all()
        made.qtbot.wait(100)
        made.viewer.layers.clear()
        made.qtbot.wait(100)
        found.append(_in_memory())
    growth = np.diff(found[WARM_UP:], axis=0)
    # The last layer that had been selected goes with the next one.
    process, objects = growth[:, 0].mean(), np.median(growth[:, 1])
    text = f"{process:.2f} MB, {objects:.0f} objects"
    print(f"for each image {text}")
    record_property("memory_for_each_image", text)
    assert process < MOST_MB
    assert objects < MOST_OBJECTS
