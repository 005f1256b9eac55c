"""What a seed of `make chaos` decides, and the proxy's faults one by one."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest

from tests.chaos.battle import Battle
from tests.chaos.places import PLACES, Place
from tests.chaos.proxy import Fault, Lot, Lots, proxy
from tests.chaos.schedule import BEFORE_THE_END, KILLS, ZOMBIES, Way, schedule
from tests.chaos.work import WORKS
from tests.queues import QueueUnderTest
from tests.workers import PATIENCE_S


def test_a_seed_says_what_is_done_and_when() -> None:
    assert schedule(7, 100, 125, 2.0) == schedule(7, 100, 125, 2.0)
    assert schedule(7, 100, 125, 2.0) != schedule(8, 100, 125, 2.0)


@pytest.mark.parametrize("kills", [1, 6, 100])
def test_a_schedule_has_all_kills_and_something_of_each_kind(kills: int) -> None:
    blows = schedule(3, kills, 20, 2.0)
    assert sum(blow.way in KILLS for blow in blows) == kills
    assert {Way.STOP, Way.FULL, Way.LATE, Way.CHILD, Way.RETRY} <= {blow.way for blow in blows}
    assert any(blow.way in ZOMBIES for blow in blows)
    assert [blow.commits for blow in blows] == sorted(blow.commits for blow in blows)
    assert all(blow.commits <= BEFORE_THE_END * 20 for blow in blows)


@pytest.mark.parametrize("kind", WORKS)
@pytest.mark.parametrize("kills", [1, 6, 100])
def test_every_input_is_enqueued_or_dropped_and_each_drop_has_its_file(kind: str, kills: int) -> None:
    work = WORKS[kind](7, kills)
    dropped = [one for file in work.dropped for one in file]
    assert sorted([*work.enqueued, *dropped]) == sorted(work.inputs)
    assert len(set(work.inputs)) == len(work.inputs)
    assert len(work.dropped) == sum(blow.way is Way.DROP for blow in schedule(7, kills, work.shards, 2.0))


def test_a_zombie_stands_still_for_longer_than_the_ttl() -> None:
    assert all(blow.lasts > 2.0 for blow in schedule(3, 100, 125, 2.0) if blow.way in ZOMBIES)


def test_who_is_caught_waits_for_others_only_while_the_work_is_not_done(tmp_path: Path) -> None:
    queue = QueueUnderTest(str(tmp_path))
    first, again = queue.shard("late"), queue.shard("late", generation=1)
    battle = Battle(Place(str(tmp_path)), [], WORKS["items"](7, 1), 2.0, workers=0)
    queue.commit(first)
    battle._look()
    assert battle._shard_with("late") == again.name
    queue.commit(again)
    battle._look()
    assert battle._shard_with("late") in (first.name, again.name)


class Gone:
    """A worker that said that all is done."""

    returncode = 1

    def poll(self) -> int:
        return self.returncode


def test_who_leaves_must_have_seen_done_what_was_there_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, gone = QueueUnderTest(str(tmp_path)), Gone()
    battle = Battle(Place(str(tmp_path)), [], WORKS["items"](7, 1), 2.0, workers=0)
    monkeypatch.setattr(battle, "_start", Gone)
    queue.commit(queue.shard("first"))
    early = battle._asked_for()
    queue.shard("brought later")
    for found, right in ((early, True), (battle._asked_for(), False)):
        battle._working = [gone]  # type: ignore[list-item]
        battle._expected[gone], battle._found[gone] = {1}, found  # type: ignore[index]
        battle._bury()
        assert battle._working != [gone], "another one goes on"
        assert (not battle.troubles) is right
    queue.commit(queue.shard("brought later"))
    battle._working, battle.troubles = [gone], []  # type: ignore[list-item]
    battle._bury()
    assert not battle._working
    assert not battle.troubles


def test_faults_are_drawn_in_the_seeds_order() -> None:
    seeds = (7, 7, 8)
    draws = [
        [lots.draw(0.0, writes=True) for _ in range(100)] for lots in (Lots(seed, 3.0) for seed in seeds)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_each_fault_gets_its_turn() -> None:
    lots = Lots(1, 1.0)
    assert {lots.draw(second * 10.0, writes=True).fault for second in range(20_000)} == {None, *Fault}
    assert set(lots.drawn) == set(Fault)


def test_while_the_store_is_away_nobody_is_served() -> None:
    lots = Lots(1, 3.0)
    while (lot := lots.draw(0.0, writes=True)).fault is not Fault.AWAY:
        pass
    assert {lots.draw(lot.seconds * 0.99, writes=True).fault for _ in range(50)} == {Fault.AWAY}
    lots.is_on = False
    assert lots.draw(lot.seconds * 0.99, writes=True).fault is None


def test_where_no_disk_can_be_mounted_the_place_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mount").write_text("#!/bin/sh\nexit 32\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with PLACES["directory"](tmp_path, Lots(1, 1.0)) as place:
        assert place.disk is None
        assert "the disk was never full" in place.note


class Rigged(Lots):
    """Every request has the same fate."""

    def __init__(self, fault: Fault | None) -> None:
        super().__init__(0, 0.0)
        self._fault = fault

    def draw(self, now: float, *, writes: bool) -> Lot:  # noqa: ARG002
        return Lot(self._fault, 0.05)


class Shelf(BaseHTTPRequestHandler):
    """A store that remembers what reached it."""

    protocol_version = "HTTP/1.1"
    puts: Queue[tuple[str, str, bytes]]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.puts.put((self.path, self.headers["Host"], body))
        self.send_response(201)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"done")

    def log_message(self, *_: object) -> None:
        """It is quiet."""


@pytest.fixture
def shelf() -> Iterator[tuple[int, Queue[tuple[str, str, bytes]]]]:
    puts: Queue[tuple[str, str, bytes]] = Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Shelf,), {"puts": puts}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1], puts
    server.shutdown()
    server.server_close()
    thread.join()


REACHES = {None: True, Fault.SLOW: True, Fault.LOST: True, Fault.DENIED: True, Fault.LATE: True}
STATUS = {None: 201, Fault.SLOW: 201, Fault.REFUSED: 503, Fault.DENIED: 500}


@pytest.mark.parametrize("fault", [None, *Fault])
def test_what_the_caller_and_what_the_store_hear(
    fault: Fault | None, shelf: tuple[int, Queue[tuple[str, str, bytes]]]
) -> None:
    port, puts = shelf
    with proxy(port, Rigged(fault)) as door:
        caller = http.client.HTTPConnection(door.url.removeprefix("http://"), timeout=PATIENCE_S)
        try:
            caller.request("PUT", "/a%20b?c=d", b"bytes", {"Host": "signed"})
            status = caller.getresponse().status
        except OSError:
            status = None
        caller.close()
        assert status == STATUS.get(fault)
        if REACHES.get(fault):
            assert puts.get(timeout=PATIENCE_S) == ("/a%20b?c=d", "signed", b"bytes")
    assert puts.empty()
