import json
import os
import stat
import struct
import sys

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_hrstem_defects import Micrograph, Recipe, analyze
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.domains import Domain, DomainMap
from napari_hrstem_defects.errors import ReadError, WriteError
from napari_hrstem_defects.io import ResultWriter, load, read, save
from napari_hrstem_defects.io.loading import load_info

pytestmark = pytest.mark.usefixtures("quick_figures")

IMAGES = {"labels.tif", "severity.tif", "variance.tif"}
FILES = IMAGES | {"patches.csv", "regions.csv", "overview.png", "analysis.json"}


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_files(tmp_path, make_analysis):
    (tmp_path / "deep" / "out").mkdir(parents=True)  # it may be there, empty
    assert save(make_analysis(), tmp_path / "deep" / "out") == tmp_path / "deep" / "out"
    assert names(tmp_path / "deep" / "out") == FILES
    assert names(tmp_path / "deep") == {"out"}


def test_round_trip(tmp_path, make_analysis):
    recipe = Recipe().replace({"segment.false_marks": 0.2})
    analysis = make_analysis(recipe=recipe)
    save(analysis, tmp_path / "out")
    result = load(tmp_path / "out")
    assert result.domains is None
    for name in ("labels", "severity", "variance"):
        expected = getattr(analysis, name)
        assert getattr(result, name).dtype == expected.dtype
        np.testing.assert_array_equal(getattr(result, name), expected)
    assert result.recipe == recipe
    assert result.threshold == analysis.threshold
    assert result.pixel_size_nm == 0.02
    assert result.best_patches == (analysis.best_patch,)
    assert result.info["warnings"] == list(analysis.warnings)
    assert result.info["timings"] == dict(analysis.timings)
    assert result.info["input"]["sha256"] == analysis.micrograph.sha256
    assert result.info["input"]["dtype"] == "uint16"
    assert result.info["classifier"] == {"name": "screening", "sha256": None}
    assert result.info["software"]["numpy"] == np.__version__
    # 24 of 96 rows down to a third; a quarter by a quarter
    assert result.info["fractions"]["symmetry_defect"] == pytest.approx(8 / 96)
    assert result.info["fractions"]["amorphous"] == pytest.approx(1 / 16)
    assert len(result.patches) == 12
    assert result.patches[0] == {"y": 15.5, "x": 15.5, "score": 0, "label": "non-defective"}
    assert result.patches[-1] == {"y": 79.5, "x": 111.5, "score": 6, "label": "defective"}
    first = result.regions[0]
    assert (first["id"], first["label"], first["kind"]) == (1, 1, "symmetry")
    assert (first["y0"], first["x0"], first["y1"], first["x1"]) == (24, 0, 32, 128)
    assert first["area_px"] == 8 * 128
    assert first["area_nm2"] == pytest.approx(8 * 128 * 0.02**2)
    assert first["to_lattice_deg"] is None


def test_images_are_ome_with_the_pixel_size(tmp_path, make_analysis):
    save(make_analysis(), tmp_path / "out")
    for name in ("labels", "severity", "variance"):
        with tifffile.TiffFile(tmp_path / "out" / f"{name}.tif") as tif:
            assert tif.is_ome
            assert tif.series[0].axes == "YX"
            assert 'PhysicalSizeX="0.02"' in tif.ome_metadata
            assert 'PhysicalSizeXUnit="nm"' in tif.ome_metadata
    assert read(tmp_path / "out" / "severity.tif").pixel_size_nm == 0.02


def test_without_pixel_size_and_lattice(tmp_path, make_micrograph, make_analysis, change):
    analysis = make_analysis(make_micrograph(pixel_size_nm=None))
    analysis = change(analysis, best_patch=None, lattice=None, regions=())
    save(analysis, tmp_path / "out")
    result = load(tmp_path / "out")
    assert result.pixel_size_nm is None
    assert result.best_patches == (None,)
    assert result.regions == ()
    with tifffile.TiffFile(tmp_path / "out" / "labels.tif") as tif:
        assert "PhysicalSize" not in tif.ome_metadata


def test_several_lattices(tmp_path, make_analysis, change):
    size, pieces = BestPatch(40.0, 50.0, 32), np.zeros((48, 64), np.uint8)
    pieces[:, 32:] = 1
    domains = tuple(
        Domain(size, None, relation, crystal, np.zeros(3), distance, angle)
        for relation, crystal, distance, angle in (
            ("reference", True, 0.0, None),
            ("rotated", False, 0.8, 12.5),
        )
    )
    analysis = change(make_analysis(), domains=DomainMap(domains, pieces))
    save(analysis, tmp_path / "out")
    assert names(tmp_path / "out") == FILES | {"domains.tif", "walls.tif", "domains.csv"}
    result = load(tmp_path / "out")
    assert result.domains.dtype == np.uint8
    np.testing.assert_array_equal(result.domains, np.repeat([[0] * 64 + [1] * 64], 96, axis=0))
    first, second = result.domain_table
    keys = ("domain", "relation", "crystal", "distance", "misorientation_deg")
    assert [first[key] for key in keys] == [0, "reference", "yes", None, None]
    assert [second[key] for key in keys] == [1, "rotated", "no", 0.8, 12.5]
    assert (second["fraction"], second["period_px"], second["patch_y_px"]) == (0.5, None, 40)
    save([make_analysis(), analysis], tmp_path / "series")
    result = load(tmp_path / "series")
    assert [frame.any() for frame in result.domains] == [False, True]
    assert [row["frame"] for row in result.domain_table] == [1, 1]


def test_who_placed_the_best_patch(tmp_path, make_analysis):
    best = BestPatch(30.5, 40.25, 48, "hand")
    for number, placed in enumerate((None, (40, 50), best)):
        analysis = make_analysis(best_patch=placed)
        save(analysis, tmp_path / str(number))
        found = load(tmp_path / str(number))
        assert found.best_patches == (analysis.best_patch,)
        wanted = [None, [40, 50], [30.5, 40.25]][number]
        assert found.info["best_patch_by_hand"] == wanted
        assert found.info["best_patch"]["placed"] == ("automatic" if wanted is None else "hand")


def test_series(tmp_path, make_micrograph, make_analysis):
    frames = np.stack([make_micrograph(seed=seed).data for seed in range(3)])
    series = Micrograph(frames, 0.02, "series.tif")
    analyses = [make_analysis(frame) for frame in series]
    save(analyses, tmp_path / "out")
    result = load(tmp_path / "out")
    assert result.labels.shape == result.severity.shape == result.variance.shape == (3, 96, 128)
    np.testing.assert_array_equal(result.severity[2], analyses[2].severity)
    with tifffile.TiffFile(tmp_path / "out" / "severity.tif") as tif:
        assert tif.series[0].axes == "TYX"
    assert [row["frame"] for row in result.patches] == [0] * 12 + [1] * 12 + [2] * 12
    assert [row["frame"] for row in result.regions] == [0, 0, 1, 1, 2, 2]
    assert result.info["name"] == "series.tif"
    assert result.info["input"]["sha256"] == series.sha256
    assert result.info["input"]["shape"] == [3, 96, 128]
    assert result.info["regions"] == 6
    assert result.info["warnings"] == ["The best patch is doubtful. (3 of 3 frames)"]
    assert result.info["timings"]["symmetry"] == pytest.approx(0.75)
    assert len(result.frames) == len(result.best_patches) == 3


@pytest.mark.parametrize(("frames", "size", "step"), [(None, 0.02, None), (3, 0.02, 0.5), (3, None, None)])
def test_ome_zarr(tmp_path, make_micrograph, make_analysis, frames, size, step):
    """Laid out as in OME-NGFF 0.5, and read back as any Zarr is."""
    analyses = [make_analysis(make_micrograph(seed=seed, pixel_size_nm=size)) for seed in range(frames or 1)]
    options = {"frames": frames, "frame_time_s": step, "image_format": "ome-zarr"}
    with ResultWriter(tmp_path / "out", **options) as writer:
        for analysis in analyses:
            writer.add(analysis)
    images = {name.replace(".tif", ".ome.zarr") for name in IMAGES}
    tables = {"histories.csv", "histories.png"} if frames else set()
    assert names(tmp_path / "out") == FILES - IMAGES | images | tables
    result = load(tmp_path / "out")
    assert result.info["image_format"] == "ome-zarr"
    for name in ("labels", "severity", "variance"):
        expected = np.stack([getattr(analysis, name) for analysis in analyses])
        expected = expected if frames else expected[0]
        path = tmp_path / "out" / f"{name}.ome.zarr"
        again = read(path)
        assert again.pixel_size_nm == size
        for found in (getattr(result, name), np.asarray(again.data)):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
        (image,) = ome["multiscales"]
        (level,) = image["datasets"]
        (transform,) = level["coordinateTransformations"]
        assert (ome["version"], image["name"], transform["type"]) == ("0.5", name, "scale")
        lengths = {"type": "space"} if size is None else {"type": "space", "unit": "nanometer"}
        times = {"type": "time"} if step is None else {"type": "time", "unit": "second"}
        axes = [{"name": "y", **lengths}, {"name": "x", **lengths}]
        assert image["axes"] == ([{"name": "t", **times}] if frames else []) + axes
        assert transform["scale"] == ([step or 1.0] if frames else []) + [size or 1.0] * 2
        stored = json.loads((path / level["path"] / "zarr.json").read_text())
        assert (stored["zarr_format"], stored["shape"]) == (3, list(expected.shape))
        assert stored["dimension_names"] == [axis["name"] for axis in image["axes"]]


def test_ome_zarr_without_its_library_and_other_formats(tmp_path, make_analysis, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(WriteError, match=r"needs zarr; install it with pip install .*\[formats\]"):
        save(make_analysis(), tmp_path / "out", image_format="ome-zarr")
    with pytest.raises(WriteError, match="'nrrd' is not known; name one of ome-tiff, ome-zarr"):
        save(make_analysis(), tmp_path / "out", image_format="nrrd")
    assert names(tmp_path) == set()


def test_no_frames(tmp_path):
    with pytest.raises(WriteError, match="no frames"):
        save([], tmp_path / "out")


def test_files_are_reproducible(tmp_path, make_analysis):
    for name in ("a", "b"):
        save(make_analysis(), tmp_path / name)
    for name in FILES - {"analysis.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    a, b = (load_info(tmp_path / name / "analysis.json") for name in ("a", "b"))
    assert {**a, "created": ""} == {**b, "created": ""}


def test_existing_results_are_kept_unless_told(tmp_path, make_micrograph, make_analysis):
    save(make_analysis(), tmp_path / "out")
    with pytest.raises(WriteError, match="there is a result already"):
        save(make_analysis(), tmp_path / "out")
    save(make_analysis(make_micrograph((64, 64))), tmp_path / "out", overwrite=True)
    assert load(tmp_path / "out").labels.shape == (64, 64)
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_peoples_files_are_never_replaced(tmp_path, make_analysis, overwrite):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(WriteError, match="other files"):
        save(make_analysis(), tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"
    with pytest.raises(WriteError, match="in the way"):
        save(make_analysis(), tmp_path / "out" / "thesis.txt", overwrite=overwrite)


def test_below_a_file(tmp_path, make_analysis):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        save(make_analysis(), tmp_path / "file" / "out")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs access rights that count")
def test_unwritable_folder(tmp_path, make_analysis):
    tmp_path.chmod(0o500)
    with pytest.raises(WriteError, match="cannot be written"):
        save(make_analysis(), tmp_path / "out")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("bug"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("where", ["saving.Table", "folders.move_into_place"])
@pytest.mark.parametrize("existing", [False, True])
def test_failures_leave_nothing_behind(
    tmp_path, make_micrograph, make_analysis, monkeypatch, error, where, existing
):
    if existing:
        save(make_analysis(make_micrograph((64, 64))), tmp_path / "out")

    def fail(*args):
        raise error

    monkeypatch.setattr(f"napari_hrstem_defects.io.{where}", fail)
    expected = WriteError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        save(make_analysis(), tmp_path / "out", overwrite=True)
    assert names(tmp_path) == ({"out"} if existing else set())
    if existing:
        assert load(tmp_path / "out").labels.shape == (64, 64)


def test_failing_exchange_keeps_the_old_result(tmp_path, make_micrograph, make_analysis, monkeypatch):
    save(make_analysis(make_micrograph((64, 64))), tmp_path / "out")
    replace = os.replace

    def fail_once(source, target):
        if str(source).endswith(".partial"):
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(WriteError):
        save(make_analysis(), tmp_path / "out", overwrite=True)
    assert names(tmp_path) == {"out"}
    assert load(tmp_path / "out").labels.shape == (64, 64)


def test_writer_left_by_an_error(tmp_path, make_analysis):
    def interrupted():
        with ResultWriter(tmp_path / "out", frames=2) as writer:
            writer.add(make_analysis())
            assert {path.suffix for path in tmp_path.iterdir()} == {".partial"}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == set()


def test_missing_frames_are_noticed(tmp_path, make_analysis):
    def too_few():
        with ResultWriter(tmp_path / "out", frames=2) as writer:
            writer.add(make_analysis())

    with pytest.raises(ValueError, match="1 frames were added, expected 2"):
        too_few()
    assert names(tmp_path) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX access rights")
def test_others_may_read_as_the_umask_says(tmp_path, make_analysis):
    old = os.umask(0o027)
    try:
        save(make_analysis(), tmp_path / "out")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


@given(
    st.tuples(st.integers(32, 70), st.integers(32, 70)),
    # A pixel of exactly 1 nm reads as a file without a calibration.
    st.one_of(st.none(), st.floats(1e-3, 0.99), st.just(1 / 512)),
    st.sampled_from(["u1", "u2", "i4", "f4", "f8"]),
    st.integers(0, 2),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_any_shape_comes_back(tmp_path_factory, make_micrograph, make_analysis, shape, size, dtype, frames):
    out = tmp_path_factory.mktemp("any") / "out"
    data = (make_micrograph(shape).data / 257).astype(dtype)
    analysis = make_analysis(Micrograph(data, size))
    save([analysis] * frames if frames else analysis, out)
    result = load(out)
    assert result.labels.shape == ((frames, *shape) if frames else shape)
    assert result.pixel_size_nm == size
    np.testing.assert_array_equal(result.severity.reshape(-1, *shape)[-1], analysis.severity)
    if size is not None:
        assert read(out / "severity.tif").pixel_size_nm == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "not the analysis.json"),
        ("[]", "not the analysis.json"),
        ('{"a": 1}', "not the analysis"),
    ],
)
def test_what_is_no_analysis_json(tmp_path, text, words):
    path = tmp_path / "analysis.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReadError, match=words):
        load_info(path)


@pytest.mark.parametrize(
    "entry", [{"best_patch_from": 3}, {"image_format": "nrrd"}, {"tile_px": "large"}, {"frame_time_s": [1]}]
)
def test_damaged_records(tmp_path, make_analysis, entry):
    save(make_analysis(), tmp_path / "out")
    path = tmp_path / "out" / "analysis.json"
    path.write_text(json.dumps({**load_info(path), **entry}))
    with pytest.raises(ReadError, match="record of the result is damaged"):
        load_info(path)


def test_results_of_other_layouts(tmp_path, make_analysis):
    save(make_analysis(), tmp_path / "out")
    path = tmp_path / "out" / "analysis.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layout": 99}))
    with pytest.raises(ReadError, match="layout version 99"):
        load(tmp_path / "out")


@pytest.mark.parametrize("name", sorted(FILES - {"analysis.json", "overview.png"}))
def test_incomplete_results(tmp_path, make_analysis, name):
    save(make_analysis(), tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    with pytest.raises(ReadError, match="incomplete"):
        load(tmp_path / "out")


@pytest.mark.parametrize(("tag", "value"), [(257, 2**31), (278, 0)], ids=["ImageLength", "RowsPerStrip"])
def test_damaged_maps(tmp_path, make_analysis, tag, value):
    """Memory is not taken for what a damaged file declares."""
    save(make_analysis(), tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "severity.tif", mode="r+") as tif:
        found = tif.pages.first.tags[tag]
        tif.filehandle.seek(found.offset + 8)
        tif.filehandle.write(struct.pack("<H" if found.dtype == 3 else "<I", value))
    with pytest.raises(ReadError, match="incomplete or damaged"):
        load(tmp_path / "out")


def test_boundary_map_where_it_is_asked_for(tmp_path):
    y, x = np.indices((160, 200))
    left, right = (
        np.cos(np.pi * x / 6) + np.cos(np.pi * y / 6),
        np.cos(np.pi * (x + y) / 8) + np.cos(np.pi * (x - y) / 8),
    )
    image = np.where(x < 100, left, right) + 0.1 * np.random.default_rng(1).standard_normal(x.shape)
    recipe = Recipe().replace({"domains.boundary_map": True})
    save(analyze(Micrograph(image.astype(np.float32)), recipe), tmp_path / "out")
    found = tifffile.imread(tmp_path / "out" / "boundaries.tif")
    assert (found.dtype, found.shape) == (np.float32, image.shape)
    assert abs(found[40:-40].mean(axis=0).argmax() - 100) < 8
