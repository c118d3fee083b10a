"""Even samples of large maps."""

import numpy as np
import pytest

from napari_hrstem_defects.core.preprocessing import ENOUGH, even_sample


@pytest.mark.parametrize("shape", [(7,), (300, 400), (1024, 1024), (100, 5000), (2_000_000,)])
def test_size(shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    sample = even_sample(values)
    assert sample.ndim == 1
    assert np.isin(sample, values).all()
    assert len(np.unique(sample)) == len(sample)
    assert min(values.size, ENOUGH // 2) <= len(sample) <= max(4 * ENOUGH, 2 * ENOUGH)


def test_small_arrays_whole():
    values = np.random.default_rng(1).normal(size=(300, 400))
    assert np.array_equal(np.sort(even_sample(values)), np.sort(values.ravel()))


def test_quantiles_of_a_large_map():
    values = np.random.default_rng(2).normal(size=(1500, 2100)).astype(np.float32)
    found = np.quantile(even_sample(values), (0.16, 0.5, 0.84))
    assert found == pytest.approx(np.quantile(values, (0.16, 0.5, 0.84)), abs=0.02)


def test_both_halves_count():
    values = np.zeros((2048, 2048), np.float32)
    values[:1000] = 1
    assert even_sample(values).mean() == pytest.approx(1000 / 2048, abs=0.01)
