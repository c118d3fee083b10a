"""Writes docs/results/ensemble*.csv and the tables of docs/ensemble.md: what the FFT ensemble scores.

``python docs/make_ensemble_results.py patches`` trains every variant on the labelled patches of CdTe and SrTiO3, split
by position; ``simulated`` trains on simulations alone; ``tables`` only makes the tables anew. Rows that are there
already are kept, so that an interrupted run can be started once more.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from results_tools import ensemble, ensemble_simulated  # noqa: E402

PATCHES_CSV, SIMULATED_CSV = "ensemble_patches.csv", "ensemble_simulated.csv"


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for."""
    options = _options(arguments)
    folder = options.out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    if options.what == "patches":
        _patches(folder / PATCHES_CSV, options)
    if options.what == "simulated":
        _simulated(folder / SIMULATED_CSV, options)
    _fill(
        options.out / "ensemble.md",
        {
            "patches": ensemble.summary(_read(folder / PATCHES_CSV)),
            "simulated": ensemble_simulated.summary(_read(folder / SIMULATED_CSV)),
        },
    )


def _fill(page: Path, tables: dict[str, str]) -> None:
    """Put the tables between their markers in the page, where there is one, and show them."""
    text = page.read_text("utf-8") if page.is_file() else ""
    for name, table in tables.items():
        print(table)
        marked = re.compile(rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
        text = marked.sub(lambda match, table=table: f"{match[1]}{table}{match[2]}", text)
    if text:
        page.write_text(text, "utf-8")


def _patches(path: Path, options: argparse.Namespace) -> None:
    rows = _read(path)
    done = {(row["material"], row["variant"], int(row["seed"])) for row in rows}
    seeds = ensemble.TUNING_SEEDS if options.tuning else ensemble.SEEDS
    for material in options.materials or ensemble.TESTED:
        patches = ensemble.read_patches(options.data, material)
        for variant in options.variants or ensemble.VARIANTS:
            for seed in seeds[: options.seeds]:
                if (material, variant, seed) in done:
                    continue
                row = ensemble.measure(patches, ensemble.TESTED[material], variant, seed, options.epochs)
                rows.append({"material": material, **row})
                _write(path, rows)
                print(rows[-1], flush=True)


def _simulated(path: Path, options: argparse.Namespace) -> None:
    rows = _read(path)
    done = {(row["material"], row["branches"]) for row in rows}
    for material in options.materials or ensemble.TESTED:
        for branches in options.branches:
            if (material, branches) not in done:
                rows += ensemble_simulated.measure(
                    options.data, material, branches, options.scale, options.keep
                )
                _write(path, rows)
                print(f"{material}, {branches}: done", flush=True)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()}
            for row in rows
        )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("patches", "simulated", "tables"))
    parser.add_argument(
        "--data",
        type=Path,
        default=HERE.parents[1] / "shared" / "data" / "stem_patches",
        help="folder with patches.csv (default: ../shared/data/stem_patches beside the repository)",
    )
    parser.add_argument("--out", type=Path, default=HERE, help="where results/ goes")
    parser.add_argument("--materials", nargs="+", choices=tuple(ensemble.TESTED))
    parser.add_argument("--variants", nargs="+", choices=tuple(ensemble.VARIANTS))
    parser.add_argument("--seeds", type=int, default=len(ensemble.SEEDS), help="how many of the splits")
    parser.add_argument("--tuning", action="store_true", help="the splits that everything was tuned on")
    parser.add_argument("--epochs", type=int, default=0, help="passes, instead of the usual number")
    parser.add_argument("--branches", nargs="+", default=["raw+fft", "raw"], help="of simulated")
    parser.add_argument("--scale", type=float, default=1.0, help="of simulated: factor on the patches")
    parser.add_argument("--keep", type=Path, help="of simulated: folder for the model files")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
