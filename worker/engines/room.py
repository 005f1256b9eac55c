"""The cache that several rows share while they are decoded: its memory stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worker.engines.carrying import here, there

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


OVERFLOWED = -1
"""stands for a token where a row's numbers are none"""


class Room:
    """Memory for keys and values, and where each row stands. It stays where it is: graphs point into it."""

    def __init__(self, pattern: Any, rows: int, slots: int, axes: int) -> None:
        """`pattern`: the cache of one prompt. `axes` of a position; 0: it is one number."""
        import torch

        self.rows, self.slots, self._axes = rows, slots, axes
        self.layers: list[tuple[Tensor, Tensor]] = [
            (_room(layer.keys, rows, slots), _room(layer.values, rows, slots)) for layer in pattern.layers
        ]
        keys = pattern.layers[0].keys
        self._dtype, device = keys.dtype, keys.device
        self.tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self.said = torch.zeros(slots, rows, dtype=torch.long, device=device)
        """by slot: the token that goes there"""
        self._starts = torch.zeros(rows, dtype=torch.long, device=device)
        self._positions = torch.zeros(rows, dtype=torch.long, device=device)
        self.slot = torch.zeros(1, dtype=torch.long, device=device)
        """where the tokens go that are read next"""
        self._all = torch.arange(slots, device=device)
        self.end = 0
        """of the prompts"""
        self.allowed: Tensor | None = None
        """the bits of the tokens that each row may say next; None: any"""

    def clear(self, end: int) -> None:
        """For another batch. What it does not see is zero: infinity times nothing would be no number."""
        for keys, values in self.layers:
            keys.zero_()
            values.zero_()
        self.end = end
        self._starts.fill_(end)
        self._positions.zero_()
        self.slot.fill_(end)

    def put(self, row: int, cache: Any, length: int, first: Tensor, position: Tensor) -> None:
        """A prompt that was read, and the token that goes on from it."""
        for (keys, values), layer in zip(self.layers, cache.layers, strict=True):
            keys[row, :, self.end - length : self.end] = layer.keys[0]
            values[row, :, self.end - length : self.end] = layer.values[0]
        self._starts[row] = self.end - length
        self._positions[row] = position
        self.said[self.end, row] = first[0]
        self.tokens[row] = first[0].clamp(min=0)

    def keep(self, rows: Sequence[int]) -> None:
        """These move up, in their order; the others are gone."""
        kept = there(rows, self.tokens.device)
        count = len(rows)
        for one in (self.tokens, self._starts, self._positions):
            one[:count] = one[kept]
        for keys, values in self.layers:
            those = kept.to(keys.device)
            keys[:count] = keys[those]
            values[:count] = values[those]

    def position_ids(self, rows: int) -> Tensor:
        here = self._positions[:rows, None]
        return here.expand(self._axes, -1, -1) if self._axes else here

    def mask(self, rows: int) -> Tensor:
        import torch

        seen = (self._all >= self._starts[:rows, None]) & (self._all <= self.slot)
        nothing = torch.zeros((), dtype=self._dtype, device=seen.device)
        return torch.where(seen, nothing, float("-inf"))[:, None, None]

    def go_on(self, rows: int, tokens: Tensor) -> None:
        self.tokens[:rows] = tokens.clamp(min=0)
        self._positions[:rows] += 1
        self.slot += 1
        self.said[:, :rows].index_copy_(0, self.slot, tokens[None])

    def allow(self, masks: NDArray[Any]) -> None:
        """For the first rows; the others are empty."""
        words = there(masks, self.tokens.device)
        if self.allowed is None:
            self.allowed = words.new_full((self.rows, words.shape[1]), -1)
        self.allowed[: len(words)] = words

    def allowed_in(self, since: int, until: int) -> Tensor | None:
        return None if self.allowed is None else self.allowed[since:until]

    def told(self, since: int, until: int, rows: int) -> list[list[int]]:
        """What the first rows said from one step to another; waits for it."""
        found: list[list[int]] = here(self.said[self.end + since : self.end + until, :rows])
        return found

    def state(self) -> list[Tensor]:
        return [one.clone() for one in (self.tokens, self._positions, self.slot)]

    def restore(self, state: Sequence[Tensor]) -> None:
        for one, was in zip((self.tokens, self._positions, self.slot), state, strict=True):
            one.copy_(was)


class Slots:
    """A room as a model sees it: a cache that takes one token a row."""

    def __init__(self, room: Room, rows: int) -> None:
        self._room, self._rows = room, rows

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        all_keys, all_values = (one[: self._rows] for one in self._room.layers[layer])
        slot = self._room.slot.to(all_keys.device)
        return all_keys.index_copy_(2, slot, keys), all_values.index_copy_(2, slot, values)

    def get_seq_length(self, *_: Any) -> int:
        raise TypeError("a model asks for the length of the cache, and should go by positions and mask")


def _room(like: Tensor, rows: int, slots: int) -> Tensor:
    _, heads, _, width = like.shape
    return like.new_zeros(rows, heads, slots, width)
