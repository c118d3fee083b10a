"""Speed against a baseline."""

import csv

from benchmarks.speed.baseline import Measured, arithmetic_s, read, table, write


def test_a_slower_machine_is_no_regression(tmp_path):
    path = tmp_path / "baseline.csv"
    write([Measured("analysis", 1.0, "s", 0.01), Measured("memory", 0.9, "GB", 0.01)], path)
    half_as_fast = [Measured("analysis", 2.0, "s", 0.02), Measured("memory", 0.9, "GB", 0.02)]
    assert not any("SLOWER" in line for line in table(half_as_fast, read(path)))
    # One and a half times the work, and half as much memory again.
    more = [Measured("analysis", 3.2, "s", 0.02), Measured("memory", 1.44, "GB", 0.02)]
    for line in table(more, read(path))[1:]:
        assert line.endswith("1.60  SLOWER")
    assert table([Measured("other", 3.0, "s", 0.02)], read(path))[1].endswith("new")


def test_the_baseline_is_the_least_of_all_runs(tmp_path):
    path = tmp_path / "baseline.csv"
    write([Measured("a", 1.0, "s", 0.1), Measured("b", 5.0, "s", 0.1)], path)
    write([Measured("b", 3.0, "s", 0.1)], path)
    write([Measured("b", 4.0, "s", 0.1)], path)
    with path.open(newline="") as file:
        assert [(row["what"], float(row["relative"])) for row in csv.DictReader(file)] == [
            ("a", 10.0),
            ("b", 30.0),
        ]


def test_the_arithmetic_is_the_same_piece_every_time():
    first, again = arithmetic_s(), arithmetic_s()
    assert 0 < max(first, again) < 10 * min(first, again)
