"""Section "pretrained": whether a pretrained classifier is worth bundling, that is better than the screening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import metrics
from napari_hrstem_defects.models import evaluation
from results_tools import page, real
from results_tools.classifier_data import COMPARING, PARTS, REVISED, SCREENING, Judged, judged
from results_tools.classifiers import (
    SPLIT_PARTS,
    counts_on,
    ready,
    said_by,
    scores_of,
    simulated,
    table,
    write_table,
)
from results_tools.comparing_classifier import network as trained_network
from results_tools.comparing_inputs import PX_PER_PERIOD, STATISTICS
from results_tools.comparing_network import ComparingNetwork
from results_tools.training_set import MOST_STRETCH

#: Parts that decide whether a classifier is bundled.
GATE, GATE_FILMS = ("gate, structure types", "gate, zone axis"), "gate, films"
#: Real images without defects, and the largest share of their patches that may be called defective.
PERFECT = ("dso_perfect", "dumbbell_perfect", "bssn_perfect", "pto_sro")
MOST_FALSE_ALARMS = 0.05
#: End of the name of a crystal seen along the zone axis that was left out.
ZONE_112 = " 112"
#: What the set is called on which the network must be better.
LEFT_OUT = "left out"
#: What films are called in the table of the gate.
FILMS = "left out, coherent films"
#: Classifiers, by themselves and as the pipeline revises them.
READY = tuple(name + revised for name in (SCREENING, COMPARING) for revised in ("", REVISED))


def gate(
    images: Sequence[Judged], films: Sequence[Judged], perfect: Sequence[Judged]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Whether the comparing network is better than the screening where it must be.

    Like is compared with like: the verdicts by themselves, and those that the pipeline has revised.

    Parameters
    ----------
    images : sequence of Judged
        Simulated, of lattices left out of the training.
    films : sequence of Judged
        The same, without defects but with coherent films.
    perfect : sequence of Judged
        Real images without defects.

    Returns
    -------
    tuple of (list of dict, list of str)
        A row for each classifier on each set, and which conditions are not met.
    """
    sets = {
        LEFT_OUT: images,
        "left out, structure types": [image for image in images if not image.crystal.endswith(ZONE_112)],
        "left out, zone axis 112": [image for image in images if image.crystal.endswith(ZONE_112)],
        FILMS: films,
        **{image.name: [image] for image in perfect},
    }
    rows = []
    for name, members in sets.items():
        for classifier in READY if members else ():
            counts = np.sum([counts_on(image, said_by(classifier)) for image in members], axis=0)
            rows.append(
                {
                    "set": name,
                    "classifier": classifier,
                    "images": len(members),
                    "patches": int(counts.sum()),
                    **scores_of(counts),
                    "false_alarms": int(counts[1]),
                }
            )
    return rows, _reasons(rows)


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Conditions of the gate that are not met."""
    reasons = []
    accuracy = {row["classifier"]: row["accuracy"] for row in rows if row["set"] == LEFT_OUT}
    for revised in ("", REVISED):
        own, other = accuracy[COMPARING + revised], accuracy[SCREENING + revised]
        if not own > other:
            reasons.append(
                f"the {SCREENING + revised} is as good or better on left-out lattices ({_share(other)} against "
                f"{_share(own)} %)"
            )
    alarms = {(row["set"], row["classifier"]): 1 - row["specificity"] for row in rows}
    for (name, classifier), share in alarms.items():
        most = MOST_FALSE_ALARMS
        if (name, classifier) == (FILMS, COMPARING + REVISED):
            # What the pipeline adds to a verdict is not the network's doing.
            most = max(most, alarms[FILMS, SCREENING + REVISED])
        if name in (FILMS, *PERFECT) and classifier.startswith(COMPARING) and not share <= most:
            reasons.append(f"false alarms of the {classifier} on {name} ({_share(share)} %)")
    if not set(PERFECT) <= {row["set"] for row in rows}:
        reasons.append("not all of the real images were there")
    return reasons


def real_perfect(folder: Path) -> list[Judged]:
    """Real images without defects; none where the folder is not there."""
    out = []
    for name in PERFECT if folder.is_dir() else ():
        pixels = hd.read(folder / f"{name}.tif").frame().pixels
        truth = real.read_truth(folder, name)
        out.append(
            judged(
                name,
                pixels,
                [np.where(truth == metrics.IGNORE, 0, truth).astype(np.uint8)],
                (SCREENING, COMPARING),
            )
        )
    return out


def section(folder: Path, real_folder: Path, *, processes: int, quick: bool = False) -> str:
    """Simulate, judge, write the tables and return the text."""
    names = (*GATE, GATE_FILMS, *SPLIT_PARTS)
    counts = {name: min(PARTS[name].count, 28 if quick else PARTS[name].count) for name in names}
    data = simulated(counts, (SCREENING, COMPARING), processes)
    gated, reasons = gate(
        [image for part in GATE for image in data[part]], data[GATE_FILMS], real_perfect(real_folder)
    )
    rows = ready(data, (SCREENING, COMPARING))
    write_table(folder, rows, "pretrained.csv")
    page.write_csv(folder / "pretrained_gate.csv", gated)
    return text(rows, gated, reasons, trained_network())


_TEXT = """\
## A pretrained classifier?

One was to be bundled if it is better than the screening on lattices that it never saw. The candidate, the *comparing
network*, sees a patch together with the typical patch of its image, both at {px:g} px per lattice period, their
autocorrelations, the severity that the typical patch as a model gives the patch, and {numbers} numbers about the patch
among all patches of the image, the score of the screening included. {members} of them, {parameters} parameters in all,
were trained for {epochs} passes on {patches} patches of {images} simulated images ({cpu_s:.0f} s of processor time for
the training alone): half of them of made-up materials, half stretched and sheared by up to {stretch:.0%}, a good
quarter with coherent films, which are no defects, some with steps of brightness, inverted, noisy. They know the
lattices {known} only. The limit of their mean
probability was chosen on {validation} patches of another structure type ({chosen_on}) and {tuning} patches of other
images of the known ones.

The conditions, set before anything was scored: like compared with like, it is better than the screening by itself and
as revised by the pipeline, on the simulated lattices that were left out; it calls at most {most_alarms:.0%} of the
patches defective of each real image without defects, by itself and as revised, and of simulated left-out films by
itself; on those it is, as revised, no worse than the screening. The simulated images were scored once. An earlier,
smaller network had failed on *pto_sro*, a stack of two perovskites without a defect (31 % false alarms): that is why
films came into the training, simulated ones of other structure types; perovskites stayed left out. So *pto_sro* was no
blind test any more.

{gate_table}

{verdict}

An analysis always revises the verdict, so the revised rows are what a user would see: on the left-out lattices the
network and the screening then differ by {difference:+.2f} points of accuracy. The weights,
[comparing.npz](results/comparing.npz), are kept with these results; `python docs/train_comparing.py` makes them anew.

On the images of the table above, within the lattices that it was trained on and outside, as mean ± standard deviation
over the same splits (it was trained once, so the spread is that of the test images alone):

{table}

As numbers: [pretrained_gate.csv](results/pretrained_gate.csv), [pretrained.csv](results/pretrained.csv).
"""
_PASSED = "All conditions are met."
_FAILED = "**{reasons}: no pretrained classifier is bundled.**"


def text(
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]],
    gated: Sequence[Mapping[str, Any]],
    reasons: Sequence[str],
    network: ComparingNetwork,
) -> str:
    """The section."""
    about = network.about
    sentence = "; ".join(reasons)
    accuracy = {row["classifier"]: row["accuracy"] for row in gated if row["set"] == LEFT_OUT}
    return _TEXT.format(
        most_alarms=MOST_FALSE_ALARMS,
        px=PX_PER_PERIOD,
        numbers=len(STATISTICS),
        members=len(network.members),
        parameters=f"{about['parameters']:,}".replace(",", " "),
        epochs=about["passes"],
        cpu_s=about["cpu_s"],
        patches=about["patches"]["training"],
        images=about["images"]["training"],
        known=about["known"],
        stretch=MOST_STRETCH,
        validation=about["patches"]["validation"],
        chosen_on=about["chosen_on"],
        tuning=about["patches"]["tuning"],
        gate_table=_gate_table(gated),
        table=table(rows),
        difference=100 * (accuracy[COMPARING + REVISED] - accuracy[SCREENING + REVISED]),
        verdict=_FAILED.format(reasons=sentence[:1].upper() + sentence[1:]) if reasons else _PASSED,
    )


def _gate_table(rows: Sequence[Mapping[str, Any]]) -> str:
    body = [
        (
            row["set"],
            row["patches"],
            row["classifier"],
            *(_share(row[metric]) for metric in evaluation.METRICS),
            _share(1 - row["specificity"]),
        )
        for row in rows
    ]
    return page.table(("set", "patches", "classifier", *evaluation.METRICS, "false alarms"), body).strip()


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
