"""What a Qwen-VL is given to learn from: a question with its pictures, and the answer, which alone counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from worker.engines.qwen_prompt import read_pictures
from worker.engines.qwen_sight import Sight
from worker.engines.qwen_tower import Grid
from worker.errors import UsageError
from worker.inspector.samples import Sample, Shown
from worker.media.rgb import Rgb

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Row:
    ids: list[int]
    positions: npt.NDArray[np.int64]
    pictures: npt.NDArray[np.int64]
    """which tokens are of them"""
    answer: int
    """so many tokens at its end, the one that ends it among them"""


@dataclass(frozen=True, slots=True)
class Reader:
    sight: Sight
    tokenizer: Any
    end: int
    """the token behind an answer"""

    @classmethod
    def of(cls, folder: Path) -> Reader:
        from transformers import AutoTokenizer

        sight = Sight.of(folder)
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            why = str(error).partition("\n")[0]
            raise UsageError(f"{folder} has no tokenizer that can be read ({why}): copy it again") from None
        if tokenizer.eos_token_id is None or not tokenizer.chat_template:
            raise UsageError(f"{folder} has no template of a chat, or no token that ends one: copy it again")
        try:  # of files that are absent transformers makes a tokenizer without words
            read_pictures(tokenizer, sight, "?", [sight.grid(1, sight.side, sight.side)])
        except ValueError as error:
            raise UsageError(f"{folder} cannot be asked about pictures ({error}): copy it again") from None
        return cls(sight, tokenizer, int(tokenizer.eos_token_id))

    def row(self, one: Shown, *, answered: bool = True) -> Row:
        return self._row(one, [self._grid(frame) for frame in one.frames], answered=answered)

    def length(self, one: Sample) -> tuple[int, int]:
        """How many tokens and patches a sample is; its pictures are alike."""
        grids = [self.sight.grid(1, *one.where.resized)] * len(one.files)
        row = self._row(Shown(one.prompt, [], one.answer), grids, answered=True)
        return len(row.ids), sum(down * across for _, down, across in grids)

    def learn(self, shown: Sequence[Shown]) -> Mapping[str, Tensor]:
        """A batch: of unequal rows the shorter begin later, so that all answers stand at the end, and what
        could be said is worked out for those alone."""
        import torch

        rows = [self.row(one) for one in shown]
        inputs = self._inputs(rows, shown)
        kept = max(row.answer for row in rows)
        length = inputs["input_ids"].shape[1]
        labels = torch.full((len(rows), kept + 1), IGNORED)
        for at, row in enumerate(rows):
            labels[at, -row.answer :] = torch.tensor(row.ids[-row.answer :])
        places = torch.arange(length - kept - 1, length)
        return {**inputs, "logits_to_keep": places, "labels": labels}

    def ask(self, shown: Sequence[Shown]) -> Mapping[str, Tensor]:
        """For a model that is to answer."""
        import torch

        rows = [self.row(one, answered=False) for one in shown]
        inputs = dict(self._inputs(rows, shown))
        del inputs["position_ids"]  # generating works them out, with those that follow
        ids, width = inputs["input_ids"], inputs["input_ids"].shape[1]
        kinds = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            kinds[at, width - len(row.ids) + torch.from_numpy(row.pictures)] = 1
        inputs.setdefault("attention_mask", torch.ones_like(ids))
        return {**inputs, "mm_token_type_ids": kinds}

    def _row(self, one: Shown, grids: Sequence[Grid], *, answered: bool) -> Row:
        asked = read_pictures(self.tokenizer, self.sight, one.prompt, grids)
        answer: list[int] = []
        if answered:
            answer = [*self.tokenizer(one.answer, add_special_tokens=False).input_ids, self.end]
        # an answer is words, and they count on by one
        begin = asked.positions.max() + 1
        behind = np.tile(np.arange(begin, begin + len(answer)), (3, 1))
        places = np.concatenate([asked.positions, behind], 1)
        return Row([*asked.ids, *answer], places, asked.clip, len(answer))

    def _inputs(self, rows: Sequence[Row], shown: Sequence[Shown]) -> Mapping[str, Tensor]:
        import torch

        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), self._pad)
        places = torch.zeros((3, len(rows), width), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            begin = width - len(row.ids)
            ids[at, begin:] = torch.tensor(row.ids)
            places[:, at, begin:] = torch.from_numpy(row.positions)
            mask[at, begin:] = 1
        frames = [frame for one in shown for frame in one.frames]
        found = {
            "input_ids": ids,
            "position_ids": places,
            "image_grid_thw": torch.tensor([self._grid(frame) for frame in frames]),
            "pixel_values": torch.cat([self._patches(frame) for frame in frames]),
        }
        # without a mask the fast kernels of attention are open
        return found if bool(mask.all()) else {**found, "attention_mask": mask}

    def _grid(self, frame: Rgb) -> Grid:
        return self.sight.grid(1, frame.shape[1], frame.shape[0])

    def _patches(self, frame: Rgb) -> Tensor:
        import torch

        return self.sight.patches(torch.from_numpy(frame)[None])

    @property
    def _pad(self) -> int:
        known = self.tokenizer.pad_token_id
        return self.end if known is None else int(known)
