"""Trains the candidate for a bundled classifier: ``python docs/train_comparing.py --processes 2``.

Needs the extra ``tensorflow``. Simulated images alone are used; docs/results.md says what came out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from results_tools import comparing_training  # noqa: E402
from results_tools.comparing_classifier import FILE  # noqa: E402


def main(arguments: list[str] | None = None) -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE, help="file for the weights")
    parser.add_argument("--cache", type=Path, help="folder that keeps the patches; default: a temporary one")
    parser.add_argument("--processes", type=int, default=2, help="processes that make the images")
    parser.add_argument("--quick", action="store_true", help="a few images and one pass, to try the command")
    options = parser.parse_args(arguments)
    few = {"images": {"training": 20, "validation": 10, "tuning": 10}, "epochs": 1, "seeds": (1,)}
    with tempfile.TemporaryDirectory() as folder:
        comparing_training.train(
            options.out,
            options.cache or Path(folder),
            processes=options.processes,
            **(few if options.quick else {}),
        )


if __name__ == "__main__":
    main()
