"""What the report says of an inspector's training: how it went, and where the best one errs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from worker.inspector import verdict
from worker.inspector.verdict import ANSWERS, Answered
from worker.items import Json
from worker.tasks.chapters import Chapter, Sheet, Shown, Words, curves
from worker.training.record import METRICS

_CURVES: Mapping[Words, Mapping[str, str]] = {
    ("Loss", "损失"): {"training": "training/loss", "val": "eval/loss"},
    ("DeepPCB's F", "DeepPCB F 值"): {"F": "eval/f1", "precision": "eval/precision", "recall": "eval/recall"},
    ("COCO mAP", "COCO mAP"): {"50": "eval/map50", "50-95": "eval/map50_95"},
    ("Answers right in form", "格式正确的回答"): {"share": "eval/readable"},
    ("Learning rate", "学习率"): {"lr": "training/lr"},
    ("Norm of the gradients", "梯度范数"): {"grad_norm": "training/grad_norm"},
    ("Samples a second", "每秒样本数"): {"samples_per_second": "perf/samples_per_second"},
    ("GPU memory, GB", "显存 (GB)"): {"gpu_memory_gb": "perf/gpu_memory_gb"},
    ("MFU", "MFU"): {"mfu": "perf/mfu"},
}
_TRIED = {
    ("Step", "步"): "step",
    ("Loss", "损失"): "eval/loss",
    ("F", "F 值"): "eval/f1",
    ("Precision", "精确率"): "eval/precision",
    ("Recall", "召回率"): "eval/recall",
    ("mAP 50", "mAP 50"): "eval/map50",
    ("mAP 50-95", "mAP 50-95"): "eval/map50_95",
    ("Right in form", "格式正确"): "eval/readable",
}


def chapters(files: Sequence[str], read: Callable[[str], bytes]) -> Iterator[Chapter]:
    """`files`: the names of the answer's."""
    rows = [json.loads(line) for line in read(METRICS).decode().splitlines()]
    yield Chapter(("How it learned", "学习过程"), [*curves(_CURVES, rows)])
    tried = [[_cell(row.get(key)) for key in _TRIED.values()] for row in rows if "eval/loss" in row]
    yield Chapter(("Evaluations", "各次验证"), [Sheet([*_TRIED], tried)])
    if ANSWERS not in files:
        return
    worst = verdict.worst(verdict.read(read(ANSWERS).decode()))
    shown = {worst_name(number): _caption(one) for number, one in enumerate(worst, 1)}
    if shown:
        title = ("Worst boards: labelled, and found", "最差的板：标注与预测")
        yield Chapter(title, [Shown(shown)])


def worst_name(number: int) -> str:
    return f"worst-{number:02}.jpg"


def _caption(one: Answered) -> str:
    found = f"{len(one.labelled)} → {len(one.found)}"
    return f"{one.name}: {found}; {one.wrong[0]}" if one.wrong else f"{one.name}: {found}"


def _cell(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""
