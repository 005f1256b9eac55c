"""Every way of being told to stop becomes one StopSignal."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.workers import PATIENCE_S
from worker import evictions
from worker.errors import UsageError
from worker.evictions import AZURE_URL, events_url, watch_events
from worker.stop import StopListener, StopSignal


def hear(listener: StopListener, timeout: float = PATIENCE_S) -> StopSignal | None:
    """The next that it hears."""
    select.select([listener], [], [], timeout)
    listener.drain()
    return listener.current


@pytest.mark.parametrize(
    ("number", "reason", "time_left"),
    [(signal.SIGTERM, "SIGTERM", 25), (signal.SIGINT, "Ctrl-C", 25), (signal.SIGUSR1, "SIGUSR1", 55)],
)
def test_a_signal_is_a_stop(number: signal.Signals, reason: str, time_left: float) -> None:
    with StopListener() as listener:
        assert listener.current is None
        assert select.select([listener], [], [], 0) == ([], [], [])
        os.kill(os.getpid(), number)
        heard = hear(listener)
        assert heard == StopSignal(reason, time_left, noticed=heard.noticed) if heard else False
        assert select.select([listener], [], [], 0) == ([], [], [])


def test_the_grace_is_an_option() -> None:
    with StopListener(grace=7, warning=100) as listener:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert hear(listener).time_left == 100  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGTERM)
        assert hear(listener).time_left == 7  # type: ignore[union-attr]


def test_the_stop_that_leaves_the_least_time_counts() -> None:
    with StopListener() as listener:
        os.kill(os.getpid(), signal.SIGTERM)
        first = hear(listener)
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert hear(listener) is first


def test_a_second_ctrl_c_is_urgent() -> None:
    with StopListener(grace=0) as listener:
        os.kill(os.getpid(), signal.SIGINT)
        assert not hear(listener).urgent  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGINT)
        heard = hear(listener)
        assert heard
        assert (heard.reason, heard.time_left, heard.urgent) == ("Ctrl-C twice", 0, True)


def test_a_signal_wakes_a_select() -> None:
    with StopListener() as listener:
        sent: list[float] = []

        def send() -> None:
            sent.append(time.monotonic())
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # to a thread that is not the main one

        threading.Timer(0.1, send).start()
        heard = hear(listener)
        assert heard
        assert heard.noticed - sent[0] < PATIENCE_S / 2, "it was noticed when the select's time was up"


def test_a_storm_of_signals_neither_blocks_nor_fails() -> None:
    with StopListener() as listener:
        for _ in range(3000):
            os.kill(os.getpid(), signal.SIGTERM)
        heard = hear(listener)
        assert heard
        assert heard.reason == "SIGTERM"


def test_the_handlers_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with StopListener(stop_after=60):
        pass
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    assert signal.set_wakeup_fd(-1) == -1


def test_a_process_that_listens_outlives_the_signal() -> None:
    script = (
        "import select; from worker.stop import StopListener\n"
        "with StopListener() as listener:\n"
        "    print(flush=True); select.select([listener], [], []); print(listener.current.reason)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        assert process.stdout.read() == "SIGTERM\n"
    assert process.returncode == 0


def test_a_deadline_stops_early_enough_to_end_by_then() -> None:
    started = time.monotonic()
    with StopListener(stop_after=0.4, grace=0.3) as listener:
        heard = hear(listener)
        assert heard
        assert heard.reason == "--stop-after"
        assert heard.ends >= started + 0.4
        assert heard.time_left == pytest.approx(0.2)  # half is kept for work
    with StopListener(stop_after=0.4, grace=0.1) as listener:
        assert hear(listener).time_left == pytest.approx(0.1)  # type: ignore[union-attr]


class Metadata(ThreadingHTTPServer):
    """A stand-in for the cloud's metadata service."""

    daemon_threads = True
    body: bytes = b"{}"
    status = 200
    hang = False
    name: str | None = None
    date = "Mon, 19 Sep 2022 18:00:00 GMT"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked = threading.Semaphore(0)
        self.unhang = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A caller that gave up on us is part of the test."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/metadata/scheduledevents?api-version=2020-07-01"

    def announce(self, *events: dict[str, Any], incarnation: int = 1) -> None:
        self.body = json.dumps({"DocumentIncarnation": incarnation, "Events": list(events)}).encode()


class Answer(BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        named = "/instance/" in self.path
        body = (self.server.name or "").encode() if named else self.server.body
        status = 404 if named and self.server.name is None else self.server.status
        if self.headers["Metadata"] != "true":
            status = 400
        self.server.asked.release()
        if self.server.hang:
            self.server.unhang.wait(PATIENCE_S)
        self.send_response_only(status)
        self.send_header("Date", self.server.date)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.unhang.set()
        server.shutdown()


class Watched:
    """What a watch of the service tells."""

    def __init__(self, url: str) -> None:
        self.closed = threading.Event()
        self.told: list[tuple[str, float]] = []
        self._more = threading.Semaphore(0)
        watch_events(url, self._tell, self.closed, every=0.01)

    def _tell(self, reason: str, time_left: float) -> None:
        self.told.append((reason, time_left))
        self._more.release()

    def next(self) -> tuple[str, float]:
        assert self._more.acquire(timeout=PATIENCE_S)
        return self.told[-1]


@pytest.fixture
def watched(metadata: Metadata) -> Iterator[Watched]:
    watched = Watched(metadata.url)
    yield watched
    watched.closed.set()


def asked_again(metadata: Metadata, times: int = 3) -> None:
    for _ in range(times):
        assert metadata.asked.acquire(timeout=PATIENCE_S)


def test_a_preemption_is_a_stop(metadata: Metadata) -> None:
    metadata.announce(
        {"EventType": "Preempt", "NotBefore": "Mon, 19 Sep 2022 18:00:20 GMT", "Resources": ["a"]}
    )
    with StopListener(events_url=metadata.url) as listener:
        heard = hear(listener)
        assert heard
        assert heard.reason == "the cloud's notice: Preempt"
        assert heard.time_left == pytest.approx(20, abs=0.5)  # by the service's clock, not by ours


@pytest.mark.parametrize(
    ("event", "time_left"),
    [
        ({"EventType": "Terminate", "NotBefore": ""}, 0),
        ({"EventType": "Reboot", "NotBefore": "Mon, 19 Sep 2022 17:00:00 GMT"}, 0),
        ({"EventType": "Redeploy"}, 30),
        ({"EventType": "Preempt", "NotBefore": "soon"}, 30),
    ],
)
def test_a_notice_leaves_the_time_that_it_says(
    metadata: Metadata, watched: Watched, event: dict[str, Any], time_left: float
) -> None:
    metadata.announce(event)
    reason, left = watched.next()
    assert reason == f"the cloud's notice: {event['EventType']}"
    assert left == pytest.approx(time_left, abs=0.5)


def test_the_first_of_several_notices_counts(metadata: Metadata, watched: Watched) -> None:
    metadata.announce(
        {"EventType": "Reboot", "NotBefore": "Mon, 19 Sep 2022 18:00:50 GMT"},
        {"EventType": "Preempt", "NotBefore": "Mon, 19 Sep 2022 18:00:10 GMT"},
    )
    assert watched.next()[0].endswith("Preempt")


@pytest.mark.parametrize(
    "events",
    [
        [],
        [{"EventType": "Freeze", "NotBefore": ""}],
        [{"EventType": "Reboot", "NotBefore": "Mon, 19 Sep 2022 18:15:00 GMT"}],  # nobody need stop yet
    ],
)
def test_nothing_that_ends_us_soon_is_no_stop(
    metadata: Metadata, watched: Watched, events: list[dict[str, Any]]
) -> None:
    metadata.announce(*events)
    asked_again(metadata, 5)
    assert watched.told == []


def test_a_distant_notice_is_told_when_its_time_comes(
    metadata: Metadata, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evictions, "LEAD_S", 0.1)
    metadata.announce({"EventType": "Reboot", "NotBefore": "Mon, 19 Sep 2022 18:00:00 GMT"})
    metadata.date = "Mon, 19 Sep 2022 17:59:59 GMT"
    started = time.monotonic()
    assert watched.next()[1] <= 0.1
    assert time.monotonic() - started > 0.7


def test_only_notices_for_this_machine_count(metadata: Metadata) -> None:
    metadata.name = "Ours_1"
    metadata.announce({"EventType": "Preempt", "NotBefore": "", "Resources": ["theirs_1"]})
    watched = Watched(metadata.url)
    asked_again(metadata, 4)
    assert watched.told == []
    metadata.announce({"EventType": "Preempt", "NotBefore": "", "Resources": ["ours_1"]}, incarnation=2)
    assert watched.next()[1] == 0
    watched.closed.set()


def test_an_unchanged_document_is_told_once(metadata: Metadata, watched: Watched) -> None:
    metadata.announce({"EventType": "Preempt", "NotBefore": "Mon, 19 Sep 2022 18:00:20 GMT"})
    watched.next()
    asked_again(metadata, 10)
    assert len(watched.told) == 1
    metadata.announce({"EventType": "Preempt", "NotBefore": ""}, incarnation=2)
    assert watched.next()[1] == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"{}"), (500, b""), (200, b"\xff<html>"), (200, b"[]"), (200, b'{"Events": 3}')],
)
def test_a_service_that_talks_nonsense_is_asked_again_quietly(
    metadata: Metadata, watched: Watched, capfd: pytest.CaptureFixture[str], status: int, body: bytes
) -> None:
    metadata.status, metadata.body = status, body
    asked_again(metadata)
    assert watched.told == []
    metadata.status = 200
    metadata.announce({"EventType": "Preempt", "NotBefore": ""})
    assert watched.next()
    assert capfd.readouterr() == ("", "")


def test_a_service_that_hangs_is_given_up(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evictions, "TIMEOUT_S", 0.1)
    metadata.hang = True
    watched = Watched(metadata.url)
    asked_again(metadata)
    assert watched.told == []
    watched.closed.set()


def test_an_absent_service_is_asked_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    class Closed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            if len(pauses) == 9:
                self.set()
            return self.is_set()

    def away(_: str) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(evictions, "_get", away)
    evictions._watch("http://127.0.0.1:1", lambda *_: pytest.fail("told"), Closed(), 1.0)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_proxies_are_not_asked(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    metadata.announce({"EventType": "Preempt", "NotBefore": ""})
    watched = Watched(metadata.url)
    assert watched.next()
    watched.closed.set()


def test_the_service_is_asked_only_where_there_may_be_one() -> None:
    assert events_url({}) is None
    assert events_url({"AZUREML_RUN_ID": "x"}) == AZURE_URL
    assert events_url({"AZUREML_RUN_ID": "x", "WORKER_EVENTS_URL": "off"}) is None
    assert events_url({"WORKER_EVENTS_URL": "http://here/"}) == "http://here/"
    with pytest.raises(UsageError, match="must begin with http"):
        events_url({"WORKER_EVENTS_URL": "file:///etc/passwd"})
