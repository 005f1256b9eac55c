"""Qwen2.5-VL and Qwen3-VL: asked about clips, with the true times of their frames, or about pictures; several
at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from worker.engines import figures, flops, measuring
from worker.engines.carrying import Carrier
from worker.engines.decoding import Decoder, Prompt, Said, too_large
from worker.engines.engine import Reply, Request, VisionEngine
from worker.engines.grammar import grammar_of
from worker.engines.loading import Loaded, load
from worker.engines.qwen_prompt import Reading, read, read_pictures
from worker.engines.qwen_sight import CELLS, NAMES, Sight
from worker.engines.qwen_tower import Grid, Tower, add_by_place
from worker.engines.resizing import Resizing
from worker.errors import UsageError
from worker.items import UNANSWERED, Failure, Json

FRAMES, WORDS, ANSWER = 32, 1024, 512
"""the longest request that is expected: its frames, and the tokens of its prompt and of its answer"""


@dataclass(frozen=True, slots=True)
class Asked:
    request: Request
    grids: Sequence[Grid]
    """of the clip, or of each picture"""
    reading: Reading


def _is_expected(asked: Asked) -> bool:
    """What runs out of memory tells of requests like it, and larger ones are not what was measured."""
    seen = len(asked.reading.clip)
    words = len(asked.reading.ids) - seen
    large = len(asked.request.frames) > FRAMES or 2 * seen > FRAMES * CELLS
    return not large and words <= WORDS and asked.request.max_tokens <= ANSWER


class Qwen(VisionEngine):
    about = "Qwen2.5-VL or Qwen3-VL: a vision language model that --model names, asked about what it sees"
    model: ClassVar[Literal["none", "file", "folder", "name"]] = "folder"
    version: ClassVar[str] = "2"
    _stopped = False

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        return self._sight.frame_size(width, height)

    @property
    def family(self) -> str:  # type: ignore[override]
        return NAMES[self._sight.family]

    @property
    def resizing(self) -> Resizing:  # type: ignore[override]
        return self._sight.resizing

    @cached_property
    def _sight(self) -> Sight:
        if self.choice.file is None:
            raise UsageError("engine qwen needs --model, the folder that holds its weights")
        return Sight.of(self.choice.file)

    def open(self, device: str) -> None:
        self.use(
            load(
                self.choice,
                device,
                architectures="AutoModelForImageTextToText",
                quantise=self.choice.quantise,
            )
        )

    def use(self, loaded: Loaded) -> None:
        """A model that is loaded already."""
        from transformers import AutoTokenizer

        model = loaded.model
        self._about = loaded.about
        self._sight = Sight.of(loaded.folder)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(loaded.folder)
        self._config = model.config
        self._tower = Tower(model.model.visual)
        add_by_place(model.model.language_model)
        self._embed = model.get_input_embeddings()
        self._try_the_words(loaded.folder)
        ends = model.generation_config.eos_token_id
        cards = sorted({one.device for one in model.parameters()}, key=str)
        self._carrier = Carrier(self._device)
        ends = [ends] if isinstance(ends, int) else ends or []
        self._grammar = grammar_of(self._tokenizer, ends, len(self._embed.weight))
        self._decoder = Decoder(
            model,
            [[one] for one in ends],
            stopped=lambda: self._stopped,
        )
        self._requests = self._prompt_tokens = self._generated_tokens = 0
        self._flops = 0.0
        self._expected = True
        self._batches = measuring.batches(
            self._memory_key,
            cards,
            self._decoder,
            self._longest,
            wanted=self.wanted_batch,
            stopped=lambda: self._stopped,
            expected=lambda: self._expected,
        )
        self.batch = self._batches.size

    def _try_the_words(self, folder: Path) -> None:
        """A folder without tokenizer or template would fail every clip."""
        width, height = self._sight.frame_size(64, 64)
        read = self._read(Request([np.zeros((height, width, 3), np.uint8)], [0.0], "?"))
        if isinstance(read, Failure):
            raise UsageError(f"{folder} cannot be used: {read.message}; copy or fetch the model again")

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._decoder.release()
        del self._decoder, self._tower, self._carrier, self._embed

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        answers = self._batches.answer(requests, self._ask)
        self.batch = self._batches.size
        return answers

    def _ask(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        if self._stopped:
            return [UNANSWERED] * len(requests)
        read = [self._read(one) for one in requests]
        asked = [one for one in read if isinstance(one, Asked)]
        self._expected = all(map(_is_expected, asked))
        said = self._decoder.generate([self._prompt(one) for one in asked])
        self._count(asked, sum(len(one.tokens) for one in said))
        replies = map(self._reply, said)
        return [next(replies) if isinstance(one, Asked) else one for one in read]

    def _reply(self, said: Said) -> Reply | Failure:
        if not said.ended:
            return UNANSWERED
        if said.overflowed:
            return too_large(self._about.get("precision"))
        text = self._tokenizer.decode(said.tokens, skip_special_tokens=True)
        return Reply(text, len(said.tokens), said.truncated)

    def _read(self, request: Request) -> Asked | Failure:
        try:
            if request.frames and not request.times:
                grids = [self._sight.grid(1, one.shape[1], one.shape[0]) for one in request.frames]
                return Asked(
                    request, grids, read_pictures(self._tokenizer, self._sight, request.prompt, grids)
                )
            shape = request.frames[0].shape if request.frames else (0, 0)
            grid = self._sight.grid(len(request.frames), shape[1], shape[0])
            return Asked(
                request, [grid], read(self._tokenizer, self._sight, request.prompt, request.times, grid)
            )
        except ValueError as error:
            return Failure("error", f"engine qwen cannot ask this: {error}")

    def _prompt(self, asked: Asked, room: int = 0) -> Prompt:
        request = asked.request
        held = self._grammar.of(request.schema) if self._grammar and request.schema is not None else None
        return Prompt(len(asked.reading.ids), lambda: self._inputs(asked), request.max_tokens, held, room)

    def _inputs(self, asked: Asked) -> Mapping[str, Any]:
        """Bytes go to the device, all else is done there, and nothing is waited for."""
        bring = self._carrier.bring
        request, reading = asked.request, asked.reading
        parts = [request.frames] if request.times else [[one] for one in request.frames]
        tokens, deeper = self._tower.see_all(
            [self._sight.patches(bring(np.stack(part))) for part in parts], asked.grids
        )
        places = bring(reading.clip)
        embeds = self._embed(bring(reading.ids))
        inputs: dict[str, Any] = {
            "inputs_embeds": embeds.index_copy(0, places, tokens.to(embeds))[None],
            "position_ids": bring(reading.positions)[:, None],
        }
        if deeper:
            inputs |= {"visual_pos_masks": places, "deepstack_visual_embeds": deeper}
        return inputs

    # memory

    def _longest(self, count: int) -> None:
        """So many of the longest requests that are expected are asked."""
        width, height = self._sight.frame_size(1600, 900)
        frames = [np.zeros((height, width, 3), np.uint8)] * FRAMES
        asked = self._read(Request(frames, range(FRAMES), " ?" * WORDS, max_tokens=2))
        assert isinstance(asked, Asked)
        self._decoder.generate([self._prompt(asked, room=ANSWER)] * count)

    @property
    def _memory_key(self) -> str:
        longest = f"{FRAMES} frames, {WORDS} + {ANSWER} tokens"
        return measuring.key(self._device, self.choice, self._about, longest)

    # figures

    def _count(self, asked: Sequence[Asked], generated: int) -> None:
        self._requests += len(asked)
        self._generated_tokens += generated
        for one in asked:
            self._prompt_tokens += len(one.reading.ids)
            self._flops += flops.prefill(self._config, len(one.reading.ids), *one.grids)

    def spent(self) -> Mapping[str, Json]:
        """`prefill_flops` / `prefill_flops_possible` is the share of the card's peak that prefill reached."""
        return {
            **self._about,
            "decoding": self._decoder.how,
            "answers_as": "json_schema" if self._grammar else "text",
            "requests": self._requests,
            "prompt_tokens": self._prompt_tokens,
            "generated_tokens": self._generated_tokens,
            "prefill_s": round(self._decoder.prefill_s, 3),
            "decode_s": round(self._decoder.decode_s, 3),
            "decode_steps": self._decoder.steps,
            "prefill_flops": self._flops,
            **figures.of_card(self._device, self._decoder.prefill_s),
        }

    @property
    def _device(self) -> Any:
        return self._embed.weight.device
