"""A classifier that was trained, as an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.classification.model import LOOK, Reader, trained
from worker.engines.engine import Engine
from worker.errors import UsageError
from worker.media.rgb import Rgb


class Classifier(Engine):
    about = "a model that classify-train made: the folder of its files"
    model = "folder"

    def open(self, device: str) -> None:
        loaded = trained(self.choice, device)
        self._model: Any = loaded.model.eval()
        self.about_loading = loaded.about
        self._classes = [name for _, name in sorted(self._model.config.id2label.items())]

    def close(self) -> None:
        del self._model

    @cached_property
    def reader(self) -> Reader:
        """Needs no model: pictures are made small where they are read."""
        folder = self.choice.file or Path()
        try:
            told = json.loads((folder / LOOK).read_bytes())
        except FileNotFoundError:
            raise UsageError(
                f"{folder} has no {LOOK}: name the folder of files that classify-train gave"
            ) from None
        return Reader.of(folder, told["prompt"], told["pixels"])

    def answer(self, pictures: Sequence[Rgb]) -> Sequence[Mapping[str, float]]:
        """By class, how sure it is; the surest first."""
        import torch

        first = next(self._model.parameters())
        inputs = {name: one.to(first.device) for name, one in self.reader.inputs(pictures).items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(first.dtype)
        with torch.inference_mode():
            shares = self._model(**inputs, use_cache=False).logits.float().softmax(-1).cpu()
        orders = torch.argsort(shares, dim=-1, descending=True, stable=True)
        return [
            {self._classes[at]: float(share[at]) for at in order.tolist()}
            for share, order in zip(shares, orders, strict=True)
        ]
