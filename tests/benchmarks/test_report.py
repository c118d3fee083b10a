"""docs/results.md from tables."""

from pathlib import Path

import pytest

from benchmarks.accuracy import report, run, tables

ROOT = Path(__file__).parents[2]


def row(name: str, mode: str, part: str = "test", **scores: object) -> dict[str, object]:
    known = {
        "name": name,
        "group": "own",
        "part": part,
        "content": "twin",
        "extent": "",
        "mode": mode,
        "error": "",
    }
    values = {
        "dice": 0.5,
        "auroc": 0.75,
        "dice_amorphous": float("nan"),
        "auroc_boundary": float("nan"),
        "false": 0.0,
    }
    values |= {"called": True, "defective": True, "passed": True, "targets": "twin 1/2", "regions": 3}
    return {**known, **values, "regions_false": 1, **scores}


def test_page_of_a_group_comes_from_its_table_alone(tmp_path: Path) -> None:
    rows = [row("a", "default"), row("b", "default", dice=1.0), row("c", "default", "tuning", dice=0.25)]
    rows += [row(name, "published", dice=0.0, called=False) for name in ("a", "b")]
    tables.write_csv(tmp_path / "score_own.csv", rows)
    run.record(tmp_path, "score_own", settings={"segment.low": "3"})
    page = report.page(tmp_path)
    lines = page.splitlines()
    assert "|  | default, test | default, tuning | published, test |" in lines
    assert "| Dice | 0.750 | 0.250 | 0.000 |" in lines
    assert "| image recall | 1.000 | 1.000 | 0.000 |" in lines
    assert "| twin | 2 | 2 | 0.750 | – | 0.750 | 6 | 2 | 0 | 0.000 | – | 0.750 | 6 | 2 |" in lines
    assert "| twin | 2 of 4 | 2 of 4 |" in lines
    assert "with `segment.low=3`." in page
    assert report.NOT_MEASURED in page


def test_page_of_the_repository_is_what_its_tables_say() -> None:
    folder = ROOT / "docs" / "results"
    page = (ROOT / "docs" / "results.md").read_text("utf-8")
    # How many numbers there are changes with every commit; the tables do not.
    made = report.page(folder)
    assert [line for line in page.splitlines() if line.startswith("|")] == [
        line for line in made.splitlines() if line.startswith("|")
    ]
    assert "screening" in page
    assert "GPA amplitude" in page


def test_links_of_the_page_exist() -> None:
    text = report.TEMPLATE.read_text("utf-8")
    for name in ("peers", "peers_tuning", "classifiers", "pretrained", "pretrained_gate", "types"):
        assert f"(results/{name}.csv)" in text
        assert (ROOT / "docs" / "results" / f"{name}.csv").is_file()


def test_failing_image_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import napari_hrstem_defects as hd
    from benchmarks.accuracy.datasets import simulated

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("no")

    sample = simulated(hd.simulate("twin", 1, shape=(192, 192)))
    monkeypatch.setattr(hd, "analyze", broken)
    scores, analyses = run.measure(sample, hd.Recipe())
    assert (scores["error"], scores["dice"], analyses) == ("ZeroDivisionError: no", 0.0, [])


def test_scores_of_one_mode_leave_those_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(image, modes, settings, sheets):
        return [row("a", mode, dice=len(modes) / 2) for mode in modes]

    monkeypatch.setattr(run, "score_image", scored)
    monkeypatch.setattr(run, "means", lambda rows: [])
    for modes, name in ((("default", "published"), "abc"), (("default",), "def")):
        monkeypatch.setattr(run, "commit", lambda name=name: name)
        run.score([None], modes=modes, out=tmp_path)
    rows = {each["mode"]: each["dice"] for each in tables.read_csv(tmp_path / "score_own.csv")}
    assert rows == {"default": 0.5, "published": 1.0}
    assert run.recorded(tmp_path)["score_own"]["commits"] == {"default": "def", "published": "abc"}
    assert "commits def (default), abc (published)" in report.page(tmp_path)
