"""Files as microscopes and programs write them.

Formats of makers whose software is not here are written after their descriptions.
"""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import tifffile

RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 60000, (48, 64), dtype=np.uint16)
STACK = RNG.integers(0, 60000, (3, 48, 64), dtype=np.uint16)
GREY = RNG.integers(0, 255, (100, 120), dtype=np.uint8)
TESCAN = "[MAIN]\r\nDevice=TESCAN\r\nPixelSizeX=2e-11\r\nPixelSizeY=2e-11\r\n"


def ome(path, *images):
    """Several images ``(data, size, unit)`` in one OME-TIFF, each with its own pixel size."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for data, size, unit in images:
            sizes = {f"PhysicalSize{axis}": size for axis in "XY"}
            sizes |= {f"PhysicalSize{axis}Unit": unit for axis in "XY" if unit}
            tif.write(data, photometric="minisblack", metadata={"axes": "TYX"[-data.ndim :], **sizes})


def imagej(path, per_unit, unit, data=IMAGE):
    tifffile.imwrite(path, data, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})


def resolution(path, per_unit, unit):
    tifffile.imwrite(path, IMAGE, resolution=(per_unit, per_unit), resolutionunit=unit)


def series_tiff(path, options):
    tifffile.imwrite(path, STACK, photometric="minisblack", **options)


def tagged(path, *tags, **options):
    """A TIFF with private tags ``(code, text or bytes or float64)``."""
    rows = []
    for code, value in tags:
        kind = {str: 2, bytes: 7, float: 12}[type(value)]
        count = 1 if kind == 12 else len(value) + (kind == 2)
        rows.append((code, kind, count, value, True))
    tifffile.imwrite(path, IMAGE, extratags=rows, metadata=None, **options)


def gatan_tiff(path, unit):
    tagged(path, (65003, unit), (65004, unit), (65009, 0.02), (65010, 0.02))


def fei_xml_tiff(path, unit="m", scale=2e-11, tag=34682):
    side = f'<{{0}} unit="{unit}" unitPrefixPower="1">{scale}</{{0}}>'
    tagged(path, (tag, f"<Metadata><PixelSize>{side.format('X')}{side.format('Y')}</PixelSize></Metadata>"))


def jeol_tiff(path, mode="MAG", magnification=1_000_000):
    """SightX: 20 µm on the camera."""
    text = (
        "<?xml version='1.0'?><TemReporter><Eos><EosMode>eosTEM</EosMode></Eos><ImageFormingSystem>"
        f"<ModeString>{mode}</ModeString><SelectorValue>{magnification}</SelectorValue></ImageFormingSystem></TemReporter>"
    )
    tagged(path, (271, "JEOL Ltd."), description=text, resolution=(500, 500), resolutionunit="CENTIMETER")


def ser(path, frames, step):
    """TIA's format: a header, images with their calibration (m), offsets of them, all little endian."""
    codes = {"uint8": 1, "uint16": 2, "float32": 7}
    frames = np.asarray(frames)
    count = len(frames)
    head = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, count, count, 0, 1)
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
    table = struct.pack(f"<{2 * count}I", *offsets, *tags)
    head = head[:22] + struct.pack("<I", start + len(body)) + head[26:]
    path.write_bytes(head + dimension + body + table)


def mrc(
    path,
    data,
    mode=6,
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


def fei_mrc(path, side=2e-11):
    """The size of a pixel stands in the extended header."""
    extended = bytes(156) + struct.pack("<2d", side, side) + bytes(596)
    mrc(path, IMAGE, cell=(64, 48, 1), extended=extended, kind=b"FEI1")


def ncem_emd(path, data, names=("y", "x"), units=("[n_m]", "[n_m]"), step=0.02, first=1):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        for k, (n, name, unit) in enumerate(zip(data.shape, names, units, strict=True), first):
            group[f"dim{k}"] = step * np.arange(n)
            group[f"dim{k}"].attrs.update(name=name, units=unit)


def velox_emd(path, images, pixel=("m", "2e-11"), spectra=False):
    """One group an image, (y, x, frames), JSON metadata as bytes."""
    h5py = pytest.importorskip("h5py")
    unit, size = pixel
    side, images = {"width": size, "height": size}, images if isinstance(images, list) else [images]
    about = {"BinaryResult": {"PixelSize": side, "PixelUnitX": unit, "PixelUnitY": unit, "Detector": "HAADF"}}
    text = np.frombuffer(json.dumps(about).encode() + bytes(9), np.uint8)
    with h5py.File(path, "w") as file:
        file["Version"] = [b'{"format": "Velox"}']
        for number, data in enumerate(images):
            frames = np.moveaxis(data.reshape(-1, *data.shape[-2:]), 0, -1)
            file[f"Data/Image/{number:032x}/Data"] = frames
            file[f"Data/Image/{number:032x}/Metadata"] = np.repeat(text[:, None], frames.shape[2], axis=1)
        if spectra:
            file["Data/SpectrumImage/c/Data"] = np.zeros((500, 1), np.uint8)
            file["Data/SpectrumStream/c/Data"] = np.zeros((500, 1), np.uint16)
            file["Data/Spectrum/c/Data"] = np.zeros((4096, 1), np.uint32)


def hspy(path, data, axes):
    """By RosettaSciIO; `axes` are ``(name, scale, unit, whether it is one of navigation)``."""
    api = pytest.importorskip("rsciio.hspy")
    keys = ("name", "scale", "units", "navigate")
    described = [
        {"_type": "UniformDataAxis", "offset": 0.0, "size": size, **dict(zip(keys, axis, strict=True))}
        for axis, size in zip(axes, data.shape, strict=True)
    ]
    signal = {
        "data": data,
        "axes": described,
        "metadata": {"General": {"title": "crystal"}, "Signal": {"signal_type": ""}},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {"package": "hyperspy", "package_version": "2.0"},
        **{key: {} for key in ("original_metadata", "learning_results", "tmp_parameters", "models")},
    }
    api.file_writer(str(path), signal)


def old_hspy(path, data, scale, units=None):
    """Without units, as older versions of HyperSpy wrote it."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("Experiments/__unnamed__")
        group["data"] = data
        for k, n in enumerate(data.shape):
            about = {"size": n, "offset": 0.0, "navigate": False, "scale": scale}
            group.create_group(f"axis-{k}").attrs.update(about if units is None else about | {"units": units})


def ndata(path, data, unit="nm", scale=0.02, key="spatial_calibrations", **values):
    sides = [{"offset": 0.0, "scale": scale, "units": unit} for _ in data.shape]
    buffer = io.BytesIO()
    np.save(buffer, data)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("data.npy", buffer.getvalue())
        archive.writestr("metadata.json", json.dumps({"version": 1, key: sides, **values}))


def zarr(path, data, chunks=None, version=2, **options):
    """An array."""
    library = pytest.importorskip("zarr")
    chunks = chunks or (1,) * (data.ndim - 2) + (20, 30)
    library.create_array(path, data=data, chunks=chunks, zarr_format=version, **options)


def ome_zarr(path, data, unit="nanometer", scale=0.02):
    """Two levels of resolution."""
    levels, more = [], data.ndim - 2
    for k in range(2):
        zarr(path / str(k), data[..., :: 2**k, :: 2**k])
        change = {"type": "scale", "scale": [1.0] * more + [scale * 2**k] * 2}
        levels.append({"path": str(k), "coordinateTransformations": [change]})
    axes = [{"name": "t", "type": "time"}] * more + [{"name": a, "unit": unit, "type": "space"} for a in "yx"]
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    about = {"multiscales": [{"axes": axes, "datasets": levels, "version": "0.4"}]}
    (path / ".zattrs").write_text(json.dumps(about))


def zspy(path, data):
    group = path / "Experiments" / "crystal"
    zarr(group / "data", data)
    folders = [group, group.parent, path]
    for k, (unit, navigate) in enumerate((("s", True), ("nm", False), ("nm", False))[-data.ndim :]):
        folders.append(group / f"axis-{k}")
        folders[-1].mkdir()
        (folders[-1] / ".zattrs").write_text(json.dumps({"scale": 0.02, "units": unit, "navigate": navigate}))
    for folder in folders:
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
