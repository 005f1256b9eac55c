"""What was made small is held against what it was, before anybody takes it: tools err without a word."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.engines import checkpoint, loading, weights
from worker.engines.choice import Choice
from worker.engines.quantisation import stays_whole
from worker.errors import ItemError
from worker.items import Json
from worker.merging.matching import within
from worker.quantising.samples import Reader, Sample

if TYPE_CHECKING:
    from torch import Tensor

_HEAD = "lm_head.weight"
_BLOCK = 1 << 22
_ANSWER = 128
"""tokens of an answer that are compared at most"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the answers' tokens, as both models would say them."""

    cosine: float
    """between their logits, in the mean"""
    worst: float
    """of one sample"""
    same: float
    """share of tokens that both hold for the likeliest"""
    samples: int

    def document(self) -> dict[str, Json]:
        return {
            "cosine": round(self.cosine, 4),
            "worst_sample": round(self.worst, 4),
            "same_token": round(self.same, 4),
            "samples": self.samples,
        }


def open_model(folder: Path, device: str) -> Any:
    """Whatever is missing in it, or left over, is refused here."""
    choice = Choice("quantise", folder.name, file=folder)
    return loading.load(choice, device, architectures="AutoModelForImageTextToText").model


def logits(
    model: Any, reader: Reader, samples: Sequence[Sample], alive: Callable[[], None]
) -> Iterator[Tensor]:
    """Of each sample's answer: tokens x words, in RAM."""
    import torch

    device = model.get_input_embeddings().weight.device
    for sample in samples:
        alive()
        inputs, answer = reader.inputs(sample)
        with torch.inference_mode():
            told = model(
                **{name: one.to(device) for name, one in inputs.items()},
                use_cache=False,
                logits_to_keep=answer + 1,
            ).logits
        yield told[0, : min(answer, _ANSWER)].float().cpu()


def compare(before: Sequence[Tensor], after: Sequence[Tensor]) -> Verdict:
    import torch

    likeness = [torch.cosine_similarity(a, b, dim=1) for a, b in zip(before, after, strict=True)]
    same = [a.argmax(1) == b.argmax(1) for a, b in zip(before, after, strict=True)]
    return Verdict(
        float(torch.cat(likeness).mean()),
        min(float(one.mean()) for one in likeness),
        float(torch.cat(same).float().mean()),
        len(likeness),
    )


def untouched(before: Path, after: Path) -> None:
    """The vision tower and the last layer stay as they are, to the bit."""
    there = dict(_whole(before))
    for name, (file, tensor) in _whole(after):
        file_before, one = there.pop(name, (file, None))
        if one is None or (one.kind, one.shape) != (tensor.kind, tensor.shape):
            raise _damaged(f"{name} was made small or is new, and was meant to stay as it was")
        if not _same(file_before, one, file, tensor):
            raise _damaged(f"{name} was meant to stay as it was, and has other numbers")
    if checkpoint.is_tied(checkpoint.config(before)):
        there.pop(_HEAD, None)  # some store it all the same, and nobody reads it
    if there:
        raise _damaged(f"{min(there)} is not there any more")


def _whole(folder: Path) -> Iterator[tuple[str, tuple[Path, weights.Tensor]]]:
    for file in checkpoint.files(folder):
        for tensor in weights.header(file).tensors:
            if stays_whole(tensor.name):
                yield within(tensor.name), (file, tensor)


def _same(file: Path, one: weights.Tensor, other_file: Path, other: weights.Tensor) -> bool:
    with file.open("rb") as left, other_file.open("rb") as right:
        for at in range(0, one.end - one.start, _BLOCK):
            size = min(_BLOCK, one.end - one.start - at)
            pair = (
                os.pread(source.fileno(), size, begin + at)
                for source, begin in ((left, one.start), (right, other.start))
            )
            if next(pair) != next(pair):
                return False
    return True


def _damaged(why: str) -> ItemError:
    return ItemError("damaged", f"the quantised model is not what was asked for: {why}")
