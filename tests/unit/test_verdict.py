"""What a model takes for what, and where it is surest and wrong."""

from __future__ import annotations

import csv
import io

import numpy as np
from PIL import Image

from worker.classification import course, verdict
from worker.classification.chapters import chapters
from worker.classification.datasets import Labelled, Pictures
from worker.classification.verdict import Said
from worker.tasks.chapters import Curves, Matrix
from worker.training.course import Tried

CLASSES = ["cat", "dog", "emu"]
SAID = [
    Said("home", "1.jpg", "cat", "cat", 0.9),
    Said("home", "2.jpg", "cat", "dog", 0.6),
    Said("home", "3.jpg", "dog", "dog", 0.8),
    Said("zoo", "1.jpg", "dog", "cat", 0.7),
    Said("zoo", "2.jpg", "cat", "dog", 0.99),
]


def test_rows_are_what_it_is_and_columns_what_was_said() -> None:
    counts = verdict.confusion(SAID, CLASSES)
    assert counts.tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 0]]
    cat, _, emu = verdict.of_classes("all", counts, CLASSES)
    assert (cat.pictures, cat.said, cat.precision, cat.recall, cat.f1) == (3, 2, 1 / 2, 1 / 3, 2 / 5)
    assert (emu.precision, emu.recall, emu.f1) == (None, None, None)
    assert verdict.mixed_up(counts, CLASSES, 9) == [("cat", "dog", 2, 2 / 3), ("dog", "cat", 1, 1 / 2)]


def test_the_worst_is_the_surest_that_is_wrong() -> None:
    assert [(one.dataset, one.picture) for one in verdict.worst(SAID, 2)] == [
        ("zoo", "2.jpg"),
        ("zoo", "1.jpg"),
    ]


def test_its_files_are_tables_of_all_and_of_each_data_set() -> None:
    files = verdict.files(SAID, CLASSES)
    assert sorted(files) == ["classes.csv", "confusion-home.csv", "confusion-zoo.csv", "confusion.csv"]
    assert files["confusion-home.csv"].splitlines() == [
        "true / said,cat,dog,emu",
        "cat,1,1,0",
        "dog,0,1,0",
        "emu,0,0,0",
    ]
    rows = [*csv.DictReader(io.StringIO(files["classes.csv"]))]
    assert [row["dataset"] for row in rows[::3]] == ["overall", "home", "zoo"]
    assert rows[0]["recall"] == "0.3333"
    assert verdict.read(verdict.written(SAID)) == SAID


def test_what_was_tried_becomes_a_line_for_each_picture() -> None:
    rows = [Labelled(f"{name}.jpg", name, lambda: Image.new("RGB", (1, 1))) for name in ("dog", "cat")]
    tried = {"home": Tried(0.5, np.log([[0.25, 0.75, 1e-9], [0.1, 0.9, 1e-9]]), np.array([1, 0]))}
    (text,) = course.told({"home": Pictures(rows, CLASSES, 28)}, tried).values()
    assert verdict.read(text) == [
        Said("home", "dog.jpg", "dog", "dog", 0.75),
        Said("home", "cat.jpg", "cat", "dog", 0.9),
    ]


def test_curves_have_what_was_measured_and_leave_out_what_is_unknown() -> None:
    metrics = b"""{"step": 2, "training/loss": 1.5, "training/lr": 0.1}
{"step": 3, "training/loss": NaN}
{"step": 2, "perf/mfu": "unknown", "perf/gpu_memory_gb": 0.0}
{"step": 4, "eval/overall_loss": 1.0, "eval/overall_accuracy": 0.5, "eval/home_accuracy": 0.5}
"""
    files = {"metrics.jsonl": metrics, "predictions.csv": verdict.written(SAID).encode()}
    keys = {"datasets": {"home": 0.5}, "classes": CLASSES}
    learned, said, worst = chapters(keys, list(files), files.__getitem__)
    drawn = {part.title[0]: part.lines for part in learned.parts if isinstance(part, Curves)}
    assert drawn == {
        "Loss": {"training": [(2, 1.5)], "test": [(4, 1.0)]},
        "Accuracy": {"overall": [(4, 0.5)]},
        "Learning rate": {"lr": [(2, 0.1)]},
    }
    assert isinstance(said.parts[0], Matrix)
    assert said.parts[0].counts == {(0, 0): 1, (0, 1): 2, (1, 0): 1, (1, 1): 1}
    assert worst.title[0] == "Surest, and wrong"
