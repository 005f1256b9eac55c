"""One process of those that train together, and how they agree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

_PATIENCE = timedelta(hours=2)
"""while the first of them saves, the others wait"""
_PIECE = 1 << 28
"""bytes that travel at once"""


@dataclass(frozen=True, slots=True)
class World:
    rank: int = 0
    size: int = 1
    group: Any = None
    """a second one, of words: over gloo, so that no card waits for them"""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """On its node."""
        return self.is_first or os.environ.get("LOCAL_RANK") == "0"

    def agree(self, word: bool) -> bool:
        """What the first of them says: so none waits for another for ever."""
        if self.size == 1:
            return word
        import torch
        from torch import distributed

        told = torch.tensor([word], dtype=torch.uint8)
        distributed.broadcast(told, 0, group=self.group)
        return bool(told)

    def tell(self, said: str) -> str:
        """What the first of them says, to all."""
        if self.size == 1:
            return said
        import torch
        from torch import distributed

        data = f"{said}\n".encode("utf-8", "surrogateescape")  # never empty
        length = torch.tensor([len(data)])
        distributed.broadcast(length, 0, group=self.group)
        told = torch.empty(int(length), dtype=torch.uint8)
        if self.is_first:
            told = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        distributed.broadcast(told, 0, group=self.group)
        return told.numpy().tobytes().decode("utf-8", "surrogateescape")[:-1]

    def least(self, count: int) -> int:
        """Of what each of them says."""
        if self.size == 1:
            return count
        import torch
        from torch import distributed

        told = torch.tensor([count])
        distributed.all_reduce(told, distributed.ReduceOp.MIN, group=self.group)
        return int(told)

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            from torch import distributed

            distributed.barrier(group=self.group)

    def gather(self, data: bytes) -> list[bytes]:
        """Of each of them, on the first; on the others nothing."""
        if self.size == 1:
            return [data]
        import torch
        from torch import distributed

        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(data)]), group=self.group)
        if not self.is_first:
            for at in range(0, len(data), _PIECE):
                piece = torch.frombuffer(bytearray(data[at : at + _PIECE]), dtype=torch.uint8)
                distributed.send(piece, 0, group=self.group)
            return []
        found = [data]
        for rank, length in enumerate(int(one) for one in lengths):
            if rank:
                whole = torch.empty(length, dtype=torch.uint8)
                for at in range(0, length, _PIECE):
                    distributed.recv(whole[at : at + _PIECE], rank, group=self.group)
                found.append(whole.numpy().tobytes())
        return found


def size() -> int:
    """How many processes torchrun, or who does as it does, has started."""
    return int(os.environ.get("WORLD_SIZE") or 1)


@contextmanager
def entered(device: str) -> Iterator[World]:
    """Whoever made a group before keeps it; ours is gone afterwards, or torchrun would wait for it."""
    if size() == 1:
        yield World()
        return
    import torch
    from torch import distributed

    ours = not distributed.is_initialized()
    if ours:
        if device.startswith("cuda"):
            torch.cuda.set_device(torch.device(device))
        distributed.init_process_group("cuda:nccl,cpu:gloo" if device.startswith("cuda") else "gloo")
    try:
        group = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        yield World(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        if ours:
            distributed.destroy_process_group()
