"""Whether the model is here, and whether a card holds it."""

from __future__ import annotations

from collections.abc import Iterator

from worker.doctor.facts import Facts
from worker.doctor.finding import Finding, blocker, ok, warning

ROOM = 1.15
"""of the weights: context, cache and activations of one item"""
NF4 = 0.3
"""of the bytes in fp16, where nobody has looked into the weights"""


def weights(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model is None:
        return
    if model.there:
        size = f", {model.gigabytes:.1f} GB as it is loaded" if model.gigabytes else ""
        code = "; it brings code, which runs only with --allow-code" if model.code else ""
        yield ok(f"{model.name} is here whole{size}{code}")
    else:
        yield blocker(model.wrong or f"{model.name} is not on this machine", model.remedy)


def memory(facts: Facts) -> Iterator[Finding]:
    model, cards = facts.model, facts.gpus.cards
    if model is None or not model.gigabytes or not cards:
        return
    if any(one.mig for one in cards):
        yield warning(
            "the card is cut into slices, and what one of them holds is not known here",
            "`worker plan` says what it takes; nvidia-smi -L names the slices with their memory",
        )
        return
    free = [one.free / 1e9 for one in cards]
    need, small = model.gigabytes * ROOM, (model.nf4 or model.gigabytes * NF4) * ROOM
    said = f"{model.name} takes about {need:.1f} GB with room to work"
    if need <= min(free):
        yield ok(f"{said}, {min(free):.0f} are free")
    elif small <= min(free):
        yield warning(
            f"{said}, {min(free):.1f} are free on the smallest card",
            f"in four bits it takes {small:.1f}: --set quantise=nf4",
        )
    elif need <= sum(free):
        yield warning(
            f"{said}: no card holds it, all {len(cards)} do",
            "WORKER_GPUS= (empty) shows them all to one worker",
        )
    else:
        yield blocker(
            f"{said}, in four bits {small:.1f}, and {sum(free):.1f} are free on all cards",
            "a smaller model, or a larger card",
        )
