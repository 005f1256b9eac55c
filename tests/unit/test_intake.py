"""Rules 9 and 10: work that is brought twice is there once; what is asked again is asked once."""

from __future__ import annotations

import gc
import hashlib
import resource
import sys
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest

from tests import workers
from tests.fakes import answered, failed
from tests.workers import PATIENCE_S
from worker.enqueue import Wanted, enqueue
from worker.errors import UsageError
from worker.items import Item, Result
from worker.queue import intake, layout, listing, parts
from worker.queue.answers import read_shard
from worker.queue.protocol import Sizes
from worker.queue.shards import line
from worker.queue.store import Store, open_store
from worker.queue.text import decode, encode

names = count()


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://intake-{next(names)}")


def items(*inputs: object) -> list[Item]:
    return [Item(hashlib.sha256(str(one).encode()).hexdigest()[:24], str(one)) for one in inputs]


def shards(store: Store) -> list[str]:
    return [layout.shard_of(entry.name) for entry in store.list(layout.ITEMS)]


def inputs(store: Store) -> list[str]:
    """Of every shard; one that stands in two comes twice."""
    return sorted(item.input for name in shards(store) for item in read_shard(store, name).items)


def commit(store: Store, name: str, answer: Callable[[Item], Result] = answered) -> None:
    shard = read_shard(store, name)
    inline = parts.pack([answer(item) for item in shard.items]).decode()
    record = {"sha256": shard.sha256, "parts": [], "inline": inline, "epoch": 1}
    store.create(layout.done(name), encode(record))


class Crashing:
    """A store whose author dies after so many writes."""

    def __init__(self, store: Store, writes: int) -> None:
        self._store, self._left = store, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def create(self, name: str, data: bytes, *, durable: bool = True) -> bool:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._store.create(name, data, durable=durable)

    def create_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        for name, data in objects:
            self.create(name, data)


class Turns:
    """Two authors, one store: before each call a script says who may go."""

    def __init__(self, store: Store, script: str) -> None:
        self._store = store
        self._script = list(script)
        self._over: set[str] = set()
        self._change = threading.Condition()

    def of(self, who: str) -> Any:
        return _Turn(self, who)

    def ask(self, who: str, name: str, *arguments: Any) -> Any:
        with self._change:
            assert self._change.wait_for(lambda: self._may(who), 10), "the script hangs"
            if self._script:
                self._script.pop(0)
            try:
                return getattr(self._store, name)(*arguments)
            finally:
                self._change.notify_all()

    def over(self, who: str) -> None:
        with self._change:
            self._over.add(who)
            self._change.notify_all()

    def _may(self, who: str) -> bool:
        while self._script and self._script[0] in self._over:
            self._script.pop(0)
        return not self._script or self._script[0] == who


class _Turn:
    def __init__(self, turns: Turns, who: str) -> None:
        self._turns, self._who = turns, who
        self.url = turns._store.url

    def create_all(self, objects: Iterable[tuple[str, bytes]]) -> None:
        for name, data in objects:
            self._turns.ask(self._who, "create", name, data)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._turns.ask(self._who, name, *arguments)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests one after the other, so that a script can order them."""
    monkeypatch.setattr(intake, "in_order", lambda call, values: [call(value) for value in values])


def both(
    store: Store, script: str, first: Callable[[Store], object], second: Callable[[Store], object]
) -> None:
    turns, errors = Turns(store, script), []

    def go(who: str, work: Callable[[Store], object]) -> None:
        try:
            work(turns.of(who))
        except BaseException as error:
            errors.append(error)
        finally:
            turns.over(who)

    threads = [threading.Thread(target=go, args=one) for one in (("a", first), ("b", second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert errors == []


def scripts() -> Iterator[str]:
    """One comes so far, the other so far, then the first to its end: every pair of places, both ways."""
    for i, j in product(range(12), repeat=2):
        yield "a" * i + "b" * j + "a" * 20


def work(store: Store, seconds: float, count: int = 40) -> None:
    """So many items answered, each in so long."""
    for name in intake.add(store, Sizes(10), items(*(f"before {n}" for n in range(count)))).shards:
        commit(store, name, lambda item: replace(answered(item), run={"seconds": seconds}))


def lengths(store: Store, names: Sequence[str]) -> list[int]:
    return [len(read_shard(store, name).items) for name in names]


# how large


def test_later_work_is_cut_by_what_items_took(store: Store) -> None:
    work(store, 30.0)
    added = intake.add(store, Sizes(10), items(*range(5)))
    assert lengths(store, added.shards) == [2, 2, 1]


def test_a_retry_is_cut_by_what_items_took(store: Store) -> None:
    work(store, 30.0)
    before = set(shards(store))
    intake.retry(store, Sizes(10), items(*range(5)))
    assert sorted(lengths(store, sorted(set(shards(store)) - before))) == [1, 2, 2]


def test_a_short_list_is_cut_finer_until_items_were_measured(store: Store) -> None:
    sizes = Sizes(10, 2)
    assert lengths(store, intake.add(store, sizes, items(*range(5))).shards) == [2, 2, 1]
    work(store, 6.0)
    assert lengths(store, intake.add(store, sizes, items(*range(5, 20))).shards) == [10, 5]


def test_few_answers_and_failures_say_nothing_of_the_size(store: Store) -> None:
    work(store, 30.0, count=10)
    for name in intake.add(store, Sizes(10), items(*(f"bad {n}" for n in range(40)))).shards:
        commit(store, name, lambda item: replace(failed(item), run={"seconds": 600.0}))
    assert lengths(store, intake.add(store, Sizes(10), items(*range(5))).shards) == [5]


def test_a_damaged_commit_does_not_stop_new_work(store: Store) -> None:
    work(store, 30.0)
    store.put(layout.done(shards(store)[0]), b"{")
    assert intake.add(store, Sizes(10), items(*range(5))).new == 5


def test_a_list_is_cut_alike_by_who_measured_before_and_by_who_measures_after(store: Store) -> None:
    """An author dies half-way; while items are answered the estimate turns out to be wrong."""
    early = Crashing(store, 2)  # the agreed size, and one shard
    with pytest.raises(KeyboardInterrupt):
        intake.add(early, Sizes(2), items(*range(8)))  # type: ignore[arg-type]
    half = set(shards(store))
    work(store, 1.0)
    added = intake.add(store, Sizes(2), items(*range(8)))
    assert lengths(store, [*half, *added.shards]) == [2, 2, 2, 2]
    assert inputs(store)[:8] == [str(n) for n in range(8)]


# adding


def test_bringing_the_same_twice_adds_nothing(store: Store) -> None:
    first = intake.add(store, Sizes(2), items(*range(5)))
    again = intake.add(store, Sizes(2), items(*range(5)))
    assert (first.new, first.known, len(first.shards)) == (5, 0, 3)
    assert (again.new, again.known, again.shards) == (0, 5, ())
    assert len(shards(store)) == 3


def test_a_long_list_is_not_held_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 MB"""
    monkeypatch.setattr(store, "create_all", lambda objects: deque(objects, maxlen=0))
    listed = (item for number in range(10_000) for item in items(f"{number:05} {'x' * 2_000}"))
    tracemalloc.start()
    added = intake.add(store, Sizes(2), listed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert added.new == 10_000
    assert peak < 10e6


@pytest.mark.parametrize("beyond", [1_000, 20_000])  # found out when all is read again, or before
def test_a_list_that_finds_no_room_is_one_clear_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    room, (least, most) = 1 << 16, resource.getrlimit(resource.RLIMIT_FSIZE)
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    monkeypatch.setattr(listing, "MEMORY_MOST", 1_000)
    listed = items(*range((room + beyond) // len(line(items("0")[0]))))
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    try:
        with pytest.raises(UsageError, match=r"File too large.*set TMPDIR"):
            intake.add(store, Sizes(2), listed)
        gc.collect()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
    assert unheard == []
    assert shards(store) == []


@pytest.mark.parametrize("place", range(6))
def test_one_more_adds_only_that(store: Store, place: int) -> None:
    before = items(*range(5))
    intake.add(store, Sizes(2), before)
    added = intake.add(store, Sizes(2), [*before[:place], *items("new"), *before[place:]])
    assert (added.new, added.known) == (1, 5)
    assert inputs(store) == ["0", "1", "2", "3", "4", "new"]


def test_other_order_and_other_shard_size_add_nothing(store: Store) -> None:
    intake.add(store, Sizes(2), items(*range(5)))
    assert intake.add(store, Sizes(3), items(*reversed(range(5)))).new == 0


def test_twice_in_one_list_is_once(store: Store) -> None:
    added = intake.add(store, Sizes(2), items("a", "b", "a", "b", "a"))
    assert (added.new, added.known) == (2, 3)


def test_nothing_brought_adds_nothing(store: Store) -> None:
    assert intake.add(store, Sizes(2), []).shards == ()


@pytest.mark.parametrize("writes", range(5))
def test_an_author_who_dies_half_way_goes_on(store: Store, writes: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        intake.add(Crashing(store, writes), Sizes(2), items(*range(8)))  # type: ignore[arg-type]
    assert len(shards(store)) == max(0, writes - 1)  # the first write agrees on their size
    intake.add(store, Sizes(2), items(*range(8)))
    assert inputs(store) == [str(n) for n in range(8)]


@pytest.mark.usefixtures("one_by_one")
def test_the_same_list_brought_by_two_at_once_is_there_once() -> None:
    wanted = {s.name for s in intake.cut(items(*range(4)), 2)}
    for script in scripts():
        store = open_store(f"memory://intake-{next(names)}")
        add = lambda s: intake.add(s, Sizes(2), items(*range(4)))  # noqa: E731
        both(store, script, add, add)
        assert set(shards(store)) == wanted, script


@pytest.mark.usefixtures("one_by_one")
def test_two_who_measure_differently_cut_the_same_list_alike() -> None:
    for script in scripts():
        store = open_store(f"memory://intake-{next(names)}")
        slow, fast = (lambda s, size=size: intake.add(s, Sizes(size), items(*range(4))) for size in (1, 3))
        both(store, script, slow, fast)
        assert inputs(store) == ["0", "1", "2", "3"], script


@pytest.mark.usefixtures("one_by_one")
def test_overlapping_lists_at_once_lose_nothing() -> None:
    """An item may then stand in two shards; its answer counts once."""
    for script in scripts():
        store = open_store(f"memory://intake-{next(names)}")
        both(
            store,
            script,
            lambda s: intake.add(s, Sizes(2), items(*range(4))),
            lambda s: intake.add(s, Sizes(2), items(*range(2, 6))),
        )
        assert set(inputs(store)) == set("012345"), script
        for name in shards(store):
            commit(store, name)
        assert sorted(workers.answers(store.url)) == list("012345")
        assert intake.add(store, Sizes(2), items(*range(6))).new == 0


def test_two_folders_with_the_same_files_are_one(tmp_path: Path, store: Store) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "a.mp4").write_bytes(b"a" * 100_000)
        (tmp_path / folder / "sub" / "b.mp4").write_bytes(b"b")
    wanted = Wanted("media-check")
    assert enqueue(store, wanted, [str(tmp_path / "here")], None).added.new == 2
    again = enqueue(store, wanted, [str(tmp_path / "there")], None)
    assert (again.added.new, again.added.known) == (0, 2)
    assert sorted(intake.roots(store)) == [str(tmp_path / "here"), str(tmp_path / "there")]
    (tmp_path / "there" / "c.mp4").write_bytes(b"c")
    third = enqueue(store, wanted, [str(tmp_path / "there")], None)
    assert (third.added.new, third.added.known) == (1, 2)
    (tmp_path / "there" / "a.mp4").write_bytes(b"A" * 100_000)
    assert enqueue(store, wanted, [str(tmp_path / "there")], None).added.new == 1


# asking again


@pytest.fixture
def failures(store: Store) -> list[Item]:
    """Three items of four, two a shard, have failed."""
    intake.add(store, Sizes(2), items(*range(4)))
    for name in shards(store):
        commit(store, name, lambda item: answered(item) if item.input == "0" else failed(item))
    return items(1, 2, 3)


def waiting(store: Store) -> list[str]:
    done = {layout.shard_of(entry.name) for entry in store.list(layout.DONE)}
    return sorted(
        item.input for name in shards(store) if name not in done for item in read_shard(store, name).items
    )


def test_a_retry_is_a_record_first_and_then_its_shards(store: Store, failures: list[Item]) -> None:
    with pytest.raises(KeyboardInterrupt):
        intake.retry(Crashing(store, 0), Sizes(2), failures)  # type: ignore[arg-type]
    assert store.list(layout.RETRIES) == []
    assert waiting(store) == []
    assert intake.retry(store, Sizes(2), failures) == 3
    assert [entry.name for entry in store.list(layout.RETRIES)] == ["retries/1.json"]
    assert waiting(store) == ["1", "2", "3"]
    record = decode(store.get("retries/1.json") or b"")
    assert set(record["shards"]) <= set(shards(store))


@pytest.mark.parametrize("writes", [1, 2])
def test_a_retry_cut_off_is_finished_by_whoever_comes(
    store: Store, failures: list[Item], writes: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        intake.retry(Crashing(store, writes), Sizes(2), failures)  # type: ignore[arg-type]
    assert len(waiting(store)) < 3
    intake.finish_retries(store)
    assert waiting(store) == ["1", "2", "3"]
    intake.finish_retries(store)
    assert waiting(store) == ["1", "2", "3"]


def test_a_retry_after_a_cut_off_retry_asks_nothing_twice(store: Store, failures: list[Item]) -> None:
    with pytest.raises(KeyboardInterrupt):
        intake.retry(Crashing(store, 1), Sizes(2), failures)  # type: ignore[arg-type]
    assert intake.retry(store, Sizes(2), failures) == 0
    assert waiting(store) == ["1", "2", "3"]


def test_what_waits_already_is_not_asked_again(store: Store, failures: list[Item]) -> None:
    assert intake.retry(store, Sizes(2), failures[:1]) == 1
    assert intake.retry(store, Sizes(2), failures) == 2
    assert waiting(store) == ["1", "2", "3"]


def test_an_item_may_be_asked_again_after_each_failure(store: Store, failures: list[Item]) -> None:
    for generation in (1, 2, 3):
        asked = [replace(item, generation=generation - 1) for item in failures]
        assert intake.retry(store, Sizes(2), asked) == 3
        for name in set(shards(store)):
            commit(store, name, failed)
    assert [entry.name for entry in store.list(layout.RETRIES)] == [f"retries/{g}.json" for g in (1, 2, 3)]
    assert not any(result.ok for name, result in workers.answers(store.url).items() if name != "0")


@pytest.mark.usefixtures("failures")
def test_a_failed_retry_never_replaces_an_answer(store: Store) -> None:
    intake.retry(store, Sizes(2), items(0))
    commit(store, next(n for n in shards(store) if read_shard(store, n).generation == 1), failed)
    assert workers.answers(store.url)["0"].ok


@pytest.mark.usefixtures("one_by_one")
def test_two_retries_at_once_ask_once() -> None:
    for script in scripts():
        store = open_store(f"memory://intake-{next(names)}")
        intake.add(store, Sizes(4), items(*range(2)))
        commit(store, shards(store)[0], failed)
        ask = lambda s: intake.retry(s, Sizes(4), items(*range(2)))  # noqa: E731
        both(store, script, ask, ask)
        assert waiting(store) == ["0", "1"], script


@pytest.mark.usefixtures("one_by_one")
def test_two_overlapping_retries_at_once_ask_for_each_item_once() -> None:
    for script in scripts():
        store = open_store(f"memory://intake-{next(names)}")
        intake.add(store, Sizes(4), items(*range(3)))
        commit(store, shards(store)[0], failed)
        both(
            store,
            script,
            lambda s: intake.retry(s, Sizes(4), items(0, 1)),
            lambda s: intake.retry(s, Sizes(4), items(1, 2)),
        )
        assert waiting(store) == ["0", "1", "2"], script
