"""A model that learns is asked about boards, as it is in the middle of its training."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker.inspector.reading import Reader
from worker.inspector.samples import Sample, shown
from worker.training.course import Tried
from worker.training.world import World

ASKED = "asked"
"""what it said, among what was tried: texts, in the order of the boards"""
_CHOICE = 20170


def chosen(rows: Sequence[Sample], count: int) -> list[Sample]:
    """Always the same ones, boards and templates as they come."""
    if count >= len(rows):
        return list(rows)
    return [rows[at] for at in sorted(random.Random(_CHOICE).sample(range(len(rows)), count))]


class Asker:
    def __init__(self, model: Any, reader: Reader, rows: Sequence[Sample], batch: int, longest: int) -> None:
        from transformers import GenerationConfig

        ends = model.generation_config.eos_token_id
        ends = {reader.end, *([ends] if isinstance(ends, int) else ends or [])}
        # what a model's own configuration says of chance and of repetitions would count over ours
        model.generation_config = GenerationConfig(
            do_sample=False,
            use_cache=True,
            max_new_tokens=longest,
            eos_token_id=sorted(ends),
            pad_token_id=reader.end,
        )
        self._model, self._reader, self._rows, self._batch = model, reader, rows, batch

    def __call__(self, world: World, alive: Callable[[], None]) -> Mapping[str, Tried]:
        """Each process asks about its share, and all are told what was said of each."""
        if not self._rows:
            return {}
        said: list[str] = []
        share = range(world.rank, len(self._rows), world.size)
        for at in range(0, math.ceil(len(self._rows) / world.size), self._batch):
            said += self._ask([self._rows[one] for one in share[at : at + self._batch]])
            alive()
        shares = [json.loads(one) for one in world.gather(json.dumps(said).encode())]
        together = [
            shares[at % world.size][at // world.size] for at in range(len(self._rows) if shares else 0)
        ]
        return {ASKED: Tried(math.nan, json.loads(world.tell(json.dumps(together))), None)}

    def _ask(self, rows: Sequence[Sample]) -> list[str]:
        import torch

        if not rows:
            return []
        self._model.eval()
        inputs = self._reader.ask([shown(one) for one in rows])
        inputs = {name: one.to(self._model.device) for name, one in inputs.items()}
        with torch.no_grad():
            found = self._model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        return list(self._reader.tokenizer.batch_decode(found, skip_special_tokens=True))
