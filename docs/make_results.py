"""Writes docs/results.md and docs/results/: everything claimed about accuracy, speed and robustness, measured.

``python docs/make_results.py`` measures all sections, ``--only SECTION`` one of them; the others stay as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from results_tools import (  # noqa: E402
    classifiers,
    interface,
    page,
    peers,
    pretrained,
    real,
    robustness,
    sensitivity,
    simulated,
    speed,
    types,
)

SECTIONS = (
    "simulated",
    "fresh",
    "real",
    "speed",
    "robustness",
    "sensitivity",
    "types",
    "interface",
    "peers",
    "classifiers",
    "pretrained",
)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    options = _options(arguments)
    folder = options.out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in [options.only] if options.only else SECTIONS:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        if name in simulated.SEEDS:
            text = simulated.section(
                folder,
                name,
                count=6 if options.quick else simulated.COUNTS[name],
                processes=options.processes,
                overlays=options.overlays if name != "fresh" else None,
            )
        elif name == "real":
            text = real.section(folder, options.real, cpus=cpus, load=load, overlays=options.overlays)
        elif name == "speed":
            text = speed.section(HERE.parent, cpus=cpus, load=load, quick=options.quick)
        elif name == "interface":
            text = interface.section(HERE.parent, folder, cpus=cpus, load=load)
        elif name == "peers":
            if options.peers_python is None:
                print("peers: skipped and left as it was, as no --peers-python was given", flush=True)
                continue
            text = peers.section(
                folder,
                options.real,
                options.peers_python,
                cpus=cpus,
                load=load,
                processes=options.processes,
                quick=options.quick,
                overlays=options.overlays,
            )
        elif name == "classifiers":
            text = classifiers.section(folder, processes=options.processes, quick=options.quick)
        elif name == "pretrained":
            text = pretrained.section(folder, options.real, processes=options.processes, quick=options.quick)
        elif name == "robustness":
            text = robustness.section(folder, processes=options.processes, quick=options.quick)
        elif name == "types":
            text = types.section(folder, processes=options.processes, quick=options.quick)
        else:
            text = sensitivity.section(folder, options.real, processes=options.processes, quick=options.quick)
        page.write_section(options.out / "results.md", SECTIONS, name, text)
        print(f"{name}: done", flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--real",
        type=Path,
        default=HERE.parents[1] / "shared" / "data" / "real",
        help="folder of experimental micrographs and masks (default: ../shared/data/real beside the repository)",
    )
    parser.add_argument("--quick", action="store_true", help="few micrographs, few points of each curve")
    parser.add_argument("--only", choices=SECTIONS, help="measure this section alone")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.md and results/ go")
    parser.add_argument("--overlays", help="folder for pictures of every result, to be looked at")
    parser.add_argument(
        "--peers-python",
        type=Path,
        help="interpreter with AtomAI and motif-learn for the section that compares with them",
    )
    parser.add_argument("--processes", type=int, default=2, help="for everything that is not timed")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
