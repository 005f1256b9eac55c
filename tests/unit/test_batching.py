"""How many requests go to the device at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from worker.engines.batching import MOST, SHARE, Batches, Probe, Remembered, fitting


def test_what_stays_is_paid_once_and_the_rest_by_each() -> None:
    gb = 1e9
    assert fitting(Probe(1, 17 * gb), Probe(4, 20 * gb), 80 * gb) == int(SHARE * 80 - 16)
    assert fitting(Probe(1, 17 * gb), Probe(4, 20 * gb), 10 * gb) == 1
    assert fitting(Probe(1, 17 * gb), Probe(4, 17.1 * gb), 800 * gb) == MOST
    assert fitting(Probe(1, 17 * gb), Probe(4, 17 * gb), 80 * gb) == MOST


class Device:
    def __init__(self, holds: int) -> None:
        self.holds, self.asked, self.told = holds, list[int](), list[int]()
        self.released = 0

    def ask(self, requests: Sequence[str]) -> list[str]:
        self.asked.append(len(requests))
        if len(requests) > self.holds:
            raise torch.OutOfMemoryError("no room")
        return [one.upper() for one in requests]

    def release(self) -> None:
        self.released += 1

    def batches(self, size: int) -> Batches:
        return Batches(size, release=self.release, smaller=self.told.append)


def test_more_requests_than_fit_go_in_parts_and_their_order_stays() -> None:
    device = Device(3)
    letters = list("abcdefgh")
    assert device.batches(3).answer(letters, device.ask) == list("ABCDEFGH")
    assert device.asked == [3, 3, 2]
    assert device.batches(3).answer([], device.ask) == []


def test_where_memory_runs_out_half_as_many_go_from_then_on() -> None:
    device = Device(3)
    batches = device.batches(8)
    assert batches.answer(list("abcdefghij"), device.ask) == list("ABCDEFGHIJ")
    assert device.asked == [8, 4, 2, 2, 2, 2, 2]
    assert device.told == [4, 2]
    assert device.released == 2
    assert batches.size == 2
    batches.answer(list("ab"), device.ask)
    assert device.asked[-1] == 2


def test_what_earlier_ones_left_is_given_back_before_less_is_asked() -> None:
    device = Device(4)
    batches = device.batches(4)
    batches.answer(list("abcd"), device.ask)

    def ask(requests: Sequence[str]) -> list[str]:
        device.holds = 4 if device.released else 0
        return device.ask(requests)

    for many in (4, 3, 1):
        device.released = 0
        assert batches.answer(list("efgh")[:many], ask) == list("EFGH")[:many]
        assert device.asked[-2:] == [many, many]
    assert (batches.size, device.told) == (4, [])


def test_a_few_that_do_not_fit_say_nothing_of_the_others() -> None:
    device = Device(1)
    batches = device.batches(8)
    assert batches.answer(list("abc"), device.ask) == list("ABC")
    assert device.asked == [3, 1, 1, 1]
    device.holds = 8
    batches.answer(list("abcdefgh"), device.ask)
    assert (device.asked[-1], batches.size, device.told) == (8, 8, [])


def test_one_that_does_not_fit_alone_is_told_to_the_caller_and_frees_what_it_took() -> None:
    device = Device(0)
    with pytest.raises(torch.OutOfMemoryError):
        device.batches(2).answer(list("ab"), device.ask)
    assert device.released == 2
    with pytest.raises(ZeroDivisionError):  # any other error is none of ours
        device.batches(2).answer([1, 0], lambda some: [1 // one for one in some])


def test_a_size_is_remembered_for_each_card_and_model(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "batches.json"
    Remembered(file).put("one", 24)
    Remembered(file).put("other", 8)
    Remembered(file).put("one", 12)
    assert (Remembered(file).get("one"), Remembered(file).get("other")) == (12, 8)
    assert Remembered(file).get("third") is None
    assert [one.name for one in file.parent.iterdir()] == ["batches.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"one": "12"}', '{"one": 0}', '{"one": true}', '{"one": 1e9}', "\xff"]
)
def test_a_bad_file_says_nothing_and_is_written_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "batches.json"
    file.write_text(content, encoding="latin-1")
    assert Remembered(file).get("one") is None
    Remembered(file).put("one", 4)
    assert json.loads(file.read_text())["one"] == 4


def test_where_nothing_can_be_written_nothing_is_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    Remembered(tmp_path / "file" / "batches.json").put("one", 4)
    assert "not remembered" in caplog.text


def test_its_place_is_the_persons_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path))
    Remembered().put("one", 4)
    assert (tmp_path / "batches.json").exists()
