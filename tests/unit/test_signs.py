"""Who reads a long film, or fetches it, shows that it gets on."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import media
from worker import signs
from worker.engines.choice import Choice
from worker.engines.openai import OpenAi
from worker.media.streaming import Stream
from worker.media.video import VideoLimits, check_video
from worker.queue import store as stores
from worker.queue.store import open_store


@pytest.fixture
def stamp(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setattr(signs, "_watched", None)
    stamp = SimpleNamespace(value=0.0)
    signs.watch(stamp)
    return stamp


def test_each_frame_of_a_film_comes_with_a_sign_of_life(tmp_path: Path, stamp: SimpleNamespace) -> None:
    seen = [stamp.value for _ in Stream(media.film(tmp_path / "a.mp4"), fps=2.0)]
    assert 0 < seen[0] < seen[1] < seen[2] < seen[3]


def test_so_does_a_check(tmp_path: Path, stamp: SimpleNamespace) -> None:
    check_video(media.film(tmp_path / "a.mp4"), VideoLimits(1_000_000, 20, 1, 1, 0))
    assert stamp.value > 0


def test_each_range_that_is_fetched_does(
    tmp_path: Path, stamp: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "CHUNK", 100)
    (tmp_path / "store").mkdir()
    store = open_store(str(tmp_path / "store"))
    store.put("a.bin", os.urandom(300))
    store.download("a.bin", tmp_path / "a.bin")
    assert stamp.value > 0


def test_so_does_an_engine_that_gets_on_with_its_answer(stamp: SimpleNamespace) -> None:
    OpenAi(Choice("openai")).alive()
    assert stamp.value > 0


def test_where_nobody_watches_a_sign_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "_watched", None)
    signs.give()
    assert signs._watched is None
