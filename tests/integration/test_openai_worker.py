"""A worker whose model is somebody else's: what goes wrong there costs no item, and no key is told."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endpoint import Server, completion, hangs_up, limited, refuses, says, sends, serving
from tests.workers import Worker, answers, counts, eventually, finish, run, worker
from worker.items import Answer, Failure

KEY = "s3cr3tV4lu3plain"
ITEMS = [f"question {n}" for n in range(6)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def environment(server: Server, key: str = KEY) -> dict[str, str]:
    alone = {"AZURE_OPENAI_ENDPOINT": "", "NO_PROXY": "127.0.0.1", "WORKER_CONCURRENCY": "2"}
    return {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": key, **alone}


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    recipe = ("--task", "asking", "--engine", "openai", "--model", "gpt-test")
    code, said = run("enqueue", tmp_path / "queue", *recipe, *ITEMS, timeout=60)
    assert code == 0, said
    return tmp_path / "queue"


def working(queue: Path, server: Server, *options: str) -> Worker:
    return worker("run", queue, *options, env=environment(server))


def assert_all_are_answered(queue: Path, server: Server) -> None:
    server.turns.clear()
    code, said = finish(working(queue, server), timeout=60)
    assert code == 0, said
    told = {item: one.outcome for item, one in answers(queue).items()}
    assert told == {item: Answer({"said": f"re: {item}"}) for item in ITEMS}


def test_no_key_is_in_anything_that_is_written(queue: Path, server: Server, tmp_path: Path) -> None:
    echo = f"{KEY} is what you sent"
    server.turns = [
        refuses(400, echo),
        sends(200, completion(None, refusal=echo)),
        refuses(500, echo),
        says(echo),
        limited(1),
    ]
    out = tmp_path / "results"
    code, said = finish(working(queue, server, "--out", str(out)), timeout=60)
    assert code == 1, said
    kinds = [one.kind for one in answers(queue).values() if isinstance(one.outcome, Failure)]
    assert sorted(kinds) == ["refused", "rejected"]  # type: ignore[type-var]
    written = [file for place in (queue, out) for file in place.rglob("*") if file.is_file()]
    assert {"report.html", "final_results.json", "provenance.json"} <= {file.name for file in written}
    assert b"*** is what you sent" in b"".join(file.read_bytes() for file in written)
    assert [file for file in written if KEY.encode() in file.read_bytes()] == []
    assert KEY not in said


def test_a_wrong_key_stops_the_worker_and_fails_nothing(queue: Path, server: Server) -> None:
    server.small = refuses(401, f"Incorrect API key provided: {KEY}")
    code, said = finish(working(queue, server), timeout=60)
    assert code == 3
    (line,) = [line for line in said.splitlines() if "does not let us in" in line]
    assert "check OPENAI_BASE_URL, OPENAI_API_KEY" in line
    assert KEY not in said
    assert "done" not in counts(queue)
    server.small = None
    assert_all_are_answered(queue, server)


def test_a_key_that_is_taken_away_meanwhile_fails_nothing(queue: Path, server: Server) -> None:
    server.turns = [says(), says(), *[refuses(401, "revoked")] * 99]
    code, said = finish(working(queue, server), timeout=60)
    assert code == 3, said
    assert "does not let us in" in said
    assert [one for one in answers(queue).values() if isinstance(one.outcome, Failure)] == [], said
    assert_all_are_answered(queue, server)


def test_an_endpoint_that_answers_small_questions_alone_fails_nothing(queue: Path, server: Server) -> None:
    server.turns = [hangs_up] * 99
    code, said = finish(working(queue, server), timeout=60)
    assert code == 3, said
    assert "has answered none of the work yet" in said
    assert [one for one in answers(queue).values() if isinstance(one.outcome, Failure)] == [], said
    assert_all_are_answered(queue, server)


def test_a_stop_while_everybody_waits_takes_no_longer_than_its_grace(queue: Path, server: Server) -> None:
    server.turns = [limited(100)] * 99
    one = working(queue, server, "--grace", "25")
    eventually(lambda: server.asked, timeout=60)
    begun = time.monotonic()
    one.send_signal(signal.SIGTERM)
    code, said = finish(one)
    assert code == 75, said
    assert time.monotonic() - begun < 9
    assert "SIGTERM" in said
    assert "Traceback" not in said
    assert_all_are_answered(queue, server)


def test_a_budget_ends_the_work_and_all_is_handed_back(queue: Path, server: Server) -> None:
    prices = {"WORKER_PRICE_IN": "2", "WORKER_PRICE_OUT": "10", "WORKER_BUDGET": "0.016"}
    one = worker("run", queue, env=environment(server) | prices)
    code, said = finish(one, timeout=60)
    assert code == 75, said
    assert "--budget 0.016 USD: 0.0" in said
    answered = len(answers(queue))
    assert 0 < len(server.asked) < len(ITEMS)
    assert answered in (0, len(server.asked)), "a part, or nothing is done yet"
    asked = len(server.asked)
    code, said = finish(worker("run", queue, env=environment(server) | prices), timeout=60)
    assert code == 2, said
    assert "raise it to go on" in said
    assert len(server.asked) == asked
    assert_all_are_answered(queue, server)
    assert len(server.asked) == len(ITEMS), "nothing was paid for twice"


def test_a_budget_without_prices_is_refused(queue: Path, server: Server) -> None:
    code, said = finish(worker("run", queue, "--budget", "5", env=environment(server)), timeout=60)
    assert code == 2
    assert said.startswith("worker: --budget needs prices")
    assert not server.calls


def test_a_machine_is_paid_by_the_hour(queue: Path, server: Server) -> None:
    options = ("--budget", "5", "--price-per-hour", "270")
    prices = {"WORKER_PRICE_IN": "2", "WORKER_PRICE_OUT": "10"}
    server.turns = [says(after=4.0)] * 99
    code, said = finish(worker("run", queue, *options, env=environment(server) | prices), timeout=60)
    assert code == 75, said
    assert "--budget 5 USD" in said
    assert len(server.asked) < len(ITEMS)
    assert_all_are_answered(queue, server)
