"""Every way of being told to stop: what is finished is written, the rest is handed back, exit 75."""

from __future__ import annotations

import http.server
import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.tasks.sayings import HASTE
from tests.workers import PATIENCE_S, ROOT, Worker, answers, eventually, finish, processes_of, run, worker
from worker.queue import layout
from worker.queue.claims import newest_claims
from worker.queue.store import open_store
from worker.stop import GRACE_S

ITEMS = [f"item {number:02d}" for number in range(36)]
SLEEPY = ("--task", "sleepy", "--set", "seconds=0.5")
"""much more work than is done before the stop; the rest is done in no time"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    code, said = run("enqueue", tmp_path / "queue", *SLEEPY, *ITEMS)
    assert code == 0, said
    return tmp_path / "queue"


def working(queue: Path, *options: object, **environment: str) -> Worker:
    """A worker that has begun to work, or that did not get so far before its time was up."""
    one = worker("run", queue, *options, env=environment)
    eventually(lambda: open_store(str(queue)).list(layout.CLAIMS) or one.poll() is not None)
    return one


def assert_handed_back(queue: Path, stopped: Worker, reason: str) -> None:
    code, said = finish(stopped)
    assert code == 75, said
    assert reason in said
    assert "Traceback" not in said
    assert "run the same command again" in said
    store = open_store(str(queue))
    done = {layout.shard_of(entry.name) for entry in store.list(layout.DONE)}
    claims = newest_claims(entry.name for entry in store.list(layout.CLAIMS))
    assert all(claim.released for shard, claim in claims.items() if shard not in done)
    eventually(lambda: not processes_of(stopped.mark))
    assert_the_rest_is_done(queue)


def assert_the_rest_is_done(queue: Path) -> None:
    code, said = run("run", queue, env={HASTE: "/"})
    assert code == 0, said
    assert sorted(answers(queue)) == ITEMS


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C"), (signal.SIGUSR1, "SIGUSR1")],
)
def test_a_signal_hands_the_work_back(queue: Path, number: signal.Signals, reason: str) -> None:
    one = working(queue)
    one.send_signal(number)
    assert_handed_back(queue, one, reason)


def test_a_signal_to_the_whole_group_as_a_terminal_and_a_scheduler_send_it_is_one_stop(queue: Path) -> None:
    one = working(queue)
    one.signal_all(signal.SIGTERM)
    assert_handed_back(queue, one, "SIGTERM")


def test_the_batch_in_hand_is_dropped_when_it_outlasts_the_time_left(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    run("enqueue", queue, "--task", "sleepy", "--set", "seconds=600", "long")
    one = working(queue, "--grace", "1s")
    one.send_signal(signal.SIGTERM)
    code, said = finish(one, timeout=GRACE_S - 1)
    assert code == 75, said
    assert open_store(str(queue)).list(layout.CLAIMS)[-1].name.endswith(".released")
    eventually(lambda: not processes_of(one.mark))


def test_a_second_ctrl_c_ends_at_once_and_still_hands_back(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    run("enqueue", queue, "--task", "sleepy", "--set", "seconds=600", "long")
    one = working(queue)
    one.send_signal(signal.SIGINT)
    eventually(lambda: "stopping" in one.said)
    one.send_signal(signal.SIGINT)
    code, said = finish(one, timeout=GRACE_S - 1)
    assert code == 75, said
    assert open_store(str(queue)).list(layout.CLAIMS)[-1].name.endswith(".released")
    eventually(lambda: not processes_of(one.mark))


def test_stop_after_ends_in_time_and_hands_back(queue: Path) -> None:
    assert_handed_back(queue, working(queue, "--stop-after", "2s"), "--stop-after")


def test_a_machine_paid_by_the_hour_stops_when_the_money_ends_and_answers_what_is_in_hand(
    queue: Path,
) -> None:
    """A dollar a second, of which sixty are kept for the end."""
    one = worker("run", queue, "--price-per-hour", "3600", "--budget", "68")
    assert_handed_back(queue, one, "--budget 68 USD")


def test_an_eviction_notice_of_the_cloud_hands_the_work_back(queue: Path) -> None:
    notice: dict[str, object] = {"DocumentIncarnation": 1, "Events": []}

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(notice).encode() if "scheduledevents" in self.path else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/metadata/scheduledevents"
        one = working(queue, WORKER_EVENTS_URL=url)
        notice |= {
            "DocumentIncarnation": 2,
            "Events": [{"EventId": "1", "EventType": "Preempt", "NotBefore": "", "Resources": ["vm"]}],
        }
        # an empty NotBefore means now: nothing is promised but that nothing is lost
        code, said = finish(one)
        server.shutdown()
    assert code == 75, said
    assert "Preempt" in said
    eventually(lambda: not processes_of(one.mark))
    assert_the_rest_is_done(queue)


def test_a_worker_that_is_pid_1_of_a_container_hears_sigterm(queue: Path) -> None:
    unshare = shutil.which("unshare")
    usable = (
        unshare
        and not subprocess.run(
            [unshare, "--pid", "--fork", "--mount-proc", "true"], check=False, capture_output=True
        ).returncode
    )
    if not usable:
        pytest.skip("no right to make a PID namespace here")
    # the shell is PID 1 of the namespace and becomes the worker: exec keeps the number
    script = 'exec "$0" -m worker run "$1"'
    namespace = subprocess.Popen(
        [str(unshare), "--pid", "--fork", "--mount-proc", "sh", "-c", script, sys.executable, str(queue)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "WORKER_TASKS": str(ROOT / "tests/tasks")},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        eventually(lambda: open_store(str(queue)).list(layout.CLAIMS))
        (inside,) = Path(f"/proc/{namespace.pid}/task/{namespace.pid}/children").read_text().split()
        subprocess.run(["kill", "-TERM", inside], check=True)
        _, said = namespace.communicate(timeout=PATIENCE_S)
    finally:
        namespace.kill()
    assert namespace.returncode == 75, said
    assert b"handed back" in said
    assert_the_rest_is_done(queue)


LAST_MOMENT = """
import builtins, os, signal, sys
from worker.__main__ import main

class Late:  # what is left in builtins goes last of all
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGINT):
        kill(me, number)

builtins.late = Late()
sys.argv = ["worker", "--version"]
main()
"""


def test_ctrl_c_while_python_takes_itself_down_costs_no_exit_code() -> None:
    one = subprocess.run(
        [sys.executable, "-c", LAST_MOMENT], cwd=ROOT, capture_output=True, timeout=PATIENCE_S
    )
    assert (one.returncode, one.stderr) == (0, b"")


EARLY = """
import os, signal, sys, types
from worker.__main__ import main

def command_line():
    try:
        os.kill(os.getpid(), signal.{signal})
        while True:
            signal.pause()
    except BaseException as error:
        {then}

sys.modules["worker.cli"] = types.SimpleNamespace(main=command_line)
main()
"""
WRAPPED = 'raise RuntimeError("an import turned it into another") from error'
TOLD = "sys.exit(1)"
SWALLOWED = """from worker.stop import StopListener
        with StopListener() as stop:
            sys.exit(stop.current is None)"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize(("then", "code"), [(WRAPPED, 75), (TOLD, 75), (SWALLOWED, 0)])
def test_a_stop_while_all_is_imported_is_not_lost(number: str, then: str, code: int) -> None:
    script = EARLY.format(signal=number, then=then)
    one = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=PATIENCE_S)
    assert (one.returncode, one.stderr) == (code, b"")
