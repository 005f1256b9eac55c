"""What the report says of a classifier's training: how it went, and what the best model takes for what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from worker.classification.verdict import (
    OVERALL,
    PREDICTIONS,
    Counts,
    Said,
    confusion,
    mixed_up,
    of_classes,
    worst,
)
from worker.classification.verdict import read as read_said
from worker.items import Json
from worker.tasks.chapters import Chapter, Matrix, Sheet, Shown, Words, curves
from worker.training.record import METRICS

PAIRS_MOST = 30
_CURVES: Mapping[Words, Mapping[str, str]] = {
    ("Loss", "损失"): {"training": "training/loss", "test": "eval/overall_loss"},
    ("Accuracy", "准确率"): {"overall": "eval/overall_accuracy"},
    ("Learning rate", "学习率"): {"lr": "training/lr"},
    ("Norm of the gradients", "梯度范数"): {"grad_norm": "training/grad_norm"},
    ("Pictures a second", "每秒图片数"): {"samples_per_second": "perf/samples_per_second"},
    ("GPU memory, GB", "显存 (GB)"): {"gpu_memory_gb": "perf/gpu_memory_gb"},
    ("MFU", "MFU"): {"mfu": "perf/mfu"},
}
_OF_CLASSES = (
    ("Class", "类别"),
    ("Pictures", "图片"),
    ("Said", "判为"),
    ("Precision", "精确率"),
    ("Recall", "召回率"),
    ("F1", "F1"),
)
_PAIRS = (("Class", "类别"), ("Taken for", "误判为"), ("Times", "次数"), ("Of its pictures", "占该类"))


def chapters(
    keys: Mapping[str, Json], files: Sequence[str], read: Callable[[str], bytes]
) -> Iterator[Chapter]:
    """`keys` of the answer, and the names of its files."""
    rows = [json.loads(line) for line in read(METRICS).decode().splitlines()]
    yield Chapter(("How it learned", "学习过程"), [*curves(_wanted(keys["datasets"]), rows)])
    if PREDICTIONS not in files:
        return  # begun before there were any
    said, classes = read_said(read(PREDICTIONS).decode()), keys["classes"]
    parts = {OVERALL: said}
    if len(keys["datasets"]) > 1:
        parts |= {name: [one for one in said if one.dataset == name] for name in keys["datasets"]}
    for name, some in parts.items():
        yield _confusion(name, confusion(some, classes), classes)
    if wrong := worst(said):
        shown = {worst_name(number): _caption(one) for number, one in enumerate(wrong, 1)}
        yield Chapter(("Surest, and wrong", "最确信的误判"), [Shown(shown)])


def worst_name(number: int) -> str:
    return f"worst-{number:02}.jpg"


def _caption(one: Said) -> str:
    return f"{one.label} → {one.said} ({one.share:.0%}): {one.dataset}/{one.picture}"


def _wanted(datasets: Mapping[str, Json]) -> Mapping[Words, Mapping[str, str]]:
    """With a line for each data set, where there are several."""
    each = {name: f"eval/{name}_accuracy" for name in datasets} if len(datasets) > 1 else {}
    return {
        title: {**names, **each} if "eval/overall_accuracy" in names.values() else names
        for title, names in _CURVES.items()
    }


def _confusion(name: str, counts: Counts, classes: Sequence[str]) -> Chapter:
    title = (f"What was taken for what: {name}", f"混淆矩阵：{name}")
    cells = {
        (int(row), int(column)): int(counts[row, column])
        for row, column in zip(*counts.nonzero(), strict=True)
    }
    pairs = [
        [true, said, str(often), f"{share:.1%}"]
        for true, said, often, share in mixed_up(counts, classes, PAIRS_MOST)
    ]
    each = [
        [one.label, str(one.pictures), str(one.said), *map(_percent, (one.precision, one.recall, one.f1))]
        for one in of_classes(name, counts, classes)
    ]
    return Chapter(
        title, [Matrix(classes, cells), *([Sheet(_PAIRS, pairs)] if pairs else []), Sheet(_OF_CLASSES, each)]
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
