"""Which worker has which cards: what can use several at once has all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.errors import UsageError
from worker.hardware.cards import Card, joined


@dataclass(frozen=True, slots=True)
class Share:
    workers: int
    ranks: int
    """processes of one job on this machine"""
    cards: Sequence[Card]
    """in turn; several of one worker are as one"""


def share(cards: Sequence[Card], workers: int | None, processes: int | None) -> Share:
    """Of a task whose job can have several cards."""
    workers = workers or 1
    if not cards:
        return Share(workers, processes or 1, ())
    if len(cards) % workers and workers < len(cards):
        raise UsageError(
            f"--workers {workers} cannot have as many each of {len(cards)} GPUs: name others with --gpus"
        )
    each = max(1, len(cards) // workers)
    if each > 1 and any(name.startswith("MIG-") for one in cards for name in one.environment.values()):
        raise UsageError(
            f"a job cannot have several slices of GPUs, for a process sees one: --workers {len(cards)} makes "
            "each take a job, or name one slice with --gpus"
        )
    if processes not in (None, each):
        raise UsageError(
            f"--processes {processes}: a process has a GPU to itself, and a worker has {each}: leave it out"
        )
    hands = [cards[at : at + each] for at in range(0, len(cards), each)]
    return Share(workers, each, [joined(hand) for hand in hands])


def alone(cards: Sequence[Card], workers: int | None, processes: int | None, task: str) -> Share:
    """Of any other task."""
    if processes not in (None, 1):
        raise UsageError(f"--processes {processes}: {task} works in one process; several workers: --workers")
    workers = workers or len(cards) or 1
    if workers < len(cards):
        raise UsageError(
            f"--workers {workers} leaves {len(cards) - workers} of {len(cards)} GPUs idle: "
            "name fewer with --gpus"
        )
    return Share(workers, 1, cards)
