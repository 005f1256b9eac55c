"""Of the workers that wait, one looks out for all (rule 12)."""

from __future__ import annotations

import pytest

from tests.bench.waiting import takeovers, waiting
from tests.fakes import Bench, answered
from worker.queue import layout
from worker.queue.beat import IDLE
from worker.queue.claims import Claims
from worker.queue.lookout import REST_MOST_TTLS
from worker.queue.text import decode, encode

LONG = 50
"""TTLs: everybody has waited long enough for the longest rest"""


class Watching:
    """One works on the only shard for ever; some wait, each asking when its time has come."""

    def __init__(self, *names: str) -> None:
        self.bench = Bench(items=1)
        self.bench.take(self.bench.worker("busy"))
        self.claims: dict[str, Claims] = {name: self.bench.worker(name) for name in names}
        self.due = dict.fromkeys(names, 0.0)
        self.looks = dict.fromkeys(names, 0)
        self.won: dict[str, float] = {}

    def go_on(self, ttls: float, *, beating: bool = True) -> None:
        self.looks = dict.fromkeys(self.looks, 0)
        until = self.bench.clock.time + ttls * self.bench.ttl
        while self.bench.clock.time < until:
            if beating:
                self.bench.lives["busy"].heart.beat()
            for name, claims in self.claims.items():
                if self.bench.clock.time >= self.due[name] and name not in self.won:
                    self.ask(name, claims)
            self.bench.clock.sleep(self.bench.ttl / 20)

    def ask(self, name: str, claims: Claims) -> None:
        if not claims.rests():
            self.looks[name] += 1
            if claims.take():
                self.won[name] = self.bench.clock.time
        self.due[name] = self.bench.clock.time + claims.poll

    @property
    def awake(self) -> set[str]:
        return {name for name, looks in self.looks.items() if looks}

    @property
    def lookout(self) -> str:
        return str(decode(self.bench.store.get(layout.LOOKOUT))["worker"])


def test_who_waits_alone_looks_itself_however_long() -> None:
    watching = Watching("a")
    watching.go_on(LONG)
    watching.go_on(10)
    assert watching.looks["a"] >= 30


def test_of_many_that_have_waited_for_long_one_looks() -> None:
    watching = Watching("a", "b", "c", "d")
    watching.go_on(LONG)
    watching.go_on(10)
    assert watching.awake == {watching.lookout}


def test_while_the_waiting_is_short_everybody_looks() -> None:
    watching = Watching("a", "b", "c", "d")
    watching.go_on(8)
    assert watching.awake == {"a", "b", "c", "d"}
    assert watching.bench.store.get(layout.LOOKOUT) is None


def test_when_the_one_that_looked_is_gone_another_one_looks() -> None:
    watching = Watching("a", "b", "c", "d")
    watching.go_on(LONG)
    gone = watching.lookout
    del watching.claims[gone]
    watching.go_on(2 * REST_MOST_TTLS + 2)
    watching.go_on(5)
    assert watching.lookout != gone
    assert watching.awake == {watching.lookout}


def test_who_wakes_up_sees_by_the_number_of_words_that_the_one_who_looked_is_gone_since() -> None:
    watching = Watching("a", "b", "c", "d")
    watching.go_on(LONG)
    gone, ttl = watching.lookout, watching.bench.ttl
    sleeper = next(name for name in watching.claims if name != gone)
    watching.due[sleeper] = 0.0
    watching.go_on(0.1)
    watching.due[sleeper] = watching.bench.clock.time + 4 * ttl  # its next waking
    watching.go_on(1)
    watching.claims = {sleeper: watching.claims[sleeper]}
    watching.go_on(3.2)
    assert watching.lookout == sleeper


def test_the_word_of_one_that_is_long_gone_is_not_trusted() -> None:
    watching = Watching("b")
    watching.bench.store.put(layout.LOOKOUT, encode({"worker": "a", "counter": 7, "calm": True}))
    watching.go_on(LONG)
    assert watching.looks["b"] >= 3 * LONG
    assert watching.lookout == "b"


@pytest.mark.parametrize("garbage", [b"", b"[]", b'{"worker":1}', b"\xff"])
def test_a_word_that_cannot_be_read_is_nobodys(garbage: bytes) -> None:
    watching = Watching("b")
    watching.bench.store.put(layout.LOOKOUT, garbage)
    watching.go_on(15)
    assert watching.lookout == "b"


def test_of_two_that_look_out_the_one_with_the_lower_name_stays() -> None:
    watching = Watching("a", "b")
    watching.go_on(LONG)
    for claims in watching.claims.values():  # as after a pause of the one, in which the other began
        claims._lookout._ours = True
    watching.due = dict.fromkeys(watching.due, 0.0)
    watching.go_on(10)
    watching.go_on(10)
    assert watching.awake == {"a"}


def test_who_wakes_up_while_somebody_is_silent_stays_awake() -> None:
    watching = Watching("a", "b", "c", "d")
    watching.go_on(LONG)
    watching.go_on(0.8, beating=False)
    assert not decode(watching.bench.store.get(layout.LOOKOUT))["calm"]
    sleeper = next(name for name in watching.claims if name != watching.lookout)
    watching.due[sleeper] = 0.0
    watching.go_on(0.1, beating=False)
    assert sleeper in watching.awake
    assert not watching.claims[sleeper].rests()


def test_who_leaves_the_lookout_for_work_wakes_the_others() -> None:
    watching = Watching("a", "b", "c", "d")
    watching.go_on(LONG)
    lookout = watching.lookout
    watching.go_on(1.3, beating=False)
    assert set(watching.won) == {lookout}
    assert not decode(watching.bench.store.get(layout.LOOKOUT))["calm"]
    watching.claims = {name: c for name, c in watching.claims.items() if name != lookout}
    watching.go_on(REST_MOST_TTLS)
    assert watching.awake == set(watching.claims)


def test_a_rest_proves_no_death() -> None:
    """The store may have been away all the while: two more looks must follow (rule 3)."""
    bench = Bench(items=1)
    bench.take(bench.worker("busy"))
    claims = bench.worker("a")
    claims.take()
    claims._rest = 10 * bench.ttl
    bench.clock.sleep(claims.poll)
    assert claims.take() is None


def test_a_shard_that_is_done_troubles_nobody_though_its_worker_died_before_its_next_beat() -> None:
    bench = Bench(items=2, shard_size=1)
    waits = bench.worker("waits")
    holding = bench.take(bench.worker("dies"))
    bench.take(bench.worker("works"))

    def wait(ttls: float, *beating: str) -> None:
        until = bench.clock.time + ttls * bench.ttl
        while bench.clock.time < until:
            for name in beating:
                bench.lives[name].heart.beat()
            waits.take()
            bench.clock.sleep(waits.poll)

    wait(4, "works", "dies")
    wait(0.5, "works")
    assert waits._longest_still >= bench.ttl / 2
    holding.add([answered(item) for item in holding.left()])
    holding._forget = lambda _: None  # its beat lists the claim for ever
    holding.commit()
    wait(3, "works")
    assert waits._longest_still < bench.ttl / 2


def test_who_holds_a_shard_does_not_rest() -> None:
    bench = Bench(items=2, shard_size=1)
    claims = bench.worker("a")
    bench.take(claims)
    for _ in range(100):
        bench.clock.sleep(bench.ttl)
        assert not claims.rests()
    assert bench.store.get(layout.LOOKOUT) is None


def test_a_worker_that_waits_and_has_said_so_beats_rarely() -> None:
    bench = Bench(items=1)
    claims, heart = bench.worker("a"), bench.lives["a"].heart
    heart.info = {"state": IDLE}
    heart.beat()
    assert heart.pause == 30 * bench.ttl
    bench.take(claims)
    assert heart.pause == bench.ttl / 4


def test_a_beat_that_was_not_heard_is_followed_by_one_soon_and_its_trouble_is_as_old_as_it_is() -> None:
    bench = Bench(items=1)
    bench.worker("a")
    heart = bench.lives["a"].heart
    heart.info = {"state": IDLE}
    heart.beat()
    bench.clock.sleep(heart.pause)
    with bench.store.outage():
        heart.beat()
        assert heart.pause == bench.ttl / 4
        bench.clock.sleep(heart.pause)
        heart.beat()
    assert heart.trouble_s == bench.ttl / 4
    heart.beat()
    assert heart.trouble_s == 0


def test_fifty_that_wait_for_hours_cost_two_busy_ones() -> None:
    sim = waiting(49, hours=3)
    sim.go_on(7200)
    before = sim.calls_of_the_idle
    sim.go_on(3 * 3600)
    sim.world.close()
    assert (sim.calls_of_the_idle - before) / 60 < 2 * 15


@pytest.mark.parametrize("idle", [1, 20])
def test_after_hours_of_waiting_a_dead_workers_shard_is_taken_over_after_the_ttl(idle: int) -> None:
    (spent,) = takeovers(idle, hours=2.0, seed=3)
    ttl, pace = 60.0, 15.0
    assert ttl - pace <= spent <= ttl + pace + 2


def test_when_many_machines_are_gone_at_once_those_that_rest_wake_up_one_by_one() -> None:
    spent = takeovers(8, busy=8, deaths=4, hours=2.0, seed=3)
    assert len(spent) == 4
    assert max(spent) <= (REST_MOST_TTLS + 3) * 60.0
