"""In a cluster one gets so many cards of a node, and nobody says which: its cards are slots.

Which slots stand for what others use is chosen here, anew whenever the holders or the pods have changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from worker.gpus.inventory import Card, Node, Use


def occupied(node: Node, holder: Mapping[str, str]) -> Node:
    """An allocation's own pods lie on its slots; the others where nobody holds one, while there is room."""
    if not node.uses:
        return node
    cards = {card.uuid: card for card in node.cards}
    for resource in {use.resource for use in node.uses}:
        slots = [card.uuid for card in node.cards if card.resource == resource]
        for slot, use in _laid_out(slots, [use for use in node.uses if use.resource == resource], holder):
            cards[slot] = _with(cards[slot], use)
    return Node(node.name, tuple(cards.values()), node.uses)


def _with(card: Card, use: Use) -> Card:
    if use.trouble:
        return replace(card, trouble=card.trouble or use.trouble)
    return replace(card, pods=(*card.pods, use.pod))


def _laid_out(slots: list[str], uses: list[Use], holder: Mapping[str, str]) -> Iterator[tuple[str, Use]]:
    left: Counter[Use] = Counter(dict.fromkeys(uses, 0))
    for use in uses:
        left[use] += use.count
    own = [use for use in left if use.allocation]
    empty = dict.fromkeys(slots)
    for use in own:
        for slot in [slot for slot in empty if holder.get(slot) == use.allocation][: left[use]]:
            del empty[slot]
            left[use] -= 1
            yield slot, use
    for use in sorted(left, key=lambda use: bool(use.trouble)):
        nobodys = [slot for slot in empty if slot not in holder]
        held = [slot for slot in empty if slot in holder]
        # the ill are counted from the end, so that they stay where they are when others come and go
        room = [*reversed(nobodys), *reversed(held), *reversed([slot for slot in slots if slot not in empty])]
        if not use.trouble:
            room = [*nobodys, *held]
        for slot in room[: left[use]]:
            empty.pop(slot, None)
            yield slot, use
