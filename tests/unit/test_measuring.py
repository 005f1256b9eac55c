"""What a card holds is tried out once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", exc_type=ImportError)

from worker.engines.batching import Batches, Remembered, Size  # noqa: E402
from worker.engines.choice import Choice  # noqa: E402
from worker.engines.measuring import WITHOUT_A_GPU, batches, key, measured  # noqa: E402

GB = 10**9


class Card:
    """It has 40 GB, of which 10 are the weights' and each request takes two."""

    type = "cuda"

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, holds: int = 100, free: int = 30, ours: int = 10
    ) -> None:
        self.asked = list[int]()
        self._holds = holds
        for name, told in {
            "reset_peak_memory_stats": lambda _: None,
            "max_memory_allocated": lambda _: (10 + 2 * self.asked[-1]) * GB,
            "mem_get_info": lambda _: (free * GB, 40 * GB),
            "memory_reserved": lambda _: ours * GB,
        }.items():
            monkeypatch.setattr(torch.cuda, name, told)

    def ask(self, count: int) -> None:
        self.asked.append(count)
        if count > self._holds:
            raise torch.OutOfMemoryError


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path))


def size(card: Any, *, name: str = "one", stopped: bool = False) -> Size:
    decoder: Any = SimpleNamespace(release=lambda: None, kept=0)
    return measured(name, [card], decoder, card.ask, lambda: stopped)


def test_it_is_tried_once_and_then_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    found = size(card)
    assert 8 <= found.batch == found.most <= 13
    assert (size(card), card.asked) == (found, [1, 4])
    assert (size(card, name="another").batch, card.asked) == (found.batch, [1, 4, 1, 4])


def test_a_card_that_holds_one_alone_is_asked_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert size(Card(monkeypatch, holds=1)).batch == 1


def test_what_was_measured_beside_another_process_is_measured_again_once_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beside = Card(monkeypatch, free=10)
    few = size(beside)
    alone = Card(monkeypatch)
    assert size(alone).batch > few.batch
    assert alone.asked == [1, 4]
    again = Card(monkeypatch, free=8, ours=12)
    assert size(again).batch > few.batch
    assert again.asked == []


def opened(card: Any, wanted: int | None) -> Batches:
    decoder: Any = SimpleNamespace(release=lambda: None, begin_anew=lambda: None, kept=0)
    return batches(
        "one", [card], decoder, card.ask, wanted=wanted, stopped=lambda: False, expected=lambda: True
    )


def refuse(requests: Sequence[int]) -> Sequence[int]:
    if len(requests) > 1:
        raise torch.OutOfMemoryError
    return requests


def test_whoever_names_a_batch_gets_it_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    chosen = opened(card, 2)
    assert (chosen.size, chosen.most, card.asked) == (2, 2, [])
    chosen.answer([1, 2], refuse)
    assert (chosen.size, Remembered().get("one")) == (1, None)


def test_what_fits_no_more_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(Card(monkeypatch), None)
    most = found.size
    found.answer(range(most), refuse)
    assert Remembered().get("one") == Size(found.size, most, 40.0 * GB)
    assert found.size < most


def test_what_was_stopped_says_nothing_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert size(Card(monkeypatch), stopped=True) == Size(1, 1)
    assert Remembered().get("one") is None


def test_where_there_is_no_card_there_is_nothing_to_try() -> None:
    found = size(SimpleNamespace(type="cpu", ask=None))
    assert found.batch == WITHOUT_A_GPU


def test_another_precision_or_model_takes_other_memory() -> None:
    device, choice = torch.device("cpu"), Choice("videochat2", "one", "tree:1")
    keys = {
        key(device, choice, {"precision": "fp16"}, "32 frames"),
        key(device, choice, {"precision": "bf16"}, "32 frames"),
        key(device, choice, {"precision": "fp16"}, "8 frames"),
        key(device, choice, {"precision": "fp16", "devices": ["cuda:0", "cuda:1"]}, "32 frames"),
        key(device, Choice("videochat2", "one", "tree:2"), {"precision": "fp16"}, "32 frames"),
    }
    assert len(keys) == 5
