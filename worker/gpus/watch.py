"""What is seen of the cards from look to look: kept as history, and told where it changed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from worker.gpus.events import Events
from worker.gpus.history import History
from worker.gpus.inventory import Card, Node, load

AT_ONCE = 200
"""cards in an event: a line stays small"""


class Watch:
    def __init__(self, events: Events, threshold: float) -> None:
        self.history = History(threshold)
        self._events = events
        self._cards: Mapping[str, Card] = {}

    def look(self, nodes: Sequence[Node], held: int, at: float | None = None) -> None:
        at = time.time() if at is None else at
        before, self._cards = self._cards, {card.uuid: card for node in nodes for card in node.cards}
        cards = self._cards.values()
        told = {card.uuid: card for card in self.history.note(at, cards)}
        shares = load(cards) if any(card.busy is not None for card in cards) else {}
        share = held / len(cards) if cards else None
        self.history.note_all(at, share, shares.get("gpu_utilization"), shares.get("gpu_memory_usage"))
        if before.keys() != self._cards.keys():
            self._events.tell("cards", {"nodes": len(nodes), "gpus": len(cards)})
            return
        for card in cards:
            was = before[card.uuid]
            if card.trouble != was.trouble:
                self._events.tell("ill" if card.trouble else "well", place(card) | {"trouble": card.trouble})
            if (card.processes, card.pods, card.figures.xid) != (was.processes, was.pods, was.figures.xid):
                told[card.uuid] = card
        changed = list(told.values())
        for first in range(0, len(changed), AT_ONCE):
            some = changed[first : first + AT_ONCE]
            self._events.tell("figures", {"at": round(at, 1), "cards": [seen(card) for card in some]})


def place(card: Card) -> dict[str, Any]:
    return {"node_name": card.node, "index": card.index, "uuid": card.uuid}


def seen(card: Card) -> dict[str, Any]:
    """None: it does not say."""
    figures = card.figures
    return {
        "uuid": card.uuid,
        "gpu_utilization": card.busy,
        "memory_used_gb": None if card.used_gb is None else round(card.used_gb, 1),
        "memory_copy_utilization": figures.copying,
        "temperature_c": figures.temperature_c,
        "power_w": figures.power_w,
        "clock_mhz": figures.clock_mhz,
        "xid": figures.xid,
        "processes": list(card.processes),
        "process_figures": [
            {"pid": one.pid, "memory_used_gb": one.used_gb, "gpu_utilization": one.busy}
            for one in figures.processes
        ],
        "pods": list(card.pods),
    }
