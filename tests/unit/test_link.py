"""The pipe between a worker's two processes."""

from __future__ import annotations

import threading
from multiprocessing import Pipe

from tests.fakes import HandClock
from tests.workers import PATIENCE_S
from worker.link import BeatNow, Heard, Line, RemoteLife, Say


def test_the_loop_waits_for_a_beat_that_was_acknowledged_after_it_asked() -> None:
    ours, theirs = Pipe()
    clock = HandClock()
    life = RemoteLife("a", 5.0, clock, Line(ours))  # type: ignore[arg-type]

    def parent() -> None:
        assert isinstance(theirs.recv(), Say)
        asked = theirs.recv()
        assert isinstance(asked, BeatNow)
        life.hear(Heard(clock.now(), 0, asked.token - 1))  # a beat of before
        heard_too_early.append(waiting.is_alive())
        life.hear(Heard(clock.now(), 0, asked.token))

    answers: list[bool] = []
    heard_too_early: list[bool] = []
    life.say(frozenset({("s", 1)}), ())
    waiting = threading.Thread(target=lambda: answers.append(life.beat_now()))
    waiting.start()
    parent()
    waiting.join(PATIENCE_S)
    assert answers == [True]
    assert heard_too_early == [True]


def test_without_an_acknowledged_beat_the_answer_is_no() -> None:
    ours, _theirs = Pipe()
    assert not RemoteLife("a", 0.05, HandClock(), Line(ours)).beat_now()  # type: ignore[arg-type]


def test_a_stop_ends_the_waiting() -> None:
    ours, _theirs = Pipe()
    life = RemoteLife("a", 3600.0, HandClock(), Line(ours))  # type: ignore[arg-type]
    life.close()
    assert not life.beat_now()


def test_a_silence_longer_than_the_ttl_is_a_gap_while_it_lasts_and_afterwards() -> None:
    ours, _theirs = Pipe()
    clock = HandClock()
    life = RemoteLife("a", 60.0, clock, Line(ours))  # type: ignore[arg-type]
    assert life.gaps == 0
    clock.sleep(61)
    assert life.gaps == 1
    life.hear(Heard(clock.now(), 1, 0))
    assert life.gaps == 1


def test_a_process_that_does_not_read_makes_nobody_wait() -> None:
    ours, _theirs = Pipe()
    line = Line(ours)
    sent = 0
    while line.offer(Heard(0.0, 0, 0)):
        sent += 1
        assert sent < 100_000
    assert sent > 0


def test_the_parent_is_told_at_once_of_what_is_new_and_with_the_next_word_of_what_is_gone() -> None:
    ours, theirs = Pipe()
    life = RemoteLife("a", 5.0, HandClock(), Line(ours))  # type: ignore[arg-type]
    both = frozenset({("s", 1), ("t", 1)})
    life.say(both, ())
    life.say(both, ("item",))
    assert [theirs.recv(), theirs.recv()] == [Say(both, ()), Say(both, ("item",))]
    life.say(both, ())
    life.say(frozenset({("t", 1)}), ())
    assert not theirs.poll()
    life.tell()
    life.tell()
    assert theirs.recv() == Say(frozenset({("t", 1)}), ())
    assert not theirs.poll()
