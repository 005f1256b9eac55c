"""Reports as classify-train makes them, of a training that nobody ran."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.queues import QueueUnderTest
from worker.classification import verdict
from worker.classification.chapters import worst_name
from worker.classification.verdict import Said
from worker.items import Answer, Json, Result
from worker.queue.finals import Spent
from worker.report.files import relative_paths
from worker.report.html import Report, render
from worker.report.performance import performance
from worker.report.provenance import provenance
from worker.tasks.classify_train import ClassifyTrain, ClassifyTrainParams

STEPS = 600


def lesson_page(folder: Path, classes: Sequence[str], *, each: int = 20) -> Path:
    """report.html of a model that is right three times out of four, on two data sets."""
    said = [*_said(classes, each)]
    right = np.mean([one.label == one.said for one in said])
    keys: dict[str, Json] = {
        "overall_accuracy": float(right),
        "overall_loss": 0.9,
        "datasets": {"food": float(right), "menu": float(right)},
        "best_model_step": STEPS,
        "steps": STEPS,
        "pictures": {"train": 3 * len(said), "test": len(said), "left_out": 0},
        "classes": list(classes),
    }
    files = {
        "metrics.jsonl": "".join(json.dumps(one) + "\n" for one in _metrics()).encode(),
        "predictions.csv": verdict.written(said).encode(),
        **{worst_name(n): _picture(n) for n, _ in enumerate(verdict.worst(said), 1)},
    }
    result = Result("f00d" * 6, "food.yaml", Answer(keys), files={name: f"files/{name}" for name in files})
    for name, path in relative_paths(result).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(files[name])
    task = ClassifyTrain(ClassifyTrainParams())
    report = Report(
        summary={
            "task": task.name,
            "fingerprint": "f00df00df00df00d",
            "total": 1,
            "ok": 1,
            "failed": 0,
            "failures": {},
            "refused": [],
            "superseded": 0,
        },
        results=[result],
        row=task.row,
        moments=task.moments,
        chapters=task.chapters,
        performance=performance([Spent(result.input, 3.1, None, 1)], [], 1),
        provenance=provenance(QueueUnderTest().run, "queue", [], [], {}),
        out=folder,
    )
    page = folder / "report.html"
    page.write_text(render(report), encoding="utf-8")
    return page


def _said(classes: Sequence[str], each: int) -> Iterator[Said]:
    chance = np.random.default_rng(5)
    for dataset in ("food", "menu"):
        for at, name in enumerate(classes):
            for number in range(each):
                other = (at + 1 if chance.random() < 0.6 else int(chance.integers(len(classes)))) % len(
                    classes
                )
                said = name if chance.random() < 0.75 else classes[other]
                yield Said(dataset, f"{name}/{number}.jpg", name, said, round(0.3 + 0.7 * chance.random(), 4))


def _metrics() -> Iterator[dict[str, float | str]]:
    chance = np.random.default_rng(6)
    for step in range(10, STEPS + 1, 10):
        gone = step / STEPS
        yield {
            "step": step,
            "training/loss": 4.6 * np.exp(-3 * gone) + 0.2 * chance.random(),
            "training/lr": 1e-5 * min(1, step / 100) * (1 - gone),
            "training/grad_norm": 1 + chance.random(),
            "training/epoch": 10 * gone,
        }
        yield {"step": step, "perf/samples_per_second": 40 + chance.random(), "perf/mfu": "unknown"}
        if step % 50 == 0:
            right = 0.85 * (1 - np.exp(-3 * gone))
            told = {"overall_accuracy": right, "food_accuracy": right + 0.03, "menu_accuracy": right - 0.1}
            yield {
                "step": step,
                "eval/overall_loss": 4 - 3 * gone,
                **{f"eval/{n}": one for n, one in told.items()},
            }


def _picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (240, 180), (10 * number, 120, 255 - 10 * number)).save(out, "JPEG")
    return out.getvalue()
