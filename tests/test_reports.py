"""What is said of a trained classifier: table 1 and the report of each class, as text, JSON, CSV and a figure."""

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

from napari_hrstem_defects.batch import reports
from napari_hrstem_defects.core.metrics import classification
from napari_hrstem_defects.errors import WriteError
from napari_hrstem_defects.models import evaluation

CLASSES = ("Bulk", "SF1", "Vacancy")


def test_class_report_counts_patches():
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 400, p=[0.7, 0.2, 0.1])
    found = np.where(rng.random(400) < 0.7, truth, rng.integers(0, 3, 400))
    report = evaluation.class_report(classification(truth, found, classes=CLASSES)["confusion"])
    rows = []
    for k, name in enumerate(CLASSES):
        precision, recall = np.mean(truth[found == k] == k), np.mean(found[truth == k] == k)
        rows.append([precision, recall, 2 * precision * recall / (precision + recall), np.sum(truth == k)])
        assert list(report["classes"][name].values()) == pytest.approx(rows[-1])
    rows = np.array(rows)
    assert list(report["macro"].values()) == pytest.approx([*rows[:, :3].mean(axis=0), 400])
    weighted = [sum(row[i] * row[3] for row in rows) / 400 for i in range(3)]
    assert list(report["weighted"].values()) == pytest.approx([*weighted, 400])
    assert report["accuracy"] == pytest.approx(np.mean(truth == found))


def test_class_that_is_never_found():
    report = evaluation.class_report({"classes": ["a", "b"], "counts": [[3, 0], [2, 0]]})
    assert report["classes"]["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}
    assert report["classes"]["a"]["f1"] == pytest.approx(2 * 0.6 / 1.6)
    assert report["macro"]["support"] == 5


def metric(value, std=0.01):
    return {"mean": value, "std": std}


METRICS = {
    **{part: {name: metric(0.99) for name in evaluation.METRICS} for part in ("train", "test")},
    "train_with_ambivalent": {name: metric(0.924, 0.02) for name in evaluation.METRICS},
    "test_with_ambivalent": {name: metric(0.881, 0.03) for name in evaluation.METRICS},
    "defect_free": {
        "accuracy": metric(0.995),
        "precision": metric(0.0),
        "specificity": metric(0.995),
        "recall": metric(math.nan),
    },
    "confusion": {"classes": ["non-defective", "defective"], "counts": [[90, 2], [3, 5]]},
    "binary": {"SF1": {"classes": ["other", "SF1"], "counts": [[8, 1], [0, 4]]}},
}


def test_table_1_has_its_layout(tmp_path):
    table = evaluation.table(reports.of_training(METRICS).table_1)
    assert table == [
        ["", "accuracy", "precision", "specificity", "recall"],
        ["train", *["92.4 ± 2.0"] * 4],
        ["test", *["88.1 ± 3.0"] * 4],
        ["defect-free", "99.5 ± 1.0", "–", "99.5 ± 1.0", "–"],
    ]
    reports.of_training(METRICS).write(tmp_path / "r")
    with (tmp_path / "r" / "table_1.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["train", "test", "defect-free"]
    assert (rows[1]["recall_mean"], rows[1]["recall_std"], rows[2]["precision_mean"]) == ("0.881", "0.03", "")


def test_report_is_written_in_every_form(tmp_path):
    reports.of_training(METRICS).write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "table_1.csv",
        "report.txt",
        "report.json",
        "confusion.png",
    }
    found = json.loads((tmp_path / "report.json").read_text())
    network = found["reports"]["network of SF1"]
    assert network["confusion"]["counts"] == [[8, 1], [0, 4]]
    assert network["classes"]["SF1"] == {"precision": 0.8, "recall": 1.0, "f1": 8 / 9, "support": 4}
    assert found["reports"]["all classes"]["accuracy"] == 0.95
    assert found["table_1"]["defect-free"].keys() == {"accuracy", "specificity"}
    text = (tmp_path / "report.txt").read_text("utf-8")
    assert "network of SF1: truth \\ found" in text
    assert "SF1                   0.800   1.000  0.889        4" in text
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 300


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        reports.of_training(METRICS).write(tmp_path / "file" / "r")


def test_evaluation_on_patches_has_no_table_1():
    assert reports.of_evaluation({"confusion": METRICS["confusion"]}).table_1 == {}
