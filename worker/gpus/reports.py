"""What the ledger knows, as people and charts ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from worker.gpus.allocation import Request
from worker.gpus.inventory import Card, load
from worker.gpus.ledger import Ledger

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


def monitoring(ledger: Ledger) -> Told:
    return {
        "cards": [_watched(ledger, card) for node in ledger.nodes for card in node.cards],
        "timestamp": now(),
    }


def _watched(ledger: Ledger, card: Card) -> Told:
    holder = ledger.holder(card)
    return {
        "node_name": card.node,
        "index": card.index,
        "uuid": card.uuid,
        "gpu_type": card.kind,
        "memory_gb": round(card.memory_gb, 1),
        "memory_used_gb": round(card.used_gb, 1),
        "gpu_utilization": card.busy,
        "processes": list(card.processes),
        "pods": list(card.pods),
        "allocation_id": holder.id if holder else "",
        "owner": holder.request.owner if holder else "",
        "trouble": card.trouble,
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
