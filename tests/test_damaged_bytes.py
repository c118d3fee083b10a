"""Readers of our own and of other formats on damaged files: an answer or one sentence of ours, never another error.

``python -m tests.test_damaged_bytes SECONDS`` goes on for longer and keeps the files that break the rule.
"""

import copy
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_hrstem_defects import Micrograph, Recipe, analyze, save
from napari_hrstem_defects.batch.labelled import read_labelled, read_patches
from napari_hrstem_defects.batch.ratings import append_rating, tabulate_ratings
from napari_hrstem_defects.cli.analyze import recipe_of
from napari_hrstem_defects.errors import HrstemDefectsError
from napari_hrstem_defects.io import load, read
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.store import read_contract

from .io import writers

TIMES = 25
EDGE = 64
SPACE = [("y", 0.2, "Å", False), ("x", 0.2, "Å", False)]
# In place of values, and of bytes, in a text.
JUNK = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    "",
    "nan",
    "a\0b",
    "\ud800",
    [],
    {},
    [[[]]],
    {"a": 1},
    "é" * 300,
)
RAW = (b"\0", b"\xff", b"9" * 5000, b"[" * 3000, b'"', b",", b"-", b"1e999", b"\n")


def crystal():
    y, x = np.indices((EDGE, EDGE))
    return (2000 * (2 + np.cos(y / 2) + np.cos(x / 2))).astype(np.uint16)


def recipe(folder):
    (folder / "recipe.json").write_text(Recipe().to_json())
    return folder / "recipe.json", lambda path: recipe_of(str(path), [], None)


def result(name):
    def write(folder):
        save(analyze(Micrograph(crystal(), 0.02)), folder / "result")
        return folder / "result" / name, lambda path: load(path.parent)

    return write


def patches(folder):
    for name in "ab":
        np.save(folder / f"{name}.npy", crystal())
    labels = {"a": "non-defective", "b": "defective"}
    rows = "".join(f"{name}.npy,{label},image,{k},{k}\n" for k, (name, label) in enumerate(labels.items()))
    (folder / "patches.csv").write_text("file,label,source,y,x\n" + rows)
    return folder / "patches.csv", read_patches


def ratings(folder):
    append_rating(folder / "ratings.csv", "Inadequate", analyze(Micrograph(crystal(), 0.02)))
    return folder / "ratings.csv", tabulate_ratings


def polygons(folder):
    np.save(folder / "a.npy", crystal())
    shapes = [
        {"label": "defect", "points": [[1, 1], [20, 1], [20, 30]], "shape_type": "polygon"},
        {"label": "blurred", "points": [[9, 9], [20, 11]], "shape_type": "circle"},
    ]
    about = {"version": "5.0", "shapes": shapes, "imageHeight": EDGE, "imageWidth": EDGE}
    (folder / "a.json").write_text(json.dumps(about))
    return folder / "a.json", lambda path: read_labelled(path.parent / "a.npy", path.parent)


def contract(folder):
    (folder / "contract.json").write_text(
        Contract("compact", "mine", ("non-defective", "defective"), 32, {"scaling": "standard"}).to_json()
    )

    def packed(path):
        with zipfile.ZipFile(path.with_name("model.hrstem"), "w") as archive:
            archive.write(path, "contract.json")
            archive.writestr("compact/000-kernel.npy", b"")
        return read_contract(path.with_name("model.hrstem"))

    return folder / "contract.json", packed


def model(folder):
    path, packed = contract(folder)
    packed(path)
    path.unlink()
    return folder / "model.hrstem", read_contract


def image(suffix, write, *given):
    def written(folder):
        write(folder / f"image.{suffix}", *given)
        return folder / f"image.{suffix}", lambda path: np.asarray(read(path).data)

    return written


FORMATS = {
    "recipe": recipe,
    "analysis.json": result("analysis.json"),
    "labels.tif": result("labels.tif"),
    "regions.csv": result("regions.csv"),
    "patches.csv": patches,
    "ratings.csv": ratings,
    "polygons": polygons,
    "contract": contract,
    "model": model,
    "mrc": image("mrc", writers.mrc, writers.STACK, 6, None, (12.8, 9.6, 0)),
    "ser": image("ser", writers.ser, writers.STACK, 2e-11),
    "hspy": image("hspy", writers.hspy, writers.IMAGE, SPACE),
    "emd": image("emd", writers.velox_emd, writers.IMAGE),
    "ndata": image("ndata", writers.ndata, writers.IMAGE),
}


def places(value, found):
    """Where the values of a JSON document stand."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            places(value[key], found)
    return found


def damaged(valid, chance):
    """The bytes with one or several changes."""
    if chance.random() < 0.5 and valid.startswith(b"{"):
        document = json.loads(valid)
        for _ in range(chance.randint(1, 2)):
            holder, key = chance.choice(places(document, []))
            if chance.random() < 0.2:
                del holder[key]
            else:
                holder[key] = copy.deepcopy(chance.choice(JUNK))
            if not document:
                break
        return json.dumps(document).encode()
    changed = bytearray(valid)
    for _ in range(chance.randint(1, 4)):
        # What says most stands at the beginning.
        at = int(len(changed) * chance.random() ** chance.choice((1, 4)))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            changed[at : at + chance.choice((1, 2, 4, 8))] = chance.choice(RAW)
        elif kind == 2:
            del changed[at : at + chance.choice((1, 4, 40))]
        else:
            del changed[max(at, 1) :]
    return bytes(changed)


def broken(folder, name, chances):
    """First damaged file that gives an error of another kind, or a message of several lines; None if there is none."""
    path, reader = FORMATS[name](folder)
    valid = path.read_bytes()
    reader(path)
    for chance in chances:
        path.write_bytes(damaged(valid, chance))
        try:
            reader(path)
        except HrstemDefectsError as error:
            if "\n" in str(error) or not str(error).endswith("."):
                return repr(str(error))
        except Exception as error:
            return repr(error)
    return None


@pytest.mark.filterwarnings("ignore")  # of other libraries, about files that they cannot close
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_cost_one_sentence(tmp_path, name):
    assert broken(tmp_path, name, (random.Random(f"{name} {k}") for k in range(TIMES))) is None


def main(seconds):
    """All formats in turn, with other chances each time."""
    end = time.monotonic() + seconds
    for turn in itertools.count():
        for name in FORMATS:
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
            error = broken(folder, name, (random.Random(f"{name} {turn} {k}") for k in range(200)))
            if error is None:
                shutil.rmtree(folder)
            else:
                print(turn, name, error, folder, flush=True)
            if time.monotonic() > end:
                print(turn, "turns of 200 files a format")
                return


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(float(sys.argv[1]))
