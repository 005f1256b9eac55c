"""What a ledger asks of the place where it is kept: a file (records.py), or a cluster (kube/records.py)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from worker.gpus.allocation import Allocation, Request, Waiting
from worker.gpus.refusals import Reason, Refusal, Said

OFTEN = Said("other managers wrote first, again and again", "其他管理器一再抢先写入")


class Overtaken(Refusal):
    """Another one wrote first, so nothing of this turn happened: look again, and decide again."""

    def __init__(self) -> None:
        super().__init__(Reason.NOT_READY, why=OFTEN)


class Keeper(Protocol):
    @property
    def version(self) -> int:
        """Another one once somebody else has written."""
        ...

    @property
    def full(self) -> Said | None:
        """Why nothing more goes in."""
        ...

    def close(self) -> None: ...

    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing. May raise Overtaken at its end."""
        ...

    def strange(self, inventory: str) -> Refusal | None:
        """Why it is not the ledger of this inventory."""
        ...

    def belong_to(self, inventory: str, *, free: bool) -> None:
        """Once nobody holds anything there it may change hands."""
        ...

    def why(self, name: str) -> str:
        """It ended; empty: nobody wrote that down."""
        ...

    def allocations(self) -> Iterable[Allocation]: ...
    def waiting(self) -> Iterable[Waiting]: ...
    def asked_with(self, key: str) -> tuple[str, Request] | None: ...
    def spent(self, owner: str) -> tuple[float, float]: ...
    def begin(self, made: Allocation) -> None: ...
    def renew(self, renewed: Allocation) -> None: ...
    def end(self, one: Allocation, now: float, why: str, spent: float) -> None: ...
    def enqueue(self, one: Waiting) -> None: ...
    def dequeue(self, ticket: str) -> None: ...
    def tick(self, now: float, forget_before: float) -> None: ...
