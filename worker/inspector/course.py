"""What an inspector brings to the core of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.inspector import verdict
from worker.inspector.asking import ASKED, Asker
from worker.inspector.reading import IGNORED, Reader
from worker.inspector.samples import Sample, Samples
from worker.training.course import Course, Tried
from worker.training.flops import Learning, sample

if TYPE_CHECKING:
    from torch import Tensor

VAL = "val"
BEST_BY = "score"
"""F, and where that is the same to four digits the smaller loss"""


def course(
    model: Any,
    reader: Reader,
    train: Samples,
    val: Samples,
    asker: Asker,
    asked: Sequence[Sample],
    learning: Learning,
) -> Course:
    lengths = [reader.length(one) for one in train.rows]

    def judged(tried: Mapping[str, Tried]) -> list[verdict.Answered]:
        return verdict.judge(asked, tried[ASKED].outputs) if ASKED in tried else []

    def told(tried: Mapping[str, Tried]) -> Mapping[str, str]:
        return {verdict.ANSWERS: verdict.written(judged(tried))} if asked else {}

    return Course(
        model,
        train,  # type: ignore[arg-type]
        {VAL: val},  # type: ignore[dict-item]
        reader.learn,
        loss,
        lambda tried: measure(tried[VAL], judged(tried)),
        BEST_BY,
        flops=flops(model.config, reader, train.rows, lengths, learning),
        longest=max(range(len(lengths)), key=lambda at: lengths[at]),
        told=told,
        said=each,
        ask=asker,
    )


def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Of the answers' tokens alone: the mean over a whole step, however it is cut into batches."""
    from torch.nn.functional import cross_entropy

    likely, true = outputs["logits"][:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    of = (true != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return cross_entropy(likely.float(), true, ignore_index=IGNORED, reduction="sum") / of


def each(likely: Tensor, labels: Tensor) -> Tensor:
    """Of each answer: how unlikely its tokens were together, and how many there are."""
    import torch
    from torch.nn.functional import cross_entropy

    true = labels[:, 1:]
    off = cross_entropy(
        likely[:, :-1].flatten(0, 1).float(), true.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return torch.stack([off.view(true.shape).sum(1), (true != IGNORED).sum(1)], 1)


def measure(val: Tried, answers: Sequence[verdict.Answered]) -> Mapping[str, float]:
    off, count = np.asarray(val.outputs, np.float64).sum(0)
    mean = float(off / count)
    found = dict(verdict.measured(answers)) if answers else {}
    found["loss"] = mean
    return {**found, BEST_BY: score(found.get("f1", 0.0), mean)}


def score(f1: float, mean: float) -> float:
    """Smaller losses move only digits behind those of F. What is no number is no score."""
    return round(f1, 4) + 1e-5 / (1 + mean) if math.isfinite(mean) else math.nan


def flops(
    config: Any,
    reader: Reader,
    rows: Sequence[Sample],
    lengths: Sequence[tuple[int, int]],
    learning: Learning,
) -> float:
    """Of a sample of the mean length. The head, frozen, goes forward and backward for answers alone."""
    tokens = round(sum(one for one, _ in lengths) / len(lengths))
    first = rows[0]
    _, down, across = reader.sight.grid(1, *first.where.resized)
    text = config.get_text_config()
    answers = sum(len(reader.tokenizer(one.answer).input_ids) + 1 for one in rows) / len(rows)
    said = 2.0 * 2 * answers * text.hidden_size * text.vocab_size
    return float(sample(config, tokens, (len(first.files), down, across), 0, learning) + said)
