"""The command line in this process, images of a lattice, and model files without weights."""

import zipfile

import numpy as np
from typer.testing import CliRunner

from napari_hrstem_defects.cli import app
from napari_hrstem_defects.models.contract import Contract


def run(*arguments, status=0):
    """The command with these arguments; it must end with the status, and without a traceback."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def one_line(text):
    """The only line of a text, a sentence."""
    (line,) = text.strip().splitlines()
    assert line.endswith(".")
    return line


def crystal(shape=(128, 128), period=12.0, seed=0, noise=0.1):
    """Cosine lattice with noise, uint16."""
    y, x = np.indices(shape)
    waves = np.cos(2 * np.pi * y / period) + np.cos(2 * np.pi * x / period)
    noisy = waves + np.random.default_rng(seed).normal(0, noise, shape)
    return (8000 + 2000 * noisy).clip(0, 65535).astype(np.uint16)


def model_file(path, **contract):
    """A model file whose network is not looked at."""
    values = {"kind": "compact", "name": "mine", "classes": ("non-defective", "defective"), "patch_px": 32}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("contract.json", Contract(**{**values, **contract}).to_json())
        archive.writestr("compact/000-kernel.npy", b"weights")
    return path
