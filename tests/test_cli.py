"""The command line: options, exit statuses, messages, bad input."""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_hrstem_defects
from napari_hrstem_defects import Recipe
from napari_hrstem_defects.cli import main
from napari_hrstem_defects.io import load, read

from .helpers import crystal, one_line, run

pytestmark = pytest.mark.usefixtures("quick_figures", "one_process")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "crystal.tif"
    tifffile.imwrite(path, crystal())
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# -- the program ----------------------------------------------------------------------------------------------


def test_version():
    assert run("--version").stdout.strip() == f"hrstem-defects {napari_hrstem_defects.__version__}"


@pytest.mark.parametrize("command", ["analyze", "info", "replay", "evaluate", "simulate", "view"])
def test_help(command):
    assert command in run("--help").stdout
    assert "--help" in run(command, "--help").stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['hrstem-defects', '--help']\n"
        "from napari_hrstem_defects.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'scipy', 'skimage', 'matplotlib', 'dask', 'napari', 'qtpy', 'rich', 'tifffile', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_processes_begin_before_anything_that_takes_long_is_imported():
    code = (
        "import sys, napari_hrstem_defects.cli.commands, napari_hrstem_defects.cli.console\n"
        "import napari_hrstem_defects.batch.workers\n"
        "print(*{'numpy', 'pydantic', 'distributed'} & set(sys.modules))\n"
        "import napari_hrstem_defects.batch.run\n"
        "print(*{'napari_hrstem_defects.models.classifier', 'matplotlib'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "\n\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["analyze"],
        ["analyze", "image.tif"],
        ["analyze", "--out", "out"],
        ["analyze", "image.tif", "--out", "out", "--jobs", "0"],
        ["analyze", "image.tif", "--out", "out", "--unknown"],
        ["analyze", "image.tif", "--out", "out", "--image-format", "nrrd"],
        ["simulate", "--out", "x", "--count", "0", "--seed", "1"],
        ["simulate", "--out", "x", "--count", "1"],
    ],
)
def test_wrong_usage(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(*arguments, status=2)
    assert list(tmp_path.iterdir()) == []


def test_internal_errors_cost_one_line(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("a\nbug")

    monkeypatch.setattr("napari_hrstem_defects.cli.evaluate.evaluate_folders", broken)
    monkeypatch.setattr(sys, "argv", ["hrstem-defects", "evaluate", "--pred", "a", "--truth", "b"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "internal error (ZeroDivisionError: a bug); please report it" in one_line(capsys.readouterr().err)
    monkeypatch.setenv("HRSTEM_DEFECTS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main()


# -- analyze --------------------------------------------------------------------------------------------------


def test_ome_zarr_on_request(image, out, monkeypatch):
    run("analyze", image, "--out", out, "--image-format", "ome-zarr")
    assert read(out / "crystal" / "severity.ome.zarr").shape == (128, 128)
    monkeypatch.setitem(sys.modules, "zarr", None)
    result = run("analyze", image, "--out", out / "x", "--image-format", "ome-zarr", status=2)
    assert "needs zarr; install it with" in one_line(result.stderr)
    assert not (out / "x").exists()


def test_analyze_with_its_overview(image, out):
    lines = run("analyze", image, "--out", out).stdout.splitlines()
    assert lines[0].startswith("done    crystal: ")
    assert lines[-1] == f"1 done; table in {out / 'summary.csv'}"
    with Image.open(out / "crystal" / "overview.png") as picture:
        assert picture.format == "PNG"
    again = run("analyze", image, "--out", out).stdout.splitlines()
    assert again[0].startswith("skipped crystal: ")
    assert run("analyze", image, "--out", out, "--overwrite").stdout.startswith("done")


def test_quiet(image, out, tmp_path):
    assert run("analyze", image, "--out", out, "--quiet").output == ""
    result = run("analyze", image, tmp_path / "missing.tif", "--out", out, "--quiet", status=1)
    assert result.stdout == ""
    assert "missing.tif: there is no such file" in one_line(result.stderr)


def test_recipe_and_settings(image, out, tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(Recipe().replace({"segment.false_marks": 0.2}).to_json())
    changes = ("--set", "segment.extent=0.3", "--set", "symmetry.templates=64")
    run("analyze", image, "--out", out, "--recipe", recipe, *changes)
    used = load(out / "crystal").recipe
    assert (used.segment.false_marks, used.segment.extent, used.symmetry.templates) == (0.2, 0.3, 64)


def test_published_recipe(tmp_path, out):
    path = tmp_path / "crystal.tif"
    tifffile.imwrite(path, crystal((300, 390)))
    words = "no defective patch: the image is non-defective"
    result = run("analyze", path, "--out", out, "--recipe", "published")
    assert "crystal: non-defective, 0 regions, 0.0 % marked" in result.output
    assert words in result.output
    written = load(out / "crystal")
    assert written.recipe == Recipe.published()
    assert written.info["verdict"] == "non-defective"
    assert not written.severity.any()
    (row,) = csv.DictReader((out / "summary.csv").read_text("utf-8").splitlines())
    assert (row["verdict"], row["message"]) == ("non-defective", words)
    again = out / "again"
    run("analyze", path, "--out", again, "--recipe", "published", "--set", "published.always_filter=true")
    assert load(again / "crystal").severity.any()
    (row,) = csv.DictReader((again / "summary.csv").read_text("utf-8").splitlines())
    assert (row["verdict"], row["message"]) == ("non-defective", words)


def test_best_patch_and_pixel_size(image, out):
    run("analyze", image, "--out", out, "--best-patch", "60,70.5", "--pixel-size", "0.015")
    result = load(out / "crystal")
    assert result.info["best_patch_by_hand"] == [60, 70.5]
    assert result.best_patches[0].placed == "hand"
    assert result.pixel_size_nm == 0.015


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "missing.json"], "missing.json: the recipe cannot be read"),
        (["--recipe", "broken.json"], "broken.json: The recipe is not valid JSON"),
        (["--recipe", "image.bin"], "image.bin: the recipe cannot be read"),
        (["--set", "segment.extent"], "write it as step.key=value"),
        (["--set", "segment.thresh=3"], "no parameter 'thresh'"),
        (["--set", "segment.extent=high"], "must be a number"),
        (["--set", "segment.extent=-3"], "segment.extent must be"),
        (["--set", "segment.threshold=8"], "has no parameter 'threshold'"),
        (["--classifier", "vgg99"], "There is no classifier 'vgg99'"),
        (["--best-patch", "12"], "write it as Y,X"),
        (["--best-patch", "a,b"], "write it as Y,X"),
        (["--pixel-size", "-1"], "positive length"),
        (["--pixel-size", "nan"], "positive length"),
    ],
)
def test_wrong_options(image, out, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "image.bin").write_bytes(b"\xff\xfe\x00\x80")
    result = run("analyze", image, "--out", out, *options, status=2)
    assert words in one_line(result.stderr)
    assert not out.exists()


@pytest.mark.parametrize("where", ["crystal.tif", "crystal.tif/below"])
def test_output_that_is_a_file(image, where):
    result = run("analyze", image, "--out", image.parent / where, status=2)
    assert "choose another place" in one_line(result.stderr)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs access rights that count")
def test_output_without_permission(image, out):
    out.mkdir()
    out.chmod(0o500)
    result = run("analyze", image, "--out", out, status=2)
    assert "no permission" in one_line(result.stderr)


BAD_INPUTS = {
    "text.tif": (lambda path: path.write_text("This is a text.\n" * 100), "damaged or not really a tif file"),
    f"{'long' * 70}.tif": (lambda path: None, "cannot be reached (File name too long)"),
    "folder": (lambda path: path.mkdir(), "there is no image in this folder"),
    "*.emd": (lambda path: None, "no image matches this pattern"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input(tmp_path, out, name):
    make, words = BAD_INPUTS[name]
    make(tmp_path / name)
    result = run("analyze", tmp_path / name, "--out", out, status=1)
    line = one_line(result.stderr)
    assert name in line
    assert words in line
    assert {path.name for path in out.iterdir()} == {"summary.csv"}


def test_json_lines(image, out, tmp_path):
    (tmp_path / "bad.tif").write_text("text")
    result = run("analyze", image, tmp_path / "bad.tif", "--out", out, "--json-lines", status=1)
    assert result.stderr == ""
    # A line for each file when it is done.
    second, first = sorted(map(json.loads, result.stdout.splitlines()), key=lambda line: line["name"])
    assert (first["name"], first["status"], first["path"]) == ("crystal", "done", str(image))
    assert second["status"] == "failed"
    assert "damaged" in second["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_bar_on_a_terminal(out, tmp_path):
    import pty

    tifffile.imwrite(tmp_path / "a.tif", np.stack([crystal((64, 64))] * 3), photometric="minisblack")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from napari_hrstem_defects.cli import main; main()", "analyze"]
    process = subprocess.Popen(
        [*command, tmp_path / "a.tif", "--out", out],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while some := os.read(ours, 1 << 16):
            shown += some
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "a.tif: frame 3 of 3" in text
    assert re.search(r"\d+ %.*\d:\d\d:\d\d", text)  # share and time left
    assert "done    a: " in text


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_line_for_each_tenth_of_a_series_in_a_pipe(out, tmp_path, jobs):
    frames = np.stack([crystal((64, 64))] * 20)
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", frames, photometric="minisblack")
    lines = run("analyze", tmp_path, "--out", out, "--jobs", jobs).stdout.splitlines()
    for name in ("a", "b"):
        found = [line for line in lines if line.startswith(f"        {name}.tif")]
        assert found == [f"        {name}.tif: {n}0 %" for n in range(1, 10)]
    assert len(lines) == 2 * 10 + 1


# -- several data sets, pixel sizes ---------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path):
    """A preview, an image with a nanometre a pixel, and a larger diffraction pattern."""
    path = tmp_path / "several.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for data, size, unit in (
            (crystal((64, 64)), 0.04, "nm"),
            (crystal(), 0.02, "nm"),
            (crystal((150, 150)), 9, "1/nm"),
        ):
            sizes = {f"PhysicalSize{a}": size for a in "XY"} | {f"PhysicalSize{a}Unit": unit for a in "XY"}
            tif.write(data, photometric="minisblack", metadata={"axes": "YX", **sizes})
    return path


def recorded(folder):
    return json.loads((folder / "analysis.json").read_text())["input"]


def test_info(several, image):
    lines = run("info", several, image).stdout.splitlines()
    assert lines[0] == str(several)
    assert lines[1] == "   1  an image (Image0): 64 × 64 uint16, 0.04 nm/px"
    assert lines[2] == "*  2  an image (Image1): 128 × 128 uint16, 0.02 nm/px"
    assert lines[3] == "   3  a diffraction pattern (Image2): 150 × 150 uint16, 1/nm"
    assert lines[4:] == [str(image), "*  1  an image: 128 × 128 uint16, no pixel size"]


def test_info_of_bad_files(tmp_path, image):
    tifffile.imwrite(tmp_path / "p.tif", crystal(), imagej=True, resolution=(9, 9), metadata={"unit": "1/nm"})
    result = run("info", tmp_path / "missing.tif", tmp_path / "p.tif", image, status=1)
    missing, pattern = result.stderr.splitlines()
    assert "there is no such file" in missing
    assert "p.tif: this is a diffraction pattern" in pattern
    assert "   1  a diffraction pattern: 128 × 128 uint16, 1/nm" in result.stdout
    assert "*  1  an image" in result.stdout


def test_select(several, out):
    assert "number 2 (Image1) was used" in run("analyze", several, "--out", out).stdout
    folder = out / "several.ome"
    assert (recorded(folder)["select"], recorded(folder)["shape"]) == (None, [128, 128])
    run("analyze", several, "--out", out, "--select", 1)
    assert (recorded(folder)["select"], recorded(folder)["shape"]) == ("1", [64, 64])
    assert recorded(folder)["pixel_size_nm"] == pytest.approx(0.04)
    assert "skipped" in run("analyze", several, "--out", out, "--select", 1).stdout
    assert "identical" in run("replay", folder / "analysis.json", "--out", out / "again").stdout
    line = one_line(run("analyze", several, "--out", out, "--select", 3, status=1).stderr)
    assert "this is a diffraction pattern" in line
    line = one_line(run("analyze", several, "--out", out, "--select", "none", status=1).stderr)
    assert "there is no data set 'none'" in line


def test_pixel_size_by_hand_wins_and_is_recorded(several, out):
    run("analyze", several, "--out", out)
    folder = out / "several.ome"
    assert recorded(folder)["pixel_size_from"] == "file"
    # 12 px of 1 nm: no crystal has that, but who says so by hand is believed.
    run("analyze", several, "--out", out, "--pixel-size", 1)
    assert (recorded(folder)["pixel_size_nm"], recorded(folder)["pixel_size_from"]) == (1, "hand")
    assert "identical" in run("replay", folder / "analysis.json", "--out", out / "again").stdout
    assert (recorded(out / "again" / "several.ome")["pixel_size_from"]) == "hand"


@pytest.mark.parametrize("frames", [1, 2])
def test_pixel_size_that_fits_no_lattice_is_reported_and_not_used(tmp_path, out, frames):
    path = tmp_path / "crystal.tif"
    data = crystal((96, 96)) if frames == 1 else np.stack([crystal((96, 96))] * frames)
    tifffile.imwrite(path, data, imagej=True, resolution=(0.5, 0.5), metadata={"unit": "nm"})
    assert read(path).pixel_size_nm == 2
    text = run("analyze", path, "--out", out).stdout
    assert "A pixel of 2 nm makes the lattice period 24 nm, which no crystal shows" in text
    result = load(out / "crystal")
    assert result.pixel_size_nm is None
    assert all(row["area_nm2"] is None for row in result.regions)
    with tifffile.TiffFile(out / "crystal" / "labels.tif") as tif:
        assert "PhysicalSize" not in tif.ome_metadata
    assert "skipped" in run("analyze", path, "--out", out).stdout
    assert "identical" in run("replay", out / "crystal" / "analysis.json", "--out", tmp_path / "again").stdout
    assert load(tmp_path / "again" / "crystal").pixel_size_nm is None


# -- replay ---------------------------------------------------------------------------------------------------


def test_replay(image, out, tmp_path):
    run("analyze", image, "--out", out)
    record = out / "crystal" / "analysis.json"
    assert "the labels are identical" in run("replay", record, "--out", tmp_path / "again").stdout
    refused = run("replay", record, "--out", tmp_path / "again", status=1)
    assert "there is a result already" in one_line(refused.stderr)
    moved = image.rename(tmp_path / "moved.tif")
    run("replay", record, "--out", tmp_path / "again", "--overwrite", "--quiet", "--image", moved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels_sha256": ""}, "the labels are not those of the first run"),
        ({"recipe": {"version": 1, "segment": {"threshold": 8.0}}}, "layout version 1"),
        (None, "not the analysis.json of a result"),
    ],
)
def test_replay_that_differs_or_cannot_be(image, out, tmp_path, change, words):
    run("analyze", image, "--out", out)
    record = out / "crystal" / "analysis.json"
    record.write_text("II*" if change is None else json.dumps(json.loads(record.read_text()) | change))
    assert words in one_line(run("replay", record, "--out", tmp_path / "again", status=1).stderr)


# -- simulate and evaluate ------------------------------------------------------------------------------------


def test_simulate(out, tmp_path):
    text = run("simulate", "--out", out, "--count", 2, "--seed", 5, "--preset", "si_stacking_fault").stdout
    assert "intrinsic stacking fault" in text
    descriptions = json.loads((out / "simulation.json").read_text())
    assert list(descriptions) == ["si_stacking_fault-5", "si_stacking_fault-6"]
    for name, description in descriptions.items():
        micrograph = read(out / f"{name}.tif")
        assert micrograph.pixel_size_nm == pytest.approx(description["parameters"]["pixel_size_nm"])
        with Image.open(out / f"{name}_mask.png") as mask:
            assert mask.size == micrograph.shape[::-1]
            assert set(np.unique(np.asarray(mask))) <= {0, 1, 2, 255}
    same = ("--count", 2, "--seed", 5, "--preset", "si_stacking_fault", "--quiet")
    run("simulate", "--out", tmp_path / "again", *same)
    for path in out.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_simulate_classes_for_an_ensemble(out, monkeypatch):
    from napari_hrstem_defects.batch.labelled import read_patches
    from napari_hrstem_defects.simulation import class_patches

    monkeypatch.setattr(class_patches, "WHOLE_PX", 256)
    run("simulate", "--out", out, "--count", 2, "--seed", 5, "--preset", "sto-defects")
    classes = ("Bulk", "Interstitial", "Substitution", "Vacancy")
    patches = read_patches(out / "patches.csv")
    assert patches.classes == classes
    assert patches.pixels.shape == (8, 64, 64)
    assert set(patches.counts.values()) == {2}
    made = json.loads((out / "simulation.json").read_text())
    assert tuple(made["classes"]) == classes
    assert len(made["images"]) == 4
    # No patch is cut from a whole image.
    assert not set(made["images"]) & set(patches.source)
    for name, wanted in zip(made["images"], range(4), strict=True):
        micrograph = read(out / "images" / f"{name}.tif")
        with Image.open(out / "images" / f"{name}_classes.png") as mask:
            shown = np.asarray(mask)
        assert shown.shape == micrograph.shape == (256, 256)
        assert set(np.unique(shown)) == {0, wanted}


def test_simulate_unknown_preset(out):
    result = run("simulate", "--out", out, "--count", 1, "--seed", 0, "--preset", "nonsense", status=2)
    assert "There is no preset 'nonsense'" in one_line(result.stderr)
    assert not out.exists()


def labels(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.array(pixels, np.uint8)
    tifffile.imwrite(path, data) if path.suffix == ".tif" else Image.fromarray(data).save(path)


def test_evaluate(tmp_path):
    pred, truth, numbers = tmp_path / "pred", tmp_path / "truth", tmp_path / "scores.json"
    labels(pred / "a.tif", [[0, 0, 1, 1], [0, 1, 2, 0]])
    labels(truth / "a_mask.png", [[0, 0, 1, 1], [1, 0, 2, 255]])
    labels(pred / "b" / "labels.tif", [[0, 0, 0, 0]])
    tifffile.imwrite(pred / "b" / "severity.tif", np.array([[1, 2, 3, 4]], np.float32))
    labels(truth / "b.png", [[0, 0, 1, 0]])
    labels(pred / "c.tif", [[0]])
    text = run("evaluate", "--pred", pred, "--truth", truth, "--json", numbers)
    assert "c." in one_line(text.stderr)
    assert "mean of 2" in text.stdout
    scores = json.loads(numbers.read_text())
    # 11 pixels count: 5 crystal (1 false alarm), 5 symmetry (2 + 1 missed), 1 amorphous
    assert scores["confusion"] == {
        "classes": ["crystal", "symmetry", "amorphous"],
        "counts": [[5, 1, 0], [2, 2, 0], [0, 0, 1]],
    }
    assert scores["accuracy"] == pytest.approx(8 / 11)
    assert scores["precision"] == pytest.approx(3 / 4)
    assert scores["recall"] == pytest.approx(3 / 5)
    assert scores["specificity"] == pytest.approx(5 / 6)
    assert scores["balanced_accuracy"] == pytest.approx((5 / 6 + 2 / 4 + 1) / 3)
    a, b = scores["images"]["a"], scores["images"]["b"]
    assert a["dice"] == {"symmetry": pytest.approx(2 * 2 / 6), "amorphous": 1}
    assert a["auroc"] is None
    assert b["auroc"] == pytest.approx(2 / 3)
    assert b["dice"] == {"symmetry": 0, "amorphous": None}
    assert b["precision"] is None
    assert scores["mean"]["dice"]["symmetry"] == pytest.approx(1 / 3)
    assert scores["mean"]["auroc"] == pytest.approx(2 / 3)
    assert scores["image_recall"] == 0.5
    assert scores["image_specificity"] is None
    assert "patches" not in scores


def test_evaluate_results_of_analyze(tmp_path, out):
    run("simulate", "--out", tmp_path / "sim", "--count", 1, "--seed", 3, "--preset", "si_stacking_fault")
    run("analyze", tmp_path / "sim", "--out", out)
    numbers = tmp_path / "scores.json"
    text = run("evaluate", "--pred", out, "--truth", tmp_path / "sim", "--json", numbers)
    assert text.stderr == ""
    scores = json.loads(numbers.read_text())
    assert 0 <= scores["patches"]["accuracy"] <= 1
    assert scores["patches"]["confusion"]["classes"] == ["non-defective", "defective"]
    assert 0 <= scores["mean"]["auroc"] <= 1


def test_evaluate_what_does_not_fit(tmp_path):
    pred, truth = tmp_path / "pred", tmp_path / "truth"
    for stem in ("good", "shape", "values", "damaged"):
        labels(pred / f"{stem}.tif", [[0, 1]])
        labels(truth / f"{stem}.png", [[0, 1]])
    labels(pred / "shape.tif", [[0, 1, 1]])
    labels(truth / "values.png", [[0, 77]])
    (pred / "damaged.tif").write_text("text")
    result = run("evaluate", "--pred", pred, "--truth", truth, "--json", tmp_path / "scores.json", status=1)
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    for part in ("damaged.tif", "shape.tif", "values.png"):
        assert sum(part in line for line in lines) == 1
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["images"]) == {"good"}
    assert set(scores["failed"]) == {"shape", "values", "damaged"}


def test_evaluate_wrong_folders(tmp_path):
    labels(tmp_path / "pred" / "a.tif", [[0, 1]])
    labels(tmp_path / "truth" / "b.tif", [[0, 1]])
    (tmp_path / "empty").mkdir()
    for pred, words in (
        ("missing", "no such folder"),
        ("empty", "no label images"),
        ("pred", "has the stem"),
    ):
        result = run("evaluate", "--pred", tmp_path / pred, "--truth", tmp_path / "truth", status=2)
        assert words in one_line(result.stderr)


# -- view -----------------------------------------------------------------------------------------------------


def test_view_without_napari(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    monkeypatch.delitem(sys.modules, "napari_hrstem_defects.widgets.opening", raising=False)
    result = run("view", image, status=1)
    assert 'pip install "napari-hrstem-defects[qt]"' in one_line(result.stderr)


def test_view_of_bad_input(tmp_path, monkeypatch):
    pytest.importorskip("qtpy.QtWidgets")
    assert "no such file" in one_line(run("view", tmp_path / "missing.tif", status=1).stderr)
