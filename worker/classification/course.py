"""What a classifier brings to the core of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.classification.datasets import Pictures
from worker.classification.model import Reader
from worker.classification.verdict import PREDICTIONS, Said, written
from worker.media.rgb import Rgb
from worker.training import adapters
from worker.training.beginning import require_same
from worker.training.course import Course, Tried
from worker.training.flops import Learning, sample

if TYPE_CHECKING:
    from torch import Tensor

BEST_BY = "overall_accuracy"


def course(
    model: Any,
    reader: Reader,
    train: Sequence[Pictures],
    tests: Mapping[str, Pictures],
    learning: Learning,
) -> Course:
    from torch.utils.data import ConcatDataset

    def collate(samples: Sequence[tuple[Rgb, int]]) -> Mapping[str, Any]:
        import torch

        return {
            **reader.inputs([picture for picture, _ in samples]),
            "labels": torch.tensor([label for _, label in samples]),
        }

    return Course(
        model,
        ConcatDataset(train),  # type: ignore[arg-type]
        tests,  # type: ignore[arg-type]
        collate,
        loss,
        measure,
        BEST_BY,
        flops=sample(model.config, len(reader.ids), reader.grid, model.config.num_labels, learning),
        told=partial(told, tests),
        require_same=partial(
            require_same,
            adapters.kept(model),
            [name for _, name in sorted(model.config.id2label.items())],
        ),
    )


def told(tests: Mapping[str, Pictures], tried: Mapping[str, Tried]) -> Mapping[str, str]:
    """Picture by picture, in the order of the data sets."""
    return {
        PREDICTIONS: written(
            chain.from_iterable(_said(name, tests[name], one) for name, one in tried.items())
        )
    }


def _said(name: str, pictures: Pictures, one: Tried) -> Iterator[Said]:
    logits = np.asarray(one.outputs, np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    said = shares.argmax(-1)
    for at, row in enumerate(pictures.rows):
        best = int(said[at])
        yield Said(name, row.name, row.label, pictures.classes[best], round(float(shares[at, best]), 4))


def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """The mean over a whole step, however it is cut into batches."""
    from torch.nn.functional import cross_entropy

    of = len(labels) if num_items_in_batch is None else num_items_in_batch
    return cross_entropy(outputs["logits"].float(), labels, reduction="sum") / of


def measure(tried: Mapping[str, Tried]) -> Mapping[str, float]:
    """Of each data set, and of all their pictures together."""
    right = {name: np.argmax(one.outputs, axis=-1) == one.labels for name, one in tried.items()}
    counts = {name: len(one) for name, one in right.items()}
    total = sum(counts.values())
    return {
        "overall_loss": sum(one.loss * counts[name] for name, one in tried.items()) / total,
        BEST_BY: sum(int(one.sum()) for one in right.values()) / total,
        **{f"{name}_accuracy": float(one.mean()) for name, one in right.items()},
    }
