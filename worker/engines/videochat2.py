"""VideoChat2_HD: a UMT vision tower, a Q-Former and Mistral-7B, whose code comes with the weights.

What is done here is what its makers do around `encode_img`; docs/videochat2.md says how that was compared."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from worker.engines import figures, flops, measuring, shims
from worker.engines.decoding import Decoder, Prompt, Said, too_large
from worker.engines.engine import Reply, Request, VisionEngine
from worker.engines.tiles import grid
from worker.engines.videochat2_sight import FRAMES, SIDE, TILES, VECTORS, Sight
from worker.errors import MachineError
from worker.items import UNANSWERED, Failure, Json

if TYPE_CHECKING:
    from torch import Tensor

MOST_TOKENS = 512
WORDS = 1024
"""tokens of the longest prompt that is expected"""
_STRAY = (0, 1)
"""<unk>, then <s>, begin some answers"""
_STOPS = ((29871, 2), (2,))
"""</s> can be written in two ways"""


class VideoChat2(VisionEngine):
    about = "VideoChat2_HD (Mistral-7B) in the folder that --model names, once its code is allowed to run"
    model: ClassVar[Literal["none", "file", "folder", "name"]] = "folder"
    sharp = True
    _stopped = False

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        columns, rows = grid(width, height, SIDE, TILES)
        return SIDE * columns, SIDE * rows

    def open(self, device: str) -> None:
        from worker.engines.loading import load

        try:
            with shims.lent():
                loaded = load(
                    self.choice,
                    device,
                    architectures="AutoModel",
                    quantise=self.choice.quantise,
                    settings=settings(self.choice.file),
                )
        except (ImportError, OSError) as error:  # of its own code, or of what that code asks for by name
            told = " ".join(str(error).split())
            raise MachineError(
                f"{self.choice.model} misses what docs/videochat2.md fetches: {told}"
            ) from None
        self.use(loaded.model, loaded.about)

    def use(self, model: Any, about: Mapping[str, Json]) -> None:
        """Ask this model, which lies where it is to compute."""
        shims.keep(model)
        self._model = model.eval().requires_grad_(False)
        self._sight = Sight(model)
        self._config = model.mistral_model.config
        self._device = model.mistral_model.model.embed_tokens.weight.device
        self._decoder = Decoder(model.mistral_model, _STOPS, stopped=lambda: self._stopped)
        self._about = {**about, "attention": self._config._attn_implementation}
        self._spent: dict[str, float] = defaultdict(int)
        self._expected = True
        cards = sorted({one.device for one in model.parameters()}, key=str)
        self._batches = measuring.batches(
            self._memory_key,
            cards,
            self._decoder,
            self._try,
            wanted=self.wanted_batch,
            stopped=lambda: self._stopped,
            expected=lambda: self._expected,
        )
        self.batch = self._batches.size

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._decoder.release()
        del self._model, self._sight, self._decoder, self._batches

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        answers = self._batches.answer(requests, self._ask)
        self.batch = self._batches.size
        return answers

    def _ask(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        began = self._now()
        self._expected = all(len(one.frames) <= FRAMES for one in requests)
        rows = self._sight.rows(requests, self._goes_on)
        self._spent["vision_s"] += self._now() - began
        if len(rows) < len(requests):
            return [UNANSWERED] * len(requests)
        self._expected = all(map(_is_expected, requests, rows))
        said = self._decoder.generate(
            [self._prompt(row, one.max_tokens) for row, one in zip(rows, requests, strict=True)]
        )
        self._spent["requests"] += len(requests)
        self._spent["prompt_tokens"] += sum(map(len, rows))
        self._spent["generated_tokens"] += sum(len(one.tokens) for one in said)
        for row, request in zip(rows, requests, strict=True):
            if (seen := self._sight.flops(request)) is not None:
                self._spent["prefill_flops"] += seen + flops.language(self._config, len(row))
        return list(map(self._reply, said))

    def _goes_on(self) -> bool:
        self.alive()
        return not self._stopped

    def _reply(self, said: Said) -> Reply | Failure:
        if said.overflowed:
            return too_large(self._about.get("precision"))
        if not said.ended:
            return UNANSWERED
        return Reply(self._text(said.tokens), len(said.tokens), said.truncated)

    @staticmethod
    def _prompt(row: Tensor, max_tokens: int, room: int = 0) -> Prompt:
        import torch

        places = torch.arange(len(row), device=row.device)
        read = {"inputs_embeds": row[None], "position_ids": places[None]}
        return Prompt(len(row), lambda: read, min(max_tokens, MOST_TOKENS), room=room)

    # memory

    def _try(self, count: int) -> None:
        """So many of the longest requests that are expected."""
        width, height = self.frame_size(4, 3)
        frames = [np.zeros((height, width, 3), np.uint8)] * FRAMES
        longest = Request(frames, [0.0] * FRAMES, " ?" * WORDS)
        rows = self._sight.rows([longest] * count)
        self._decoder.generate([self._prompt(row, 2, room=MOST_TOKENS) for row in rows])

    @property
    def _memory_key(self) -> str:
        longest = f"{FRAMES} frames, {WORDS} + {MOST_TOKENS} tokens"
        return measuring.key(self._device, self.choice, self._about, longest)

    # figures

    def spent(self) -> Mapping[str, Json]:
        """Prefill is seeing and reading: `vision_s` and `prefill_s`."""
        return {
            **self._about,
            **self._spent,
            "decoding": self._decoder.how,
            "prefill_s": round(self._decoder.prefill_s, 3),
            "decode_s": round(self._decoder.decode_s, 3),
            "decode_steps": self._decoder.steps,
            **figures.of_card(self._device, self._spent["vision_s"] + self._decoder.prefill_s),
        }

    def _now(self) -> float:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._model.mistral_tokenizer.decode(without_stray(tokens))
        return text.split("</s>")[0].strip()


def _is_expected(request: Request, row: Tensor) -> bool:
    """What runs out of memory tells of requests like it, and larger ones are not what was measured."""
    return len(request.frames) <= FRAMES and len(row) <= VECTORS * (TILES + 1) + WORDS


def settings(folder: Path | None) -> dict[str, Json]:
    """What stands above its configuration: no FlashAttention, no second checkpoint, and the language model's
    shape and tokenizer from `mistral`, if that is there."""
    told: dict[str, Json] = {"use_flash_attention": False, "videochat2_model_path": ""}
    if folder and (mistral := folder / "mistral").is_dir():
        told["mistral_model_path"] = str(mistral)
    return told


def without_stray(tokens: Sequence[int]) -> Sequence[int]:
    for stray in _STRAY:
        if tokens and tokens[0] == stray:
            tokens = tokens[1:]
    return tokens
