"""The engine against a server that misbehaves on purpose."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tenacity import wait_random_exponential

from tests import endpoint as server_says
from tests.endpoint import Server, completion, limited, refuses, says, sends, serving, takes
from worker.engines import calls, waiting
from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request
from worker.engines.openai import OpenAi
from worker.errors import EndpointAwayError, MachineError, UnfinishedError, UsageError, WorkerError
from worker.items import UNANSWERED, Failure
from worker.media.rgb import Rgb
from worker.purse import Purse
from worker.queue import layout
from worker.queue.beat import Beat
from worker.queue.store import open_store

KEY = "s3cr3tV4lu3plain"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}

Start = Callable[..., OpenAi]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def start(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """An engine that is open, and learns all it knows of this server."""
    begun: list[OpenAi] = []
    for name in ("AZURE_OPENAI_ENDPOINT", "WORKER_PRICE_IN", "WORKER_PRICE_OUT", "WORKER_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def start(patience: float = 20.0, purse: Purse | None = None, **environment: str) -> OpenAi:
        monkeypatch.setattr(waiting, "PATIENCE_S", patience)
        monkeypatch.setattr(calls, "BACKOFF", wait_random_exponential(0.2, max=1.0))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        engine = OpenAi(Choice("openai", "gpt-test"))
        engine.purse = purse
        begun.append(engine)
        engine.open("cpu")
        return engine

    yield start
    server.over.set()
    for engine in begun:
        engine.close()


def picture(seed: int) -> Rgb:
    """Smooth, as films are."""
    rows, columns = np.mgrid[0:90, 0:160]
    waves = [np.sin((rows * (n + 1) + columns) / 40 + seed) for n in range(3)]
    return np.stack([127 + 100 * wave for wave in waves], 2).astype(np.uint8)


def request(prompt: str = "who?", frames: int = 1, schema: object = SCHEMA) -> Request:
    return Request([picture(n) for n in range(frames)], [n * 0.62 for n in range(frames)], prompt, schema, 77)


def requests(count: int) -> list[Request]:
    return [request(f"q{n}") for n in range(count)]


# what is sent


def test_frames_arrive_in_order_each_behind_its_time(start: Start, server: Server) -> None:
    asked = request(frames=32)
    assert start().answer([asked]) == [Reply("re: who?", 10)]
    (call,) = server.asked
    assert call.path == "/v1/chat/completions"
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    assert call.body["model"] == "gpt-test"
    assert call.body["temperature"] == 0
    assert call.body["max_tokens"] == 77
    assert call.body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert call.times == [f"{time:.1f} s" for time in asked.times]
    assert all(jpeg[:2] == b"\xff\xd8" and jpeg[-2:] == b"\xff\xd9" for jpeg in call.jpegs)
    for sent, came in zip(asked.frames, call.frames, strict=True):
        assert came.shape == sent.shape
        assert np.abs(came.astype(int) - sent).mean() < 2
    far = np.abs(call.frames[0].astype(int) - asked.frames[9]).mean()
    assert far > 10, "another frame would have been noticed"


def test_azure_is_asked_in_its_own_way(start: Start, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    root = server.url.removesuffix("/v1")
    engine = start(
        AZURE_OPENAI_ENDPOINT=root, AZURE_OPENAI_API_KEY=KEY, AZURE_OPENAI_API_VERSION="2099-01-01"
    )
    engine.answer([request()])
    (call,) = server.asked
    assert call.path == "/openai/deployments/gpt-test/chat/completions?api-version=2099-01-01"
    assert call.headers["api-key"] == KEY
    assert "Authorization" not in call.headers


def test_answers_stand_in_the_order_of_the_questions(start: Start, server: Server) -> None:
    server.turns = [says(after=0.3), says(after=0.2), says(after=0.1)]
    replies = start(WORKER_CONCURRENCY="5").answer(requests(5))
    assert replies == [Reply(f"re: q{n}", 10) for n in range(5)]


def test_no_more_than_so_many_are_asked_at_once(start: Start, server: Server) -> None:
    server.turns = [says(after=0.1) for _ in range(9)]
    engine = start(WORKER_CONCURRENCY="3")
    assert engine.at_once == 3
    engine.answer(requests(9))
    assert server.most_busy == 3


# how it wants to be asked


@pytest.mark.parametrize(
    ("turn", "answers_as", "first"),
    [
        (takes(schema=False), "json_object", 2),
        (takes(form=False), "text", 3),
        (takes(limit="max_completion_tokens", temperature=False), "json_schema", 3),
        (takes(form=False, limit="max_completion_tokens", temperature=False), "text", 5),
    ],
)
def test_what_an_endpoint_takes_is_found_out_once(
    start: Start, server: Server, turn: server_says.Turn, answers_as: str, first: int
) -> None:
    server.small = turn
    server.turns = [turn] * 9
    engine = start()
    assert len(server.calls) == first
    for reply in engine.answer(requests(3)):
        assert isinstance(reply, Reply)
    assert len(server.asked) == 3, "nobody had to be refused again"
    assert engine.spent()["answers_as"] == answers_as
    assert ("JSON schema" in server.asked[0].prompt) == (answers_as != "json_schema")


def test_a_schema_that_is_refused_later_is_told_in_words(start: Start, server: Server) -> None:
    refusal = refuses(400, "Invalid schema for response_format 'answer': 'required' is missing")
    server.turns = [refusal]
    engine = start()
    assert isinstance(engine.answer([request()])[0], Reply)
    assert server.asked[-1].body["response_format"] == {"type": "json_object"}
    assert engine.spent()["answers_as"] == "json_object"


# one question's own fault


@pytest.mark.parametrize(
    ("turn", "failure"),
    [
        (refuses(400, "At most 16 image(s) may be provided"), ("rejected", "At most 16 image(s)")),
        (
            sends(413, "<html><h1>Request too large</h1></html>", "text/html"),
            ("rejected", "Request too large"),
        ),
        (refuses(400, "filtered", code="content_filter"), ("refused", "filtered")),
        (sends(200, completion(None, refusal="I'm sorry")), ("refused", "I'm sorry")),
        (sends(200, completion("He is", finish="content_filter")), ("refused", "He is")),
    ],
)
def test_one_questions_failure_is_no_others(
    start: Start, server: Server, turn: server_says.Turn, failure: tuple[str, str]
) -> None:
    engine = start(WORKER_CONCURRENCY="1")
    server.turns = [says(), turn]
    first, second, third = engine.answer(requests(3))
    assert isinstance(first, Reply)
    assert isinstance(third, Reply)
    assert isinstance(second, Failure)
    assert (second.kind, failure[1] in second.message) == (failure[0], True)
    assert len(server.asked) == 3, "it was not asked again"


def test_an_answer_that_met_the_limit_says_so(start: Start, server: Server) -> None:
    server.turns = [sends(200, completion('{"a": "unfin', finish="length"))]
    assert start().answer([request()]) == [Reply('{"a": "unfin', 10, truncated=True)]


@pytest.mark.parametrize(
    ("turn", "perhaps_paid"), [(refuses(500, "CUDA out of memory"), 0), (server_says.hangs_up, 2)]
)
def test_who_always_fails_while_others_do_not_fails_alone(
    start: Start, server: Server, turn: server_says.Turn, perhaps_paid: int
) -> None:
    engine = start(WORKER_CONCURRENCY="1")
    server.turns = [says(), *[turn] * (2 if perhaps_paid else calls.TRIES)]
    first, failure, reply = engine.answer(requests(3))
    assert isinstance(failure, Failure)
    assert failure.kind == "no-answer"
    assert "a small question was answered meanwhile" in failure.message
    assert (first, reply) == (Reply("re: q0", 10), Reply("re: q2", 10))
    assert engine.spent()["perhaps_paid"] == perhaps_paid
    assert sum(call.is_small for call in server.calls) == 2, "nobody else was there to tell whose fault it is"


def test_many_in_doubt_ask_the_small_question_once(start: Start, server: Server) -> None:
    engine = start(WORKER_CONCURRENCY="4")
    server.turns = [says()]
    engine.answer([request()])
    server.turns = [refuses(500, "CUDA out of memory")] * 4 * calls.TRIES
    server.small = says('{"gray": true}', after=2.0)
    failures = engine.answer(requests(4))
    assert [one.kind for one in failures if isinstance(one, Failure)] == ["no-answer"] * 4
    assert len(server.asked) == 1 + 4 * calls.TRIES
    assert sum(call.is_small for call in server.calls) <= 3


def test_who_answers_small_questions_alone_is_ill(start: Start, server: Server) -> None:
    engine = start(WORKER_CONCURRENCY="4")
    server.turns = [refuses(500, "CUDA out of memory")] * 4 * calls.TRIES
    failures = engine.answer(requests(4))
    assert all(isinstance(one, Failure) and one.blames_machine for one in failures)
    assert "has answered none of the work yet" in str(failures[0])


def test_others_are_others_that_were_asked_as_well(start: Start, server: Server) -> None:
    engine = start(WORKER_CONCURRENCY="2")

    def first_alone_fails(call: server_says.Call, handler: server_says.Handler) -> None:
        turn = refuses(500, "oops") if call.prompt == "q0" else says(after=0.5)
        turn(call, handler)

    server.turns = [first_alone_fails] * 99
    failure, *replies = engine.answer(requests(4))
    assert isinstance(failure, Failure)
    assert failure.kind == "no-answer"
    assert "others were answered meanwhile" in failure.message
    assert replies == [Reply(f"re: q{n}", 10) for n in (1, 2, 3)]


# what passes


@pytest.mark.parametrize(
    ("turn", "perhaps_paid"),
    [
        (refuses(500, "oops"), 0),
        (sends(502, "<html>Bad gateway</html>", "text/html"), 0),
        (sends(504, ""), 1),
        (server_says.cuts, 1),
        (server_says.hangs_up, 1),
        (sends(200, completion()[:60]), 1),
        (sends(200, b""), 1),
        (sends(200, "<html>log in</html>", "text/html"), 1),
        (sends(200, '{"error": {"message": "upstream"}}'), 1),
        (sends(200, b"\x1f\x8bno gzip", Content_Encoding="gzip"), 1),
    ],
)
def test_a_passing_trouble_costs_a_second_call(
    start: Start, server: Server, turn: server_says.Turn, perhaps_paid: int
) -> None:
    engine = start()
    server.turns = [turn]
    assert engine.answer([request()]) == [Reply("re: who?", 10)]
    spent = engine.spent()
    assert (spent["calls"], spent["retries"], spent["perhaps_paid"]) == (3, 1, perhaps_paid)


@pytest.mark.parametrize("turn", [server_says.hangs, server_says.drips])
def test_a_call_that_takes_too_long_is_counted_as_perhaps_paid(
    start: Start, server: Server, turn: server_says.Turn
) -> None:
    engine = start(WORKER_CALL_LIMIT="1")
    server.turns = [turn]
    begun = time.monotonic()
    assert engine.answer([request()]) == [Reply("re: who?", 10)]
    assert 1 <= time.monotonic() - begun < 8
    assert engine.spent()["perhaps_paid"] == 1


@pytest.mark.parametrize(
    "turn",
    [
        sends(200, completion("yes"), "text/plain"),
        sends(200, completion("no")[:-1] + ', "choices": [{"message": {"content": "yes"}}]}'),
    ],
    ids=["wrong content type", "keys that stand twice"],
)
def test_an_odd_answer_is_an_answer(start: Start, server: Server, turn: server_says.Turn) -> None:
    server.turns = [turn]
    assert start().answer([request()]) == [Reply("yes", 10)]
    assert len(server.asked) == 1


# rate limits


@pytest.mark.parametrize("turn", [limited(2), limited(3, as_date=True), limited(2, status=503)])
def test_one_who_must_wait_makes_all_wait(start: Start, server: Server, turn: server_says.Turn) -> None:
    engine = start(WORKER_CONCURRENCY="2")
    server.turns = [turn, says(after=0.5)]
    replies = engine.answer(requests(6))
    assert all(isinstance(reply, Reply) for reply in replies)
    told, under_way, *later = server.asked
    assert len(later) == 5
    assert min(call.at for call in later) - min(told.at, under_way.at) >= 1.9
    spent = engine.spent()
    assert spent["waited_s"] >= 1.9
    assert (spent["calls"], spent["perhaps_paid"]) == (8, 0)


def test_what_is_used_up_is_not_asked_for(start: Start, server: Server) -> None:
    used_up = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1s500ms"}
    server.turns = [sends(200, completion("first"), **used_up)]
    engine = start(WORKER_CONCURRENCY="1")
    assert len(engine.answer(requests(2))) == 2
    first, second = server.asked
    assert second.at - first.at >= 1.5
    assert engine.spent()["retries"] == 0


def test_too_many_without_a_word_of_when_is_tried_again_soon(start: Start, server: Server) -> None:
    server.turns = [refuses(429, "slow down")] * 2
    assert start().answer([request()]) == [Reply("re: who?", 10)]
    assert len(server.asked) == 3


def test_no_wait_is_longer_than_patience(start: Start, server: Server) -> None:
    engine = start(patience=5.0)
    server.turns = [limited(3600)]
    begun = time.monotonic()
    with pytest.raises(EndpointAwayError, match=r"wait for 3600 s.*nothing is lost"):
        engine.answer([request()])
    assert time.monotonic() - begun < 3


# the machine's fault


@pytest.mark.parametrize(
    ("turn", "line"),
    [
        (refuses(401, f"Incorrect API key provided: {KEY}"), "does not let us in.*check OPENAI_BASE_URL"),
        (sends(403, ""), "does not let us in"),
        (sends(200, "<h1>log in</h1>", "text/html"), "is no OpenAI endpoint.*log in.*check OPENAI_BASE_URL"),
        (sends(200, "it works", "text/plain"), "is no OpenAI endpoint"),
        (refuses(404, "The model `gpt-test` does not exist"), "knows no model gpt-test.*check --model"),
        (sends(404, "<h1>Not Found</h1>", "text/html"), "is not there.*Not Found"),
        (sends(301, "", Location="https://elsewhere/"), "is not there"),
        (refuses(429, "You exceeded your quota", code="insufficient_quota"), "wants to be paid"),
        (refuses(400, "gpt-test is not a multimodal model"), "does not take even a small picture"),
    ],
)
def test_a_wrong_key_or_model_is_told_before_the_first_item(
    start: Start, server: Server, turn: server_says.Turn, line: str
) -> None:
    server.small = turn
    with pytest.raises(MachineError, match=line) as error:
        start()
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.calls) == 1


def test_what_was_paid_for_is_kept_when_the_key_is_taken_away(start: Start, server: Server) -> None:
    denied = refuses(401, "revoked")
    engine = start(WORKER_CONCURRENCY="1")
    server.turns = [says(), says(), denied]
    first, second, third, fourth = engine.answer(requests(4))
    assert (first, second) == (Reply("re: q0", 10), Reply("re: q1", 10))
    assert isinstance(third, Failure)
    assert third.blames_machine
    assert fourth == third
    with pytest.raises(MachineError, match="does not let us in"):
        engine.answer([request()])
    assert len(server.asked) == 3, "nothing more is asked"


def test_an_endpoint_that_is_away_is_waited_for_and_then_work_is_handed_back(
    start: Start, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    engine = start(patience=3.0)
    server.small = refuses(503, "loading")
    server.turns = [refuses(503, "loading")] * 99
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(EndpointAwayError, match="loading") as error:
        engine.answer(requests(2))
    assert 3 <= time.monotonic() - begun < 15
    assert isinstance(error.value, UnfinishedError)
    assert "trying again for up to 3 s" in caplog.text
    asked = len(server.asked)
    with pytest.raises(EndpointAwayError):
        engine.answer([request()])
    assert len(server.asked) == asked + 1, "who was away so long is not waited for as long again"
    server.turns.clear()
    assert engine.answer([request()]) == [Reply("re: who?", 10)], "it is back"


def test_nobody_at_the_address(start: Start) -> None:
    with pytest.raises(EndpointAwayError, match="no connection"):
        start(patience=1.0, OPENAI_BASE_URL="http://127.0.0.1:9/v1")


def test_an_endpoint_that_comes_up_late_is_waited_for(start: Start, server: Server) -> None:
    begun = time.monotonic()

    def loading(call: server_says.Call, handler: server_says.Handler) -> None:
        turn = says('{"gray": true}') if time.monotonic() - begun > 1 else refuses(503, "loading")
        turn(call, handler)

    server.small = loading
    assert start().answer([request()]) == [Reply("re: who?", 10)]


# stopping


def test_a_stop_ends_the_waiting_and_keeps_what_is_paid_for(start: Start, server: Server) -> None:
    engine = start(patience=120.0, WORKER_CONCURRENCY="2")
    server.turns = [says(after=1.0), limited(100)]
    timer = threading.Timer(0.5, engine.stop)
    timer.start()
    begun = time.monotonic()
    paid, *rest = sorted(engine.answer(requests(4)), key=lambda one: isinstance(one, Failure))
    assert time.monotonic() - begun < 5
    assert isinstance(paid, Reply)
    assert rest == [UNANSWERED] * 3
    assert len(server.asked) == 2
    assert engine.answer([request()]) == [UNANSWERED]


def test_threads_may_ask_beside_each_other(start: Start, server: Server) -> None:
    server.turns = [says(after=0.3) for _ in range(4)]
    engine = start(WORKER_CONCURRENCY="4")
    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda n: engine.answer([request(f"q{n}")]), range(4)))
    assert told == [[Reply(f"re: q{n}", 10)] for n in range(4)]
    assert server.most_busy == 4


# what it cost


def test_tokens_and_their_price_are_summed(start: Start, server: Server) -> None:
    engine = start(WORKER_PRICE_IN="2", WORKER_PRICE_OUT="8")
    server.turns = [sends(200, '{"choices": [{"message": {"content": "free"}}]}')]
    assert engine.answer(requests(4))
    spent = engine.spent()
    assert spent["calls"] == 5
    assert spent["unmetered"] == 1
    assert (spent["prompt_tokens"], spent["generated_tokens"]) == (4000, 40)
    assert spent["cost_usd"] == pytest.approx((4000 * 2 + 40 * 8) / 1e6)
    assert spent["endpoint"] == f"{server.url}/chat/completions"
    assert OpenAi(Choice("openai", "m")).spent() == {}


# secrets


def test_no_key_is_repeated(
    start: Start, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("//", "//me:pa55word-of-some-length@"))
    said = f"you sent {KEY} as me:pa55word-of-some-length"
    with caplog.at_level(logging.DEBUG):
        engine = start(WORKER_CONCURRENCY="1", patience=2.0)
        server.turns = [
            sends(200, completion(said)),
            sends(200, completion(None, refusal=said)),
            sends(200, completion(said, finish="content_filter")),
            refuses(400, said),
            refuses(500, said),
            says("fine"),
        ]
        told = [*engine.answer(requests(5)), engine.spent()]
        server.turns = [refuses(500, said)] * 99
        server.small = refuses(500, said)
        with pytest.raises(WorkerError) as away:
            engine.answer([request()])
        server.turns = [refuses(401, said)]
        with pytest.raises(WorkerError) as denied:
            engine.answer([request()])
    everything = f"{told} {away.value} {denied.value} {caplog.text}"
    assert "you sent *** as" in everything
    assert KEY not in everything
    assert "pa55word-of-some-length" not in everything


# a budget


def with_purse(start: Start, budget: float, *, others: float = 0.0) -> tuple[OpenAi, Purse]:
    """A question costs 0.0021 USD in truth, and its answer may cost up to 77 tokens."""
    store = open_store("memory://budget")
    info = {"paid_usd": others}
    store.put(layout.worker("other"), Beat("other", 1, 60.0, info=info).encode())
    purse = Purse(store, "mine", budget=budget, per_hour=None)
    purse.look()
    engine = start(purse=purse, WORKER_PRICE_IN="2", WORKER_PRICE_OUT="10", WORKER_CONCURRENCY="4")
    return engine, purse


def test_no_question_is_asked_that_could_exceed_the_budget(start: Start, server: Server) -> None:
    engine, purse = with_purse(start, 0.05)
    server.turns = [says(after=0.05) for _ in range(99)]
    outcomes = engine.answer(requests(99))
    replies = [one for one in outcomes if isinstance(one, Reply)]
    assert [one for one in outcomes if one not in replies] == [UNANSWERED] * (99 - len(replies))
    cost = engine.spent()["cost_usd"]
    assert cost == pytest.approx(len(server.calls) * 0.0021)
    assert 0.04 < cost <= 0.05
    assert purse.of_calls == pytest.approx(cost)
    with pytest.raises(UnfinishedError, match=r"--budget 0.05 USD: 0.0\d+ are spent, and the next question"):
        engine.answer([request()])


def test_what_others_spent_counts(start: Start, server: Server) -> None:
    with pytest.raises(UsageError, match=r"--budget 5 USD: 4.999 are spent"):
        with_purse(start, 5.0, others=4.999)
    assert not server.calls


def test_a_call_whose_answer_was_lost_counts_as_paid(start: Start, server: Server) -> None:
    engine, purse = with_purse(start, 5.0)
    server.turns = [server_says.hangs_up]
    assert isinstance(engine.answer([request()])[0], Reply)
    perhaps = engine.spent()["perhaps_usd"]
    assert perhaps > 0.0021
    assert purse.of_calls == pytest.approx(2 * 0.0021 + perhaps)


def test_a_budget_needs_prices(start: Start, server: Server) -> None:
    purse = Purse(open_store("memory://budget"), "mine", budget=5.0, per_hour=1.0)
    with pytest.raises(UsageError, match="WORKER_PRICE_IN"):
        start(purse=purse)
    assert not server.calls
