"""Nodes to hand out, in a word: `cluster(a="4xA100-80GB")`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from worker.gpus.described import nodes
from worker.gpus.inventory import Node


def cluster(**gpus: str) -> Sequence[Node]:
    return nodes(
        "nodes: [" + ", ".join(f"{{name: {name}, gpus: {said}}}" for name, said in gpus.items()) + "]", "", {}
    )


def with_card(found: Sequence[Node], uuid: str, **what: object) -> Sequence[Node]:
    """The same nodes with one card that is otherwise."""
    return [
        Node(node.name, tuple(replace(card, **what) if card.uuid == uuid else card for card in node.cards))  # type: ignore[arg-type]
        for node in found
    ]
