"""How many requests go to the device at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from worker.engines.batching import GOOD, MOST, Batches, Probe, Remembered, Size, fitting, probed
from worker.hardware.gpus import SHARE

GB = 1e9


def test_what_stays_is_paid_once_and_the_rest_by_each() -> None:
    small = Probe(1, 17 * GB)
    assert fitting([small, Probe(4, 20 * GB)], 80 * GB) == 48  # 57.6, and 48 is the size below
    assert fitting([small, Probe(4, 20 * GB)], 10 * GB) == 1
    assert fitting([small, Probe(4, 17.1 * GB)], 800 * GB) == MOST
    assert fitting([small, Probe(4, 17 * GB)], 80 * GB) == MOST


def test_every_number_of_rows_may_have_a_captured_step_one_day() -> None:
    """Up to 48 there are nine."""
    steps = [Probe(1, 17 * GB, 2 * GB), Probe(4, 20 * GB, 0.5 * GB)]
    room = (16 + 48 + 9 * 0.5) * GB / SHARE
    assert fitting(steps, room + 1) == 48
    assert fitting(steps, room - 0.1 * GB) == 32


def test_where_few_were_tried_few_are_sure() -> None:
    assert fitting([], 80 * GB) == 1
    assert fitting([Probe(1, 17 * GB)], 80 * GB) == 1
    assert fitting([Probe(1, 17 * GB), Probe(2, 17.1 * GB)], 80 * GB) == 2
    assert fitting([Probe(1, 17 * GB), Probe(2, 21 * GB)], 22 * GB) == 1


@pytest.mark.parametrize(
    ("holds", "tried", "went"),
    [(0, [1], []), (1, [1, 4, 2], [1]), (3, [1, 4, 2], [1, 2]), (9, [1, 4], [1, 4])],
)
def test_where_four_do_not_fit_two_are_tried(holds: int, tried: list[int], went: list[int]) -> None:
    asked: list[int] = []

    def probe(count: int) -> Probe:
        asked.append(count)
        if count > holds:
            raise torch.OutOfMemoryError
        return Probe(count, 0.0)

    assert [one.requests for one in probed(probe)] == went
    assert asked == tried


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

    def batches(
        self, size: int, most: int | None = None, expected: Callable[[], bool] = lambda: True
    ) -> Batches:
        return Batches(size, most=most, release=self.release, resized=self.told.append, expected=expected)


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


def full(batches: Batches, device: Device, times: int) -> None:
    for _ in range(times):
        batches.answer(["a"] * batches.size, device.ask)


def test_what_ran_out_for_a_while_is_tried_again_later() -> None:
    device = Device(5)
    batches = device.batches(16)
    full(batches, device, 1)
    assert (batches.size, device.told) == (4, [8, 4])
    device.holds = 64  # whoever else took the memory is gone
    full(batches, device, 200)
    assert (batches.size, device.told) == (16, [8, 4, 8, 12, 16])  # and never more than were measured
    batches.answer(["a"] * 3, device.ask)
    assert batches.size == 16


def test_what_does_not_fit_is_tried_ever_less() -> None:
    device = Device(8)
    batches = device.batches(8, most=12)  # what an earlier run found out
    tries = []
    for number in range(1, 600):
        full(batches, device, 1)
        if batches.size == 12:
            tries.append(number)
            full(batches, device, 1)
            assert batches.size == 8
    gaps = [after - before for before, after in zip([0, *tries], tries, strict=False)]
    assert gaps == [8, 15, 31, 63, 127, 255]  # the first eight of twelve that did not fit went well


def test_batches_that_are_not_full_say_nothing_of_more() -> None:
    device = Device(8)
    batches = device.batches(4, most=8)
    for _ in range(10 * GOOD):
        batches.answer(["a"] * 3, device.ask)
    assert batches.size == 4


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


def test_one_that_was_not_expected_says_nothing_of_the_others() -> None:
    device = Device(48)
    huge = False

    def ask(requests: Sequence[str]) -> list[str]:
        nonlocal huge
        if huge := "huge" in requests:
            raise torch.OutOfMemoryError("no room")
        return device.ask(requests)

    batches = device.batches(48, expected=lambda: not huge)
    with pytest.raises(torch.OutOfMemoryError):
        batches.answer(["huge", *"a" * 47], ask)
    assert (batches.size, device.told) == (48, [])


def test_halves_are_soon_made_good() -> None:
    """They are no tries of more that failed."""
    device = Device(1)
    batches = device.batches(48)
    full(batches, device, 1)
    device.holds = 48
    clips = 0
    while batches.size < 48:
        clips += batches.size
        full(batches, device, 1)
    assert clips == GOOD * (2 + 4 + 8 + 12 + 16 + 24 + 32)


def test_one_that_does_not_fit_alone_is_told_to_the_caller_and_frees_what_it_took() -> None:
    device = Device(0)
    with pytest.raises(torch.OutOfMemoryError):
        device.batches(2).answer(list("ab"), device.ask)
    assert device.released == 2
    with pytest.raises(ZeroDivisionError):  # any other error is none of ours
        device.batches(2).answer([1, 0], lambda some: [1 // one for one in some])


def test_a_size_is_remembered_for_each_card_and_model(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "batches.json"
    Remembered(file).put("one", Size(24, 24))
    Remembered(file).put("other", Size(8, 8))
    Remembered(file).put("one", Size(12, 24))
    assert (Remembered(file).get("one"), Remembered(file).get("other")) == (Size(12, 24), Size(8, 8))
    assert Remembered(file).get("third") is None
    assert [one.name for one in file.parent.iterdir()] == ["batches.json"]


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "\xff"),
        *('{"one": "12"}', '{"one": 12}', '{"one": {"batch": 12}}', '{"one": {"batch": 12, "most": 8}}'),
        *('{"one": {"batch": 0, "most": 8}}', '{"one": {"batch": 1, "most": true}}'),
        '{"one": {"batch": 1, "most": 1e9}}',
        '{"one": {"batch": 1, "most": 1, "room": "40 GB"}}',
    ],
)
def test_a_bad_file_says_nothing_and_is_written_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "batches.json"
    file.write_text(content, encoding="latin-1")
    assert Remembered(file).get("one") is None
    Remembered(file).put("one", Size(4, 4))
    assert json.loads(file.read_text())["one"] == {"batch": 4, "most": 4, "room": 0.0}


def test_where_nothing_can_be_written_nothing_is_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    Remembered(tmp_path / "file" / "batches.json").put("one", Size(4, 4))
    assert "not remembered" in caplog.text


def test_its_place_is_the_persons_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path))
    Remembered().put("one", Size(4, 4))
    assert (tmp_path / "batches.json").exists()
