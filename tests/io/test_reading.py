"""Files as microscopes and programs write them: what is taken of them, its pixel size, what is refused and why."""

import builtins
import gc
import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_hrstem_defects.errors import HrstemDefectsError, ReadError
from napari_hrstem_defects.io import SUFFIXES, data_sets, read

from . import writers
from .writers import GREY, IMAGE, RNG, STACK, TESCAN

SHARED = Path(__file__).parents[3] / "shared/data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the sample files are not here")
FOLDED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.tif"


def check(path, data, size=0.02, **options):
    micrograph = read(path, **options)
    np.testing.assert_array_equal(np.asarray(micrograph.data), data)
    assert micrograph.pixel_size_nm == (None if size is None else pytest.approx(size, rel=1e-5))
    return micrograph


def refused(path, words, **options):
    with pytest.raises(ReadError) as caught:
        np.asarray(read(path, **options).data)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert words in message
    assert "damaged" not in message


# -- images and their pixel sizes -----------------------------------------------------------------------------


def test_plain_tiff(path):
    tifffile.imwrite(path, IMAGE)
    micrograph = check(path, IMAGE, None)
    assert (micrograph.name, micrograph.metadata["path"]) == ("image.tif", str(path))
    assert micrograph.notices == ()
    check(path, IMAGE, 0.5, pixel_size_nm=0.5)


ZEISS = "\r\n".join(["0"] * 34 + ["AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 20.0 pm"]) + "\r\n"
FEI = "[User]\r\nDate=1\r\n[Scan]\r\nPixelWidth=2e-11\r\nPixelHeight=2e-11\r\n"
MRC = ("mrc", "mrcs", "st", "rec", "map", "MRC")
#: Suffix, writer and what it is given besides the path. All are of 0.02 nm to a pixel.
SIZED = [
    ("tif", writers.ome, (IMAGE, 0.02, "nm")),
    ("tif", writers.ome, (IMAGE, 2e-5, "")),
    ("tif", writers.imagej, 50, "nm"),
    ("tif", writers.imagej, 5e4, "\\u00B5m"),
    ("tif", writers.resolution, 5e8, "CENTIMETER"),
    ("tif", writers.resolution, 1.27e9, "INCH"),
    ("tif", writers.tagged, (34682, FEI)),
    *(("tif", writers.fei_xml_tiff, "m", 2e-11, tag) for tag in (34680, 34682, 34683, 270)),
    ("tif", writers.tagged, (34118, ZEISS)),
    ("tif", writers.gatan_tiff, "nm"),
    *(("tif", writers.tagged, (tag, b"\x00\x01" + TESCAN.encode())) for tag in (50431, 65027)),
    ("tif", writers.tagged, (270, TESCAN)),
    ("tif", writers.jeol_tiff),
    *((suffix, writers.mrc, IMAGE, 6, None, (12.8, 9.6, 0)) for suffix in MRC),
    ("mrc", writers.fei_mrc),
    ("emd", writers.velox_emd, IMAGE),
    ("emd", writers.ncem_emd, IMAGE),
    ("emd", writers.ncem_emd, IMAGE.T, ("x", "y"), ("n_m", "n_m")),
    ("hspy", writers.hspy, IMAGE, [("y", 20, "pm", False), ("x", 20, "pm", False)]),
    ("hspy", writers.old_hspy, IMAGE, 0.2, "Å"),
    ("ndata", writers.ndata, IMAGE),
    ("ndata", writers.ndata, IMAGE, "nm", 0.02, "dimensional_calibrations"),
    ("zarr", writers.ome_zarr, IMAGE),
    ("zspy", writers.zspy, IMAGE),
]
UNSIZED = [
    ("tif", writers.ome, (IMAGE, 1, "pixel")),
    ("tif", writers.ome, (IMAGE, 0.3, "reference frame")),
    ("tif", writers.imagej, 1, "nm"),
    ("emd", writers.velox_emd, IMAGE, ("", "2e-11")),
    ("emd", writers.ncem_emd, IMAGE, ("y", "x"), ("pixels", "pixels")),
    ("hspy", writers.old_hspy, IMAGE, 1.0, "Å"),
    ("tif", writers.imagej, 72, "inch"),
    ("tif", writers.resolution, 72, "INCH"),
    ("hspy", writers.old_hspy, IMAGE, 0.02),
    ("ndata", writers.ndata, IMAGE, "s"),
    ("zarr", writers.zarr, IMAGE),
    ("mrc", writers.mrc, IMAGE, 6, (0, 0, 1), (0, 0, 0)),
    ("mrc", writers.mrc, IMAGE, 6, (0, 0, 0), (12.8, 9.6, 1)),
    ("mrc", writers.mrc, IMAGE, 6, (64, 48, 1), (0, 0, 0)),
    ("mrc", writers.mrc, IMAGE, 6, (64, 48, 1), (-12.8, -9.6, 1)),
    ("mrc", writers.mrc, IMAGE, 6, (64, 48, 1), (1, 1, 1)),
    ("mrc", writers.mrc, IMAGE, 6, (64, 48, 1), (64, 48, 1)),
    ("mrc", writers.mrc, IMAGE, 6, (64, 48, 1), (float("nan"), 9.6, 1)),
    ("mrc", writers.mrc, IMAGE, 6, (-64, -48, 1), (12.8, 9.6, 1)),
    ("mrc", writers.mrc, IMAGE, 6, (1, 1, 1), (64, 48, 1)),
]


def write(folder, case):
    suffix, writer, *given = case
    writer(folder / f"image.{suffix}", *given)
    return folder / f"image.{suffix}"


def name_of(case):
    return f"{case[0]}-{case[1].__name__}" if isinstance(case, tuple) else None


@pytest.mark.parametrize("case", SIZED, ids=name_of)
def test_image_with_its_pixel_size(tmp_path, case):
    assert check(write(tmp_path, case), IMAGE).notices == ()


@pytest.mark.parametrize("case", UNSIZED, ids=name_of)
def test_image_without_a_pixel_size(tmp_path, case):
    check(write(tmp_path, case), IMAGE, None)


def test_the_placeholder_of_ome(path):
    writers.ome(path, (IMAGE, 1.0, "µm"))
    assert "a pixel of 1 um, as files without a calibration do" in check(path, IMAGE, None).notices[0]
    writers.ome(path, (IMAGE, 1.2, "µm"))
    assert "a pixel of 1.2e+03 nm, which cannot show a lattice" in check(path, IMAGE, None).notices[0]
    writers.ome(path, (IMAGE, 1.0, "µm"))
    assert check(path, IMAGE, 0.02, pixel_size_nm=0.02).notices == ()


def test_a_pixel_size_without_a_unit_is_said(tmp_path):
    (notice,) = check(write(tmp_path, ("hspy", writers.old_hspy, IMAGE, 0.00933)), IMAGE, None).notices
    assert notice.startswith("The file states a pixel of 0.00933 without a unit")
    assert check(write(tmp_path, ("hspy", writers.old_hspy, IMAGE, 1.0)), IMAGE, None).notices == ()


def test_oblong_pixels_and_swapped_axes(tmp_path):
    path = tmp_path / "image.mrc"
    writers.mrc(path, IMAGE, 6, (48, 64, 1), (9.6, 25.6, 1), axes=(2, 1, 3))
    micrograph = check(path, IMAGE, np.sqrt(0.02 * 0.04))
    assert "not square (0.02 × 0.04 nm, y × x)" in micrograph.notices[0]


def test_text_of_hitachi_beside_the_image(tmp_path):
    (tmp_path / "image.txt").write_text("[SemImageFile]\nDataSize=120x100\nPixelSize=0.02\n")
    for suffix in (".tif", ".bmp", ".jpg", ".png"):
        Image.fromarray(GREY).save(tmp_path / f"image{suffix}")
        assert read(tmp_path / f"image{suffix}").pixel_size_nm == pytest.approx(0.02)


@FOLDED
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.uint32, np.int32, np.float32, np.float64]),
        st.tuples(st.integers(32, 40), st.integers(32, 40)),
        elements={"allow_nan": False, "allow_infinity": False},
        fill=st.just(1),
    ),
    st.sampled_from([".tif", ".npy", ".npz"]),
)
def test_pixels_come_back(tmp_path, data, suffix):
    write = {".tif": tifffile.imwrite, ".npy": np.save, ".npz": np.savez}[suffix]
    write(tmp_path / f"image{suffix}", data)
    assert check(tmp_path / f"image{suffix}", data, None).data.dtype == data.dtype


@pytest.mark.parametrize("stamp", [True, False])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_mrc_types(tmp_path, order, mode, dtype, stamp):
    data = (STACK >> 9).astype(dtype)
    writers.mrc(tmp_path / "image.mrc", data, mode, cell=(12.8, 9.6, 0), order=order, stamp=stamp)
    check(tmp_path / "image.mrc", data)


@pytest.mark.parametrize("as_dask", [True, False])
def test_mrc_stack_of_grey_colours(tmp_path, as_dask):
    data = np.arange(3 * 48 * 64, dtype=np.uint8).reshape(3, 48, 64)
    path = tmp_path / "stack.mrc"
    writers.mrc(path, data, 16)
    path.write_bytes(path.read_bytes()[:1024] + np.repeat(data, 3).tobytes())
    np.testing.assert_array_equal(np.asarray(read(path, as_dask=as_dask).data), data)


def test_mrc_of_another_library(tmp_path):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(tmp_path / "image.mrc", STACK.astype(np.float32)) as file:
        file.voxel_size = 0.2  # ångström
    check(tmp_path / "image.mrc", STACK)


def test_ser(tmp_path):
    pytest.importorskip("rsciio")
    writers.ser(tmp_path / "image.ser", [IMAGE], 2e-11)
    micrograph = read(tmp_path / "image.ser")
    assert micrograph.pixel_size_nm == pytest.approx(0.02)
    # Rows of TIA start at the bottom.
    assert any(np.array_equal(micrograph.data, data) for data in (IMAGE, IMAGE[::-1]))


def test_emi_needs_its_ser(tmp_path):
    pytest.importorskip("rsciio")
    path = tmp_path / "image.emi"
    path.write_bytes(b"JJ\0B" + bytes(100))
    refused(path, "the pixels of an .emi file are in image_1.ser, which is not in its folder")
    writers.ser(tmp_path / "image_1.ser", [IMAGE], 2e-11)
    writers.ser(tmp_path / "image_2.ser", [RNG.integers(0, 255, (90, 90), dtype=np.uint8)], 1e8)
    xml = "<ObjectInfo><Uuid>1</Uuid><AcquireDate>Mon Jan 01 12:00:00 2024</AcquireDate></ObjectInfo>"
    path.write_bytes(b"JJ\0B" + xml.encode())
    assert read(path).pixel_size_nm == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("version", "options"),
    [(2, {}), (2, {"order": "F"}), (3, {}), (3, {"shards": (4, 96, 99)}), (3, {"compressors": None})],
)
def test_zarr_arrays(tmp_path, version, options):
    path = tmp_path / "a.zarr"
    writers.zarr(path, STACK, (2, 48, 33), version, **options)
    assert hasattr(check(path, STACK, None).data, "dask")


def test_zarr_in_an_archive_with_missing_chunks(tmp_path):
    writers.ome_zarr(tmp_path / "image.zarr", IMAGE)
    # A missing chunk holds the fill value.
    (tmp_path / "image.zarr" / "0" / "0.0").unlink()
    with zipfile.ZipFile(tmp_path / "zipped.zarr", "w") as archive:
        for file in (tmp_path / "image.zarr").rglob("*"):
            archive.write(file, file.relative_to(tmp_path / "image.zarr"))
    expected = IMAGE.copy()
    expected[:20, :30] = 0
    check(tmp_path / "zipped.zarr", expected)


#: Shape and pixel size of the files of others that are read.
OTHERS = {
    "formats/cdte_twin_haadf26.dm3": ((512, 512), 0.0202168),
    "cases/cella0_mx0.mrc": ((128, 128), None),
    "cases/example_velox_EELS_EDS.emd": ((128, 128), None),
    "cases/olympus_SIS.tif": ((101, 112), 0.0239279178),
    "cases/ome_preview_si.ome.tif": ((768, 768), 0.01699627),
    "cases/r12b_zeroborder.tif": ((546, 546), None),
    "cases/r13_infobar.png": ((560, 512), None),
    "cases/r15_driftstack.tif": ((4, 512, 512), None),
    "cases/r26_moire.tif": ((512, 512), None),
    "cases/r28_fft.tif": ((512, 512), None),
    "cases/x.rec": ((128, 128), 0.0123),
    "real2/abf.hspy": ((512, 512), None),  # 0.00933 without a unit
    "real2/acq18.emd": ((1024, 1024), 0.0122465),
    "real2/benke_01.tif": ((128, 128), None),
    "real2/benke_05.tif": ((128, 128), None),
    "real2/benke_09.tif": ((128, 128), None),
    "real2/bto1.dm4": ((413, 469), 0.0296599),
    "real2/gr_dim.npy": ((512, 512), None),
    "real2/gr_gb.tif": ((512, 512), None),
    "real2/gr_si.npy": ((256, 256), None),
    "real2/kine_np.dm3": ((512, 512), 0.0156162),
    "real2/manish_at.jpg": ((569, 569), None),
    "real2/mos2_001.npy": ((512, 512), None),
    "real2/osiris_sto.tif": ((512, 512), 0.0135172),
    "real2/pzt_grey.tif": ((512, 512), None),
    "real2/pzt_strainpp.jpg": ((512, 512), None),
    "real2/rbr_grey.tif": ((1024, 1024), None),
    "real2/sfd_sihaadf.dm3": ((1568, 192), None),
    "real2/sfd_survey.dm3": ((512, 512), None),
    "real2/si1c3_187.tif": ((128, 128), None),
    "real2/soot.tif": ((512, 512), None),
    "real2/sto_ser.ser": ((1024, 1024), 0.0100127),
    "real2/tio2_462ev.tif": ((256, 256), 0.0614634),
    "real2/zj_28.jpg": ((512, 512), None),
    "real2/zj_38.jpg": ((512, 512), None),
    "real2/zj_48.jpg": ((512, 512), None),
    "real2/zj_sv40.jpg": ((2048, 2048), None),
}
#: Why others are refused.
REFUSED = {
    "cases/64x64_diffraction_acquire_1.ser": "diffraction pattern (pixels in 1/m)",
    "cases/gatan_1_per_nm.tif": "diffraction pattern (pixels in 1/nm)",
    "cases/mrc-hang-2-553-f.mrc": "it declares 1409286147 images",
    "cases/ser-2-642-f.ser": "it declares more pixels than it holds",
    "cases/temp_70.mrc": "it declares 3 images of 128 × 128 px and holds 2",
    "real2/eds_sto.emd": "only a spectrum image, a spectrum",
    "real2/field_prototype.jpg": "a colour picture",
}


@needs_shared
def test_every_file_of_others_is_known():
    folders = ("formats", "cases", "real2")
    there = {
        path for name in folders for path in (SHARED / name).iterdir() if path.suffix.lower() in SUFFIXES
    }
    assert {path.relative_to(SHARED).as_posix() for path in there} == OTHERS.keys() | REFUSED.keys()


@needs_shared
@pytest.mark.parametrize("name", OTHERS)
def test_files_of_others(name):
    shape, size = OTHERS[name]
    micrograph = read(SHARED / name)
    assert micrograph.shape == shape
    assert micrograph.pixel_size_nm == (size if size is None else pytest.approx(size, rel=1e-5))


# -- series ---------------------------------------------------------------------------------------------------

SPACE = [("t", 1, "s", True), ("y", 0.2, "Å", False), ("x", 0.2, "Å", False)]
SERIES = [
    ("tif", writers.series_tiff, {}),
    ("tif", writers.series_tiff, {"compression": "zlib"}),
    ("tif", writers.series_tiff, {"bigtiff": True}),
    ("tif", writers.series_tiff, {"byteorder": ">"}),
    ("tif", writers.series_tiff, {"imagej": True, "metadata": {"axes": "TYX"}}),
    ("tif", writers.series_tiff, {"ome": True, "metadata": {"axes": "TYX"}}),
    ("tif", writers.series_tiff, {"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib"}),
    ("npy", np.save, STACK),
    ("mrc", writers.mrc, STACK),
    ("emd", writers.velox_emd, STACK),
    ("emd", writers.ncem_emd, STACK, ("t", "R_y", "R_x"), ("[s]", "[Å]", "[Å]"), 0.2),
    ("emd", writers.ncem_emd, np.moveaxis(STACK, 0, -1), [""] * 3, ["nm", "nm", "s"], 0.02, 0),
    ("hspy", writers.hspy, STACK, SPACE),
    ("zarr", writers.ome_zarr, STACK),
    ("zspy", writers.zspy, STACK),
]


@pytest.mark.parametrize("case", SERIES, ids=name_of)
def test_series_stay_on_disk(tmp_path, case):
    data = read(write(tmp_path, case)).data
    # A frame is loaded alone.
    assert data.chunks[0] == (1, 1, 1)
    np.testing.assert_array_equal(np.asarray(data), STACK)
    assert data.dtype == np.dtype("u2")


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True, "compression": "zlib"}])
def test_more_channels_than_detectors_are_frames(path, options):
    """What tifffile makes of a stack whose axes are not named."""
    stack = RNG.integers(0, 255, (40, 48, 64), dtype=np.uint8)
    tifffile.imwrite(path, stack, **options)
    assert len(data_sets(path)) == 1
    assert hasattr(check(path, stack, None).data, "dask")
    tifffile.imwrite(path, stack[:4], **options)
    assert len(data_sets(path)) == 4


def test_series_that_are_loaded_as_a_whole(tmp_path):
    check(write(tmp_path, ("ndata", writers.ndata, STACK)), STACK)
    pytest.importorskip("rsciio")
    data = np.asarray(read(write(tmp_path, ("ser", writers.ser, STACK, 2e-11))).data)
    # Rows of TIA start at the bottom.
    assert any(np.array_equal(data, expected) for expected in (STACK, STACK[:, ::-1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [3, 4])
def test_a_grey_stack_tagged_as_colours(path, dtype, count):
    """`tifffile.imwrite` calls the first axis colours if it has 3 or 4 entries."""
    y, x = np.indices((64, 80))
    waves = [np.cos((x + 2 * t) / 2) * np.cos(y / 2) for t in range(count)]
    data = (100 + 40 * np.array(waves) + RNG.normal(0, 5, (count, 64, 80))).astype(dtype)
    tifffile.imwrite(path, data, photometric="rgb", planarconfig="separate")
    notice = f"The file calls its {count} planes colours; they were taken for frames of a series."
    assert check(path, data, None).notices == (notice,)


# -- which of several -----------------------------------------------------------------------------------------


def test_previews_do_not_lend_their_pixel_size(path):
    small = IMAGE[:40, :40]
    writers.ome(path, (small, 1.6, "nm"), (IMAGE, 0.02, "nm"), (small, 0.1, "nm"))
    notice = "The file holds 3 data sets; number 2 (Image1) was used, another can be selected."
    assert check(path, IMAGE).notices == (notice,)
    check(path, small, 1.6, select=1)
    check(path, small, 0.1, select="Image2")
    assert [one.pixel.nm for one in data_sets(path)] == pytest.approx([1.6, 0.02, 0.1])


def test_a_preview_without_calibration_has_none(path):
    with tifffile.TiffWriter(path) as tif:
        tif.write(IMAGE[:40, :40], resolution=(5e8, 5e8), resolutionunit="CENTIMETER")
        tif.write(IMAGE, resolution=(2.5e8, 2.5e8), resolutionunit="CENTIMETER")
        tif.write(IMAGE[:, :50], metadata=None)
    check(path, IMAGE, 0.04)
    check(path, IMAGE[:40, :40], 0.02, select=1)
    check(path, IMAGE[:, :50], None, select=3)


def test_what_is_no_image_in_real_space_is_passed_over(path):
    colours = np.stack([IMAGE >> 8] * 3, -1).astype(np.uint8) // np.array([1, 2, 3], np.uint8)
    with tifffile.TiffWriter(path) as tif:
        tif.write(colours, photometric="rgb")
        tif.write(IMAGE, photometric="minisblack")
    check(path, IMAGE, None)
    large = RNG.integers(0, 255, (100, 100), dtype=np.uint8)
    writers.ome(path, (large, 0.1, "1/nm"), (IMAGE, 0.02, "nm"))
    check(path, IMAGE)
    refused(path, "this is a diffraction pattern (pixels in 1/nm)", select=1)


def test_first_of_several_channels(path):
    tifffile.imwrite(path, STACK[:2], ome=True, metadata={"axes": "CYX"})
    assert "number 1 (channel 1) was used" in check(path, STACK[0], None).notices[0]
    check(path, STACK[1], None, select=2)
    check(path, STACK[1], None, select="channel 2")


def test_velox_file_with_spectra(tmp_path):
    path = tmp_path / "image.emd"
    writers.velox_emd(path, [IMAGE[:33, :33], IMAGE], spectra=True)
    assert "number 2 (HAADF) was used" in check(path, IMAGE).notices[0]
    assert [one.kind for one in data_sets(path)][2:] == ["a spectrum image"] * 2 + ["a spectrum"]
    refused(path, "there is no image in the file, only a spectrum image", select=3)


@pytest.mark.parametrize("select", [0, 3, "-1", "nonsense", "1.5"])
def test_selecting_what_is_not_there(tmp_path, select):
    path = tmp_path / "image.npz"
    np.savez(path, size=np.float64(3), image=IMAGE)
    check(path, IMAGE, None)
    refused(path, f"there is no data set '{select}' in the file; select a number from 1 to 2", select=select)


# -- colours --------------------------------------------------------------------------------------------------


def grey_tiff(path, planar):
    data = np.stack([GREY] * 3, axis=-1 if planar == "contig" else 0)
    tifffile.imwrite(path, data, photometric="rgb", planarconfig=planar)


def grey_palette_tiff(path):
    ramp = np.arange(255, -1, -1, dtype=np.uint16) * 257
    tifffile.imwrite(path, 255 - GREY, photometric="palette", colormap=np.stack([ramp] * 3))


def grey_palette_png(path):
    """As screenshots have it: the grey values are not the indices."""
    picture = Image.fromarray(255 - GREY).convert("P")
    picture.putpalette(np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes())
    picture.putdata((255 - GREY).ravel().tolist())
    picture.save(path)


@pytest.mark.parametrize(
    ("name", "write", "factor", "noticed"),
    [
        ("a.tif", lambda path: grey_tiff(path, "contig"), 1, True),
        ("b.tif", lambda path: grey_tiff(path, "separate"), 1, True),
        ("c.tif", grey_palette_tiff, 257, True),
        ("d.png", grey_palette_png, 1, True),
        *((f"{mode}.png", lambda path, mode=mode: Image.fromarray(GREY).convert(mode).save(path), 1, mode != "L")
          for mode in ("L", "RGB", "RGBA", "LA")),
        *((name, lambda path: Image.fromarray(GREY).save(path), 1, False) for name in ("e.PNG", "f.bmp")),
        ("g.png", lambda path: Image.fromarray(GREY.astype(np.uint16) * 257).save(path), 257, False),
    ],
)  # fmt: skip
def test_pictures_that_are_really_grey(tmp_path, name, write, factor, noticed):
    write(tmp_path / name)
    micrograph = check(tmp_path / name, GREY.astype(int) * factor, None)
    assert bool(micrograph.notices) == noticed


@pytest.mark.parametrize("quality", [50, 95])
def test_grey_jpeg_with_a_chroma_channel(tmp_path, quality):
    """A yellowish cast of a few levels comes and goes with the blocks of JPEG."""
    y, x = np.indices((96, 128))
    grey = 128 + 60 * np.cos(x / 2) * np.cos(y / 2) + RNG.normal(0, 10, y.shape)
    cast = np.stack([grey, grey + RNG.normal(0, 5, y.shape), grey - 4], -1).clip(0, 255).astype(np.uint8)
    Image.fromarray(cast).save(tmp_path / "image.jpg", quality=quality)
    micrograph = read(tmp_path / "image.jpg")
    assert np.corrcoef(micrograph.data.ravel(), grey.ravel())[0, 1] > 0.95
    assert any("JPEG" in notice for notice in micrograph.notices)


@pytest.mark.parametrize("noise", [4, 20])
def test_noise_of_colours_in_a_grey_picture(tmp_path, noise):
    noisy = GREY[..., None].astype(int) + RNG.integers(-noise, noise + 1, (*GREY.shape, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "image.png")
    micrograph = read(tmp_path / "image.png")
    assert np.abs(micrograph.data - GREY.astype(float)).max() <= noise
    assert "hardly differ" in micrograph.notices[0]


def test_a_small_coloured_scale_bar(tmp_path):
    picture = np.stack([GREY] * 3, -1)
    picture[90:94, 10:30] = (255, 255, 0)  # 80 of 12000 px
    Image.fromarray(picture).save(tmp_path / "image.png")
    micrograph = read(tmp_path / "image.png")
    assert micrograph.notices[0].startswith("0.67 % of the pixels are coloured")
    left_out = np.isnan(micrograph.data)
    assert left_out[90:94, 10:30].all()
    assert not left_out[:87].any()
    np.testing.assert_allclose(micrograph.data[~left_out], GREY[~left_out], atol=0.01)
    picture[50:60] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "image.png")
    refused(tmp_path / "image.png", "this is a colour picture (11 % of its pixels are coloured)")


COLOURS = (GREY, GREY // 2, GREY // 3)


@pytest.mark.parametrize(
    "planes", [(GREY, GREY // 2, 255 - GREY), (GREY, 0 * GREY, 0 * GREY), (*COLOURS, 255 + 0 * GREY)]
)
def test_colour_planes_are_no_frames(path, planes):
    tifffile.imwrite(path, np.array(planes), photometric="rgb", planarconfig="separate")
    refused(path, "this is a colour picture")


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        ("tif", writers.gatan_tiff, "1/nm"),
        ("tif", writers.gatan_tiff, "mrad"),
        ("tif", writers.fei_xml_tiff, "1/m", 1e8),
        ("tif", writers.ome, (IMAGE, 0.1, "1/Å")),
        ("tif", writers.imagej, 9, "1/nm"),
        ("tif", writers.jeol_tiff, "DIFF", 500),
        ("emd", writers.ncem_emd, IMAGE, ("y", "x"), ["[n_m^-1]"] * 2),
        ("hspy", writers.hspy, IMAGE, [("y", 1, "1/nm", False), ("x", 1, "1/nm", False)]),
        ("hspy", writers.old_hspy, IMAGE, 0.1, "$nm^{-1}$"),
        ("ndata", writers.ndata, IMAGE, "rad", 1e-3),
        ("zarr", writers.ome_zarr, IMAGE, "1/nm"),
        ("ser", writers.ser, [IMAGE], 1e8),  # 0.1 1/nm in 1/m
        ("mrc", writers.fei_mrc, 1e8),
        ("emd", writers.velox_emd, IMAGE, ("1/m", "1e8")),
        ("emd", writers.ncem_emd, IMAGE, ("Qy", "Qx"), ("[1/n_m]", "[1/n_m]")),
        ("hspy", writers.hspy, IMAGE, [("y", 0.02, "nm", False), ("kx", 0.1, "1/nm", False)]),
    ],
    ids=name_of,
)
def test_diffraction_patterns_are_refused(tmp_path, case):
    pytest.importorskip("rsciio")
    path = write(tmp_path, case)
    refused(path, "this is a diffraction pattern")
    refused(path, "this is a diffraction pattern", pixel_size_nm=0.02)


def unknown_codec(path):
    writers.zarr(path, IMAGE)
    (path / ".zarray").write_text((path / ".zarray").read_text().replace("zstd", "other"))


def jbig(path):
    tifffile.imwrite(path, IMAGE, compression="zlib")
    raw = path.read_bytes()
    at = raw.index(struct.pack("<HHI", 259, 3, 1)) + 8
    path.write_bytes(raw[:at] + struct.pack("<H", 34661) + raw[at + 2 :])


def bitshuffle(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", data=IMAGE, chunks=IMAGE.shape, compression="gzip")
    raw = path.read_bytes()
    at = raw.index(struct.pack("<HHHH", 1, 8, 1, 1))  # the filter deflate
    path.write_bytes(raw[:at] + struct.pack("<H", 32008) + raw[at + 2 :])


def spectra(path):
    writers.hspy(path, STACK, [("y", 1, "nm", True), ("x", 1, "nm", True), ("Energy", 1, "eV", False)])


def too_large_for_its_archive(path):
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (40_000, 40_000)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(1000))


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.png", lambda path: Image.fromarray(GREY > 100).save(path), "1-bit"),
        ("a.tif", lambda path: tifffile.imwrite(path, IMAGE > 100), "1-bit"),
        ("b.tif", lambda path: tifffile.imwrite(path, np.stack(COLOURS, -1), photometric="rgb"), "a colour picture"),
        ("P.png", lambda path: Image.fromarray(np.stack(COLOURS, -1)).convert("P").save(path), "a colour picture"),
        ("c.tif", lambda path: tifffile.imwrite(path, np.zeros((2, 3, 40, 40)), ome=True, metadata={"axes": "TZYX"}),
         "4-dimensional"),
        ("a.npy", lambda path: np.save(path, np.zeros(100)), "shape"),
        ("b.npy", lambda path: np.save(path, np.zeros((48, 64), bool)), "black-and-white"),
        ("c.npy", lambda path: np.save(path, np.zeros((48, 64), complex)), "complex"),
        ("d.npy", lambda path: np.save(path, np.zeros((16, 16))), "16 × 16"),
        ("a.hspy", spectra, "only a spectrum image"),
        ("a.ndata", lambda path: writers.ndata(path, IMAGE[:, :, None] * np.ones(40), datum_dimension_count=1),
         "only a spectrum image"),
        ("a.zarr", unknown_codec, "this variant of zarr files cannot be read"),
        ("b.zarr", lambda path: path.mkdir(), "this is not a Zarr store"),
        ("jbig.tif", jbig, "this variant of tif files cannot be read"),
        ("bitshuffle.emd", bitshuffle, "this variant of emd files cannot be read"),
        ("large.npz", too_large_for_its_archive, "image.npy declares 12800000000 bytes of pixels and holds fewer"),
    ],
)  # fmt: skip
def test_what_cannot_be_analysed_is_refused(tmp_path, name, write, words):
    write(tmp_path / name)
    refused(tmp_path / name, words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.tif", "there is no such file"),
        ("a\0b.tif", "there is no such file"),
        (f"{'a' * 300}.tif", "cannot be reached"),
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


@needs_shared
@pytest.mark.parametrize("name", REFUSED)
def test_files_of_others_that_are_refused(name):
    refused(SHARED / name, REFUSED[name])


@pytest.mark.parametrize("name", ["image.npz", "series.npz", "image.emd", "image.zarr"])
def test_small_files_of_huge_images(tmp_path, name, monkeypatch):
    path = tmp_path / name
    monkeypatch.setattr("os.sysconf", lambda key: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 250}[key])  # 1 MB
    if name == "image.zarr":
        writers.zarr(path, IMAGE)
        document = json.loads((path / ".zarray").read_text()) | {"shape": [10**6, 10**6]}
        (path / ".zarray").write_text(json.dumps(document))
    elif name == "image.emd":
        writers.ncem_emd(path, np.zeros((400, 400), np.uint16))
    else:
        np.savez_compressed(path, np.zeros((400, 400) if name == "image.npz" else (80, 50, 40), np.uint16))
    refused(path, "more than 25 % of this machine's memory; crop or bin it, or allow more (--memory-share)")
    if name != "image.zarr":
        assert read(path, memory_share=0.5).shape[-1] in (400, 40)


# -- damaged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("data", [IMAGE, STACK], ids=["image", "stack"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated(path, data, compression, kept):
    tifffile.imwrite(path, data, compression=compression, photometric="minisblack")
    contents = path.read_bytes()
    path.write_bytes(contents[: int(kept * len(contents))])
    with pytest.raises(ReadError, match=r"image\.tif: .*copy it again"):
        np.asarray(read(path).data)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_cut_off_series_of_tia(tmp_path, kept):
    pytest.importorskip("rsciio")
    path = tmp_path / "series.ser"
    writers.ser(path, STACK, 2e-11)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ReadError, match=r"series\.ser: "):
        np.asarray(read(path).data)


@pytest.mark.parametrize(
    ("at", "count"),  # of images, images that are there, axes
    [
        (14, 4),
        (14, 2**22),
        (14, 2**32 - 1),
        (18, 4),
        (18, 2**22),
        (18, 2**32 - 1),
        (26, 2**22),
        (26, 2**32 - 1),
    ],
)
def test_series_of_tia_that_declares_what_it_does_not_hold(tmp_path, at, count):
    pytest.importorskip("rsciio")
    path = tmp_path / "series.ser"
    writers.ser(path, STACK, 2e-11)
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + struct.pack("<I", count) + raw[at + 4 :])
    if (at, count) == (14, 4):  # a series that was stopped
        assert read(path).shape == STACK.shape
    else:
        refused(path, "it declares more pixels than it holds")


def test_mrc_that_declares_what_it_does_not_hold(tmp_path):
    path = tmp_path / "series.mrc"
    writers.mrc(path, STACK)
    whole = path.read_bytes()
    for raw, words in (
        (whole[:-100], "it declares 3 images of 48 × 64 px and holds 2"),
        (
            whole[:8] + struct.pack("<i", 1_400_000_000) + whole[12:],
            "it declares 1400000000 images of 48 × 64 px",
        ),
        (whole[:500], "cut off (truncated) in its header"),
        (whole[:12] + struct.pack("<i", 101) + whole[16:], "pixels of the MRC mode 101 cannot be read"),
        (whole[:12] + struct.pack("<i", 4) + whole[16:], "cut off"),
    ):
        path.write_bytes(raw)
        refused(path, words)


def test_tags_of_gatan_that_count_more_than_the_file_holds(tmp_path):
    pytest.importorskip("rsciio")
    path = tmp_path / "image.dm3"
    # One group of one tag called "a", an array of 4-byte numbers; its length is the last number before them.
    tag = struct.pack(">BH", 21, 1) + b"a%%%%" + struct.pack(">4I", 3, 20, 3, 2)[:12]
    head = struct.pack(">3I", 3, 100, 1) + struct.pack(">BBI", 1, 0, 1)
    for count in (3, 2**30):
        path.write_bytes(head + tag + struct.pack(">I", count) + bytes(8))
        with pytest.raises(ReadError, match="its tags declare more than it holds"):
            read(path)
    path.write_bytes(head + tag + struct.pack(">I", 2) + bytes(8))
    with pytest.raises(ReadError) as caught:  # RosettaSciIO's turn: no image
        read(path)
    assert "its tags" not in str(caught.value)


def test_a_list_of_pages_without_an_end(path):
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=None, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        first, *_, last = (page.offset for page in tif.pages)
    raw = path.read_bytes()
    (count,) = struct.unpack_from("<H", raw, last)
    at = last + 2 + 12 * count
    path.write_bytes(raw[:at] + struct.pack("<I", first) + raw[at + 4 :])
    with pytest.raises(ReadError, match="its list of pages has no end"):
        read(path)


@pytest.mark.parametrize(("name", "begin"), [("image.tif", b"II*\0"), ("image.npz", b"PK\3\4")])
def test_nothing_but_the_first_bytes(tmp_path, name, begin):
    (tmp_path / name).write_bytes(begin)
    with pytest.raises(ReadError, match="the file is damaged"):
        read(tmp_path / name)


def test_damaged_pixels(path):
    tifffile.imwrite(path, IMAGE, compression="zlib")
    raw = bytearray(path.read_bytes())
    raw[-3000:-2900] = bytes(100)
    path.write_bytes(raw)
    with pytest.raises(ReadError, match="the file is damaged"):
        read(path)


@FOLDED
@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_give_a_sentence(tmp_path, junk):
    path = tmp_path / "junk.tif"
    for header in (b"", b"II*\x00", b"MM\x00*"):
        path.write_bytes(header + junk)
        with pytest.raises(HrstemDefectsError, match=r"junk\.tif"):
            read(path)


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


def test_pickles_are_not_loaded(tmp_path):
    np.save(tmp_path / "image.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError, match=r"image\.npy"):
        read(tmp_path / "image.npy")


# -- the optional dependency ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package"), [("image.dm4", "RosettaSciIO"), ("image.emd", "h5py"), ("image.zarr", "zarr")]
)
def test_missing_extra_is_named(tmp_path, monkeypatch, name, package):
    for module in ("rsciio.digitalmicrograph", "h5py", "zarr"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"x" * 100)
    with pytest.raises(ReadError, match=rf'{name}: .* needs {package}; .*"napari-hrstem-defects\[formats\]"'):
        read(tmp_path / name)


def test_rosettasciio_is_imported_only_when_needed(tmp_path, monkeypatch):
    np.save(tmp_path / "image.npy", GREY)

    def watched(name, *args, **kwargs):
        assert not name.startswith("rsciio")
        return original(name, *args, **kwargs)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", watched)
    read(tmp_path / "image.npy")
