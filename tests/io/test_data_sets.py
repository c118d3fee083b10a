"""Files as microscopes and programs write them: what is taken of them, its pixel size, what is refused and why.

Files of makers whose software is not here are written by the tests after the descriptions of the formats.
"""

import io
import json
import struct
import zipfile
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_hrstem_defects.core.errors import ReadError
from napari_hrstem_defects.io import data_sets, read

CASES = Path(__file__).parents[3] / "shared/data/cases"
RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 60000, (48, 64), dtype=np.uint16)
STACK = RNG.integers(0, 60000, (3, 48, 64), dtype=np.uint16)
GREY = RNG.integers(0, 255, (100, 120), dtype=np.uint8)


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
    assert message.count("\n") == 0
    assert words in message
    assert "damaged" not in message


# -- which of several -----------------------------------------------------------------------------------------


def ome(path, images, **sizes):
    """Several images in one OME-TIFF, each with its own pixel size."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for data, size, unit in images:
            tif.write(
                data,
                photometric="minisblack",
                metadata={"axes": "TYX"[-data.ndim :]}
                | {f"PhysicalSize{a}": size for a in "XY"}
                | {f"PhysicalSize{a}Unit": unit for a in "XY"},
            )


def test_previews_do_not_lend_their_pixel_size(tmp_path):
    path = tmp_path / "image.ome.tif"
    small = IMAGE[:40, :40]
    ome(path, [(small, 1.6, "nm"), (IMAGE, 0.02, "nm"), (small, 0.1, "nm")])
    micrograph = check(path, IMAGE)
    assert micrograph.notices == (
        "The file holds 3 data sets; number 2 (Image1) was used, another can be selected.",
    )
    check(path, small, 1.6, select=1)
    check(path, small, 0.1, select="Image2")
    assert [one.pixel.nm for one in data_sets(path)] == pytest.approx([1.6, 0.02, 0.1])


def test_a_preview_without_calibration_has_none(tmp_path):
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(IMAGE[:40, :40], resolution=(5e8, 5e8), resolutionunit="CENTIMETER")
        tif.write(IMAGE, resolution=(2.5e8, 2.5e8), resolutionunit="CENTIMETER")
        tif.write(IMAGE[:, :50], metadata=None)
    check(path, IMAGE, 0.04)
    check(path, IMAGE[:40, :40], 0.02, select=1)
    check(path, IMAGE[:, :50], None, select=3)


def test_a_diffraction_pattern_beside_an_image_is_passed_over(tmp_path):
    path = tmp_path / "image.ome.tif"
    large = RNG.integers(0, 255, (100, 100), dtype=np.uint8)
    ome(path, [(large, 0.1, "1/nm"), (IMAGE, 0.02, "nm")])
    check(path, IMAGE)
    refused(path, "this is a diffraction pattern (pixels in 1/nm)", select=1)


def test_a_coloured_thumbnail_before_the_image(tmp_path):
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            np.stack([IMAGE >> 8] * 3, -1).astype(np.uint8) // np.array([1, 2, 3], np.uint8),
            photometric="rgb",
        )
        tif.write(IMAGE, photometric="minisblack")
    check(path, IMAGE, None)


@pytest.mark.parametrize("select", [0, 3, "-1", "nonsense", "1.5"])
def test_selecting_what_is_not_there(tmp_path, select):
    np.savez(tmp_path / "image.npz", a=IMAGE, b=IMAGE.T)
    refused(
        tmp_path / "image.npz",
        f"there is no data set '{select}' in the file; select a number from 1 to 2",
        select=select,
    )


# -- diffraction patterns -------------------------------------------------------------------------------------


def ser(path, frames, step, unit_count=None):
    """TIA's format: a header, images with their calibration (m), offsets of them, all little endian."""
    codes = {"uint8": 1, "uint16": 2, "float32": 7}
    frames = np.asarray(frames)
    count = len(frames) if unit_count is None else unit_count
    head = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, count, len(frames), 0, 1)
    dimension = struct.pack("<IddII", count, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", 0)
    y, x = frames.shape[1:]
    body, offsets, tags = b"", [], []
    start = len(head) + len(dimension)
    for frame in frames:
        offsets.append(start + len(body))
        body += struct.pack("<ddIddI", 0, step, 0, 0, step, 0)
        body += struct.pack("<HII", codes[str(frames.dtype)], x, y) + frame.tobytes()
    for _ in frames:
        tags.append(start + len(body))
        body += struct.pack("<HHI", 0x4152, 0, 1)
    table = struct.pack(f"<{2 * len(frames)}I", *offsets, *tags)
    head = head[:22] + struct.pack("<I", start + len(body)) + head[26:]
    path.write_bytes(head + dimension + body + table)


def test_ser(tmp_path):
    pytest.importorskip("rsciio")
    ser(tmp_path / "image.ser", [IMAGE], 2e-11)
    micrograph = read(tmp_path / "image.ser")
    assert micrograph.pixel_size_nm == pytest.approx(0.02)
    # Rows of TIA start at the bottom.
    assert any(np.array_equal(micrograph.data, data) for data in (IMAGE, IMAGE[::-1]))
    ser(tmp_path / "series.ser", STACK, 2e-11)
    assert read(tmp_path / "series.ser").shape == STACK.shape


def test_diffraction_patterns_of_tia(tmp_path):
    pytest.importorskip("rsciio")
    ser(tmp_path / "image.ser", [IMAGE], 1e8)  # 0.1 1/nm in 1/m
    refused(tmp_path / "image.ser", "this is a diffraction pattern (pixels in 1/m)")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_cut_off_series_of_tia(tmp_path, kept):
    pytest.importorskip("rsciio")
    path = tmp_path / "series.ser"
    ser(path, STACK, 2e-11)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ReadError, match=r"series\.ser: "):
        np.asarray(read(path).data)


@pytest.mark.parametrize("at", [14, 18])
@pytest.mark.parametrize("count", [4, 2**22, 2**32 - 1])
def test_series_of_tia_that_declares_what_it_does_not_hold(tmp_path, at, count):
    pytest.importorskip("rsciio")
    path = tmp_path / "series.ser"
    ser(path, STACK, 2e-11)
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + struct.pack("<I", count) + raw[at + 4 :])
    if (at, count) == (14, 4):  # a series that was stopped
        assert read(path).shape == STACK.shape
    else:
        refused(path, "it declares more pixels than it holds")


def gatan_tiff(path, unit, scale=0.02):
    tags = [(65003, 2, len(unit) + 1, unit, True), (65004, 2, len(unit) + 1, unit, True)]
    tifffile.imwrite(path, IMAGE, extratags=[*tags, (65009, 12, 1, scale, True), (65010, 12, 1, scale, True)])


def fei_xml_tiff(path, unit, scale=2e-11, tag=34682):
    side = f'<{{0}} unit="{unit}" unitPrefixPower="1">{scale}</{{0}}>'
    text = f"<Metadata><PixelSize>{side.format('X')}{side.format('Y')}</PixelSize></Metadata>"
    tifffile.imwrite(path, IMAGE, extratags=[(tag, 2, len(text) + 1, text, True)], metadata=None)


def ncem_emd(path, data, names, units, step=0.02, first=1):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        for k, (n, name, unit) in enumerate(zip(data.shape, names, units, strict=True), first):
            group[f"dim{k}"] = step * np.arange(n)
            group[f"dim{k}"].attrs.update(name=name, units=unit)


def old_hspy(path, data, **axis):
    """Without units, as older versions of HyperSpy wrote it."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("Experiments/__unnamed__")
        group["data"] = data
        for k, n in enumerate(data.shape):
            group.create_group(f"axis-{k}").attrs.update(
                {"size": n, "offset": 0.0, "navigate": False, **axis}
            )


def ndata(path, data, unit="nm", scale=0.02, key="spatial_calibrations", **values):
    sides = [{"offset": 0.0, "scale": scale, "units": unit} for _ in data.shape]
    buffer = io.BytesIO()
    np.save(buffer, data)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("data.npy", buffer.getvalue())
        archive.writestr("metadata.json", json.dumps({"version": 1, key: sides, **values}))


def ome_zarr(path, data, unit="nanometer", scale=0.02):
    zarr(path / "0", data)
    zarr(path / "1", data[..., ::2, ::2])
    axes = [{"name": "t", "type": "time"}] * (data.ndim - 2) + [
        {"name": a, "unit": unit, "type": "space"} for a in "yx"
    ]
    levels = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0] * (data.ndim - 2) + [scale * 2**k] * 2}
            ],
        }
        for k in range(2)
    ]
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(
        json.dumps({"multiscales": [{"axes": axes, "datasets": levels, "version": "0.4"}]})
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("image.tif", lambda path: gatan_tiff(path, "1/nm")),
        ("mrad.tif", lambda path: gatan_tiff(path, "mrad")),
        ("velox.tif", lambda path: fei_xml_tiff(path, "1/m", 1e8)),
        ("ome.tif", lambda path: ome(path, [(IMAGE, 0.1, "1/Å")])),
        (
            "imagej.tif",
            lambda path: tifffile.imwrite(
                path, IMAGE, imagej=True, resolution=(9, 9), metadata={"unit": "1/nm"}
            ),
        ),
        ("ncem.emd", lambda path: ncem_emd(path, IMAGE, "yx", ["[n_m^-1]"] * 2)),
        (
            "old.hspy",
            lambda path: old_hspy(path, IMAGE, scale=0.1, units="$nm^{-1}$"),
        ),
        ("swift.ndata", lambda path: ndata(path, IMAGE, "rad", 1e-3)),
        ("stack.zarr", lambda path: ome_zarr(path, IMAGE, "1/nm")),
    ],
)
def test_diffraction_patterns_are_refused(tmp_path, name, write):
    write(tmp_path / name)
    refused(tmp_path / name, "this is a diffraction pattern (pixels in ")
    refused(tmp_path / name, "this is a diffraction pattern (pixels in ", pixel_size_nm=0.02)


# -- pixel sizes ----------------------------------------------------------------------------------------------


def test_the_placeholder_of_ome(tmp_path):
    ome(tmp_path / "image.tif", [(IMAGE, 1.0, "µm")])
    micrograph = check(tmp_path / "image.tif", IMAGE, None)
    assert "a pixel of 1e+03 nm, which cannot show a lattice" in micrograph.notices[0]
    assert check(tmp_path / "image.tif", IMAGE, 0.02, pixel_size_nm=0.02).notices == ()


@pytest.mark.parametrize("tag", [34680, 34682, 34683, 270])
def test_velox_xml_in_tiff(tmp_path, tag):
    fei_xml_tiff(tmp_path / "image.tif", "m", tag=tag)
    check(tmp_path / "image.tif", IMAGE)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_grey_jpeg_with_a_chroma_channel(tmp_path, quality):
    """A yellowish cast of a few levels comes and goes with the blocks of JPEG."""
    y, x = np.indices((96, 128))
    grey = 128 + 60 * np.cos(x / 2) * np.cos(y / 2) + RNG.normal(0, 10, y.shape)
    cast = np.stack([grey, grey + RNG.normal(0, 5, y.shape), grey - 4], -1).clip(0, 255).astype(np.uint8)
    Image.fromarray(cast).save(tmp_path / "image.jpg", quality=quality)
    micrograph = read(tmp_path / "image.jpg")
    assert np.isfinite(micrograph.data).all()
    assert np.corrcoef(micrograph.data.ravel(), grey.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("code", [50431, 270, 65027])
def test_tescan_tag(tmp_path, code):
    text = "[MAIN]\r\nDevice=TESCAN\r\nPixelSizeX=2.0e-11\r\nPixelSizeY=2.0e-11\r\n"
    raw = b"\x00\x01" + text.encode() if code != 270 else text.encode()
    tags = [(code, 7 if code != 270 else 2, len(raw), raw, True)]
    tifffile.imwrite(tmp_path / "image.tif", IMAGE, extratags=tags, metadata=None)
    check(tmp_path / "image.tif", IMAGE)


def jeol(path, mode="MAG", magnification=1_000_000):
    text = (
        "<?xml version='1.0'?><TemReporter><Eos><EosMode>eosTEM</EosMode></Eos><ImageFormingSystem>"
        f"<ModeString>{mode}</ModeString><SelectorValue>{magnification}</SelectorValue></ImageFormingSystem></TemReporter>"
    )
    tags = [(271, 2, 10, "JEOL Ltd.", True)]
    tifffile.imwrite(
        path,
        IMAGE,
        description=text,
        extratags=tags,
        resolution=(500, 500),
        resolutionunit="CENTIMETER",
        metadata=None,
    )


def test_jeol_sightx(tmp_path):
    jeol(tmp_path / "image.tif")  # 20 µm on the camera
    check(tmp_path / "image.tif", IMAGE)
    jeol(tmp_path / "pattern.tif", "DIFF", 500)
    refused(tmp_path / "pattern.tif", "diffraction pattern")


def test_text_of_hitachi_beside_the_image(tmp_path):
    for suffix in (".tif", ".bmp", ".jpg", ".png"):
        Image.fromarray(GREY).save(tmp_path / f"image{suffix}")
    (tmp_path / "image.txt").write_text("[SemImageFile]\nDataSize=120x100\nPixelSize=0.02\n")
    for suffix in (".tif", ".bmp", ".jpg", ".png"):
        assert read(tmp_path / f"image{suffix}").pixel_size_nm == pytest.approx(0.02)


def mrc(
    path,
    data,
    mode,
    samples=None,
    cell=(0, 0, 0),
    extended=b"",
    kind=b"    ",
    order="<",
    axes=(1, 2, 3),
    stamp=True,
):
    header = bytearray(1024)
    nz, ny, nx = data.shape if data.ndim == 3 else (1, *data.shape)
    struct.pack_into(f"{order}4i", header, 0, nx, ny, nz, mode)
    struct.pack_into(f"{order}3i", header, 28, *(samples or (nx, ny, nz)))
    struct.pack_into(f"{order}6f", header, 40, *cell, 90, 90, 90)
    struct.pack_into(f"{order}3i", header, 64, *axes)
    struct.pack_into(f"{order}i", header, 92, len(extended))
    header[104:108] = kind
    header[208:212] = b"MAP "
    if stamp:
        header[212:214] = b"\x11\x11" if order == ">" else b"\x44\x44"
    path.write_bytes(bytes(header) + extended + data.astype(data.dtype.newbyteorder(order)).tobytes())


@pytest.mark.parametrize("suffix", [".mrc", ".mrcs", ".st", ".rec", ".map", ".MRC"])
@pytest.mark.parametrize("data", [IMAGE, STACK], ids=["image", "stack"])
def test_mrc_by_any_name(tmp_path, suffix, data):
    y, x = data.shape[-2:]
    mrc(tmp_path / f"image{suffix}", data, 6, cell=(0.2 * x, 0.2 * y, 0))
    check(tmp_path / f"image{suffix}", data)


@pytest.mark.parametrize("stamp", [True, False])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_mrc_types(tmp_path, order, mode, dtype, stamp):
    data = (STACK >> 9).astype(dtype)
    mrc(tmp_path / "image.mrc", data, mode, cell=(12.8, 9.6, 0), order=order, stamp=stamp)
    check(tmp_path / "image.mrc", data)


@pytest.mark.parametrize(
    ("samples", "cell"),
    [
        ((0, 0, 1), (0, 0, 0)),
        ((0, 0, 0), (12.8, 9.6, 1)),
        ((64, 48, 1), (0, 0, 0)),
        ((64, 48, 1), (-12.8, -9.6, 1)),
        ((64, 48, 1), (1, 1, 1)),
        ((64, 48, 1), (64, 48, 1)),
        ((64, 48, 1), (float("nan"), 9.6, 1)),
        ((-64, -48, 1), (12.8, 9.6, 1)),
        ((1, 1, 1), (64, 48, 1)),
    ],
)
def test_mrc_without_calibration(tmp_path, samples, cell):
    mrc(tmp_path / "image.mrc", IMAGE, 6, samples, cell)
    check(tmp_path / "image.mrc", IMAGE, None)


def test_mrc_with_swapped_axes_and_oblong_pixels(tmp_path):
    mrc(tmp_path / "image.mrc", IMAGE, 6, (48, 64, 1), (9.6, 25.6, 1), axes=(2, 1, 3))
    micrograph = check(tmp_path / "image.mrc", IMAGE, np.sqrt(0.02 * 0.04))
    assert "not square (0.02 × 0.04 nm, y × x)" in micrograph.notices[0]


def test_mrc_of_fei(tmp_path):
    extended = bytearray(768)
    struct.pack_into("<2d", extended, 156, 2e-11, 2e-11)
    mrc(tmp_path / "image.mrc", IMAGE, 6, cell=(64, 48, 1), extended=bytes(extended), kind=b"FEI1")
    check(tmp_path / "image.mrc", IMAGE)


def test_mrc_that_declares_what_it_does_not_hold(tmp_path):
    path = tmp_path / "series.mrc"
    mrc(path, STACK, 6)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    refused(path, "it declares 3 images of 48 × 64 px and holds 2")
    path.write_bytes(whole[:8] + struct.pack("<i", 1_400_000_000) + whole[12:])
    refused(path, "it declares 1400000000 images of 48 × 64 px and holds 3")
    path.write_bytes(whole[:500])
    refused(path, "cut off (truncated) in its header")
    path.write_bytes(whole[:12] + struct.pack("<i", 101) + whole[16:])
    refused(path, "pixels of the MRC mode 101 cannot be read")
    path.write_bytes(whole[:12] + struct.pack("<i", 4) + whole[16:])
    with pytest.raises(ReadError, match="cut off"):
        read(path)


# -- readable -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_axes_of_ncem_files_go_by_their_names(tmp_path, first):
    path = tmp_path / "image.emd"
    ncem_emd(path, IMAGE, ["Y", "X"], ["[n_m]"] * 2, first=first)
    check(path, IMAGE)
    ncem_emd(path, IMAGE.T, ["x", "y"], ["n_m", "n_m"], first=first)
    check(path, IMAGE)
    ncem_emd(path, STACK, ["t", "R_y", "R_x"], ["[s]", "[Å]", "[Å]"], step=0.2, first=first)
    check(path, STACK)
    ncem_emd(path, np.moveaxis(STACK, 0, -1), ["", "", ""], ["nm", "nm", "s"], first=first)
    check(path, STACK)


def test_hspy_without_units(tmp_path):
    old_hspy(tmp_path / "image.hspy", IMAGE, scale=0.02)
    check(tmp_path / "image.hspy", IMAGE, None)
    old_hspy(tmp_path / "image.hspy", IMAGE, scale=0.2, units="Å")
    check(tmp_path / "image.hspy", IMAGE)


def test_velox_file_with_spectra(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "image.emd"
    side = {"width": "2e-11", "height": "2e-11"}
    metadata = json.dumps(
        {"BinaryResult": {"PixelSize": side, "PixelUnitX": "m", "PixelUnitY": "m", "Detector": "HAADF"}}
    )
    with h5py.File(path, "w") as file:
        file["Version"] = [b'{"format": "Velox"}']
        for name, data in (("a", IMAGE[:33, :33]), ("b", IMAGE)):
            file[f"Data/Image/{name}/Data"] = data[..., None]
            file[f"Data/Image/{name}/Metadata"] = np.frombuffer(metadata.encode() + bytes(9), np.uint8)[
                :, None
            ]
        file["Data/SpectrumImage/c/Data"] = np.zeros((500, 1), np.uint8)
        file["Data/SpectrumStream/c/Data"] = np.zeros((500, 1), np.uint16)
        file["Data/Spectrum/c/Data"] = np.zeros((4096, 1), np.uint32)
    assert "number 2 (HAADF) was used" in check(path, IMAGE).notices[0]
    assert [one.kind for one in data_sets(path)][2:] == ["a spectrum image"] * 2 + ["a spectrum"]
    refused(path, "there is no image in the file, only a spectrum image", select=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [3, 4])
def test_a_grey_stack_tagged_as_colours(tmp_path, dtype, count):
    """`tifffile.imwrite` calls the first axis colours if it has 3 or 4 entries."""
    y, x = np.indices((64, 80))
    frames = [
        100 + 40 * np.cos((x + 2 * t) / 2) * np.cos(y / 2) + RNG.normal(0, 5, y.shape) for t in range(count)
    ]
    data = np.array(frames).astype(dtype)
    with tifffile.TiffWriter(tmp_path / "series.tif") as tif:
        tif.write(data, photometric="rgb", planarconfig="separate")
    micrograph = check(tmp_path / "series.tif", data, None)
    assert micrograph.notices == (
        f"The file calls its {count} planes colours; they were taken for frames of a series.",
    )


@pytest.mark.parametrize(
    "planes",
    [
        lambda grey: [grey, grey // 2, 255 - grey],  # a colour table
        lambda grey: [grey, np.zeros_like(grey), np.zeros_like(grey)],
        lambda grey: [grey // 3, grey, grey // 2, np.full_like(grey, 255)],
    ],
)
def test_colour_planes_are_no_frames(tmp_path, planes):
    with tifffile.TiffWriter(tmp_path / "image.tif") as tif:
        tif.write(np.array(planes(GREY)), photometric="rgb", planarconfig="separate")
    refused(tmp_path / "image.tif", "this is a colour picture")


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


@pytest.mark.parametrize("key", ["spatial_calibrations", "dimensional_calibrations"])
def test_ndata(tmp_path, key):
    ndata(tmp_path / "image.ndata", IMAGE, key=key, title="HAADF")
    assert data_sets(tmp_path / "image.ndata")[0].title == "HAADF"
    check(tmp_path / "image.ndata", IMAGE)
    ndata(tmp_path / "image.ndata", STACK, key=key)
    check(tmp_path / "image.ndata", STACK)
    ndata(tmp_path / "image.ndata", IMAGE, "s", key=key)
    check(tmp_path / "image.ndata", IMAGE, None)
    ndata(tmp_path / "image.ndata", IMAGE[:, :, None] * np.ones(40), key=key, datum_dimension_count=1)
    refused(tmp_path / "image.ndata", "only a spectrum image")


def zarr(path, data, chunks=None, codec="zlib", version=2, separator="."):
    """Write an array without the library."""
    encode = {
        "blosc": imagecodecs.blosc_encode,
        "zstd": imagecodecs.zstd_encode,
        "zlib": imagecodecs.zlib_encode,
        "gzip": imagecodecs.gzip_encode,
        "lz4": lambda raw: imagecodecs.lz4_encode(raw, header=True),
        None: bytes,
    }[codec]
    chunks = chunks or (1,) * (data.ndim - 2) + (20, 30)
    path.mkdir(parents=True)
    if version == 2:
        document = {
            "zarr_format": 2,
            "shape": data.shape,
            "chunks": chunks,
            "dtype": data.dtype.str,
            "fill_value": 0,
        }
        document |= {
            "order": "C",
            "filters": None,
            "compressor": codec and {"id": codec},
            "dimension_separator": separator,
        }
        (path / ".zarray").write_text(json.dumps(document))
        prefix = ""
    else:
        codecs = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            *([{"name": codec}] if codec else []),
        ]
        document = {"zarr_format": 3, "node_type": "array", "shape": data.shape, "data_type": data.dtype.name}
        document |= {
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
            "codecs": codecs,
        }
        document |= {
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
            "fill_value": 0,
        }
        (path / "zarr.json").write_text(json.dumps(document))
        prefix = f"c{separator}"
    for place in np.ndindex(*(-(-n // c) for n, c in zip(data.shape, chunks, strict=True))):
        part = data[tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, chunks, strict=True))]
        whole = np.zeros(chunks, data.dtype)
        whole[tuple(slice(n) for n in part.shape)] = part
        file = path / (prefix + separator.join(map(str, place)))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(whole.tobytes()))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("separator", "./")
@pytest.mark.parametrize("codec", ["blosc", "zstd", "zlib", "gzip", "lz4", None])
def test_zarr_arrays(tmp_path, codec, separator, version):
    zarr(tmp_path / "image.zarr", IMAGE, codec=codec, separator=separator, version=version)
    check(tmp_path / "image.zarr", IMAGE, None)
    zarr(tmp_path / "series.zarr", STACK, (2, 48, 33), codec, version, separator)
    check(tmp_path / "series.zarr", STACK, None)
    assert hasattr(read(tmp_path / "series.zarr").data, "dask")


@pytest.mark.parametrize("data", [IMAGE, STACK], ids=["image", "stack"])
def test_ome_zarr(tmp_path, data):
    ome_zarr(tmp_path / "image.zarr", data)
    assert check(tmp_path / "image.zarr", data).notices == ()
    with zipfile.ZipFile(tmp_path / "zipped.zarr", "w") as archive:
        for file in (tmp_path / "image.zarr").rglob("*"):
            archive.write(file, file.relative_to(tmp_path / "image.zarr"))
    check(tmp_path / "zipped.zarr", data)


def test_zarr_chunks_that_are_missing_hold_the_fill_value(tmp_path):
    zarr(tmp_path / "image.zarr", IMAGE, (24, 64))
    (tmp_path / "image.zarr" / "1.0").unlink()
    check(tmp_path / "image.zarr", np.concatenate([IMAGE[:24], np.zeros((24, 64), np.uint16)]), None)


def test_zarr_codecs_that_are_not_known(tmp_path):
    zarr(tmp_path / "image.zarr", IMAGE)
    document = tmp_path / "image.zarr" / ".zarray"
    document.write_text(document.read_text().replace("zlib", "pcodec"))
    refused(tmp_path / "image.zarr", "this variant of zarr files cannot be read (codec pcodec of Zarr)")


def test_a_folder_that_only_is_called_so(tmp_path):
    (tmp_path / "image.zarr").mkdir()
    refused(tmp_path / "image.zarr", "this is not a Zarr store")


def test_zspy(tmp_path):
    group = tmp_path / "image.zspy" / "Experiments" / "crystal"
    zarr(group / "data", STACK)
    for k, (unit, navigate) in enumerate((("s", True), ("nm", False), ("nm", False))):
        (group / f"axis-{k}").mkdir()
        (group / f"axis-{k}" / ".zgroup").write_text('{"zarr_format": 2}')
        (group / f"axis-{k}" / ".zattrs").write_text(
            json.dumps({"scale": 0.02, "units": unit, "navigate": navigate})
        )
    for folder in (group, group.parent, group.parent.parent):
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
    check(tmp_path / "image.zspy", STACK)


def test_emi_needs_its_ser(tmp_path):
    pytest.importorskip("rsciio")
    (tmp_path / "image.emi").write_bytes(b"JJ\0B" + bytes(100))
    refused(
        tmp_path / "image.emi", "the pixels of an .emi file are in image_1.ser, which is not in its folder"
    )
    ser(tmp_path / "image_1.ser", [IMAGE], 2e-11)
    ser(tmp_path / "image_2.ser", [RNG.integers(0, 255, (90, 90), dtype=np.uint8)], 1e8)
    xml = "<ObjectInfo><Uuid>1</Uuid><AcquireDate>Mon Jan 01 12:00:00 2024</AcquireDate></ObjectInfo>"
    (tmp_path / "image.emi").write_bytes(b"JJ\0B" + xml.encode())
    assert read(tmp_path / "image.emi").pixel_size_nm == pytest.approx(0.02)


def test_tags_of_gatan_that_count_more_than_the_file_holds(tmp_path):
    pytest.importorskip("rsciio")
    # One group of one tag called "a", an array of 4-byte numbers; its length is the last number before them.
    tag = struct.pack(">BH", 21, 1) + b"a%%%%" + struct.pack(">4I", 3, 20, 3, 2)[:12]
    head = struct.pack(">3I", 3, 100, 1) + struct.pack(">BBI", 1, 0, 1)
    for count in (3, 2**30):
        (tmp_path / "image.dm3").write_bytes(head + tag + struct.pack(">I", count) + bytes(8))
        with pytest.raises(ReadError, match="its tags declare more than it holds"):
            read(tmp_path / "image.dm3")
    (tmp_path / "image.dm3").write_bytes(head + tag + struct.pack(">I", 2) + bytes(8))
    with pytest.raises(ReadError) as caught:  # RosettaSciIO's turn: no image
        read(tmp_path / "image.dm3")
    assert "its tags" not in str(caught.value)


def test_an_archive_that_declares_what_it_does_not_hold(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (40_000, 40_000)}
    )
    with zipfile.ZipFile(tmp_path / "image.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(1000))
    refused(tmp_path / "image.npz", "image.npy declares 12800000000 bytes of pixels and holds fewer")


@pytest.mark.parametrize("name", ["image.npz", "series.npz", "image.emd", "image.zarr"])
def test_small_files_of_huge_images(tmp_path, name, monkeypatch):
    path = tmp_path / name
    monkeypatch.setattr("os.sysconf", lambda key: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 250}[key])  # 1 MB
    if name == "image.zarr":
        zarr(path, IMAGE)
        document = json.loads((path / ".zarray").read_text()) | {"shape": [10**6, 10**6]}
        (path / ".zarray").write_text(json.dumps(document))
    elif name == "image.emd":
        ncem_emd(path, np.zeros((400, 400), np.uint16), "yx", ["nm", "nm"])
    else:
        np.savez_compressed(path, np.zeros((400, 400) if name == "image.npz" else (80, 50, 40), np.uint16))
    refused(path, "more than 25 % of this machine's memory; crop or bin it, or allow more (--memory-share)")
    if name != "image.zarr":
        assert read(path, memory_share=0.5).shape[-1] in (400, 40)


def test_damaged_pixels_and_names_that_are_none(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", IMAGE, compression="zlib")
    raw = bytearray((tmp_path / "image.tif").read_bytes())
    raw[-3000:-2900] = bytes(100)
    (tmp_path / "image.tif").write_bytes(raw)
    with pytest.raises(ReadError, match="the file is damaged"):
        read(tmp_path / "image.tif")
    with pytest.raises(ReadError, match="there is no such file"):
        read(tmp_path / "a\0b.tif")


def test_variants_that_are_not_known_are_not_called_damaged(tmp_path):
    h5py = pytest.importorskip("h5py")
    tifffile.imwrite(tmp_path / "image.tif", IMAGE, compression="zlib")
    raw = (tmp_path / "image.tif").read_bytes()
    at = raw.index(struct.pack("<HHI", 259, 3, 1)) + 8
    (tmp_path / "image.tif").write_bytes(raw[:at] + struct.pack("<H", 34661) + raw[at + 2 :])  # JBIG
    refused(tmp_path / "image.tif", "this variant of tif files cannot be read")
    with h5py.File(tmp_path / "image.emd", "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", data=IMAGE, chunks=IMAGE.shape, compression="gzip")
    raw = (tmp_path / "image.emd").read_bytes()
    at = raw.index(struct.pack("<HHHH", 1, 8, 1, 1))  # the filter deflate
    (tmp_path / "image.emd").write_bytes(raw[:at] + struct.pack("<H", 32008) + raw[at + 2 :])  # bitshuffle
    refused(tmp_path / "image.emd", "this variant of emd files cannot be read")


# -- the collection of failures, where it is here -------------------------------------------------------------


@pytest.mark.skipif(not CASES.exists(), reason="the collection is not here")
@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("ome_preview_si.ome.tif", (768, 768), 0.01699627),
        ("olympus_SIS.tif", (101, 112), 0.0239279178),
        ("cella0_mx0.mrc", (128, 128), None),
        ("x.rec", (128, 128), 0.0123),
        ("r15_driftstack.tif", (4, 512, 512), None),
        ("example_velox_EELS_EDS.emd", (128, 128), None),
    ],
)
def test_cases(name, shape, size):
    micrograph = read(CASES / name)
    assert micrograph.shape == shape
    assert micrograph.pixel_size_nm == (size if size is None else pytest.approx(size, rel=1e-6))


@pytest.mark.skipif(not CASES.exists(), reason="the collection is not here")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gatan_1_per_nm.tif", "diffraction pattern (pixels in 1/nm)"),
        ("64x64_diffraction_acquire_1.ser", "diffraction pattern (pixels in 1/m)"),
        ("mrc-hang-2-553-f.mrc", "it declares 1409286147 images"),
        ("temp_70.mrc", "it declares 3 images of 128 × 128 px and holds 2"),
        ("ser-2-642-f.ser", "it declares more pixels than it holds"),
    ],
)
def test_refused_cases(name, words):
    refused(CASES / name, words)
