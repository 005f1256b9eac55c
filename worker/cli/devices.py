"""On which devices a command's workers compute, and with which other machines: as its options say."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.engines.choice import LOCAL
from worker.errors import UsageError
from worker.ranks import sharing
from worker.ranks.nodes import Node, said
from worker.tasks.registry import AnyTask
from worker.tasks.task import JobTask

if TYPE_CHECKING:
    from worker.gpus.own import Hold
    from worker.hardware.cards import Card

log = logging.getLogger(__name__)


def shared(
    task: type[AnyTask], cards: Sequence[Card], workers: int | None, processes: int | None
) -> sharing.Share:
    if issubclass(task, JobTask) and task.spans:
        return sharing.share(cards, workers, processes)
    return sharing.alone(cards, workers, processes, task.name)


def node_of(
    task: type[AnyTask], count: int | None, rank: int | None, meet_at: str | None, workers: int
) -> Node:
    """Every other task needs no word of the nodes: its workers share a queue."""
    if not (issubclass(task, JobTask) and task.spans):
        if (count or 1) > 1:
            raise UsageError(
                f"--nodes {count}: {task.name} needs none of that: a worker on each machine is enough, "
                "for they share the queue"
            )
        return Node()
    node = said(count, rank, meet_at, os.environ)
    if node.count > 1 and workers > 1:
        raise UsageError(f"--workers {workers} on {node.count} nodes: one worker a node has all of its GPUs")
    return node


def compare(hw: str) -> None:
    from worker.hardware import cards, gpus, profile

    if gpus.of(hw) and (line := profile.disagreement(hw, cards.models(cards.nvidia_smi()))):
        log.warning("%s", line)


def hold_of(gpus: str, wait_s: float | None, ledger: Path | None) -> Hold:
    from worker.gpus import own

    return own.take(gpus, wait_s or 0.0, ledger)


def untold(task: type[AnyTask], engine: str | None, wait_s: float | None, ledger: Path | None) -> Hold | None:
    """Where to work when nobody said: a model of billions on a CPU is what nobody means."""
    if engine not in LOCAL and not (issubclass(task, JobTask) and task.of_billions):
        return None
    from worker.gpus import own
    from worker.hardware.cards import Machine, cards, only

    found = only(cards(Machine()))
    for card in found:
        log.info(
            "%s works on %s, the only GPU here; --device cpu works without it",
            f"engine {engine}" if engine else task.name,
            card.label,
        )
    return own.hold(found, wait_s or 0.0, ledger)
