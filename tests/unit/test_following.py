"""A folder that a recorder writes into."""

from __future__ import annotations

import itertools
import os
import pickle
from pathlib import Path
from uuid import uuid4

import pytest

from tests.fakes import HandClock
from worker.following import Following
from worker.items import Item
from worker.queue import intake, layout
from worker.queue.answers import read_shard
from worker.queue.progress import read_taken, refused_lines
from worker.queue.protocol import Sizes
from worker.queue.recipe import Recipe, freeze
from worker.queue.store import Store, open_store
from worker.queue.superseded import Superseded


class Followed:
    def __init__(self, folder: Path, store: Store | None = None) -> None:
        self.store = store or open_store(f"memory://{uuid4().hex}", make=True)
        run = freeze(self.store, Recipe(task="media-check"), Sizes(4))
        self.clock = HandClock()
        self.following = Following(self.store, run, [str(folder)], None, 3.0, self.clock)

    def look(self, *, after: float = 1.0) -> int:
        self.clock.sleep(after)
        return self.following.look()

    @property
    def items(self) -> list[Item]:
        names = [layout.shard_of(entry.name) for entry in self.store.list(layout.ITEMS)]
        return [item for name in names for item in read_shard(self.store, name).items]

    @property
    def inputs(self) -> list[str]:
        return sorted(item.input for item in self.items)

    def counting(self, input: str) -> list[int]:
        """The sizes of its contents that count."""
        gone = Superseded(self.store).look()
        return [item.size for item in self.items if item.input == input and item.id not in gone]


def test_a_file_is_taken_once_it_stands_still(tmp_path: Path) -> None:
    one = Followed(tmp_path)
    assert one.look() == 0, "an empty folder is no error"
    file = tmp_path / "cam 1" / "a.mp4"
    file.parent.mkdir()
    for n in range(6):
        file.write_bytes(b"x" * n)
        assert one.look() == 0, "it grows"
    assert [one.look() for _ in range(5)] == [0, 0, 1, 0, 0]
    assert one.inputs == ["cam 1/a.mp4"]


def test_a_pause_of_ours_proves_nothing(tmp_path: Path) -> None:
    one = Followed(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert [one.look(), one.look(after=100), one.look()] == [0, 0, 1]


def test_what_is_hidden_or_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    one = Followed(tmp_path)
    for name in (".part.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert sum(one.look() for _ in range(6)) == 0


def test_who_begins_again_takes_nothing_twice(tmp_path: Path) -> None:
    first = Followed(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"a")
    assert sum(first.look() for _ in range(5)) == 1
    (tmp_path / "b.mp4").write_bytes(b"b")
    again = Followed(tmp_path, first.store)
    assert sum(again.look() for _ in range(5)) == 1
    assert again.inputs == ["a.mp4", "b.mp4"]


def test_what_changes_after_it_was_taken_is_taken_again_and_counts_alone(tmp_path: Path) -> None:
    one = Followed(tmp_path)
    file = tmp_path / "a.mp4"
    for content in (b"half", b"nearly all", b"all of it"):
        file.write_bytes(content)
        (tmp_path / f"{content.decode()}.mp4").write_bytes(content)
        assert sum(one.look() for _ in range(6)) == 2
    assert one.inputs.count("a.mp4") == 3
    assert one.counting("a.mp4") == [len(b"all of it")]
    file.touch()
    assert sum(one.look() for _ in range(6)) == 0, "the same content is no other one"


def test_what_changed_while_nobody_followed_is_taken_again(tmp_path: Path) -> None:
    first = Followed(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"half")
    assert sum(first.look() for _ in range(6)) == 1
    (tmp_path / "a.mp4").write_bytes(b"all of it")
    again = Followed(tmp_path, first.store)
    assert sum(again.look() for _ in range(6)) == 1
    assert again.counting("a.mp4") == [len(b"all of it")]


def test_what_changes_counts_alone_though_other_roots_know_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    one = Followed(tmp_path / "here")
    for n in (1, 2):
        (tmp_path / "here" / f"{n}.mp4").write_bytes(b"half")
        assert sum(one.look() for _ in range(6)) == 1
    (tmp_path / "there").mkdir()
    intake.add_root(one.store, str(tmp_path / "there"))
    (tmp_path / "here" / "2.mp4").write_bytes(b"all of it")
    assert sum(one.look() for _ in range(6)) == 1
    assert one.counting("2.mp4") == [len(b"all of it")]


def test_what_comes_again_under_the_name_of_one_that_went_counts_alone(tmp_path: Path) -> None:
    one = Followed(tmp_path)
    file = tmp_path / "a.mp4"
    for content in (b"the first", b"another"):
        file.write_bytes(content)
        assert sum(one.look() for _ in range(6)) == 1
        file.unlink()
        assert one.look() == 0
    assert one.counting("a.mp4") == [len(b"another")]


def test_of_what_went_little_is_remembered(tmp_path: Path) -> None:
    one = Followed(tmp_path)
    empty = held(one.following)
    for taken in (False, True):
        for n in range(100):
            (tmp_path / f"{n}.mp4").write_bytes(b"x")
        assert bool(sum(one.look() for _ in range(5 if taken else 2))) == taken
        for n in range(100):
            (tmp_path / f"{n}.mp4").unlink()
        one.look()
        assert held(one.following) - empty <= 100 * 20 * taken


def test_what_lies_there_for_long_is_seldom_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.following.ROUND", 10)
    one = Followed(tmp_path)
    for n in range(100):
        (tmp_path / f"{n}.mp4").write_bytes(b"x")
    assert sum(one.look() for _ in range(5)) == 100
    asked: list[str] = []
    stat = Path.stat

    def ask(path: Path, **how: bool) -> os.stat_result:
        asked.extend([path.name] if path.suffix == ".mp4" else [])
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", ask)
    (tmp_path / "new.mp4").write_bytes(b"x")
    assert sum(one.look() for _ in range(5)) == 1
    assert len(asked) < 100, "in five looks"
    for file in ("7.mp4", "13.mp4"):
        (tmp_path / file).write_bytes(b"longer")
    assert sum(one.look() for _ in range(11 + 3)) == 2
    assert {f"{n}.mp4" for n in range(100)} <= set(asked), "each had its turn"


def test_what_a_look_costs_is_a_part_of_the_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Followed(tmp_path)
    one.look()
    assert one.following.poll == 1.0
    ticks = itertools.count()
    monkeypatch.setattr("worker.following.thread_time", lambda: 5.0 * next(ticks))
    one.look()
    assert one.following.poll == 45.0
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert [one.look(after=45), one.look(after=45)] == [0, 1], "stood still for long enough"


def test_what_is_left_out_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "final_results.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    one = Followed(tmp_path)
    for _ in range(3):
        one.look()
    assert len(caplog.records) == 2


def held(following: Following) -> int:
    """Bytes of what it remembers of files."""
    return len(pickle.dumps([v for v in vars(following).values() if isinstance(v, dict | set)]))


def test_a_name_that_is_no_text_is_refused_and_told_in_the_results(tmp_path: Path) -> None:
    one = Followed(tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")).write_bytes(b"x")
    (tmp_path / "a.mp4").write_bytes(b"a")
    assert [one.look() for _ in range(6)] == [0, 0, 0, 1, 0, 0]
    taken = read_taken(one.store, [entry.name for entry in one.store.list(layout.TAKEN)])
    (refused,) = refused_lines(taken)
    assert "not UTF-8" in str(refused["why"])


def test_a_store_that_was_away_loses_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Followed(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with monkeypatch.context() as away:
        away.setattr("worker.queue.intake.add", lambda *_: (_ for _ in ()).throw(OSError("away")))
        for _ in range(3):
            one.look()
        with pytest.raises(OSError, match="away"):
            one.look()
    assert one.look() == 1


def test_a_folder_that_cannot_be_listed_costs_what_is_in_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"a")
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    one = Followed(tmp_path)
    monkeypatch.setattr(os, "scandir", refuse)
    assert sum(one.look() for _ in range(5)) == 1
    assert caplog.text.count("shut cannot be read (Permission denied)") == 1
