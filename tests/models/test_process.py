"""The process in which Keras runs."""

import importlib
import operator
import os
import subprocess
import sys
import time

import pytest

from napari_hrstem_defects.errors import Cancelled, ModelError, ReadError
from napari_hrstem_defects.io.loading import load_info
from napari_hrstem_defects.models.process import KerasProcess

# What the process runs must be importable there.
FUNCTIONS = """
import time

def deaf(cancelled):
    time.sleep(60)

def counts(progress):
    for number in range(3):
        progress(number, "text")
    return "done"

def best_so_far(progress, cancelled):
    progress()
    while not cancelled():
        time.sleep(0.01)
    return "what there is"
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("functions")
    (folder / "functions_of_a_test.py").write_text(FUNCTIONS)
    # The child gets the path of this process.
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("functions_of_a_test")
    finally:
        sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def process(functions):
    with KerasProcess() as process:
        yield process


def test_runs_elsewhere_and_stays(process):
    first = process.call(os.getpid)
    assert first != os.getpid()
    assert process.call(operator.add, 2, 3) == 5
    assert process.call(os.getpid) == first


def test_errors_come_back_as_themselves(process, tmp_path):
    with pytest.raises(ReadError, match=r"no\.json: the file cannot be read") as caught:
        process.call(load_info, tmp_path / "no.json")
    assert "In the process of Keras" in caught.value.__notes__[0]
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        process.call(operator.truediv, 1, 0)
    assert process.call(operator.add, 2, 3) == 5


def test_what_cannot_travel_back_is_an_error(process):
    with pytest.raises((TypeError, AttributeError, RuntimeError), match="pickle"):
        process.call(operator.attrgetter("__dict__"), operator)
    assert process.call(operator.add, 2, 3) == 5


def test_progress_comes_through(process, functions):
    told = []
    assert process.call(functions.counts, progress=lambda *values: told.append(values)) == "done"
    assert told == [(0, "text"), (1, "text"), (2, "text")]


def test_who_listens_may_return_what_there_is(process, functions):
    begun = []
    answer = process.call(
        functions.best_so_far,
        progress=lambda: begun.append(True),
        cancelled=lambda: bool(begun),
        grace_s=30,
    )
    assert answer == "what there is"
    assert process.alive


def test_who_does_not_listen_is_ended_within_a_second(process, functions):
    process.call(os.getpid)
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        process.call(functions.deaf, cancelled=lambda: True)
    assert time.monotonic() - begin < 5  # one second, and what a busy machine adds
    assert not process.alive
    assert process.call(operator.add, 2, 3) == 5


def test_an_error_of_the_caller_leaves_no_answer_behind(process, functions):
    def fails(*values):
        raise RuntimeError("in the window")

    with pytest.raises(RuntimeError, match="in the window"):
        process.call(functions.counts, progress=fails)
    assert process.call(operator.add, 2, 3) == 5


def test_a_process_that_ends_is_told_and_replaced(process):
    with pytest.raises(ModelError, match="was ended by the system, mostly for want of memory"):
        process.call(os._exit, 1)
    assert process.call(operator.add, 2, 3) == 5


def test_closing():
    process = KerasProcess()
    assert not process.alive
    process.call(os.getpid)
    assert process.alive
    process.close()
    assert not process.alive


def test_the_script_that_asks_is_not_run_again(tmp_path):
    """As in scripts that open a viewer, which nobody guards with ``if __name__ == "__main__"``."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from napari_hrstem_defects.models.process import KerasProcess\n"
        "print('run')\n"
        "with KerasProcess() as process:\n"
        "    print('child' if process.call(os.getpid) != os.getpid() else 'here')\n"
        "print(sys.modules['__main__'].__file__ == __file__)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["run", "child", "True"], done.stderr
