"""The networks: VGG16 as published, the compact one, what they are given."""

import itertools
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from napari_hrstem_defects.errors import Cancelled, ModelError
from napari_hrstem_defects.models import compact, vgg16
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.options import LEAST_PATCH_PX

pytestmark = pytest.mark.keras

#: Blocks of table B.3 of Dennler et al. (2021): channels that come in and go out, convolutions of 3 × 3.
BLOCKS = [(3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3)]
#: Its convolutions: name, channels that come in and go out.
CONVOLUTIONS = [
    (f"block{block}_conv{k}", before if k == 1 else after, after)
    for block, (before, after, count) in enumerate(BLOCKS, 1)
    for k in range(1, count + 1)
]


def test_vgg16_is_table_b3():
    """A convolution from a to b channels has 9ab + b parameters, a dense layer from a to b units ab + b."""
    network = vgg16.build_vgg16(None)
    rows = [("input_1", (128, 128, 3), 0)]
    for block, (_, channels, _) in enumerate(BLOCKS, 1):
        side = 128 // 2 ** (block - 1)
        own = (row for row in CONVOLUTIONS if row[0].startswith(f"block{block}_"))
        rows += [(name, (side, side, b), 9 * a * b + b) for name, a, b in own]
        rows.append((f"block{block}_pool", (side // 2, side // 2, channels), 0))
    rows.append(("flatten_1", (8192,), 0))
    for k, (a, b) in enumerate(itertools.pairwise((8192, 1024, 1024, 512)), 1):
        rows += [(f"dense_{k}", (b,), a * b + b), (f"dropout_{k}", (b,), 0)]
    rows.append(("dense_4", (2,), 512 * 2 + 2))
    found = [(layer.name, tuple(layer.output.shape[1:]), layer.count_params()) for layer in network.layers]
    assert found == rows
    assert network.count_params() == 24_679_746
    assert [layer.rate for layer in network.layers if "dropout" in layer.name] == [0.5] * 3
    assert network.layers[-1].activation.__name__ == "softmax"


@pytest.mark.parametrize("train_base", [False, True])
def test_base_frozen_or_trained(train_base):
    network = vgg16.build_vgg16(None, patch_px=32, train_base=train_base, dense=(4,))
    count = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert count == (14_714_688 if train_base else 0) + 512 * 4 + 4 + 4 * 2 + 2


def published_file(path, leave_out=""):
    """A file in the layout of vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5, its weights random."""
    rng = np.random.default_rng(0)
    weights = {
        name: [0.02 * rng.standard_normal((3, 3, a, b), np.float32), rng.standard_normal(b, np.float32)]
        for name, a, b in CONVOLUTIONS
    }
    pools = {f"block{block}_pool": [] for block in range(1, len(BLOCKS) + 1)}
    with h5py.File(path, "w") as file:
        names = sorted((weights | pools).keys() - {leave_out})
        file.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            group = file.create_group(name)
            held = dict(zip((f"{name}_W_1:0", f"{name}_b_1:0"), weights.get(name, ()), strict=False))
            group.attrs["weight_names"] = np.array([member.encode() for member in held])
            for member, values in held.items():
                group.create_dataset(member, data=values)
    return weights


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_weights_as_they_are_published(tmp_path):
    name = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    weights = published_file(tmp_path / name)
    network = vgg16.build_vgg16(tmp_path / name, patch_px=32, dense=(4,))
    assert len(weights) == 13
    for layer, held in weights.items():
        for found, expected in zip(network.get_layer(layer).get_weights(), held, strict=True):
            np.testing.assert_array_equal(found, expected)
    # What the first layer makes of a patch, by hand: the correlation with its kernel, its bias, no negative values.
    patch = np.random.default_rng(1).uniform(0, 1, (1, 32, 32)).astype(np.float32)
    first = keras().Model(network.input, network.get_layer("block1_conv1").output)
    given = kind_of("vgg16").network_input(patch)
    kernel, bias = weights["block1_conv1"]
    expected = max(0.0, float((given[0, 9:12, 4:7, :, None] * kernel).sum(axis=(0, 1, 2))[5] + bias[5]))
    assert np.asarray(first(given))[0, 10, 5, 5] == pytest.approx(expected, rel=1e-4, abs=1e-3)


def linked(file, kernel):
    del file[kernel]
    file[kernel] = h5py.ExternalLink("other.h5", kernel)


def soft_linked(file, kernel):
    file["elsewhere"] = h5py.SoftLink("/" + kernel)


def stored_outside(file, kernel):
    shape = file[kernel].shape
    del file[kernel]
    file.create_dataset(kernel, shape, "f4", external=[("other.bin", 0, h5py.h5f.UNLIMITED)])


def virtual(file, kernel):
    layout = h5py.VirtualLayout(file[kernel].shape, "f4")
    layout[...] = h5py.VirtualSource("other.h5", kernel, file[kernel].shape)
    del file[kernel]
    file.create_virtual_dataset(kernel, layout)


@pytest.mark.parametrize("change", [linked, soft_linked, stored_outside, virtual])
def test_weights_that_lie_in_another_file_are_refused(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    published_file("other.h5")
    (tmp_path / "other.bin").write_bytes(bytes(4 * 3 * 3 * 3 * 64))
    published_file("base.h5")
    kernel = "block1_conv1/block1_conv1_W_1:0"
    with h5py.File("base.h5", "r+") as file:
        change(file, kernel)
    with pytest.raises(
        ModelError, match=r"base.h5: these are no weights .*\(its member \S+ lies in another place\)"
    ):
        vgg16.build_vgg16("base.h5", patch_px=32, dense=(4,))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("wrong.h5", "wrong.h5: these are no weights of the convolutional base of VGG16"),
        ("short.h5", "short.h5: these are no weights of the convolutional base of VGG16"),
    ],
)
def test_wrong_weights(tmp_path, monkeypatch, weights, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.h5").write_bytes(b"no weights")
    published_file("short.h5", leave_out="block5_conv3")
    with pytest.raises(ModelError, match=message):
        vgg16.build_vgg16(weights, patch_px=32)


def test_small_patches_are_refused():
    with pytest.raises(ModelError, match="at least 32 px, not 31"):
        vgg16.build_vgg16(None, patch_px=31)


def test_vgg16_input_is_that_of_keras():
    patches = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    grey = np.repeat(patches[..., None] * 254, 3, axis=-1)
    expected = keras().applications.vgg16.preprocess_input(grey.copy())
    np.testing.assert_allclose(kind_of("vgg16").network_input(patches), expected, atol=1e-3)


def test_compact():
    network = compact.build_compact()
    assert network.input_shape == (None, 128, 128, 1)
    assert network.output_shape == (None, 2)
    assert compact.build_compact(LEAST_PATCH_PX).get_layer("block4_pool").output.shape == (None, 1, 1, 128)


def test_compact_input_has_no_brightness_or_contrast():
    patches = np.random.default_rng(0).random((3, 16, 16)).astype(np.float32)
    out = kind_of("compact").network_input(patches)
    assert out.shape == (3, 16, 16, 1)
    np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=(1, 2, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(kind_of("compact").network_input(0.3 * patches + 0.2), out, atol=1e-3)
    assert np.isfinite(kind_of("compact").network_input(np.ones((1, 16, 16), np.float32))).all()


def test_prediction_does_not_depend_on_company():
    model = SimpleNamespace(networks={"compact": compact.build_compact(32)})
    patches = np.random.default_rng(0).random((70, 32, 32)).astype(np.float32)
    together = kind_of("compact").predict(model, patches)
    assert together.shape == (70, 2)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(kind_of("compact").predict(model, patches[66:69]), together[66:69], atol=1e-5)
    assert kind_of("compact").predict(model, patches[:0]).shape == (0, 2)
    with pytest.raises(Cancelled):
        kind_of("compact").predict(model, patches, cancelled=lambda: True)
