"""Chats with pictures, as pcb-convert writes them, as a Qwen-VL takes them: alike in every environment."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.boards.asking import opened, resized
from worker.engines.qwen_sight import Sight
from worker.errors import ItemError

if TYPE_CHECKING:
    from torch import Tensor

IMAGE = "<|image_pad|>"
WRONG = "calibration"
_SEED = 20170


@dataclass(frozen=True, slots=True)
class Sample:
    messages: Sequence[Mapping[str, Any]]
    pictures: Sequence[Path]

    @classmethod
    def of(cls, line: str, root: Path) -> Sample:
        messages = []
        pictures: list[Path] = []
        for one in json.loads(line)["messages"]:
            parts = one["content"]
            parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
            pictures += [_inside(root, part["image"]) for part in parts if part["type"] == "image"]
            messages.append({"role": one["role"], "content": parts})
        if messages[-1]["role"] != "assistant":
            raise ValueError("it does not end with an answer")
        return cls(messages, pictures)


def read(file: Path, root: Path, count: int) -> list[Sample]:
    """So many of them, drawn by lot: the same ones always."""
    try:
        lines = [line for line in file.read_text("utf-8-sig").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise ItemError(
            WRONG, f"{file} cannot be read: {error}; name the train.jsonl that pcb-convert wrote"
        ) from None
    drawn = random.Random(_SEED).sample(range(len(lines)), min(count, len(lines)))
    found = []
    for number in drawn:
        try:
            found.append(Sample.of(lines[number], root))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise ItemError(WRONG, f"{file.name}, line {number + 1} is no chat sample: {error}") from None
    if absent := [picture for one in found for picture in one.pictures if not picture.is_file()]:
        raise ItemError(
            WRONG, f"{absent[0]} is not there: name the folder that its pictures lie below (pictures=)"
        )
    if not found:
        raise ItemError(WRONG, f"{file} has no samples")
    return found


@dataclass(frozen=True, slots=True)
class Reader:
    sight: Sight
    tokenizer: Any

    @classmethod
    def of(cls, folder: Path) -> Reader:
        from transformers import AutoTokenizer

        return cls(Sight.of(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True))

    def inputs(self, sample: Sample) -> tuple[dict[str, Tensor], int]:
        """And how many of its tokens are the answer."""
        import torch

        shown = [self._frames(file) for file in sample.pictures]
        grids = [self.sight.grid(1, frames.shape[2], frames.shape[1]) for frames in shown]
        ids = self._ids(sample, grids, len(sample.messages))
        answer = len(ids) - len(self._ids(sample, grids, len(sample.messages) - 1))
        tokens = torch.tensor([ids])
        image = tokens == self.tokenizer.convert_tokens_to_ids(IMAGE)
        inputs = {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "mm_token_type_ids": image.int(),
        }
        if shown:
            patches = [self.sight.patches(torch.from_numpy(one)) for one in shown]
            inputs |= {"pixel_values": torch.cat(patches), "image_grid_thw": torch.tensor(grids)}
        return inputs, answer

    def _ids(self, sample: Sample, grids: Sequence[tuple[int, int, int]], count: int) -> list[int]:
        chat = self.tokenizer.apply_chat_template(
            sample.messages[:count], tokenize=False, add_generation_prompt=count < len(sample.messages)
        )
        cells = iter([high * wide // self.sight.merge**2 for _, high, wide in grids])
        image = self.tokenizer.convert_tokens_to_ids(IMAGE)
        ids: list[int] = self.tokenizer(chat, add_special_tokens=False).input_ids
        return [each for one in ids for each in ([one] * next(cells) if one == image else [one])]

    def _frames(self, file: Path) -> Any:
        """One picture, as inspection shows it, as often as it takes to be a moment."""
        try:
            picture = opened(file)
            one = resized(picture, self.sight.resizing.of(*picture.size))
        except (ItemError, ValueError) as error:
            raise ItemError(WRONG, f"{file.name}: {error}") from None
        return np.repeat(one[None], self.sight.depth, 0)


def _inside(root: Path, name: str) -> Path:
    file = (root / name).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ValueError(f"{name} leads out of its folder")
    return file
