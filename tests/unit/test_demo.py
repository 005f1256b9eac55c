"""The demonstration folder is what it says it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import ItemError
from worker.items import Item
from worker.media.demo import make
from worker.tasks.media_check import MediaCheck, MediaCheckParams


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "media"
    make(path)
    return path


def media_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in MediaCheck.suffixes)


def test_exactly_the_three_broken_files_fail(folder: Path) -> None:
    task, failed, kinds = MediaCheck(MediaCheckParams()), {}, []
    for path in media_in(folder):
        try:
            kinds.append(task.prepare(Item("id", path.name, file=path)).keys["kind"])
        except ItemError as error:
            failed[path.name] = error.kind
    assert failed == {"half a clip.mp4": "truncated", "半张图.jpg": "truncated", "empty.mp4": "empty"}
    assert (kinds.count("picture"), kinds.count("video")) == (24, 6)


def test_the_hanging_and_the_covered_clip_are_noticed(folder: Path) -> None:
    task = MediaCheck(MediaCheckParams())
    hangs = task.prepare(Item("id", "", file=folder / "clips" / "hangs.mp4")).keys
    night = task.prepare(Item("id", "", file=folder / "clips" / "night drive.mkv")).keys
    assert hangs["frozen"] == [[1.0, 4.0]]
    assert night["black"] == [[1.0, 2.0]]


def test_it_is_drawn_once_and_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    assert "nothing to do" in make(folder)
    make(tmp_path / "again")
    again = media_in(tmp_path / "again")
    assert [p.read_bytes() for p in media_in(folder)] == [p.read_bytes() for p in again]
