"""A part counts whole or not at all."""

from __future__ import annotations

import pytest

from tests.unit.test_shards import HOSTILE
from worker.items import Answer, Failure, Result
from worker.queue.parts import pack, unpack

RESULTS = [
    *(Result(f"id{n}", text, Answer({"text": text, text: n})) for n, text in enumerate(HOSTILE)),
    Result("failed", "b", Failure("crashed", HOSTILE[0]), run={"seconds": 1.5}),
    Result("filed", "c", Answer({}), files={"sheet.jpg": "files/abc"}, run={"worker": "w"}),
]


def test_what_is_packed_is_unpacked() -> None:
    assert unpack(pack(RESULTS)) == RESULTS


def test_no_results_are_a_part_too() -> None:
    assert unpack(pack([])) == []


def test_a_part_cut_anywhere_counts_for_nothing() -> None:
    data = pack(RESULTS[-3:])
    whole = {len(data), len(data) - 1}  # the last newline says nothing
    assert [end for end in range(len(data) + 1) if unpack(data[:end]) is not None] == sorted(whole)


def test_a_part_with_a_changed_byte_counts_for_nothing() -> None:
    data = pack(RESULTS[-2:])
    for place in range(len(data) - 1):
        assert unpack(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]) is None, place


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\n\n", b"null", b"[]\n", b"\xff\xfe", b"{}\n{}\n", b"0\n1\n", b"[" * 100_000]
)
def test_what_is_no_part_counts_for_nothing(data: bytes) -> None:
    assert unpack(data) is None


def test_a_part_within_a_part_is_no_longer_the_same() -> None:
    assert unpack(pack(RESULTS) + pack(RESULTS)) is None
