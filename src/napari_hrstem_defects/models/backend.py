"""The one place that imports Keras, with TensorFlow below it.

Nothing here is imported before a trained classifier is used: it costs seconds, and a program that never needs a
network works without either library.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.threads import thread_count

#: What to do about a missing or broken TensorFlow.
INSTALL = 'pip install "napari-hrstem-defects[tensorflow]"'
_NOT_INSTALLED = f"Trained classifiers need TensorFlow, which is not installed; install it with `{INSTALL}`."

# Read by the libraries while they are imported.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


@lru_cache(maxsize=1)
def keras() -> Any:
    """Keras, ready to use with TensorFlow below it; a ModelError if one of them is missing or does not work."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with warnings.catch_warnings(), _silent_notices():
            # What the libraries say about each other while they are imported is no business of the user's.
            warnings.simplefilter("ignore")
            module = _import()
    except Exception as error:  # two libraries that do not fit together raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name in ("keras", "tensorflow")
        raise (ModelError(_NOT_INSTALLED) if missing else _broken(error)) from error
    return module


def check_installed() -> None:
    """Raise a ModelError if TensorFlow or Keras is missing, without the seconds that importing them takes."""
    if not all(map(importlib.util.find_spec, ("tensorflow", "keras"))):
        raise ModelError(_NOT_INSTALLED)


@contextlib.contextmanager
def _silent_notices() -> Iterator[None]:
    """Keep what compiled code writes to the standard error while it is loaded from the terminal.

    TensorFlow greets with a notice about oneDNN before it reads any setting.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error, as in a program without a console
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _import() -> ModuleType:
    import tensorflow

    tensorflow.get_logger().setLevel("ERROR")  # advice about tracing is for who writes networks
    threads = thread_count()
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(min(2, threads))
    except RuntimeError:
        pass  # someone else has used TensorFlow in this process, with threads of their choice
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ImportError(f"Keras was set up with {keras.backend.backend()} instead of TensorFlow")
    # A person may have set other things in a file of Keras (~/.keras/keras.json), for other networks than ours.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    return keras


def _broken(error: BaseException) -> ModelError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if len(reason) > 200:
        reason = reason[:197] + "..."
    return ModelError(
        f"TensorFlow is installed but does not work ({reason.rstrip('.')}); install it anew with "
        f"`{INSTALL}`, best in an environment of its own."
    )
