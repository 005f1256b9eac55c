"""The inbox: files are cut once, when they stand still, by whoever looks."""

from __future__ import annotations

import json
import threading
from itertools import count
from pathlib import Path

import pytest

from tests.fakes import HandClock
from tests.workers import PATIENCE_S
from worker.enqueue import Wanted, agree
from worker.errors import StoreAwayError, UsageError
from worker.items import Item
from worker.queue import layout, lines
from worker.queue.answers import read_shard
from worker.queue.inbox import Inbox, Read, read_lines, take
from worker.queue.progress import Watcher, read_taken, refused_lines
from worker.queue.protocol import Sizes
from worker.queue.store import Store, open_store
from worker.queue.text import decode, encode
from worker.sources import Resolver
from worker.tasks.task import MapTask, Params

TTL = 60.0
POLL = 15.0
numbers = count()


class Text(MapTask[Params, Item]):
    name = "text"
    takes = "values"


def READ(content: bytes) -> Read:  # noqa: N802
    return read_lines(lines.parse(content, Text, {}), Resolver(Text, "fingerprint", ()))


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://inbox-{next(numbers)}")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def inbox(store: Store, clock: HandClock) -> Inbox:
    return Inbox(store, Sizes(2), TTL, clock, READ)  # type: ignore[arg-type]


def asking(*inputs: str, last: str = "\n") -> bytes:
    return "\n".join(json.dumps({"input": one}) for one in inputs).encode() + last.encode()


def wait(box: Inbox, clock: HandClock, seconds: float = TTL + POLL) -> int:
    """Look every POLL seconds, as an idle worker does; → new items."""
    until, new = clock.time + seconds, 0
    while clock.time <= until:
        new += box.look(POLL)
        clock.sleep(POLL)
    return new


def inputs(store: Store) -> list[str]:
    names = [layout.shard_of(entry.name) for entry in store.list(layout.ITEMS)]
    return sorted(item.input for name in names for item in read_shard(store, name).items)


def refused(store: Store) -> list[int]:
    records = read_taken(store, [entry.name for entry in store.list(layout.TAKEN)])
    return [line["line"] for line in refused_lines(records)]


def test_a_file_is_cut_when_it_stood_still_for_the_ttl(store: Store, clock: HandClock) -> None:
    store.put("inbox/a.jsonl", asking("1", "2", "3"))
    box = inbox(store, clock)
    assert wait(box, clock, TTL - POLL) == 0
    assert (box.waiting, inputs(store)) == (1, [])
    assert wait(box, clock, POLL) == 3
    assert (box.waiting, inputs(store)) == (0, ["1", "2", "3"])


def test_a_file_that_still_grows_waits(store: Store, clock: HandClock) -> None:
    whole, box = asking(*map(str, range(10))), inbox(store, clock)
    for end in range(1, len(whole), 20):
        store.put("inbox/a.jsonl", whole[:end])
        assert wait(box, clock, TTL - POLL) == 0
    store.put("inbox/a.jsonl", whole)
    assert wait(box, clock) == 10
    assert refused(store) == []


def test_a_pause_of_ours_is_no_standing_still(store: Store, clock: HandClock) -> None:
    store.put("inbox/a.jsonl", asking("1"))
    box = inbox(store, clock)
    box.look(POLL)
    clock.sleep(10 * TTL)
    assert box.look(POLL) == 0
    assert wait(box, clock) == 1


def test_an_outage_is_no_standing_still(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("inbox/a.jsonl", asking("1"))
    box = inbox(store, clock)
    box.look(POLL)

    def away(*_: object) -> None:
        raise StoreAwayError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "list", away)
        for _ in range(20):
            with pytest.raises(StoreAwayError):
                box.look(POLL)
            clock.sleep(POLL)
    assert box.look(POLL) == 0
    assert wait(box, clock) == 1


def test_a_last_line_without_newline_is_a_line(store: Store, clock: HandClock) -> None:
    store.put("inbox/a.jsonl", asking("1", "2", last=""))
    assert wait(inbox(store, clock), clock) == 2


def test_what_is_appended_later_adds_only_that(store: Store, clock: HandClock) -> None:
    box = inbox(store, clock)
    store.put("inbox/a.jsonl", asking("1", "2", "3"))
    assert wait(box, clock) == 3
    store.put("inbox/a.jsonl", asking("1", "2", "3", "4"))
    assert wait(box, clock) == 1
    assert inputs(store) == ["1", "2", "3", "4"]


def test_a_copy_that_stalled_and_went_on_leaves_no_refused_line(store: Store, clock: HandClock) -> None:
    whole, box = asking("1", "2", "3"), inbox(store, clock)
    store.put("inbox/a.jsonl", whole[:-5])
    assert wait(box, clock) == 2
    assert refused(store) == [3]
    store.put("inbox/a.jsonl", whole)
    assert wait(box, clock) == 1
    assert inputs(store) == ["1", "2", "3"]
    assert refused(store) == []


def test_a_corrected_file_leaves_no_refused_line(store: Store, clock: HandClock) -> None:
    box = inbox(store, clock)
    for content, left in [
        (b'{"inptu":"1"}\n{"inptu":"2"}\n', [1, 2]),
        (b'{"input":"1"}\n{"inptu":"2"}\n', [2]),
        (b'{"input":"1"}\n', []),
    ]:
        store.put("inbox/a.jsonl", content)
        wait(box, clock)
        assert refused(store) == left
    assert inputs(store) == ["1"]


def test_what_does_not_end_in_jsonl_is_left_alone_and_told_once(
    store: Store, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("inbox/a.json", asking("1"))
    store.put("inbox/b.jsonl.part", asking("2"))
    box = inbox(store, clock)
    assert wait(box, clock) == 0
    assert box.waiting == 0
    assert [m for m in caplog.messages if "left alone" in m] == [
        "inbox/a.json is left alone: an inbox file ends in .jsonl",
        "inbox/b.jsonl.part is left alone: an inbox file ends in .jsonl",
    ]


def test_a_file_that_vanishes_is_forgotten(store: Store, clock: HandClock) -> None:
    store.put("inbox/a.jsonl", asking("1"))
    box = inbox(store, clock)
    box.look(POLL)
    store.discard("inbox/a.jsonl")
    assert wait(box, clock) == 0
    assert box.waiting == 0


def test_a_worker_that_restarts_does_not_cut_again(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("inbox/a.jsonl", asking("1"))
    assert wait(inbox(store, clock), clock) == 1
    monkeypatch.setattr(Inbox, "_take", lambda *_: pytest.fail("cut again"))
    box = inbox(store, clock)
    box.look(POLL)
    assert box.waiting == 0
    assert wait(box, clock) == 0


def test_a_worker_that_died_half_way_has_done_no_harm(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("inbox/a.jsonl", asking(*"12345", last="\nnonsense"))
    create = Store.create

    def dying(self: Store, name: str, data: bytes) -> bool:
        if name.startswith(layout.TAKEN):
            raise KeyboardInterrupt
        return create(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", dying)
        with pytest.raises(KeyboardInterrupt):
            wait(inbox(store, clock), clock)
    assert wait(inbox(store, clock), clock) == 0
    assert inputs(store) == list("12345")
    assert refused(store) == [6]


def test_two_workers_that_cut_at_once_cut_once(store: Store) -> None:
    content = asking(*map(str, range(40)), last="\nnonsense\n")
    store.put("inbox/a.jsonl", content)
    gate = threading.Barrier(8)

    def go() -> None:
        gate.wait(PATIENCE_S)
        take(store, Sizes(2), "inbox/a.jsonl", content, READ)

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert inputs(store) == sorted(map(str, range(40)))
    assert refused(store) == [41]


def test_one_that_changes_while_it_is_read_is_not_cut(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("inbox/a.jsonl", asking("1"))
    box = inbox(store, clock)
    assert wait(box, clock, TTL - POLL) == 0
    get = Store.get

    def changing(self: Store, name: str) -> bytes | None:
        data = get(self, name)
        self.put(name, asking("1", "2"))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(Store, "get", changing)
        assert box.look(POLL) == 0
    assert (box.waiting, inputs(store)) == (1, [])
    assert wait(box, clock) == 2


def test_bad_lines_are_told_once_with_their_number(
    store: Store, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("inbox/a.jsonl", b'{"input":"1"}\n{"inptu":"2"}\n\xff\n')
    assert wait(inbox(store, clock), clock) == 1
    assert wait(inbox(store, clock), clock) == 0
    assert next(m for m in caplog.messages if "line" in m) == (
        "inbox/a.jsonl line 2 has an unknown key 'inptu'; did you mean 'input'?"
    )
    assert refused(store) == [2, 3]


def test_an_empty_file_is_taken_and_asks_for_nothing(store: Store, clock: HandClock) -> None:
    store.put("inbox/a.jsonl", b"")
    box = inbox(store, clock)
    assert wait(box, clock) == 0
    assert box.waiting == 0


def test_files_in_folders_and_with_odd_names(store: Store, clock: HandClock) -> None:
    for number, name in enumerate(["sub/a.jsonl", "视频 1.jsonl", "100%.jsonl"]):
        store.put(f"inbox/{name}", asking(str(number)))
    assert wait(inbox(store, clock), clock) == 3


def test_the_same_lines_in_two_files_are_asked_for_once(store: Store, clock: HandClock) -> None:
    store.put("inbox/a.jsonl", asking("1", "2"))
    store.put("inbox/b.jsonl", asking("2", "1", "3"))
    assert wait(inbox(store, clock), clock) == 3


def test_inputs_that_are_away_do_not_use_up_the_file(store: Store, clock: HandClock, tmp_path: Path) -> None:
    """A line is refused for good; so nothing is refused for a disk that is away for a while."""

    class Watch(MapTask[Params, Item]):
        name = "watch"

    folder = tmp_path / "inputs"
    resolver = Resolver(Watch, "fingerprint", [str(folder)])

    def read(content: bytes) -> Read:
        return read_lines(lines.parse(content, Watch, {}), resolver)

    box = Inbox(store, Sizes(2), TTL, clock, read)  # type: ignore[arg-type]
    store.put("inbox/a.jsonl", asking("a.mp4"))
    with pytest.raises(StoreAwayError):
        wait(box, clock)
    assert store.list(layout.TAKEN) == []
    folder.mkdir()
    (folder / "a.mp4").write_text("a")
    assert wait(box, clock) == 1


def test_a_queue_with_a_waiting_file_is_not_over(store: Store, clock: HandClock) -> None:
    agree(store, Wanted("media-check"))
    store.put("inbox/a.jsonl", asking("1"))
    assert not Watcher(store, clock).look().is_over  # type: ignore[arg-type]
    wait(inbox(store, clock), clock)
    assert Watcher(store, clock).look().inbox == []  # type: ignore[arg-type]


def test_an_inbox_without_a_recipe_is_refused_in_one_line(store: Store) -> None:
    store.put("inbox/a.jsonl", asking("1"))
    with pytest.raises(UsageError) as caught:
        agree(store, Wanted())
    assert "has no recipe yet: enqueue first" in str(caught.value)
    assert "\n" not in str(caught.value)


# the recipe


def test_another_recipe_is_refused_by_what_differs(store: Store) -> None:
    agree(store, Wanted("media-check"))
    assert agree(store, Wanted("media-check")) == agree(store, Wanted())
    with pytest.raises(UsageError, match="sheet_frames is 12 there, 3 here"):
        agree(store, Wanted("media-check", settings=["sheet_frames=3"]))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"fingerprint": "x"}', b"null"])
def test_a_torn_recipe_is_told_in_one_line(store: Store, data: bytes) -> None:
    store.put(layout.RUN, data)
    with pytest.raises(UsageError) as caught:
        agree(store, Wanted())
    assert "run.json is not a recipe" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_of_a_newer_worker_is_refused(store: Store) -> None:
    run = agree(store, Wanted("media-check"))
    store.put(layout.RUN, encode({**run.model_dump(), "protocol": 2, "more": decode(b"1")}))
    with pytest.raises(UsageError, match="speaks protocol 2"):
        agree(store, Wanted())
