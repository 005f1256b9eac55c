"""What happened, told once and in order to everybody who reads, whoever did it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra gpus is not installed")

from tests.gpu_clusters import cluster, with_card
from worker.gpus import TrainingGPUConfig, feed
from worker.gpus.allocation import Request
from worker.gpus.events import Events
from worker.gpus.feed import EventStream, Feed
from worker.gpus.figures import Figures
from worker.gpus.inventory import Node
from worker.gpus.ledger import Ledger
from worker.gpus.manager import GpuResourceManager
from worker.gpus.watch import Watch


class Nodes:
    def __init__(self, **gpus: str) -> None:
        self.nodes = cluster(**gpus)

    def look(self) -> Sequence[Node]:
        return self.nodes


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[GpuResourceManager]:
    made = GpuResourceManager(Nodes(a="4xA100-80GB"), tmp_path / "l")
    made.wait_ready(30)
    yield made
    made.close()


def parsed(lines: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in lines.decode().split("\n\n"):
        told = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith((":", "retry")))
        if told:
            found.append((told["event"], json.loads(told["data"])))
    return found


def told(events: Events, after: int = 0) -> list[tuple[str, dict[str, Any]]]:
    found = events.since(after)
    assert found
    return parsed(found[1])


def kinds(events: Events, after: int) -> list[str]:
    return [kind for kind, _ in told(events, after)]


def settled(manager: GpuResourceManager) -> None:
    """What the turn before this one wrote was told by its end."""
    manager.ask(lambda ledger: ledger.nodes).result()


def test_an_allocation_is_told_from_the_line_to_its_end(manager: GpuResourceManager) -> None:
    began = manager.events.last
    first = manager.allocate(TrainingGPUConfig(gpu_count=4, owner="me")).result()
    second = manager.allocate(TrainingGPUConfig(gpu_count=2, owner="you", wait_s=60))
    manager.ask(lambda ledger: ledger.renew(first.id)).result()
    manager.release(first.id).result()
    made = second.result(30)
    settled(manager)
    found = told(manager.events, began)
    assert [kind for kind, _ in found] == ["made", "waiting", "renewed", "ended", "made"]
    assert found[0][1]["cards"] == [f"a/{number}" for number in range(4)]
    assert found[1][1]["id"] == found[4][1]["id"] == made.id
    assert found[3][1]["why"] == "released"
    assert 595 < found[2][1]["until"] - found[2][1]["made"] < 620


def test_who_waits_in_vain_leaves(manager: GpuResourceManager) -> None:
    manager.allocate(TrainingGPUConfig(gpu_count=4)).result()
    began = manager.events.last
    late = manager.allocate(TrainingGPUConfig(gpu_count=1, wait_s=0.1))
    assert late.exception(30)
    settled(manager)
    assert kinds(manager.events, began) == ["waiting", "left"]


def test_what_another_process_does_with_the_same_ledger_is_told(
    manager: GpuResourceManager, tmp_path: Path
) -> None:
    mine = manager.allocate(TrainingGPUConfig()).result()
    settled(manager)
    began = manager.events.last
    other = Ledger(tmp_path / "l")
    with other.turn():
        other.supply(cluster(a="4xA100-80GB"))
        theirs = other.allocate(Request(count=2, owner="other"))
        other.renew(mine.id)
        other.allocate(Request(count=2), patience_s=60)
    settled(manager)
    settled(manager)
    with other.turn():
        other.release(mine.id, "taken away")
    other.close()
    settled(manager)
    settled(manager)
    found = told(manager.events, began)
    assert [kind for kind, _ in found] == ["renewed", "made", "waiting", "ended", "made"]
    assert found[1][1]["id"] == theirs.id  # type: ignore[union-attr]
    assert found[1][1]["owner"] == "other"
    assert found[3][1]["why"] == "taken away"


def test_what_a_turn_that_failed_wrote_is_not_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    with ledger.turn():
        ledger.supply(cluster(a="4xA100-80GB"))
    with suppress(OSError), ledger.turn():
        ledger.allocate(Request())
        raise OSError("disk full")
    with ledger.turn():
        ledger.allocate(Request(count=2))
    assert [change.kind for change in ledger.diary.take()] == ["made"]
    ledger.close()


def test_what_was_there_before_the_server_is_no_event(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(tmp_path / "l")
        with ledger.turn():
            ledger.supply(cluster(a="4xA100-80GB"))
            ledger.allocate(Request())
        assert [change.kind for change in ledger.diary.take()] == ["made"]
        ledger.close()


# what is seen of cards


def test_a_card_that_falls_ill_and_gets_well_is_told_with_its_reason() -> None:
    events = Events()
    watch = Watch(events, 0.05)
    healthy = cluster(a="2xA100-80GB")
    for nodes in (healthy, with_card(healthy, "a/1", trouble="row remapping failed"), healthy):
        watch.look(nodes, 0)
    found = told(events)
    assert [kind for kind, _ in found] == ["cards", "ill", "well"]
    assert found[1][1] == {"node_name": "a", "index": 1, "uuid": "a/1", "trouble": "row remapping failed"}


def test_figures_are_told_when_they_changed_enough_and_processes_always() -> None:
    events = Events()
    watch = Watch(events, 0.05)
    nodes = cluster(a="2xA100-80GB")
    told_before = []
    for what in (
        {"busy": 0.5, "used_gb": 10.0},
        {"busy": 0.52, "used_gb": 10.5},
        {"busy": 0.52, "used_gb": 30.0},
        {"busy": 0.52, "used_gb": 30.0, "processes": (7,)},
        {"busy": 0.52, "used_gb": 30.0, "processes": (7,), "figures": Figures(xid=79)},
    ):
        before = events.last
        watch.look(with_card(nodes, "a/0", **what), 0)
        told_before.append(
            [(kind, [card["uuid"] for card in one.get("cards", ())]) for kind, one in told(events, before)]
        )
    assert told_before == [[("cards", [])], [], *([[("figures", ["a/0"])]] * 3)]
    assert told(events, events.last - 1)[0][1]["cards"][0]["xid"] == 79


def test_cards_that_come_and_go_are_told() -> None:
    events = Events()
    watch = Watch(events, 0.05)
    watch.look(cluster(a="2xA100-80GB"), 0)
    watch.look(cluster(a="2xA100-80GB", b="8xV100-16GB"), 0)
    assert told(events)[-1] == ("cards", {"nodes": 2, "gpus": 10})


# the buffer


def test_who_was_away_gets_what_he_missed_or_hears_of_a_gap() -> None:
    events = Events(most_bytes=200)
    for number in range(10):
        events.tell("made", {"number": number})
    assert [one["number"] for _, one in told(events, 8)] == [8, 9]
    assert events.since(10) == (10, b"")
    assert events.since(0) is None
    assert events.since(11) is None
    assert events.number(events.name(7)) == 7
    for foreign in ("", "x-7", Events().name(7), events.name(7) + "x"):
        assert events.number(foreign) is None


class Reader:
    """One who is sent the stream; `takes`: whether he reads what he is sent."""

    def __init__(self, feed: Feed, after: str = "", takes: bool = True) -> None:
        self._stream = EventStream(feed, after)
        self._takes = takes
        self.got = b""
        self.ended = False
        self.leaving = asyncio.Event()
        self.news = asyncio.Event()
        self.task = asyncio.ensure_future(self._stream({}, self._receive, self._send))

    async def _receive(self) -> dict[str, str]:
        await self.leaving.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if not self._takes:
            await asyncio.Event().wait()
        self.got += message.get("body", b"")
        self.ended = message.get("more_body") is False
        self.news.set()

    async def until(self, word: bytes) -> None:
        async with asyncio.timeout(30):
            while word not in self.got:
                self.news.clear()
                await self.news.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAUSE_S", 0.001)


def test_a_reader_goes_on_where_he_was() -> None:
    async def read() -> None:
        events = Events()
        for number in range(3):
            events.tell("made", {"number": number})
        reader = Reader(Feed(events), events.name(1))
        await reader.until(b'"number":2')
        assert [one["number"] for _, one in parsed(reader.got)] == [1, 2]
        events.tell("ended", {"number": 3})
        await reader.until(b'"number":3')
        reader.leaving.set()
        await reader.task

    asyncio.run(read())


@pytest.mark.parametrize("after", ["long-gone-7", "x"])
def test_a_reader_of_another_time_hears_of_the_gap(after: str) -> None:
    async def read() -> None:
        events = Events()
        events.tell("made", {"number": 0})
        reader = Reader(Feed(events), after)
        await reader.until(b"event: gap")
        assert parsed(reader.got) == [("gap", {"event": events.name(1)})]
        reader.leaving.set()
        await reader.task

    asyncio.run(read())


def test_silence_is_broken_by_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BEAT_S", 0.003)

    async def read() -> None:
        reader = Reader(Feed(Events()))
        await reader.until(b": nothing happened")
        reader.leaving.set()
        await reader.task

    asyncio.run(read())


def test_a_reader_who_falls_behind_is_dropped_with_a_word() -> None:
    async def read() -> None:
        events = Events(most_bytes=300)
        reading = Feed(events).read("", lambda: False)
        await anext(reading)
        for number in range(100):
            events.tell("made", {"number": number})
        assert b"event: dropped" in await anext(reading)
        assert [one async for one in reading] == []

    asyncio.run(read())


def test_a_reader_who_takes_nothing_is_dropped_and_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed, "PATIENCE_S", 0.05)

    async def read() -> None:
        events = Events()
        served = Feed(events)
        stuck = Reader.__new__(Reader)
        stuck.__init__(served, takes=False)  # type: ignore[misc]
        good = Reader(served)
        await good.until(b"retry")
        events.tell("made", {"number": 0})
        await good.until(b'"number":0')
        async with asyncio.timeout(30):
            await stuck.task
        assert served.readers == 1
        good.leaving.set()
        await good.task

    asyncio.run(read())
    assert "took nothing" in caplog.text


def test_readers_do_not_hold_up_the_end() -> None:
    async def read() -> None:
        served = Feed(Events())
        readers = [Reader(served) for _ in range(200)]
        await readers[-1].until(b"retry")
        served.close()
        async with asyncio.timeout(30):
            await asyncio.gather(*(reader.task for reader in readers))
        assert all(reader.ended for reader in readers)
        assert served.readers == 0

    asyncio.run(read())


def test_events_of_many_threads_get_numbers_without_holes() -> None:
    events = Events()
    threads = [
        threading.Thread(target=lambda: [events.tell("made", {}) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = events.since(0)
    assert found
    ids = [line for line in found[1].decode().splitlines() if line.startswith("id")]
    assert ids == [f"id: {events.name(number)}" for number in range(1, 801)]
