"""Several workers on one machine: who gets what, and how they end together."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import urllib.request
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from tests.servers import free_port
from tests.workers import PATIENCE_S
from worker.cli import logs
from worker.crew import Crew, divide, together
from worker.errors import MachineError, UsageError
from worker.hardware.cards import Card
from worker.link import Alive
from worker.metrics import refuse_taken, served
from worker.parent import Ending
from worker.settings import Settings
from worker.standing import Standing
from worker.stop import Ear, StopListener

WELL, STOPPED, ILL, WRONG = Ending(0), Ending(75, "SIGTERM"), Ending(3, "its card is ill"), Ending(2, "wrong")


class Fake:
    """A member that ends as its number says, or when it hears a stop."""

    def __init__(self, ear: Ear, ending: Ending | Exception | None) -> None:
        self._ear = ear
        self._ending = ending
        self.standing = Standing("cpu")
        self.thread: threading.Thread | None = None

    def run(self) -> Ending:
        self.thread = threading.current_thread()
        if isinstance(self._ending, Exception):
            raise self._ending
        if self._ending is None:
            assert wait([self._ear.fileno()], PATIENCE_S), "nobody rang"
            self._ear.drain()
            stop = self._ear.current
            assert stop
            return Ending(75, stop.reason)
        return self._ending


def crew_of(stop: Ear, *endings: Ending | Exception | None) -> tuple[Crew, list[Fake]]:
    members: list[Fake] = []
    left = list(endings)

    def recruit(_share: Settings, ear: Ear, _show: Callable[[Alive], None], _name: str) -> Fake:
        members.append(Fake(ear, left.pop(0)))
        return members[-1]

    shares = [Settings("queue", device_name=f"cuda:{number}") for number in range(len(endings))]
    return Crew(shares, stop, lambda _: None, recruit), members


def test_cards_go_round_and_the_first_draws_the_views() -> None:
    cards = [Card("cuda", name, {"CUDA_VISIBLE_DEVICES": name}) for name in "47"]
    settings = Settings("queue", out=Path("out"), environment={"WORKER_MODEL": "here"})
    shares = divide(settings, 3, cards)
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4", "7", "4"]
    assert {share.environment["WORKER_MODEL"] for share in shares} == {"here"}
    assert [share.device_name for share in shares] == ["cuda:4", "cuda:7", "cuda:4"]
    assert [share.out for share in shares] == [Path("out"), None, None]


def test_one_signal_stops_all_of_them() -> None:
    with StopListener() as stop:
        crew, members = crew_of(stop, None, None, None)
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
        assert crew.run() == [Ending(75, "SIGTERM")] * 3
    assert len({member.thread for member in members}) == 3


def test_a_stop_that_came_before_the_crew_stops_it() -> None:
    with StopListener() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        crew, _ = crew_of(stop, None, None)
        assert crew.run() == [Ending(75, "Ctrl-C")] * 2


def test_a_member_that_is_ill_is_told_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    with StopListener() as stop, caplog.at_level(logging.WARNING):
        crew, _ = crew_of(stop, WELL, MachineError("its card is ill"), ValueError("a fault of ours"))
        assert [ending.code for ending in crew.run()] == [0, 3, 2]
    told = [record.getMessage() for record in caplog.records]
    assert "worker 2 of 3 (cuda:1) ends for good: its card is ill" in told


@pytest.mark.parametrize(
    ("endings", "code", "text"),
    [
        ([WELL, WELL], 0, ""),
        ([WELL, ILL], 0, "its card is ill"),
        ([STOPPED, WELL, ILL], 75, "SIGTERM"),
        ([ILL, ILL], 3, "its card is ill"),
        ([WRONG, ILL], 3, "its card is ill"),
        ([WRONG], 2, "wrong"),
    ],
)
def test_the_crew_ends_as_its_well_members_do(endings: list[Ending], code: int, text: str) -> None:
    ending = together(endings)
    assert (ending.code, ending.text) == (code, text)


def test_a_death_takes_no_count_back() -> None:
    working = Standing("cpu").with_("w1", {"answered": 5, "failed": 1}, 2.0)
    assert (working.worker, working.answered, working.failed, working.silence_s) == ("w1", 5, 1, 2.0)
    dead = Standing("cpu").after({"answered": 5, "failed": 1}, died=True)
    assert (dead.worker, dead.answered, dead.deaths) == ("", 5, 1)
    assert dead.with_("w2", {"answered": 2}, 0.0).answered == 7


def test_prometheus_is_told_of_every_member() -> None:
    info = {
        "answered": 5,
        "failed": 1,
        "rate_per_s": 2.5,
        "waited_share": 0.25,
        "shards": 8,
        "shards_done": 3,
    }
    members = [Standing("cuda:0").with_("abcdef0123456789", info, 1.5), Standing("cuda:1", deaths=2)]
    port = free_port()
    with served(port, lambda: members):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            lines = reply.read().decode().splitlines()
        taken = pytest.raises(UsageError, match=f"--metrics {port}: another program listens there")
        with taken, served(port, list):
            pass
    assert 'worker_items_answered_total{device="cuda:0",member="1"} 5.0' in lines
    assert 'worker_items_failed_total{device="cuda:0",member="1"} 1.0' in lines
    assert 'worker_items_per_second{device="cuda:0",member="1"} 2.5' in lines
    assert 'worker_device_wait_share{device="cuda:0",member="1"} 0.25' in lines
    assert 'worker_beat_age_seconds{device="cuda:0",member="1"} 1.5' in lines
    assert 'worker_up{device="cuda:0",member="1",worker="abcdef01"} 1.0' in lines
    assert 'worker_up{device="cuda:1",member="2",worker=""} 0.0' in lines
    assert 'worker_deaths_total{device="cuda:1",member="2"} 2.0' in lines
    assert "worker_shards 8.0" in lines
    assert "worker_shards_done 3.0" in lines
    with served(port, list):
        pass  # the port is free again


def test_a_taken_port_is_told_before_anything_is_enqueued() -> None:
    port = free_port()
    refuse_taken(port)
    taken = pytest.raises(UsageError, match=f"--metrics {port}: another program listens there")
    with served(port, list), taken:
        refuse_taken(port)
    refuse_taken(port)


def test_several_members_sign_their_log_lines_and_one_alone_does_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert [share.member for share in divide(Settings("queue"), 2)] == [1, 2]
    assert [share.member for share in divide(Settings("queue"), 1)] == [0]
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        for form, member in (("text", 2), ("text", 0), ("json", 2), ("json", 0)):
            logs.set_up(form, debug=False, member=member)
            logging.getLogger("worker").warning("slow")
    finally:
        root.handlers[:], root.level = before
    signed, plain, *records = capfd.readouterr().err.splitlines()
    assert signed.endswith("WARNING worker 2: slow")
    assert plain.endswith("WARNING slow")
    assert [json.loads(record).get("member") for record in records] == [2, None]
