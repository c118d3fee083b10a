"""Input: what is refused says why in one sentence, what is accepted is finite and scaled."""

import hashlib

import numpy as np
import pytest

from napari_hrstem_defects.core.errors import HrstemDefectsError, MicrographError
from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX, Micrograph

RNG = np.random.default_rng(0)
GREY = RNG.normal(100, 10, (80, 90))


def assert_refused(make, *said):
    with pytest.raises(MicrographError) as caught:
        make()
    message = str(caught.value)
    assert isinstance(caught.value, HrstemDefectsError)
    assert message.startswith("sample")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 250
    for text in said:
        assert text in message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GREY > 100, "boolean"),
        (GREY * 1j, "complex"),
        (GREY.astype(np.complex64), "complex"),
        (GREY[0], "(90,)"),
        (np.float64(3.0), "()"),
        (np.zeros((0, 0)), "empty"),
        (np.zeros((0, 80, 90)), "empty"),
        (np.zeros((2, 3, 80, 90)), "(2, 3, 80, 90)"),
        (GREY[: MIN_SIDE_PX - 1], f"{MIN_SIDE_PX - 1} × 90"),
        (GREY.astype(str), "real numbers"),
        (GREY.astype(object), "real numbers"),
        (np.zeros((80, 90), "datetime64[s]"), "real numbers"),
        ([[1, 2], [3]], "rectangular"),
        (RNG.integers(0, 255, (80, 90, 3), np.uint8), "colour"),
        (RNG.integers(0, 255, (80, 90, 4), np.uint8), "colour"),
    ],
)
def test_refused_at_once(data, said):
    assert_refused(lambda: Micrograph(data, name="sample"), said)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.full((80, 90), 7, np.uint8), "same value (7)"),
        (np.full((80, 90), np.nan), "no pixel has a finite value"),
        (np.full((80, 90), np.inf), "no pixel has a finite value"),
        (np.where(GREY > 98, np.nan, GREY), "% of the pixels are NaN"),
        (np.where(GREY > 95, np.nan, 3.0), "% of the pixels"),
        (np.where(GREY > 112, np.nan, 3.0), "same value (3)"),
    ],
)
def test_refused_when_looked_at(data, said):
    assert_refused(Micrograph(data, name="sample").frame, said)


def test_refused_frame_of_a_series_is_named():
    stack = np.stack([GREY, np.zeros_like(GREY)])
    assert_refused(lambda: Micrograph(stack, name="sample").frame(1), "frame 1", "same value")
    assert_refused(lambda: Micrograph(stack, name="sample").frame(2), "frame 2", "2 frames")
    assert_refused(lambda: Micrograph(stack, name="sample").frame(-3), "2 frames")


@pytest.mark.parametrize("size", [0, -1, np.nan, np.inf])
def test_pixel_size_must_be_a_length(size):
    assert_refused(lambda: Micrograph(GREY, size, "sample"), "pixel size")


@pytest.mark.parametrize(
    "dtype",
    [
        np.uint8,
        np.int8,
        np.uint16,
        np.int16,
        np.uint32,
        np.int32,
        np.uint64,
        np.int64,
        np.float16,
        np.float32,
        np.float64,
        ">u2",
        ">f4",
    ],
)
def test_types_are_scaled_to_unit_range(dtype):
    data = (GREY - 90).astype(dtype) if np.dtype(dtype).kind != "u" else GREY.astype(dtype)
    frame = Micrograph(data).frame()
    expected = (data.astype(float) - data.min()) / (float(data.max()) - float(data.min()))
    np.testing.assert_allclose(frame.pixels, expected, atol=1e-6)
    assert frame.pixels.dtype == np.float32
    assert frame.valid.all()
    assert frame.notices == ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ((GREY > 100).astype(np.uint32) * np.uint32(2**32 - 1), GREY > 100),
        ((GREY > 100).astype(np.uint64) * np.uint64(2**64 - 1), GREY > 100),
        (np.where(GREY > 100, np.finfo(float).max, np.finfo(float).min), GREY > 100),
        (np.where(GREY > 100, 3e-308, 1e-308), GREY > 100),
        (np.where(GREY > 100, 5e-324, 0.0), GREY > 100),
        (np.where(GREY > 100, np.finfo(np.float32).max, np.finfo(np.float32).min).astype("f4"), GREY > 100),
        (np.where(GREY > 100, -(2**63), 2**63 - 1), ~(GREY > 100)),
    ],
    ids=[
        "uint32",
        "uint64",
        "float64 extremes",
        "float64 tiny",
        "float64 subnormal",
        "float32 extremes",
        "int64 extremes",
    ],
)
def test_extreme_ranges(data, expected):
    np.testing.assert_allclose(Micrograph(data).frame().pixels, expected, atol=1e-6)


def test_small_steps_on_a_large_uint32_offset_survive():
    data = (4_000_000_000 + np.indices((80, 90))[1]).astype(np.uint32)
    pixels = Micrograph(data).frame().pixels
    np.testing.assert_allclose(pixels, np.tile(np.arange(90) / 89, (80, 1)), atol=1e-6)


def test_missing_pixels_are_filled_from_the_nearest():
    data = np.tile(np.arange(90.0), (80, 1))
    data[10:15, 20:25] = np.nan
    data[40, 50] = np.inf
    data[41, 50] = -np.inf
    frame = Micrograph(data, name="sample").frame()
    np.testing.assert_array_equal(frame.valid, np.isfinite(data))
    # Two columns from the left edge, two from the right: 19 or 25, in the middle either.
    assert frame.pixels[12, 20] * 89 == pytest.approx(19, abs=1e-4)
    assert frame.pixels[12, 24] * 89 == pytest.approx(25, abs=1e-4)
    assert frame.pixels[40, 50] * 89 + 1e-4 >= 49
    assert frame.pixels[40, 50] * 89 <= 51 + 1e-4
    assert len(frame.notices) == 1
    assert "27 pixels were NaN or infinite" in frame.notices[0]


def test_single_missing_pixel_in_words():
    data = GREY.copy()
    data[5, 5] = np.nan
    assert Micrograph(data).frame().notices == (
        "1 pixel was NaN or infinite and filled from the neighbours.",
    )


def test_grey_picture_with_channels():
    plane = RNG.integers(0, 255, (80, 90), np.uint8)
    for channels in (3, 4):
        data = np.repeat(plane[..., None], channels, axis=2)
        if channels == 4:
            data[..., 3] = 255
        micrograph = Micrograph(data)
        assert micrograph.shape == (80, 90)
        assert "colour channels" in micrograph.notices[0]
        np.testing.assert_array_equal(np.asarray(micrograph.data), plane)


def test_axes_of_length_one_are_dropped():
    micrograph = Micrograph(GREY[None, None])
    assert micrograph.shape == micrograph.frame_shape == (80, 90)
    assert not micrograph.is_stack
    assert len(micrograph) == 1
    assert next(iter(micrograph)) is micrograph


def test_nested_lists_are_an_image():
    assert Micrograph(GREY.tolist()).frame_shape == (80, 90)


def test_series():
    stack = np.stack([GREY + t for t in range(4)])
    micrograph = Micrograph(stack, 0.02, "sample", {"who": "me"})
    assert micrograph.is_stack
    assert (len(micrograph), micrograph.frame_shape) == (4, (80, 90))
    frames = list(micrograph)
    assert [f.name for f in frames] == [f"sample[{t}]" for t in range(4)]
    assert all(f.pixel_size_nm == 0.02 and f.metadata == {"who": "me"} for f in frames)
    np.testing.assert_array_equal(frames[2].data, stack[2])
    np.testing.assert_allclose(micrograph.frame(-1).pixels, micrograph.frame(3).pixels)


def test_lazy_series_loads_one_frame():
    da = pytest.importorskip("dask.array")
    loaded = []

    def block(block_info=None):
        t = block_info[None]["chunk-location"][0]
        loaded.append(t)
        return (GREY + t)[None]

    lazy = da.map_blocks(block, chunks=((1,) * 5, (80,), (90,)), dtype=float, meta=np.empty((0, 0, 0)))
    micrograph = Micrograph(lazy)
    frames = list(micrograph)
    assert (len(micrograph), len(frames), loaded) == (5, 5, [])
    micrograph.frame(3)
    assert loaded == [3]
    frames[1].frame()
    assert loaded == [3, 1]


def test_sha256_is_of_type_shape_and_pixels():
    data = RNG.integers(0, 60000, (80, 90)).astype(np.uint16)
    expected = hashlib.sha256(b"<u2(80, 90)" + data.tobytes()).hexdigest()
    assert Micrograph(data).sha256 == expected
    # Laid out otherwise in memory, the same pixels.
    assert Micrograph(np.asfortranarray(data)).sha256 == expected
    assert Micrograph(data.astype(np.int32)).sha256 != expected
    assert Micrograph(data.T.copy()).sha256 != expected
    changed = data.copy()
    changed[79, 89] ^= 1
    assert Micrograph(changed).sha256 != expected


def test_input_is_left_alone():
    data = GREY.copy()
    data[3, 3] = np.nan
    before = data.copy()
    Micrograph(data).frame()
    np.testing.assert_array_equal(data, before)
