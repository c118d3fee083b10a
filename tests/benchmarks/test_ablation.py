"""Which changes are tried, what counts as worse, and the count of tunable numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_hrstem_defects as hd
from benchmarks.accuracy import __main__ as program
from benchmarks.accuracy import ablation, datasets, numbers, robustness
from benchmarks.accuracy.datasets import Image


def test_every_number_is_moved_within_its_limits() -> None:
    recipe = hd.Recipe()
    tried = ablation.changes(recipe)
    for name, value, metadata in recipe.parameters():
        found = {change.kind: change.value for change in tried if change.parameter == name}
        if isinstance(value, bool):
            assert found == {"switch": not value}
        elif metadata["choices"]:
            tried_choices = {change.value for change in tried if change.parameter == name}
            assert tried_choices == set(metadata["choices"]) - {value}
        elif isinstance(value, float) and value > 0:
            low, high = metadata["minimum"], metadata["maximum"]
            assert {"-30 %", "+30 %"} & set(found), name
            for kind, factor in (("-30 %", 0.7), ("+30 %", 1.3)):
                if kind in found:
                    expected = value * factor
                    expected = expected if low is None else max(expected, low)
                    expected = expected if high is None else min(expected, high)
                    assert found[kind] == pytest.approx(expected)
    for change in tried:
        with ablation.made(change, recipe) as changed:
            assert (changed == recipe) == (change.parameter in ablation.STEPS_OFF)
    assert len({(change.parameter, change.value) for change in tried}) == len(tried)


def test_a_step_is_off_in_every_module_and_on_again_after() -> None:
    from napari_hrstem_defects.core import plateaus, steps

    usual = plateaus.second_phase
    with ablation.made(ablation.Change("phases", "off", ""), hd.Recipe()):
        assert plateaus.second_phase is steps.second_phase
        assert plateaus.second_phase is not usual
    assert plateaus.second_phase is steps.second_phase is usual


def test_without_the_loss_of_strength_severity_is_lower_but_not_gone() -> None:
    micrograph = _tiny().frames[0][0]
    usual = hd.analyze(micrograph)
    with ablation.made(ablation.Change("loss of strength", "off", ""), hd.Recipe()) as recipe:
        without = hd.analyze(micrograph, recipe)
    assert without.severity.max() > 0
    assert (without.severity < usual.severity - 1e-4).any()


def row(name: str, dice: float, false: float = 0.0, source: str = "", called: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "source": source or name,
        "dice": dice,
        "dice_amorphous": float("nan"),
        "auroc": 0.9,
        "false": false,
        "called": called,
        "defective": True,
    }


def test_copies_of_one_image_count_once() -> None:
    copies = (("b1", "b"), ("b2", "b"))
    before = [
        row("a", 0.9),
        *(row(name, 0.9, source=of) for name, of in copies),
        row("c", 0.5),
        row("d", 0.8),
    ]
    after = [
        row("a", 0.89),
        *(row(name, 0.8, source=of) for name, of in copies),
        row("c", 0.6),
        row("d", 0.9, 0.03),
    ]
    found = ablation.compare(before, after)
    assert (found["worse"], found["better"]) == (2, 1)  # b by Dice and d by its false area; c
    assert found["worse_images"] == "b2; d"
    assert found["dice"] == pytest.approx((-0.01 - 0.1 - 0.1 + 0.1 + 0.1) / 5)
    assert found["false"] == pytest.approx(0.03 / 5)


def test_image_that_is_no_longer_called_is_worse() -> None:
    found = ablation.compare([row("a", 0.0)], [row("a", 0.0, called=False)])
    assert (found["worse"], found["better"]) == (1, 0)


def _tiny() -> datasets.Sample:
    return datasets.simulated(hd.simulate("si_stacking_fault", 3, shape=(192, 192), px_per_period=12.0))


def test_table_of_a_run(tmp_path: Path) -> None:
    image = Image("tiny", "own", "tuning", "tiny", _tiny)
    rows = ablation.run([image], parameters=["segment.false_marks"], out=tmp_path)
    assert {(r["parameter"], r["change"]) for r in rows} >= {("segment.false_marks", "+30 %")}
    assert all(r["images"] == 1 for r in rows)
    assert (tmp_path / "ablation.csv").read_text().startswith("parameter,change,value,group,images,dice,")
    assert "segment.false_marks" in ablation.table(rows)


SOURCE = '''
"""Doc 3."""
WIDTH = 1
SHIFTS = ((0, 1), (0.7, -1))
NAMES = {"a": "b"}

class Params:
    steps: int = 7
    width: float = Field(4.0, ge=2.5, le=30)
    low: float = _param(default=0.3, doc="")

    def area(self, axis=2, factor=1.2, *, flag=True, offset=0):
        """Doc 5."""
        if x.ndim != 3 or len(x) < 9:
            raise ValueError(f"{x:.4f}" + str(8))
        y = np.zeros((3, 4)) + x[5:6] ** 3 + np.sum(x, axis=3) * 1.48
        return 0.25 * y + 0.25 * x - 2 + np.clip(x, 0, 11)
'''


def test_numbers_that_are_counted() -> None:
    found = [(n.name, n.kind, n.value) for n in numbers.find(SOURCE)]
    assert sorted(found, key=str) == sorted(
        [
            ("WIDTH", "constant", 1),
            ("SHIFTS", "constant", 0.7),
            ("Params.steps", "field", 7),
            ("Params.width", "field", 4.0),
            ("Params.low", "field", 0.3),
            ("Params.area(factor)", "default", 1.2),
            ("Params.area", "literal", 1.48),
            ("Params.area", "literal", 0.25),
            ("Params.area", "literal", 0.25),
            ("Params.area", "literal", 11),
        ],
        key=str,
    )


def test_limit_sets_the_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "filters.py"
    path.write_text("A = 3.5\nB = 4.5\n")
    assert numbers.main([str(path), "--limit", "2"]) == 0
    assert numbers.main([str(path), "--limit", "1"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        "module,line,name,kind,value",
        "filters.py,1,A,constant,3.5",
        "filters.py,2,B,constant,4.5",
    ]
    assert out[-1].startswith("2 tunable numbers")


def test_default_path_leaves_out_what_is_not_on_it() -> None:
    names = {path.name for path in numbers.modules()}
    assert "lattice.py" in names
    assert not names & {"published.py", "metrics.py", "errors.py", "threads.py"}


@pytest.mark.slow
def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All commands, on next to nothing."""
    tiny = [Image(part, "own", part, part, _tiny) for part in datasets.PARTS]
    monkeypatch.setattr(program, "images", lambda *arguments, **options: tiny)
    monkeypatch.setattr(robustness, "BASE", {**robustness.BASE, "shape": (192, 192), "px_per_period": 12.0})

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert program.main([*arguments, "--out", str(tmp_path)]) == 0
        return capsys.readouterr().out

    scored = run("score", "--group", "own", "--limit", "1", "--part", "all", "--sheets", f"{tmp_path}/s")
    assert len(scored.splitlines()) == 2
    assert (tmp_path / "s" / "sheet-own-01.png").is_file()
    assert "`segment.extent`" in run(
        "ablation", "--group", "own", "--limit", "1", "--parameter", "segment.extent"
    )
    assert "dose" in run("robustness", "--limit", "1")
    run("report", "--page", str(tmp_path / "results.md"))
    text = (tmp_path / "results.md").read_text("utf-8")
    for part in ("Group `own`", "score_own.csv", "segment.extent", "scan-line jitter", "*Not measured yet.*"):
        assert part in text
    assert np.genfromtxt(tmp_path / "robustness.csv", delimiter=",", names=True).size
