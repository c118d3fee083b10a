import re

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_hrstem_defects.core.errors import HrstemDefectsError, ReadError
from napari_hrstem_defects.io import read

IMAGE = np.random.default_rng(1).integers(0, 60000, (48, 64), dtype=np.uint16)
STACK = np.random.default_rng(2).integers(0, 60000, (5, 48, 64), dtype=np.uint16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.tif"


def ome(path, data, axes="YX", **sizes):
    tifffile.imwrite(path, data, ome=True, metadata={"axes": axes, **sizes})


def test_plain_tiff(path):
    tifffile.imwrite(path, IMAGE)
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.data, IMAGE)
    assert micrograph.pixel_size_nm is None
    assert micrograph.name == "image.tif"
    assert micrograph.metadata["path"] == str(path)
    assert micrograph.notices == ()


def test_pixel_size_given_by_the_caller_wins(path):
    ome(path, IMAGE, PhysicalSizeX=0.02, PhysicalSizeXUnit="nm", PhysicalSizeY=0.02, PhysicalSizeYUnit="nm")
    assert read(path, pixel_size_nm=0.5).pixel_size_nm == 0.5


@pytest.mark.parametrize(
    ("value", "unit"), [(0.02, "nm"), (0.2, "Å"), (20, "pm"), (2e-5, "µm"), (2e-5, None)]
)
def test_ome_physical_size(path, value, unit):
    sizes = {f"PhysicalSize{axis}": value for axis in "XY"}
    if unit:
        sizes |= {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    ome(path, IMAGE, **sizes)
    assert read(path).pixel_size_nm == pytest.approx(0.02, rel=1e-6)


def test_ome_in_pixels_is_unknown(path):
    ome(path, IMAGE, PhysicalSizeX=1, PhysicalSizeXUnit="pixel", PhysicalSizeY=1, PhysicalSizeYUnit="pixel")
    assert read(path).pixel_size_nm is None


@pytest.mark.parametrize(
    ("per_unit", "unit"), [(50, "nm"), (5, "A"), (50_000, "micron"), (50_000, "\\u00B5m"), (0.05, "pm")]
)
def test_imagej_unit_and_resolution(path, per_unit, unit):
    tifffile.imwrite(path, IMAGE, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    assert read(path).pixel_size_nm == pytest.approx(0.02, rel=1e-6)


def test_imagej_inch_is_a_printing_resolution(path):
    tifffile.imwrite(path, IMAGE, imagej=True, resolution=(72, 72), metadata={"unit": "inch"})
    assert read(path).pixel_size_nm is None


@pytest.mark.parametrize(("per_unit", "unit"), [(5e8, "CENTIMETER"), (1.27e9, "INCH")])
def test_resolution_tags_of_a_microscope(path, per_unit, unit):
    tifffile.imwrite(path, IMAGE, resolution=(per_unit, per_unit), resolutionunit=unit)
    micrograph = read(path)
    assert micrograph.pixel_size_nm == pytest.approx(0.02, rel=1e-6)
    assert micrograph.notices == ()


@pytest.mark.parametrize("dpi", [72, 96, 300])
def test_resolution_tags_of_a_printer(path, dpi):
    tifffile.imwrite(path, IMAGE, resolution=(dpi, dpi), resolutionunit="INCH")
    micrograph = read(path)
    assert micrograph.pixel_size_nm is None
    assert micrograph.notices == ()


def test_anisotropic_pixels_are_mentioned(path):
    tifffile.imwrite(path, IMAGE, imagej=True, resolution=(25, 100), metadata={"unit": "nm"})
    micrograph = read(path)
    assert micrograph.pixel_size_nm == pytest.approx(0.02)
    assert "not square (0.01 × 0.04 nm, y × x)" in micrograph.notices[0]


def test_fei_tags(path):
    text = "[User]\r\nDate=1\r\n[Scan]\r\nPixelWidth=2e-11\r\nPixelHeight=2e-11\r\n"
    tifffile.imwrite(path, IMAGE, extratags=[(34682, 2, len(text) + 1, text, True)])
    assert read(path).pixel_size_nm == pytest.approx(0.02)


def test_zeiss_tags(path):
    lines = "\r\n".join(["0"] * 34 + ["AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 20.0 pm"]) + "\r\n"
    tifffile.imwrite(path, IMAGE, extratags=[(34118, 2, len(lines) + 1, lines, True)])
    assert read(path).pixel_size_nm == pytest.approx(0.02)


def test_gatan_tags(path):
    tags = [
        (65003, 2, 3, "nm", True),
        (65004, 2, 3, "nm", True),
        (65009, 12, 1, 0.02, True),
        (65010, 12, 1, 0.02, True),
    ]
    tifffile.imwrite(path, IMAGE, extratags=tags)
    assert read(path).pixel_size_nm == pytest.approx(0.02)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["plain", "imagej", "ome", "bigtiff"])
def test_series_stay_on_disk(path, kind, compression, monkeypatch):
    if kind == "imagej" and compression:
        pytest.skip("ImageJ's compressed series are written page by page, as plain ones")
    options = {"plain": {}, "imagej": {"imagej": True}, "ome": {"ome": True}, "bigtiff": {"bigtiff": True}}[
        kind
    ]
    axes = {} if kind in ("plain", "bigtiff") else {"metadata": {"axes": "TYX"}}
    tifffile.imwrite(path, STACK, photometric="minisblack", compression=compression, **options, **axes)
    loaded = []
    import napari_hrstem_defects.io.tiff as module

    one_frame = module._frame
    monkeypatch.setattr(
        module, "_frame", lambda path, index, t: loaded.append(t) or one_frame(path, index, t)
    )
    micrograph = read(path)
    assert micrograph.shape == STACK.shape
    assert loaded == []
    np.testing.assert_array_equal(np.asarray(micrograph.data[3]), STACK[3])
    assert loaded == [3]
    np.testing.assert_array_equal(np.asarray(micrograph.data), STACK)


def test_series_of_big_endian_pixels(path):
    tifffile.imwrite(path, STACK.astype(">u2"), byteorder=">", photometric="minisblack")
    micrograph = read(path)
    assert micrograph.data.dtype == np.dtype("u2")
    np.testing.assert_array_equal(np.asarray(micrograph.data), STACK)


def test_first_of_several_images(path):
    with tifffile.TiffWriter(path) as tif:
        tif.write(np.zeros((8, 8), np.uint8))
        tif.write(IMAGE)
        tif.write(IMAGE[::2])
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.data, IMAGE)
    assert micrograph.notices == ("The file holds 3 data sets; number 2 was used, another can be selected.",)


def test_first_of_several_channels(path):
    ome(path, STACK[:2], axes="CYX")
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.data, STACK[0])
    assert "number 1 (channel 1) was used" in micrograph.notices[0]
    np.testing.assert_array_equal(read(path, select=2).data, STACK[1])
    np.testing.assert_array_equal(read(path, select="channel 2").data, STACK[1])


def test_grey_rgb(path):
    for planar in ("contig", "separate"):
        data = np.stack([IMAGE] * 3, axis=-1 if planar == "contig" else 0)
        tifffile.imwrite(path, data, photometric="rgb", planarconfig=planar)
        micrograph = read(path)
        np.testing.assert_array_equal(micrograph.data, IMAGE)
        assert "channels" in micrograph.notices[0]


def test_grey_palette(path):
    ramp = np.arange(256, dtype=np.uint16) * 257
    image = (IMAGE % 256).astype(np.uint8)
    tifffile.imwrite(path, image, photometric="palette", colormap=np.stack([ramp[::-1]] * 3))
    np.testing.assert_array_equal(read(path).data, ramp[::-1][image])


def test_colour_is_refused(path):
    tifffile.imwrite(path, np.stack([IMAGE, IMAGE // 2, IMAGE // 3], axis=-1), photometric="rgb")
    with pytest.raises(ReadError, match=r"image\.tif: this is a colour picture"):
        read(path)


def test_one_bit_is_refused(path):
    tifffile.imwrite(path, IMAGE > 100)
    with pytest.raises(ReadError, match="1-bit"):
        read(path)


def test_four_dimensions_are_refused(path):
    tifffile.imwrite(path, np.zeros((2, 3, 40, 40), np.uint8), ome=True, metadata={"axes": "TZYX"})
    with pytest.raises(ReadError, match="4-dimensional"):
        read(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("data", [IMAGE, STACK], ids=["image", "stack"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated(path, data, compression, kept):
    tifffile.imwrite(path, data, compression=compression, photometric="minisblack")
    contents = path.read_bytes()
    path.write_bytes(contents[: int(kept * len(contents))])
    with pytest.raises(ReadError) as caught:
        np.asarray(read(path).data)
    assert str(path) in str(caught.value)
    assert re.search(r"(copy it again|export or copy it again)", str(caught.value))


@given(st.binary(min_size=1, max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_any_bytes_give_a_sentence(tmp_path, junk):
    path = tmp_path / "junk.tif"
    for header in (b"", b"II*\x00", b"MM\x00*"):
        path.write_bytes(header + junk)
        with pytest.raises(HrstemDefectsError, match=r"junk\.tif"):
            read(path)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.uint32, np.int32, np.float32, np.float64]),
        st.tuples(st.integers(32, 40), st.integers(32, 40)),
        elements={"allow_nan": False, "allow_infinity": False},
        fill=st.just(1),
    ),
    st.sampled_from([".tif", ".npy", ".npz"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_pixels_come_back(tmp_path, data, suffix):
    path = tmp_path / f"image{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, data)
    elif suffix == ".npy":
        np.save(path, data)
    else:
        np.savez(path, data)
    micrograph = read(path)
    assert micrograph.data.dtype == data.dtype
    np.testing.assert_array_equal(micrograph.data, data)
