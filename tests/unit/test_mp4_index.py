"""What an mp4's index says of its packets is what the packets say, or it is not used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import media
from tests.films import FILMS
from worker.media import mp4_index, sampling
from worker.media.container import opened
from worker.media.film import Film
from worker.media.mp4_index import told_table
from worker.media.packets import PacketTable, read_table
from worker.media.sampling import sample

TOLD = ("B-frames in mp4", "B-frames in mov, with sound", "open GOPs", "variable rate", "HEVC", "AV1")
NOT_TOLD = ("edit list", "B-frames in fragments", "B-frames in matroska", "B-frames in avi")


def told(path: Path) -> PacketTable | None:
    with opened(path) as container:
        table = told_table(Film(container), path)
    return table if table and table.trusted else None


def read(path: Path) -> PacketTable:
    with opened(path) as container:
        return read_table(Film(container))


@pytest.mark.parametrize("name", TOLD)
def test_the_index_tells_what_the_packets_tell(tmp_path: Path, name: str) -> None:
    path = FILMS[name](tmp_path)
    by_index, by_packets = told(path), read(path)
    assert by_index
    for column in ("ticks", "keys", "shown"):
        assert np.array_equal(getattr(by_index, column), getattr(by_packets, column)), column


@pytest.mark.parametrize("name", NOT_TOLD)
def test_an_index_that_does_not_tell_all_is_not_asked(tmp_path: Path, name: str) -> None:
    assert told(FILMS[name](tmp_path)) is None


@pytest.mark.parametrize("share", [0.55, 0.999])
def test_of_a_film_that_was_cut_off_the_packets_are_asked(tmp_path: Path, share: float) -> None:
    path = media.film(tmp_path / "a.mp4", options=media.B_FRAMES, muxer=media.FASTSTART)
    assert told(path)
    assert told(media.cut(path, share)) is None


def test_of_a_whole_mp4_only_what_is_decoded_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[object] = []
    monkeypatch.setattr(Film, "_count", lambda _, packet: passed.append(packet) or packet)
    found = sample(media.film(tmp_path / "a.mp4", frames=200, options={"g": "10"}), n=2)
    assert found.total == 200
    assert len(passed) == 1


def lies(*_: Any) -> np.ndarray:
    """As many delays as the film has frames, but of another film."""
    return np.arange(60, dtype=np.int64) % 5 * 512


def none_at_all(*_: Any) -> np.ndarray:
    return np.zeros(60, np.int64)


@pytest.mark.parametrize("wrong", [lies, none_at_all])
def test_an_index_that_lies_costs_time_and_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., np.ndarray]
) -> None:
    path = media.film(tmp_path / "a.mp4", options=media.B_FRAMES)
    right = sample(path, n=7)
    monkeypatch.setattr(mp4_index, "_delays", wrong)
    by_packets: list[object] = []
    monkeypatch.setattr(sampling, "read_table", lambda film: by_packets.append(film) or read_table(film))
    found = sample(path, n=7)
    assert by_packets
    assert (found.numbers, found.times, found.total) == (right.numbers, right.times, right.total)
    assert np.array_equal(found.frames, right.frames)


def box(kind: bytes, *bodies: bytes) -> bytes:
    return (8 + sum(map(len, bodies))).to_bytes(4, "big") + kind + b"".join(bodies)


def numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def moov(steps: bytes, delays: bytes, edits: bytes = b"") -> bytes:
    """An index of track 7."""
    tables = box(b"stbl", box(b"stts", steps), box(b"ctts", delays))
    head = box(b"tkhd", numbers(0, 0, 0, 7, 0, 0))
    return box(b"moov", box(b"trak", head, edits, box(b"mdia", box(b"minf", tables))))


STEPS, DELAYS = numbers(0, 1, 4, 512), numbers(0, 2, 1, 1024, 3, 0)
EDIT = numbers(9, 0, 1 << 16)
TWICE = box(b"edts", box(b"elst", numbers(0, 2), EDIT, EDIT))
ONCE = box(b"edts", box(b"elst", numbers(0, 2), numbers(9, (1 << 32) - 1, 1 << 16), EDIT))


@pytest.mark.parametrize(
    ("index", "delays"),
    [
        (moov(STEPS, DELAYS), [1024, 0, 0, 0]),
        (moov(STEPS, DELAYS, ONCE), [1024, 0, 0, 0]),
        (moov(STEPS, DELAYS, TWICE), None),
        (moov(numbers(0, 1, 5, 512), DELAYS), None),
        (moov(STEPS, numbers(0, 1, 3, 0)), None),
        (moov(STEPS, numbers(0, 2, 5, 0, (1 << 32) - 1, 0)), None),
        (moov(STEPS, numbers(0, 1 << 31)), None),
        (moov(STEPS, b""), None),
        (b"\0\0\0\4moov" * 9, None),
        (b"\0\0\0\1moov\0\0\0\0\0\0\0\3", None),
        (moov(STEPS, DELAYS)[:-9], None),
    ],
)
def test_delays_are_those_of_the_track_or_none(
    tmp_path: Path, index: bytes, delays: list[int] | None
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(box(b"ftyp", b"isom") + index)
    with path.open("rb") as file:
        found = mp4_index._delays(file, path.stat().st_size, 7, 4)
    assert (None if found is None else found.tolist()) == delays
