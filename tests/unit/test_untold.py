"""Nobody says on what to compute: large models take the only GPU, whoever needs none leaves it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from worker.cli.devices import untold
from worker.gpus import own
from worker.hardware import cards
from worker.hardware.cards import Card
from worker.tasks import registry


@pytest.mark.parametrize(
    ("task", "engine", "taken"),
    [
        ("pcb-train", None, 1),
        ("quantise", None, 1),
        ("pcb-inspect", "qwen", 1),
        ("pcb-inspect", "baseline", 0),
        ("pcb-convert", None, 0),
        ("merge", None, 0),
    ],
)
def test_the_only_gpu_is_taken_by_large_models(
    task: str, engine: str | None, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Card] = []
    monkeypatch.setattr(cards, "cards", lambda _: [Card("cuda", "0")])

    def hold(found: Sequence[Card], *_: object) -> None:
        held.extend(found)

    monkeypatch.setattr(own, "hold", hold)
    untold(registry.find(task), engine, None, None)
    assert len(held) == taken
