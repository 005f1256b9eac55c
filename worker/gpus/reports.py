"""What the ledger knows, as people and charts ask for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from worker.gpus.allocation import Held, Request
from worker.gpus.glance import Glance, Times, allocation_told, waiting_told
from worker.gpus.inventory import Card, load
from worker.gpus.ledger import Ledger
from worker.gpus.shares import Sort
from worker.gpus.watch import place, seen

Told = dict[str, Any]
"""as the forms describe it; of a thousand nodes too much to validate each time"""


def status(ledger: Ledger) -> Told:
    cards = [card for node in ledger.nodes for card in node.cards]
    nodes = list(available(ledger, Request()))
    return {
        "utilization": load(cards),
        "available_nodes": nodes,
        "total_nodes": len(ledger.nodes),
        "total_gpus": len(cards),
        "available_gpus": sum(node["available_gpus"] for node in nodes),
        "allocations": len(ledger.allocations),
        "waiting": len(ledger.waiting),
        "timestamp": now(),
    }


def available(ledger: Ledger, suiting: Request) -> Iterator[Told]:
    """Nodes with a free card that suits."""
    for shelf in ledger.shelves.values():
        if not shelf.nodes or not suiting.suits(shelf.example):
            continue
        kind, memory = shelf.example.kind, round(shelf.example.memory_gb, 1)
        for node, free in shelf.nodes.items():
            yield {
                "node_name": node,
                "gpu_type": kind,
                "available_gpus": len(free),
                "memory_per_gpu": memory,
                "utilization": ledger.utilization(node),
            }


def sorts(ledger: Ledger, suiting: Request) -> list[Sort]:
    """Of all healthy cards, free or not, those that suit."""
    found = []
    for sort, shelf in ledger.capacity.items():
        if suiting.suits(shelf.example):
            nodes = [len(cards) for node, cards in shelf.nodes.items() if suiting.node in ("", node)]
            most = sum(nodes) if suiting.spans else max(nodes, default=0)
            found.append(Sort(sort[1], sort[2], most))
    return found


def monitoring(glance: Glance, only: Collection[str] = ()) -> Told:
    here = [card for node in glance.nodes for card in node.cards]
    cards = here + [_missing(card) for _, card in glance.missing]
    told = [_watched(glance, card) for card in cards if not only or card.uuid in only]
    return {"cards": told, "timestamp": now()}


def held(glance: Glance) -> Told:
    times = Times.now()
    return {
        "allocations": [allocation_told(one, times) for one in glance.allocations.values()],
        "waiting": [waiting_told(one, times) for one in glance.waiting],
        "timestamp": now(),
    }


def _watched(glance: Glance, card: Card) -> Told:
    name = glance.holder.get(card.uuid, "")
    return {
        **place(card),
        "gpu_type": card.kind,
        "memory_gb": round(card.memory_gb, 1),
        **seen(card),
        "allocation_id": name,
        "owner": glance.allocations[name].request.owner if name else "",
        "trouble": card.trouble,
    }


def _missing(card: Held) -> Card:
    return Card(
        card.node,
        card.index,
        card.uuid,
        card.kind,
        card.maker,
        card.memory_gb,
        resource=card.resource,
        trouble="it is no longer here",
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
