"""A task that asks a Qwen-VL with random weights about clips: it costs what a real one costs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request
from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Json
from worker.media.rgb import Rgb
from worker.media.sampling import sample
from worker.tasks.task import MapTask, Params

if TYPE_CHECKING:
    from worker.engines.qwen import Qwen

FORM: Json = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 4096}},
    "required": ["text"],
    "additionalProperties": False,
}
"""it costs masks and looks, and no answer ends before its limit of tokens: who asks freely says as many"""
SAID = "said.jsonl"
"""in its folder: when each batch was on the device, and at the end what was spent"""


class LookingParams(Params):
    folder: str
    """config and tokenizer of the model"""
    frames: int = 32
    tokens: int = 128
    held: bool = True
    """to a form, as production is where there is a grammar"""
    question: str = "Who comes suddenly into the car's path from behind something that hid them, and when?"
    prepare_s: float = 0.0
    answer_s: float = 0.0
    """so much longer it takes for each clip"""


@dataclass(frozen=True, slots=True)
class Clip:
    frames: Sequence[Rgb]
    times: Sequence[float]


class Looking(MapTask[LookingParams, Clip]):
    name = "looking"
    about = "asks a model with random weights about clips"
    params_type = LookingParams
    suffixes = frozenset({".mp4"})
    seconds_per_item = 1.0
    batch = 4

    def open(self, device: str) -> None:
        from tests import tiny_models
        from worker.engines.loading import Loaded

        folder = Path(self.params.folder)
        model = tiny_models.random_model(folder, device)
        model.generation_config.eos_token_id = tiny_models.id_of(tiny_models.IM_END)  # a grammar needs one
        self._qwen.use(Loaded(model, folder, False, {"precision": str(model.dtype).removeprefix("torch.")}))

    def close(self) -> None:
        self._say({"spent": dict(self._qwen.spent()), "batch": self._qwen.batch})
        self._qwen.close()

    def prepare(self, item: Item) -> Clip:
        if item.file is None:
            raise ItemError("missing", "there is no file to look at")
        time.sleep(self.params.prepare_s)
        seen = sample(item.file, n=self.params.frames, size=self._qwen.frame_size)
        return Clip(list(seen.frames), seen.times)

    def answer(self, samples: Sequence[Clip]) -> Sequence[Answer | Failure]:
        begun = time.monotonic()
        asked, most = self.params.question, self.params.tokens
        form = FORM if self.params.held else None
        replies = self._qwen.answer([Request(one.frames, one.times, asked, form, most) for one in samples])
        time.sleep(self.params.answer_s * len(samples))
        self._say({"clips": len(samples), "begun": begun, "ended": time.monotonic()})
        return [Answer({"text": one.text}) if isinstance(one, Reply) else one for one in replies]

    @cached_property
    def _qwen(self) -> Qwen:
        from worker.engines.qwen import Qwen  # late: every test that starts a worker reads this file

        return Qwen(Choice("qwen", "random", "0", Path(self.params.folder)))

    def _say(self, what: object) -> None:
        with (Path(self.params.folder) / SAID).open("a") as file:
            file.write(json.dumps(what) + "\n")
