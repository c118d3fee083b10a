"""Pictures, numpy files, the microscope makers' formats, and files that cannot be read."""

import builtins
import gc
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_hrstem_defects.core.errors import HrstemDefectsError, ReadError
from napari_hrstem_defects.io import SUFFIXES, read

GREY = np.random.default_rng(1).integers(0, 255, (48, 64), dtype=np.uint8)
STACK = np.random.default_rng(2).integers(0, 60000, (3, 48, 64), dtype=np.uint16)
DM3 = Path(__file__).parents[3] / "shared/data/formats/cdte_twin_haadf26.dm3"


def rgb(grey):
    return np.stack([grey] * 3, axis=-1)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp"])
def test_grey_pictures(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(GREY).save(path)
    np.testing.assert_array_equal(read(path).data, GREY)


def test_16_bit_png(tmp_path):
    Image.fromarray(STACK[0]).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read(tmp_path / "image.png").data, STACK[0])


def test_jpeg_warns_of_its_compression(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "image.jpg")
    assert "JPEG" in read(tmp_path / "image.jpg").notices[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_pictures_that_are_really_grey(tmp_path, mode):
    path = tmp_path / "image.png"
    picture = Image.fromarray(GREY)
    if mode == "P":  # palettes of screenshots: the grey values are not the indices
        picture = Image.fromarray(255 - GREY, mode=None).convert("P")
        picture.putpalette(np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes())
        picture.putdata((255 - GREY).ravel().tolist())
    else:
        picture = picture.convert(mode)
    picture.save(path)
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.data, GREY)
    assert micrograph.notices


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_colour_pictures_are_refused(tmp_path, mode):
    Image.fromarray(np.stack([GREY, GREY // 2, GREY // 3], axis=-1)).convert(mode).save(
        tmp_path / "image.png"
    )
    with pytest.raises(ReadError, match=r"image\.png: this is a colour picture"):
        read(tmp_path / "image.png")


def test_1_bit_pictures_are_refused(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "image.png")
    with pytest.raises(ReadError, match="1-bit"):
        read(tmp_path / "image.png")


def test_npy_series_stays_on_disk(tmp_path):
    np.save(tmp_path / "series.npy", STACK)
    micrograph = read(tmp_path / "series.npy")
    assert hasattr(micrograph.data, "dask")
    np.testing.assert_array_equal(np.asarray(micrograph.data[2]), STACK[2])


def test_npz_takes_the_first_image(tmp_path):
    np.savez(tmp_path / "image.npz", size=np.float64(3), image=GREY, other=GREY)
    micrograph = read(tmp_path / "image.npz")
    np.testing.assert_array_equal(micrograph.data, GREY)
    assert micrograph.notices == (
        "The file holds 3 data sets; number 2 (image) was used, another can be selected.",
    )


def test_pickles_are_not_loaded(tmp_path):
    np.save(tmp_path / "image.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError, match=r"image\.npy"):
        read(tmp_path / "image.npy")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros(100), "shape"),
        (np.zeros((48, 64), bool), "black-and-white"),
        (np.zeros((48, 64), complex), "complex"),
        (np.zeros((16, 16)), "16 × 16"),
    ],
)
def test_arrays_that_are_no_micrograph(tmp_path, data, words):
    np.save(tmp_path / "image.npy", data)
    with pytest.raises(ReadError, match=rf"image\.npy: .*{words}"):
        read(tmp_path / "image.npy")


@pytest.mark.skipif(not DM3.exists(), reason="the sample file is not here")
def test_dm3():
    micrograph = read(DM3)
    assert micrograph.shape == (512, 512)
    assert micrograph.pixel_size_nm == pytest.approx(0.0202168, rel=1e-5)


def velox_emd(path, images, unit="m", scale=2e-11):
    """Write images as Velox does: one group an image, (y, x, frames), JSON metadata as bytes."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([json.dumps({"format": "Velox", "version": "1.0"}).encode()])
        for number, data in enumerate(images):
            metadata = {
                "BinaryResult": {
                    "PixelSize": {"width": str(scale), "height": str(scale)},
                    "PixelUnitX": unit,
                    "PixelUnitY": unit,
                    "Offset": {"x": "0", "y": "0"},
                    "Detector": "HAADF",
                    "DetectorIndex": "0",
                },
                "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1500000000"}},
                "Detectors": {"Detector-0": {"DetectorName": "HAADF"}},
                "Instrument": {},
                "Optics": {},
                "Stage": {},
                "Core": {},
                "Scan": {"FrameTime": "1", "DwellTime": "1e-6"},
            }
            text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
            group = file.create_group(f"Data/Image/{number:032x}")
            frames = np.moveaxis(data.reshape(-1, *data.shape[-2:]), 0, -1)
            group.create_dataset("Data", data=frames, chunks=(*frames.shape[:2], 1))
            group["Metadata"] = np.repeat(text[:, None], group["Data"].shape[2], axis=1)


def test_velox_emd(tmp_path):
    pytest.importorskip("rsciio")
    velox_emd(tmp_path / "image.emd", [STACK[0]])
    micrograph = read(tmp_path / "image.emd")
    np.testing.assert_array_equal(micrograph.data, STACK[0])
    assert micrograph.pixel_size_nm == pytest.approx(0.02)


def test_velox_emd_of_several_images_and_a_series(tmp_path):
    pytest.importorskip("rsciio")
    velox_emd(tmp_path / "image.emd", [STACK, STACK[0]])
    micrograph = read(tmp_path / "image.emd")
    np.testing.assert_array_equal(np.asarray(micrograph.data), STACK)
    assert micrograph.notices[0].startswith("The file holds 2 data sets")


def test_mrc(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    pytest.importorskip("rsciio")
    for data in (STACK[0].astype(np.float32), STACK.astype(np.float32)):
        with mrcfile.new(tmp_path / "image.mrc", data, overwrite=True) as file:
            file.voxel_size = 0.2  # ångström
        micrograph = read(tmp_path / "image.mrc")
        np.testing.assert_array_equal(np.asarray(micrograph.data), data)
        assert micrograph.pixel_size_nm == pytest.approx(0.02, rel=1e-5)


def hspy(path, data, axes):
    api = pytest.importorskip("rsciio.hspy")
    described = [
        {
            "name": name,
            "size": size,
            "scale": scale,
            "offset": 0.0,
            "units": unit,
            "navigate": navigate,
            "_type": "UniformDataAxis",
        }
        for (name, scale, unit, navigate), size in zip(axes, data.shape, strict=True)
    ]
    signal = {
        "data": data,
        "axes": described,
        "metadata": {"General": {"title": "crystal"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "tmp_parameters": {},
        "package_info": {"package": "hyperspy", "package_version": "2.0"},
        "models": {},
    }
    api.file_writer(str(path), signal)


def test_hspy(tmp_path):
    hspy(tmp_path / "image.hspy", STACK[0], [("y", 20, "pm", False), ("x", 20, "pm", False)])
    micrograph = read(tmp_path / "image.hspy")
    np.testing.assert_array_equal(micrograph.data, STACK[0])
    assert micrograph.pixel_size_nm == pytest.approx(0.02)


def test_series_in_hspy(tmp_path):
    axes = [("t", 1, "s", True), ("y", 0.2, "Å", False), ("x", 0.2, "Å", False)]
    hspy(tmp_path / "image.hspy", STACK, axes)
    assert read(tmp_path / "image.hspy").shape == STACK.shape


def test_spectrum_images_are_refused(tmp_path):
    axes = [("y", 1, "nm", True), ("x", 1, "nm", True), ("Energy", 1, "eV", False)]
    hspy(tmp_path / "image.hspy", STACK, axes)
    with pytest.raises(ReadError, match="only a spectrum image"):
        read(tmp_path / "image.hspy")


def test_diffraction_patterns_are_refused(tmp_path):
    hspy(tmp_path / "image.hspy", STACK[0], [("y", 1, "1/nm", False), ("x", 1, "1/nm", False)])
    with pytest.raises(ReadError, match="this is a diffraction pattern"):
        read(tmp_path / "image.hspy")


def test_missing_extra_is_named(tmp_path, monkeypatch):
    def missing(name, *args):
        if name.startswith("rsciio"):
            raise ImportError(name)
        return original(name, *args)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", missing)
    (tmp_path / "image.dm4").write_bytes(b"x" * 100)
    with pytest.raises(ReadError, match=r'image\.dm4: .*pip install "napari-hrstem-defects\[formats\]"'):
        read(tmp_path / "image.dm4")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # readers of others leave damaged files open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("contents", [b"", b"This is a text.\n" * 50, b"\x00" * 1000])
def test_not_what_the_suffix_says(tmp_path, contents):
    for suffix in SUFFIXES:
        path = tmp_path / f"image{suffix}"
        path.write_bytes(contents)
        with pytest.raises(HrstemDefectsError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert message.endswith(".")
        assert "\n" not in message
        assert ("0 bytes" in message) == (not contents)
    del caught
    gc.collect()  # so that files left open are noticed here and not in another test


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.tif", "there is no such file"),
        ("folder", "this is a folder"),
        ("table.csv", "the format '.csv' is not known"),
        ("README", "no suffix"),
        ("table.csv/image.tif", "cannot be reached"),
    ],
)
def test_wrong_paths(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n")
    (tmp_path / "README").write_text("a,b\n")
    with pytest.raises(ReadError, match=words):
        read(tmp_path / name)


def test_rosettasciio_is_imported_only_when_needed(tmp_path, monkeypatch):
    np.save(tmp_path / "image.npy", GREY)

    def watched(name, *args, **kwargs):
        assert not name.startswith("rsciio")
        return original(name, *args, **kwargs)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", watched)
    read(tmp_path / "image.npy")
