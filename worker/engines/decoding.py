"""Greedy decoding of several prompts at once, with any causal model of transformers.

A prompt is read alone and without padding: what the model makes of it does not depend on what stands beside
it, and no more than one is in work. Rows are decoded together, in a cache where all prompts end at one slot:

    slot     0 1 2 3 4 5 6 | 7 8 9 …
    row 0    · · · p p p p | a b c
    row 1    p p p p p p p | d e

A row that has ended leaves when enough have: the others move up, and a step has fewer rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from worker import signs
from worker.engines import causal
from worker.engines.capturing import CannotCaptureError, Graphs
from worker.engines.room import OVERFLOWED, Room, Slots
from worker.items import Failure, Json

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""so many rows a captured step has: each number of rows needs a graph of its own"""
STRIDE = 4
"""steps between two looks at what was said, on a device that works behind our back: a look costs it little,
and steps behind the last word of all are for nothing"""
SLOTS = 256
"""the cache is made for a multiple of so many slots, so that batches of about one length share it"""
SHORT = 4
"""batches in a row that need less than half of the cache's slots before it is made anew: a step reads all
of them, and graphs are made with it"""

log = logging.getLogger(__name__)


class Constraint(Protocol):
    """What may be said next, in one answer."""

    def mask(self, words: NDArray[Any]) -> None:
        """Sets the bits of the tokens that may come next, in 32-bit words."""

    def accept(self, token: int) -> None:
        """It was said."""


@dataclass(frozen=True, slots=True)
class Prompt:
    length: int
    read: Callable[[], Mapping[str, Any]]
    """what the model's decoder takes: inputs_embeds [1, length, width], position_ids [1, length] or
    [axes, 1, length], and whatever else; asked for when it is this prompt's turn"""
    max_tokens: int
    constraint: Constraint | None = None
    """of its answer; None: anything may be said"""
    room: int = 0
    """tokens for which there shall be room behind it, if more than that: to see what a longer answer takes"""


@dataclass(slots=True)
class Said:
    tokens: list[int] = field(default_factory=list)
    """without those that ended it"""
    truncated: bool = False
    """the limit of tokens ended it"""
    overflowed: bool = False
    """its numbers became too large for their kind: what it says is nothing"""
    ended: bool = False
    """if not, it was told to stop: what there is of it is no answer"""

    def add(self, token: int, stops: Sequence[Sequence[int]], limit: int) -> None:
        if self.ended:
            return
        if token == OVERFLOWED:
            self.overflowed = self.ended = True
            return
        self.tokens.append(token)
        for stop in stops:
            if self.tokens[-len(stop) :] == list(stop):
                del self.tokens[-len(stop) :]
                self.ended = True
                return
        self.ended = self.truncated = len(self.tokens) >= limit


def too_large(precision: Json) -> Failure:
    """What is told of one that overflowed."""
    return Failure(
        "error",
        f"the model's numbers became too large for {precision}: ask for bf16 with WORKER_PRECISION, "
        "on a card that has it",
    )


class Decoder:
    def __init__(
        self,
        model: Any,
        stops: Sequence[Sequence[int]],
        *,
        graphs: bool | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stops`: sequences of tokens that end a row. `graphs`: None is yes, on one CUDA device. Once it is
        `stopped` nothing is gone on with."""
        self._text = model.get_decoder()
        self._head = model.get_output_embeddings()
        self._embed = model.get_input_embeddings()
        self._stops, self._stopped = stops, stopped
        self._device = self._embed.weight.device
        self._on_cuda = on_cuda = self._device.type == "cuda"
        several = len(set(getattr(model, "hf_device_map", {}).values())) > 1
        self._captures = (on_cuda and not several) if graphs is None else graphs
        self._stride = STRIDE if on_cuda else 1
        if on_cuda:
            causal.without_plans()
        self._room: Room | None = None
        self._short = 0
        """batches in a row that needed less than half of it"""
        self._graphs = Graphs(self._device)
        self.begin_anew()
        self.how = "captured" if self._captures else "step by step"

    def begin_anew(self) -> None:
        """Forget what was spent."""
        self.prefill_s = self.decode_s = 0.0
        self.steps = 0

    def generate(self, prompts: Sequence[Prompt]) -> list[Said]:
        """In the order given, with signs of life. Where torch.OutOfMemoryError is raised, release() is called
        for."""
        import torch

        if not prompts:
            return []
        said = [Said() for _ in prompts]
        with torch.no_grad(), torch.cuda.device(self._device) if self._on_cuda else nullcontext():
            begun = self._now()
            room = self._read(prompts)
            read = self._now()
            if room is not None:
                self._decode(room, prompts, said)
            self.prefill_s += read - begun
            self.decode_s += self._now() - read
        return said

    def release(self) -> None:
        """Give back the memory of the cache and of the graphs; the next batch takes what it needs."""
        import torch

        self._graphs.release()
        self._room = None
        if self._on_cuda:
            torch.cuda.empty_cache()

    @property
    def kept(self) -> int:
        """Bytes that the captured steps hold, beside the room."""
        return self._graphs.kept

    # prefill

    def _read(self, prompts: Sequence[Prompt]) -> Room | None:
        """None: it was stopped. The device is told faster than it reads: while it reads one prompt, the next
        one's bytes travel, as long as nothing here waits."""
        from transformers import DynamicCache

        end = max(one.length for one in prompts)
        slots = end + max(max(one.max_tokens, one.room) for one in prompts)
        self._refuse_a_window(slots)
        for row, prompt in enumerate(prompts):
            if self._stopped():
                return None
            signs.give()
            inputs = dict(prompt.read())
            cache = DynamicCache()
            with _attending(self._text.config, self._for_prompts):
                out = self._text(**inputs, past_key_values=cache, use_cache=True)
            if row == 0:
                self._make_room(cache, inputs["position_ids"], self._rows(len(prompts)), slots)
                assert self._room
                self._room.clear(end)
                self._hold(self._room, [one.constraint for one in prompts])
            assert self._room
            first = self._choose(out.last_hidden_state, self._room.allowed_in(row, row + 1))
            self._room.put(row, cache, prompt.length, first, inputs["position_ids"].amax() + 1)
        return self._room

    def _make_room(self, cache: Any, positions: Tensor, rows: int, slots: int) -> None:
        slots = -(-slots // SLOTS) * SLOTS
        old = self._room
        self._short = self._short + 1 if old is not None and 2 * slots < old.slots else 0
        if old is None or old.rows < rows or old.slots < slots or self._short == SHORT:
            # as long ones may come again; so many rows of that length never were there
            if old is not None and not self._short:
                slots = max(slots, old.slots)
            self._short = 0
            del old
            self.release()
            self._room = Room(cache, rows, slots, 0 if positions.ndim == 2 else len(positions))

    def _refuse_a_window(self, slots: int) -> None:
        config = self._text.config
        if "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"]):
            window = getattr(config, "sliding_window", None)
            if window is not None and slots > window:
                raise ValueError(f"{slots} tokens are more than the model's window of {window}")

    # decode

    def _decode(self, room: Room, prompts: Sequence[Prompt], said: Sequence[Said]) -> None:
        rows = list(range(len(prompts)))
        """which prompt stands in each row"""
        width = self._rows(len(rows))
        most = max(one.max_tokens for one in prompts)
        held = any(one.constraint for one in prompts)
        stride = 1 if held else self._stride
        told = 0
        count = 1  # the first token of each came with its prompt
        with _attending(self._text.config, causal.steps):
            while True:
                for step in room.told(told, count, len(rows)):
                    for prompt, token in zip(rows, step, strict=True):
                        self._add(said[prompt], prompts[prompt], token)
                told = count
                going = [row for row, prompt in enumerate(rows) if not said[prompt].ended]
                signs.give()
                if not going or self._stopped():
                    return
                if (narrower := self._rows(len(going))) < width:
                    room.keep(going)
                    rows, width = [rows[row] for row in going], narrower
                if held:
                    self._hold(room, [None if said[row].ended else prompts[row].constraint for row in rows])
                for _ in range(min(stride, most - count)):
                    self._run(room, width)
                    count += 1
                self.steps += count - told

    def _add(self, said: Said, prompt: Prompt, token: int) -> None:
        if said.ended:
            return
        said.add(token, self._stops, prompt.max_tokens)
        if prompt.constraint and not said.ended:
            prompt.constraint.accept(token)

    def _hold(self, room: Room, constraints: Sequence[Constraint | None]) -> None:
        """What each row may say next."""
        if not any(constraints):
            if room.allowed is not None:
                self._graphs.release()
                room.allowed = None
            return
        masks = np.full((len(constraints), -(-len(self._embed.weight) // 32)), -1, np.int32)
        for words, constraint in zip(masks, constraints, strict=True):
            if constraint:
                constraint.mask(words)
        if room.allowed is None:
            self._graphs.release()  # they know of no masks
        room.allow(masks)

    def _rows(self, wanted: int) -> int:
        """How many rows a step has: some are empty where only some sizes are captured."""
        if not self._captures:
            return wanted
        return next((rows for rows in ROWS if rows >= wanted), wanted)

    def _run(self, room: Room, rows: int) -> None:
        if self._captures:
            try:
                self._graphs.run(rows, lambda: self._step(room, rows), room)
                return
            except CannotCaptureError as error:
                log.warning("decoding goes step by step, for a step cannot be captured: %s", error)
                self._captures = False
                self.how = "step by step: a step cannot be captured"
        self._step(room, rows)

    def _step(self, room: Room, rows: int) -> None:
        """One token more in each of the first rows; all that changes is in the room's own memory."""
        out = self._text(
            inputs_embeds=self._embed(room.tokens[:rows])[:, None],
            position_ids=room.position_ids(rows),
            attention_mask=room.mask(rows),
            past_key_values=Slots(room, rows),
            use_cache=True,
        )
        room.go_on(rows, self._choose(out.last_hidden_state, room.allowed_in(0, rows)))

    def _choose(self, hidden: Tensor, allowed: Tensor | None) -> Tensor:
        """The likeliest token behind the last one of each row. Nothing is waited for."""
        likely = self._head(hidden[:, -1])
        overflowed = ~likely.amax(-1).isfinite()
        if allowed is not None:
            likely = likely.masked_fill(~bits(allowed.to(likely.device), likely.shape[-1]), float("-inf"))
        chosen: Tensor = likely.argmax(-1).masked_fill(overflowed, OVERFLOWED)
        return chosen.to(self._device)

    def _for_prompts(self, chosen: str) -> str:
        return causal.prompts(chosen, self._embed.weight.dtype, self._device)

    def _now(self) -> float:
        if self._on_cuda:
            import torch

            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def bits(words: Tensor, width: int) -> Tensor:
    """Of 32-bit words, as many as there are scores."""
    import torch

    places = torch.arange(32, dtype=torch.int32, device=words.device)
    return ((words[:, :, None] >> places) & 1).flatten(1)[:, :width].bool()


@contextmanager
def _attending(config: Any, by: Callable[[str], str]) -> Iterator[None]:
    """By another attention than was chosen, where that is better for what is done here."""
    chosen = config._attn_implementation
    config._attn_implementation = by(chosen)
    try:
        yield
    finally:
        config._attn_implementation = chosen
