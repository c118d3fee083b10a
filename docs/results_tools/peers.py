"""Section "peers": other published methods on the same images with the same scores, timed in the same run."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import threshold_otsu

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.simulation import sample_set
from results_tools import page, real, scoring
from results_tools.peers_gpa import amplitude_drop
from results_tools.simulated import MODES

#: Simulated micrographs that settings of the peers are chosen on, and those that are reported.
TUNING = {"count": 12, "seed": 5, "defect_fraction": 0.75, "shape": (512, 512)}
REPORTED = {"count": 30, "seed": 2026010}
#: Of these so many perfect ones, the first: the factorisation takes half a minute an image, and they are much alike.
PERFECT = 4
#: Outputs tried of each peer; of the last, mask width, normalisation, which of the two reflections.
SETTINGS: dict[str, tuple[str, ...]] = {
    "atomai": tuple(f"{count} {rule}" for count in (2, 4) for rule in ("dominant", "rarest", "distance")),
    "motif_learn": (
        "dense rotation 1.5",
        "dense rotation 3",
        "dense mirror 1.5",
        "columns rotation 3",
        "columns distance 1.5",
        "columns distance 3",
        "columns gmm2 3",
        "columns gmm4 3",
    ),
    "gpa": tuple(
        f"{width} {normalise} {combine}"
        for width in ("0.08", "0.2", "0.3", "0.4")
        for normalise in ("plain", "normalised")
        for combine in ("least", "mean")
    ),
}
TITLES = {
    "default": "ours, default",
    "published": "Dennler et al.",
    "atomai": "local FFT + NMF (AtomAI)",
    "motif_learn": "Zernike moments (motif-learn)",
    "gpa": "GPA amplitude",
}
#: By how much a peer must be above ours to be named.
MARGIN = 0.005

_INTRODUCTION = """\
## Peers

Other published methods, none of them a dependency, on the same images, with the same scores, {order} in one run
({versions}; {cpus} processors, load {load:.1f} before it began: with a load processor time says more than time).

* *Ours*, `Recipe()`, and *Dennler et al.*, `Recipe.published()`: severity and labels as they come.
* *Local FFT + NMF*: `SlidingFFTNMF` of AtomAI with its own choice of window (square ones: its filter fails on the
  oblong windows that it chooses for long images) and spectra not interpolated, which only costs time; maps are made
  of the abundances, as shares of each window.
* *Zernike moments*: `ZPs` of motif-learn, patch size from its `estimate_patch_size`, order 10, patches no smaller than
  it advises; maps are the symmetry maps of its documentation, dense or at the columns, or mixtures fitted to principal
  components of the moments.
* *GPA amplitude*: the two strongest reflections of the whole image, Bragg-filtered amplitude; map is its drop below the
  median. Written here from Hÿtch et al. 1998, in `docs/results_tools/peers_gpa.py`.

These three give maps, no masks, and leave choices to whoever uses them. Both the output and the threshold
(Otsu's, or median and three robust standard deviations) are those that did best on
`sample_set({tuning_count}, seed={tuning_seed}, defect_fraction={fraction:g}, shape={shape})`, which is not reported:
outputs by mean AUROC, thresholds by mean Dice; what the other threshold gives stands in brackets. All that was tried:
[peers_tuning.csv](results/peers_tuning.csv).

Defect is whatever is not reference crystal, amorphous areas included; these are left out of AUROC. Of a bicrystal
either grain may be the reference, the better counts, AUROC and Dice each by itself. Simulated are
those with defects of `sample_set({count}, seed={seed})`, on which nobody tuned anything, and its first {perfect}
perfect ones; micrographs with point defects only have no Dice. All numbers: [peers.csv](results/peers.csv).

"""

#: Judged by looking at the maps of the run of November 2026; not measured.
_SEEN = """
What was seen in the maps, and what makes the others better where they are:

* *Local FFT + NMF* tells two grains apart as well as ours, from the whole image and without a reference: a window's
  spectrum does not depend on where the columns lie and averages over hundreds of them. On ni_m3b2 it is above ours
  because ours (and GPA) also shows two steep bands in the upper grain, which the mask calls crystal and which a window
  does not resolve; on the simulated graphene grain because ours runs on from the grain to the lower edge of the image.
  What it lacks is a measure of what is normal: with two components it always finds two kinds of window, half of every
  perfect real image with Otsu's threshold, but nothing on any real image with three sigma. It does not see point
  defects, and with an amorphous area beside a grain the components go to another pair than crystal and grain.
* *GPA amplitude* is the sharpest map: beside an amorphous area the severity of ours stays high for several periods into
  the crystal, where the amplitude recovers within one or two, hence the higher AUROC on the fault that meets one.
  It takes whichever reflections are strongest in the image: on au_gb some of either grain, on the simulated graphene
  grain some of the smaller one. Unit cells with weak places (bssn) and low dose (left of fcc_esf) look like defects.
* *Zernike moments* show boundaries as lines, not the other grain, since they do not change when the lattice turns. The
  fault of fcc_esf is seen where the image is bright, beside bands of scan jitter. At the dose of graphene_gb_4nm the
  estimated patch is a third of the image and the map says nothing.
"""


@dataclass(frozen=True, eq=False)
class Case:
    """A micrograph and the ways to look at it.

    Attributes
    ----------
    name, kind, content : str
        Kind is ``"real"`` or ``"simulated"``.
    micrograph : hd.Micrograph
    ways : list of (uint8 array (y, x), bool array (y, x))
        Truth, 0 crystal, 1 defect, 2 amorphous, and pixels that are not scored.
    has_dice : bool
    """

    name: str
    kind: str
    content: str
    micrograph: hd.Micrograph
    ways: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]
    has_dice: bool

    @property
    def perfect(self) -> bool:
        """Whether nothing should be marked."""
        return self.content == "perfect"

    @property
    def pixels(self) -> NDArray[np.float32]:
        """float32 array (y, x)."""
        return self.micrograph.frame().pixels


def real_cases(folder: Path) -> list[Case]:
    """The experimental micrographs."""
    cases = []
    for name in real.names(folder):
        truth = real.read_truth(folder, name)
        ignore = truth == metrics.IGNORE
        defects = bool((truth[~ignore] > 0).any())
        references = [grain for grain in (0, 2) if grain == 0 or (truth == grain).any()]
        ways = [((truth != reference).astype(np.uint8), ignore) for reference in references]
        content = "defects" if defects else "perfect"
        cases.append(Case(name, "real", content, hd.read(folder / f"{name}.tif"), ways, defects))
    return cases


def simulated_cases(**which: Any) -> list[Case]:
    """Micrographs of a :func:`sample_set`."""
    return [
        Case(
            sim.micrograph.name or str(index),
            "simulated",
            scoring.content(sim),
            sim.micrograph,
            [(truth.labels, truth.ignore) for truth in scoring.truths(sim)],
            bool(sim.defects) and scoring.extent(sim) != "point",
        )
        for index, sim in enumerate(sample_set(**which))
    ]


def score(case: Case, severity: NDArray[np.floating], marked: NDArray[np.bool_]) -> dict[str, float]:
    """AUROC, Dice and share marked; the first two NaN where there is nothing to find."""
    aurocs, dices = [], []
    for truth, ignore in case.ways:
        aurocs.append(metrics.auroc(severity, truth == 1, ignore | (truth == 2)))
        dices.append(metrics.dice(marked, truth > 0, True, ignore))
    ignore = case.ways[0][1]
    return {
        "auroc": max(aurocs),
        "dice": max(dices) if case.has_dice else math.nan,
        "marked": float(marked[~ignore].mean()),
    }


def _otsu(severity: NDArray[np.floating]) -> NDArray[np.bool_]:
    return (
        np.asarray(severity > threshold_otsu(severity))
        if np.ptp(severity)
        else np.zeros(severity.shape, bool)
    )


def _three_sigma(severity: NDArray[np.floating]) -> NDArray[np.bool_]:
    middle = np.median(severity)
    spread = 1.4826 * np.median(np.abs(severity - middle))
    return np.asarray(severity > middle + 3 * spread)


THRESHOLDS: dict[str, Callable[[NDArray[np.floating]], NDArray[np.bool_]]] = {
    "Otsu": _otsu,
    "three sigma": _three_sigma,
}


@dataclass(frozen=True, eq=False)
class Map:
    """One map of a peer, and what it took."""

    severity: NDArray[np.float32]
    seconds: float
    cpu_seconds: float


def peer_maps(
    method: str, cases: list[Case], settings: tuple[str, ...], python: Path
) -> tuple[dict[tuple[int, str], Map], str]:
    """Maps of all cases in all settings, by number of case and setting; and the version of the peer."""
    if method == "gpa":
        return {(i, each): _gpa(case, each) for i, case in enumerate(cases) for each in settings}, ""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for index, case in enumerate(cases):
            np.save(folder / f"{index}.npy", case.pixels)
        job = {"images": [str(index) for index in range(len(cases))], "settings": settings}
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        script = Path(__file__).with_name("peers_run.py")
        subprocess.run([python, "-P", "-W", "ignore", script, method, folder], check=True)
        report = json.loads((folder / f"{method}.json").read_text("utf-8"))
        maps = {}
        for record in report["times"]:
            index, setting = int(record["name"]), record["setting"]
            severity = np.load(folder / f"{method}-{settings.index(setting)}-{index}.npy")
            maps[index, setting] = Map(severity, record["seconds"], record["cpu_seconds"])
    return maps, report["versions"]


def _gpa(case: Case, setting: str) -> Map:
    width, normalise, combine = setting.split(" ")
    begin, cpu = time.perf_counter(), time.process_time()
    severity = amplitude_drop(case.pixels, float(width), normalise == "normalised", combine)
    return Map(severity, time.perf_counter() - begin, time.process_time() - cpu)


def tune(method: str, cases: list[Case], python: Path) -> tuple[tuple[str, str], list[dict[str, Any]], str]:
    """Best setting and threshold of a peer, what was tried, and its version."""
    maps, version = peer_maps(method, cases, SETTINGS[method], python)
    tried: list[dict[str, Any]] = []
    for setting in SETTINGS[method]:
        for rule, threshold in THRESHOLDS.items():
            severities = [maps[i, setting].severity for i in range(len(cases))]
            scores = [score(c, s, threshold(s)) for c, s in zip(cases, severities, strict=True)]
            tried.append(
                {
                    "method": method,
                    "setting": setting,
                    "threshold": rule,
                    "auroc": page.mean(each["auroc"] for each in scores),
                    "dice": page.mean(each["dice"] for each in scores),
                    "marked_perfect": page.mean(
                        each["marked"] for case, each in zip(cases, scores, strict=True) if case.perfect
                    ),
                }
            )
    best = max(tried, key=lambda each: (each["auroc"], each["dice"]))
    return (best["setting"], best["threshold"]), tried, version


def section(
    folder: Path,
    real_folder: Path,
    python: Path,
    *,
    cpus: int,
    load: float,
    processes: int = 1,
    quick: bool = False,
    overlays: str | None = None,
) -> str:
    """Tune the peers, measure everything, write the tables and return the text."""
    tuning = simulated_cases(**{**TUNING, **({"count": 4} if quick else {})})
    chosen, tried, versions = {}, [], []
    # Nothing is timed here, so that the methods may run side by side.
    with ThreadPoolExecutor(max(processes, 1)) as pool:
        found = list(pool.map(lambda method: tune(method, tuning, python), SETTINGS))
    for method, (best, records, version) in zip(SETTINGS, found, strict=True):
        chosen[method] = best
        tried += records
        versions += [version] if version else []
    page.write_csv(folder / "peers_tuning.csv", tried)
    cases = real_cases(real_folder) if (real_folder / "images.csv").is_file() else []
    simulated = simulated_cases(**{**REPORTED, **({"count": 4} if quick else {})})
    perfect = [case for case in simulated if case.perfect][:PERFECT]
    cases += [case for case in simulated if not case.perfect or case in perfect]
    rows = measure(cases, chosen, python, overlays, processes)
    keys = (
        "name",
        "kind",
        "content",
        "method",
        "setting",
        "auroc",
        "dice",
        "marked",
        "other_dice",
        "other_marked",
        "seconds",
        "cpu_seconds",
    )
    page.write_csv(folder / "peers.csv", [{key: row.get(key, math.nan) for key in keys} for row in rows])
    head = _INTRODUCTION.format(
        versions=", ".join(versions),
        cpus=cpus,
        load=load,
        tuning_count=len(tuning),
        tuning_seed=TUNING["seed"],
        fraction=TUNING["defect_fraction"],
        shape=TUNING["shape"],
        order="side by side" if processes > 1 else "one after the other",
        count=REPORTED["count"],
        seed=REPORTED["seed"],
        perfect=PERFECT,
    )
    return head + report(rows) + _SEEN


def measure(
    cases: list[Case],
    chosen: dict[str, tuple[str, str]],
    python: Path,
    overlays: str | None = None,
    processes: int = 1,
) -> list[dict[str, Any]]:
    """Scores and times of every method on every case."""
    hd.analyze(hd.simulate("si_demo", shape=(256, 256)).micrograph)  # so that nobody pays for the imports

    def by_mode() -> list[dict[str, Any]]:
        rows = []
        for mode, recipe in MODES.items():
            for case in cases:
                begin, cpu = time.perf_counter(), time.process_time()
                analysis = hd.analyze(case.micrograph, recipe())
                times = (time.perf_counter() - begin, time.process_time() - cpu)
                rows.append(_row(case, mode, "", analysis.severity, analysis.labels > 0, *times))
                if overlays:
                    _save(Path(overlays), case, mode, analysis.severity, analysis.labels > 0)
        return rows

    def maps_of(method: str) -> dict[tuple[int, str], Map]:
        return peer_maps(method, cases, (chosen[method][0],), python)[0]

    def by_peer(method: str, maps: dict[tuple[int, str], Map]) -> list[dict[str, Any]]:
        setting, rule = chosen[method]
        rows = []
        for index, case in enumerate(cases):
            found = maps[index, setting]
            marked, named = THRESHOLDS[rule](found.severity), f"{setting}, {rule}"
            row = _row(case, method, named, found.severity, marked, found.seconds, found.cpu_seconds)
            other = score(case, found.severity, THRESHOLDS[_other(rule)](found.severity))
            rows.append({**row, "other_dice": other["dice"], "other_marked": other["marked"]})
            if overlays:
                _save(Path(overlays), case, method, found.severity, marked)
        return rows

    # What runs in processes of its own may run beside the rest; the rest is timed in this process, one by one.
    apart = [method for method in chosen if method != "gpa"]
    with ThreadPoolExecutor(max(processes - 1, 1)) as pool:
        waiting = {method: pool.submit(maps_of, method) for method in apart} if processes > 1 else {}
        rows = by_mode()
        if "gpa" in chosen:
            rows += by_peer("gpa", maps_of("gpa"))
    found = [by_peer(each, waiting[each].result() if waiting else maps_of(each)) for each in apart]
    return rows + [row for each in found for row in each]


def _other(rule: str) -> str:
    return next(name for name in THRESHOLDS if name != rule)


def _save(
    folder: Path, case: Case, method: str, severity: NDArray[np.floating], marked: NDArray[np.bool_]
) -> None:
    """Image, map and mask side by side, to be looked at."""
    low, high = np.percentile(case.pixels, (0.5, 99.5))
    image = np.clip((case.pixels - low) / (high - low), 0, 1)
    low, high = np.percentile(severity, (0.5, 99.5))
    shown = np.clip((severity - low) / max(high - low, 1e-9), 0, 1)
    grey = np.concatenate([image, shown, image * 0.6 + 0.4 * marked], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray((255 * grey).astype(np.uint8))
    picture.thumbnail((1500, 500))
    picture.save(folder / f"peers_{case.kind}_{case.name.replace(' ', '_')}_{method}.png")


def _row(
    case: Case,
    method: str,
    setting: str,
    severity: NDArray[np.floating],
    marked: NDArray[np.bool_],
    seconds: float,
    cpu_seconds: float,
) -> dict[str, Any]:
    about = {
        "name": case.name,
        "kind": case.kind,
        "content": case.content,
        "method": method,
        "setting": setting,
    }
    return {**about, **score(case, severity, marked), "seconds": seconds, "cpu_seconds": cpu_seconds}


def report(rows: list[dict[str, Any]]) -> str:
    """Tables and what they say."""
    methods = [method for method in TITLES if any(row["method"] == method for row in rows)]
    settings = {row["method"]: row["setting"] for row in rows}
    text = "Chosen: " + "; ".join(f"{TITLES[m]}: `{settings[m]}`" for m in methods if settings[m]) + ".\n\n"
    text += page.table(("", *(TITLES[method] for method in methods)), _summary(rows, methods))
    text += "\nEvery micrograph with defects, AUROC / Dice:\n\n"
    text += page.table(("micrograph", *(TITLES[m] for m in methods)), _lines(rows, methods, perfect=False))
    marked = list(_lines(rows, methods, perfect=True, kinds=("real",)))
    if marked:
        text += "\nReal micrographs without defects, share marked:\n\n"
        text += page.table(("micrograph", *(TITLES[method] for method in methods)), marked)
    return text + "\n" + _better(rows)


def _summary(rows: list[dict[str, Any]], methods: list[str]) -> Iterable[tuple[Any, ...]]:
    for kind in ("real", "simulated"):
        yield f"{kind}, mean AUROC", *(_mean(rows, m, kind, "auroc") for m in methods)
        for key, title in (("dice", "mean Dice"), ("marked", "marked on perfect ones")):
            perfect = key == "marked"
            values = [_mean(rows, m, kind, key, perfect) for m in methods]
            others = [_mean(rows, m, kind, f"other_{key}", perfect) for m in methods]
            cells = (_both(*pair, share=perfect) for pair in zip(values, others, strict=True))
            yield f"{kind}, {title}", *cells
    for key, title in (("seconds", "seconds per image"), ("cpu_seconds", "processor seconds per image")):
        means = (page.mean(row[key] for row in rows if row["method"] == m) for m in methods)
        yield title, *(f"{value:.2f}" for value in means)


def _both(value: float, other: float, *, share: bool) -> str:
    texts = [
        "–" if math.isnan(each) else f"{each:.2%}" if share else f"{each:.3f}" for each in (value, other)
    ]
    return texts[0] if math.isnan(other) else f"{texts[0]} ({texts[1]})"


def _mean(rows: list[dict[str, Any]], method: str, kind: str, key: str, perfect: bool = False) -> float:
    return page.mean(
        row.get(key, math.nan)
        for row in rows
        if (row["method"], row["kind"]) == (method, kind) and perfect <= (row["content"] == "perfect")
    )


def _by_case(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    cases: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault((row["kind"], row["name"]), {})[row["method"]] = row
    return cases


def _title(row: dict[str, Any]) -> str:
    return row["name"] if row["kind"] == "real" else f"simulated, {row['content']}"


def _lines(
    rows: list[dict[str, Any]],
    methods: list[str],
    *,
    perfect: bool,
    kinds: tuple[str, ...] = ("real", "simulated"),
) -> Iterable[tuple[str, ...]]:
    for (kind, _), found in _by_case(rows).items():
        row = found[methods[0]]
        if kind not in kinds or (row["content"] == "perfect") != perfect:
            continue
        if perfect:
            yield _title(row), *(f"{found[method]['marked']:.2%}" for method in methods)
        else:
            pairs = ((found[method]["auroc"], found[method]["dice"]) for method in methods)
            yield _title(row), *(f"{page.cell(auroc)} / {page.cell(dice)}" for auroc, dice in pairs)


def _better(rows: list[dict[str, Any]]) -> str:
    """Where another method is above ours."""
    lines = []
    for found in _by_case(rows).values():
        ours = found["default"]
        for method, row in found.items():
            above = [
                f"{title} {row[key]:.3f} against {ours[key]:.3f}"
                for key, title in (("auroc", "AUROC"), ("dice", "Dice"))
                if row[key] > ours[key] + MARGIN
            ]
            if above:
                lines.append(f"* {_title(row)}: {TITLES[method]}, {' and '.join(above)}.\n")
    if not lines:
        return "On no micrograph is another method above ours.\n"
    return "Where another method is above ours:\n\n" + "".join(lines)
