"""Input: what is refused says why in one sentence, what is accepted is finite and scaled."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.micrograph import MIN_SIDE_PX, Micrograph
from napari_hrstem_defects.errors import HrstemDefectsError, MicrographError

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
        (np.where(GREY > 98, np.nan, GREY), "% of the pixels are not finite"),
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


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u8", "f2", "f4", "f8", ">u2", ">f4"])
def test_types_are_scaled_to_unit_range(dtype):
    data = (GREY - 90).astype(dtype) if np.dtype(dtype).kind != "u" else GREY.astype(dtype)
    frame = Micrograph(data).frame()
    expected = (data.astype(float) - data.min()) / (float(data.max()) - float(data.min()))
    np.testing.assert_allclose(frame.pixels, expected, atol=1e-6)
    assert frame.pixels.dtype == np.float32
    assert frame.valid.all()
    assert frame.notices == ()


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 2**32 - 1, "u4"),
        (0, 2**64 - 1, "u8"),
        (-(2**63), 2**63 - 1, "i8"),
        (np.finfo("f4").min, np.finfo("f4").max, "f4"),
        (np.finfo("f8").min, np.finfo("f8").max, "f8"),
        (1e-308, 3e-308, "f8"),
        (0.0, 5e-324, "f8"),
    ],
)
def test_extreme_ranges(low, high, dtype):
    data = np.where(GREY > 100, np.array(high, dtype), np.array(low, dtype))
    assert data.dtype == dtype
    np.testing.assert_allclose(Micrograph(data).frame().pixels, GREY > 100, atol=1e-6)


def test_small_steps_on_a_large_offset_survive():
    data = (4_000_000_000 + np.indices((80, 90))[1]).astype(np.uint32)
    np.testing.assert_allclose(Micrograph(data).frame().pixels[0], np.arange(90) / 89, atol=1e-6)


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


def lattice(shape=(320, 300), period=14.0, noise=0.05, seed=1):
    """Bright columns on a square lattice, with noise, 0 to 255."""
    y, x = np.indices(shape) / period
    columns = np.exp(-((y - np.round(y)) ** 2 + (x - np.round(x)) ** 2) / 0.08)
    noisy = columns + noise * np.random.default_rng(seed).normal(size=shape)
    return 255 * (noisy - noisy.min()) / np.ptp(noisy)


def found(data, truth, rim=4):
    """Share of the truth that is not valid, and share not valid of what is further than `rim` px from it."""
    invalid = ~Micrograph(data, name="sample").frame().valid
    far = ~ndimage.binary_dilation(truth, np.ones((3, 3)), iterations=rim)
    return invalid[truth].mean(), invalid[far].mean()


def shifted(image):
    truth = np.zeros(image.shape, bool)
    truth[:11] = truth[:, :17] = True
    return np.where(truth, 0, image), truth


def narrow(image):
    truth = np.zeros(image.shape, bool)
    truth[:, -2:] = True
    return np.where(truth, 0, image), truth


def turned(image):
    truth = ndimage.rotate(np.ones(image.shape), 8, reshape=False, order=1) < 0.5
    return np.where(truth, 0, ndimage.rotate(image, 8, reshape=False, order=1)), truth


def black_bar(image):
    """An info bar: writing as random strokes of two pixels, and a scale bar."""
    bar = np.zeros((56, image.shape[1]))
    strokes = RNG.random((8, 60)) < 0.5
    bar[16:32, 20:140] = 255 * np.kron(strokes, np.ones((2, 2)))
    bar[42:46, 200:280] = 255
    data = np.vstack([image, bar])
    return data, np.arange(len(data))[:, None] + np.zeros(image.shape[1]) >= len(image)


def white_bar(image):
    data, truth = black_bar(image)
    return np.where(truth, 255 - data, data), truth


def scale_bar(image):
    truth = np.zeros(image.shape, bool)
    truth[290:294, 20:100] = True
    truth[265:283, 50:53] = truth[265:268, 50:62] = truth[280:283, 50:62] = True
    return np.where(truth, 255, image), truth


def letters(image):
    """Words far from any bar, with soft edges, and an arrow."""
    size = np.array([22, 16])
    strokes = {
        "E": [(0, 0, 22, 4), (0, 0, 4, 16), (9, 0, 13, 13), (18, 0, 22, 16)],
        "L": [(0, 0, 22, 4), (18, 0, 22, 16)],
        "T": [(0, 0, 4, 16), (0, 6, 22, 10)],
        "O": [(0, 0, 22, 4), (0, 12, 22, 16), (0, 0, 4, 16), (18, 0, 22, 16)],
    }
    ink = np.zeros(image.shape)
    for row, word in ((20, "LETO"), (150, "TOLE"), (280, "OTE")):
        for number, letter in enumerate(word):
            for y0, x0, y1, x1 in strokes[letter]:
                y, x = row, 20 + number * (size[1] + 6)
                ink[y + y0 : y + y1, x + x0 : x + x1] = 1
    ink[200:204, 200:260] = ink[160:204, 200:204] = 1
    truth = ink > 0.5
    ink = ndimage.gaussian_filter(ink, 0.5)
    return image * (1 - ink) + 255 * ink, truth


def dead_line(image):
    truth = np.zeros(image.shape, bool)
    truth[:, 101] = True
    return np.where(truth, 0, image), truth


def blob(image):
    y, x = np.indices(image.shape)
    truth = (y - 150) ** 2 + (x - 170) ** 2 < 15**2
    return np.where(truth, 255, image), truth


@pytest.mark.parametrize(
    "make",
    [shifted, narrow, turned, black_bar, white_bar, scale_bar, letters, dead_line, blob],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_no_micrograph_is_not_valid(make, dtype):
    data, truth = make(lattice())
    hit, false = found(data.astype(dtype), truth)
    assert hit > 0.9
    assert false < 0.01


@pytest.mark.parametrize("make", [shifted, white_bar, scale_bar, letters], ids=lambda f: f.__name__)
def test_what_jpeg_leaves_of_it_is_not_valid(make):
    data, truth = make(lattice())
    packed = io.BytesIO()
    Image.fromarray(data.astype(np.uint8)).save(packed, "JPEG", quality=75)
    hit, false = found(np.asarray(Image.open(packed)), truth)
    assert hit > 0.9
    assert false < 0.01


@pytest.mark.parametrize(
    "data",
    [
        lattice(),
        np.clip(lattice(), 90, 255),  # a dark level cut off: the background is a network of one value
        np.clip(lattice(noise=0.01), 30, 255),
        np.clip(lattice(), 0, 120),  # saturated columns
        np.clip(lattice(period=50.0), 0, 150),
        np.clip(lattice(period=25.0) * np.linspace(0.3, 3, 300), 0, 255),  # saturated where it is thick
        np.random.default_rng(0).poisson(0.02, (512, 512)),  # vacuum: hardly a count
        np.tile(np.sin(np.arange(300)), (320, 1)),  # fringes without noise: equal along one axis
    ],
    ids=[
        "plain",
        "clipped",
        "clipped clean",
        "saturated",
        "saturated large",
        "saturated part",
        "vacuum",
        "fringes",
    ],
)
def test_what_the_image_repeats_is_valid(data):
    frame = Micrograph(data.astype(np.float32)).frame()
    assert frame.valid.all()
    assert frame.notices == ()


def test_saturated_columns_of_a_particle_are_valid():
    """They lie in a small part of the image only, as letters do."""
    y, x = np.indices((400, 400))
    rows, columns = np.mgrid[140:260:28, 140:260:32].reshape(2, -1)
    image = np.zeros(y.shape)
    for shift in (0, 11):
        for row, column in zip(rows, columns, strict=True):
            image += np.exp(-((y - row) ** 2 + (x - column - shift) ** 2) / 30)
    image += 0.05 * np.random.default_rng(0).normal(size=image.shape)
    assert Micrograph(np.minimum(image, 0.7).astype(np.float32)).frame().valid.all()


def test_parts_left_out_are_said():
    def notice(data):
        (only,) = Micrograph(data.astype(np.float32)).frame().notices
        return only

    image = lattice()
    # Two pixels of margin: 1 - (309 - 2) (283 - 2) / (320 · 300) = 10.1 %
    assert notice(shifted(image)[0]) == (
        "10 % of the image (a border at the top and left) hold no image and are left out."
    )
    assert "an info bar at the bottom" in notice(black_bar(image)[0])
    assert "marks inside" in notice(scale_bar(image)[0])


def test_values_of_the_image_alone_set_the_scale():
    image = lattice() + 1000
    frame = Micrograph(np.where(shifted(image)[1], 0, image)).frame()
    # Scaled with the border, all of the image would lie between 0.8 and 1.
    valid = frame.pixels[frame.valid]
    assert (valid.min(), valid.max()) == (0, 1)
    # Far from the image, the mean and no pattern.
    assert frame.pixels[0, 0] == pytest.approx(frame.pixels[frame.valid].mean(), abs=0.1)


def test_hot_and_dead_pixels_take_the_median_of_those_around():
    """X-rays that hit a camera: alone, or two or three pixels together."""
    image, hot = lattice(), lattice()
    places = np.array([(5, 7), (40, 40), (40, 41), (41, 40), (90, 0), (200, 250)])
    hot[tuple(places.T)] += np.array([20, 20, 15, 15, 40, -20]) * np.ptp(image)
    frame, clean = Micrograph(hot).frame(), Micrograph(image).frame()
    assert frame.notices == ("6 hot or dead pixels took the median of those around.",)
    assert frame.valid.all()
    assert (frame.pixels.min(), frame.pixels.max()) == (0, 1)
    other = np.ones(image.shape, bool)
    other[tuple(places.T)] = False
    np.testing.assert_allclose(frame.pixels[other], clean.pixels[other], atol=0.02)
    found = hd.analyze(Micrograph(hot))
    assert not found.labels.any()


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).poisson(0.02, (256, 256)),
        np.random.default_rng(0).poisson(2.0, (256, 256)),
        # A heavy atom on a light crystal is as wide as all columns.
        lattice() + 3000 * np.exp(-((np.indices(lattice().shape) - 100.3) ** 2).sum(axis=0) / (2 * 0.8**2)),
    ],
    ids=["sparse counts", "counts", "heavy atom"],
)
def test_what_noise_and_columns_make_is_no_hot_pixel(image):
    assert not Micrograph(image.astype(np.float32)).frame().notices


def test_hardly_any_image_is_refused():
    data = np.zeros((100, 100))
    data[40:60, 40:60] = RNG.normal(size=(20, 20))
    assert_refused(Micrograph(data, name="sample").frame, "nearly all of the image is constant")
