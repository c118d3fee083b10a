"""Keras missing or broken: a sentence, and everything else goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.backend import check_installed, keras
{before}
try:
    {call}()
except ModelError as error:
    print(error)
else:
    print("works")
"""


def answer(call: str, before: str = "", path: Path | None = None) -> str:
    env = dict(os.environ)
    if path is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(path), env.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", CODE.format(call=call, before=before)],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    assert result.stderr == ""
    return result.stdout.strip()


def broken(folder: Path, code: str) -> Path:
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(code)
    return folder


MISSING = "sys.modules['tensorflow'] = None"


@pytest.mark.parametrize("call", ["keras", "check_installed"])
def test_missing(call):
    text = answer(call, MISSING)
    assert text.startswith(
        "Trained classifiers need TensorFlow, which is not installed; install it with `pip install"
    )
    assert "napari-hrstem-defects[tensorflow]" in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
        (
            "raise AttributeError('module numpy has no attribute\\n bool8')",
            "AttributeError: module numpy has no",
        ),
    ],
)
def test_broken(tmp_path, code, reason):
    text = answer("keras", path=broken(tmp_path, code))
    assert text.startswith("TensorFlow is installed but does not work (")
    assert reason in text
    assert text.endswith("best in an environment of its own.")
    assert len(text.splitlines()) == 1


def test_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, napari_hrstem_defects.models.training, napari_hrstem_defects.models.classifier\n"
        "import napari_hrstem_defects.batch, napari_hrstem_defects.cli.train\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


@pytest.mark.keras
def test_works_quietly_with_our_settings_and_threads(tmp_path):
    """Whatever a person set for other networks."""
    settings = (
        '{"backend": "torch", "image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1}'
    )
    (tmp_path / "keras.json").write_text(settings)
    code = (
        "from napari_hrstem_defects.models.compact import build_compact\n"
        "network = build_compact(32, channels=(4, 8))\n"
        "print(network.input.dtype, network.get_layer('block1_conv0').output.shape)\n"
        "import tensorflow\n"
        "print(tensorflow.config.threading.get_intra_op_parallelism_threads())"
    )
    env = {**os.environ, "KERAS_HOME": str(tmp_path), "OMP_NUM_THREADS": "3"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert out.stderr == ""
    assert out.stdout.splitlines() == ["float32 (None, 16, 16, 8)", "3"]
