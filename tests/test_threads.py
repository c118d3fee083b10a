"""Threads: results in order, and none where operations are small."""

import threading

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

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


def test_linear_algebra_keeps_to_one_thread_until_the_last_leaves():
    """Else an analysis that ends gives its threads back to another, whose sums are then rounded otherwise."""

    def counts():
        return {
            library.num_threads
            for library in ThreadpoolController().lib_controllers
            if library.user_api == "blas"
        }

    if not counts():
        pytest.skip("the library for linear algebra here cannot be limited")
    with threadpool_limits(2, user_api="blas"):
        first, second = threads.own_threads(), threads.own_threads()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert counts() == {1}
        second.__exit__(None, None, None)
        assert counts() == {2}
