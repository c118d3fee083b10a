"""Threads: results in order, and none where operations are small."""

import threading

import pytest

from napari_hrstem_defects import threads


@pytest.mark.parametrize("pixels", [100, 10**7])
def test_results_in_order_and_errors_come_through(monkeypatch, pixels):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert list(threads.side_by_side(lambda n: n * n, range(20), pixels=pixels)) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(threads.side_by_side(lambda n: 1 / n, [1, 0, 2], pixels=pixels))


def test_small_operations_stay_in_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads.threads_for(1000) == 1
    assert threads.threads_for(10**7) == 4
    seen = set(threads.side_by_side(lambda _: threading.get_ident(), range(8), pixels=1000))
    assert seen == {threading.get_ident()}
    barrier = threading.Barrier(4, timeout=20)

    def together(_):
        barrier.wait()
        return threading.get_ident()

    assert len(set(threads.side_by_side(together, range(4), pixels=10**7))) == 4
