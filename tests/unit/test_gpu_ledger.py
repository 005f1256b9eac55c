"""The ledger: nobody is given what another holds, nothing is lost with a process, nothing leaks."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="the developers' tools are not installed")

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests import fuzz  # noqa: F401
from tests.fakes import HandClock
from tests.gpu_clusters import cluster, with_card
from worker.errors import MachineError
from worker.gpus import reports
from worker.gpus.allocation import Allocation, Request, Waiting
from worker.gpus.clerk import Clerk
from worker.gpus.described import DescribedCluster
from worker.gpus.glance import Glance
from worker.gpus.inventory import Node
from worker.gpus.ledger import Ledger
from worker.gpus.manager import GpuResourceManager
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.watched import MonitoringTold

FOUR = cluster(a="4xT4")


class Office:
    """A ledger with a hand on its clock; each call is a turn."""

    def __init__(
        self, file: Path, nodes: Sequence[Node] = FOUR, clock: HandClock | None = None, boot: str = "1"
    ) -> None:
        self.file = file
        self.clock = clock or HandClock()
        self.ledger = Ledger(file, self.clock, boot)  # type: ignore[arg-type]
        self.supply(nodes)

    def __getattr__(self, name: str) -> Any:
        def call(*about: Any, **more: Any) -> Any:
            with self.ledger.turn():
                return getattr(self.ledger, name)(*about, **more)

        return call

    def passes(self, seconds: int) -> None:
        """While the ledger is open: it is looked after every few seconds."""
        end = self.clock.time + seconds
        while self.clock.time < end:
            self.clock.time = min(self.clock.time + 4, end)
            self.sweep()

    def again(self, away_s: float = 0.0, boot: str = "1") -> Office:
        """Its process was killed, and later another one opens the file."""
        self.clock.time += away_s
        self.ledger.close()
        return Office(self.file, self.ledger.nodes, self.clock, boot)

    def free_now(self) -> int:
        return sum(len(self.free(node)) for node in self.ledger.nodes)

    def refused(self, *about: Any, **more: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            self.allocate(*about, **more)
        return refused.value


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "gpus.sqlite")


# allocations and leases


def test_two_requests_never_get_the_same_card(office: Office) -> None:
    first, second = office.allocate(Request(2)), office.allocate(Request(2))
    assert not {card.uuid for card in first.cards} & {card.uuid for card in second.cards}
    refused = office.refused(Request(1))
    assert refused.reason is Reason.BUSY
    assert (
        str(refused)
        == "1 GPU: not free now: 0 of 4 such cards are free, 0 in use by others, 0 requests wait in line"
    )


def test_what_no_node_can_run_is_refused_at_once_however_patient_one_is(office: Office) -> None:
    refused = office.refused(Request(5), patience_s=60)
    assert refused.reason is Reason.IMPOSSIBLE
    assert "4 such cards are here, at most 4 alike on a node" in str(refused)


def test_what_is_released_is_free_again_and_once(office: Office) -> None:
    made = office.allocate(Request(4))
    office.release(made.id)
    with pytest.raises(Refusal, match="no allocation is called"):
        office.release(made.id)
    assert len(office.allocate(Request(4)).cards) == 4


def test_a_lease_that_is_renewed_goes_on_and_another_ends(office: Office) -> None:
    kept, dead = (office.allocate(Request(2, lease_s=60)) for _ in range(2))
    office.passes(40)
    office.renew(kept.id)
    office.passes(40)
    assert list(office.ledger.allocations) == [kept.id]
    with pytest.raises(Refusal, match="its lease may have ended"):
        office.renew(dead.id)


def test_a_node_is_cleaned_up_with_all_that_its_gangs_hold_elsewhere(tmp_path: Path) -> None:
    office = Office(tmp_path / "l", cluster(a="2xT4", b="2xT4"))
    gang, other = office.allocate(Request(1, members=3)), office.allocate(Request(1))
    assert set(gang.nodes) == {"a", "b"}
    assert other.nodes == ("b",)
    assert [one.id for one in office.clean("a")] == [gang.id]
    assert office.free_now() == 3
    with pytest.raises(Refusal, match="no node is called 'c'; there are a, b"):
        office.clean("c")


def test_ill_cards_and_foreign_use_are_respected_card_by_card(tmp_path: Path) -> None:
    nodes = with_card(with_card(FOUR, "a/1", trouble="ECC"), "a/2", processes=(4711,))
    office = Office(tmp_path / "l", nodes)
    assert [card.uuid for card in office.allocate(Request(2)).cards] == ["a/0", "a/3"]
    assert "0 of 4 such cards are free, 1 in use by others" in str(office.refused(Request(1)))


def test_our_own_processes_are_not_foreign_and_a_card_on_which_they_stay_is_not_handed_on(
    office: Office,
) -> None:
    made = office.allocate(Request(1))
    office.supply(with_card(FOUR, "a/0", processes=(1, 2)))
    office.release(made.id)
    assert [card.uuid for card in office.allocate(Request(3)).cards] == ["a/1", "a/2", "a/3"]
    office.supply(FOUR)
    assert [card.uuid for card in office.allocate(Request(1)).cards] == ["a/0"]


def test_a_card_that_vanished_while_it_was_held_does_not_come_back(office: Office) -> None:
    made = office.allocate(Request(4))
    office.supply(cluster(a="3xT4"))
    office.release(made.id)
    assert office.free_now() == 3


# idempotency keys


def test_a_key_gives_the_same_answer_again(office: Office) -> None:
    assert office.allocate(Request(1), "k") == office.allocate(Request(1), "k")
    assert office.free_now() == 3
    assert office.refused(Request(2), "k").reason is Reason.KEY_REUSED


def test_a_key_whose_allocation_ended_gives_no_new_one_for_a_day(office: Office) -> None:
    made = office.allocate(Request(1), "k")
    office.release(made.id)
    assert office.refused(Request(1), "k").reason is Reason.KEY_ENDED
    office.clock.time += 86_402
    office.sweep()
    assert office.allocate(Request(1), "k").id != made.id


# waiting


def test_who_waits_gets_what_comes_back_and_under_the_name_of_the_ticket(office: Office) -> None:
    held = office.allocate(Request(4))
    ticket = office.allocate(Request(2), patience_s=60)
    assert isinstance(ticket, Waiting)
    office.release(held.id)
    assert len(office.get(ticket.ticket).cards) == 2
    assert not office.ledger.waiting


def test_who_does_not_wait_does_not_overtake_who_does(office: Office) -> None:
    office.allocate(Request(2))
    office.allocate(Request(4), patience_s=60)
    assert "2 of 4 such cards are free, 0 in use by others, 1 requests wait in line" in str(
        office.refused(Request(1))
    )
    office.passes(61)
    assert isinstance(office.allocate(Request(1)), Allocation)


def test_the_same_key_waits_once(office: Office) -> None:
    office.allocate(Request(4))
    first = office.allocate(Request(1), "k", 60)
    assert office.allocate(Request(1), "k", 60) == first


# a process ends


def test_who_withdraws_is_out_of_the_line_or_gives_back_what_the_key_got(office: Office) -> None:
    office.allocate(Request(3), "first")
    office.allocate(Request(4), "large", 60)
    small = office.allocate(Request(1), "small", 60)
    assert isinstance(small, Waiting)  # behind the large one
    assert not office.withdraw("large")
    assert list(office.ledger.allocations)[1:] == [small.ticket]
    assert [one.key for one in office.withdraw("first")] == ["first"]
    assert not office.withdraw("first")
    assert not office.withdraw("never asked")
    assert list(office.ledger.allocations) == [small.ticket]
    assert not office.ledger.waiting


def test_a_restart_loses_nothing(office: Office) -> None:
    made = office.allocate(Request(2, owner="me"), "k")
    ticket = office.allocate(Request(3), "w", 60)
    heir = office.again()
    assert heir.get(made.id) == made
    assert heir.allocate(Request(3), "w", 60) == ticket
    assert heir.allocate(Request(2, owner="me"), "k") == made


@pytest.mark.parametrize(("away", "boot"), [(3600.0, "1"), (3600.0, "2"), (-900.0, "2")])
def test_while_nobody_could_renew_a_lease_it_stands_still(office: Office, away: float, boot: str) -> None:
    made = office.allocate(Request(1, lease_s=60))
    office.passes(10)
    heir = office.again(away, boot)
    heir.passes(49)
    assert made.id in heir.ledger.allocations
    heir.passes(3)
    assert made.id not in heir.ledger.allocations


def test_a_server_that_falls_over_again_and_again_still_ends_leases(office: Office) -> None:
    made = office.allocate(Request(1, lease_s=60))
    for _ in range(7):
        office.passes(10)
        office = office.again(30)
    assert made.id not in office.ledger.allocations


def test_what_one_process_holds_another_sees_at_once(office: Office) -> None:
    other = Office(office.file, clock=office.clock)
    held = office.allocate(Request(3))
    assert other.free_now() == 1
    assert len(other.allocate(Request(1)).cards) == 1
    office.passes(1)
    other.release(held.id)
    assert office.free_now() == 3


def test_a_turn_that_fails_leaves_no_trace(office: Office) -> None:
    def fails(ledger: Ledger) -> None:
        with ledger.turn():
            ledger.allocate(Request(4))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails(office.ledger)
    assert office.free_now() == 4


def test_a_card_cannot_be_held_twice_whatever_the_program_believes(office: Office) -> None:
    made = office.allocate(Request(1))
    with pytest.raises(sqlite3.IntegrityError), office.ledger.turn():
        office.ledger._records._db.execute("INSERT INTO held VALUES (?, 'other')", (made.cards[0].uuid,))


def test_a_file_that_is_no_ledger_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("this is no database, but it is long enough to look like one" * 20)
    with pytest.raises(MachineError, match=r"notes\.txt: file is not a database"):
        Ledger(tmp_path / "notes.txt")


# whose ledger it is


def test_two_inventories_do_not_share_a_ledger_while_anything_is_held_there(office: Office) -> None:
    office.belong("this machine")
    other = Office(office.file, clock=office.clock)
    other.belong("the cluster in a.yaml")
    with pytest.raises(Refusal, match=r"it is that of the cluster in a\.yaml, and this is this machine"):
        office.allocate(Request(1))
    held = other.allocate(Request(1))
    with pytest.raises(Refusal, match="name another one with --ledger"):
        office.belong("this machine")
    other.release(held.id)
    office.belong("this machine")
    assert len(office.allocate(Request(1)).cards) == 1


def test_a_ledger_that_another_machine_opened_is_left_alone(office: Office) -> None:
    Office(office.file, clock=office.clock, boot="of another machine")
    with pytest.raises(Refusal, match="another machine uses it"):
        office.allocate(Request(1))


def test_what_is_held_of_cards_that_are_gone_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("nodes: [{name: a, gpus: 2xT4}]")
    manager = GpuResourceManager(DescribedCluster(file), tmp_path / "l")
    manager.wait_ready(30)
    manager.clerk.allocate(Request(2, owner="me")).result()
    manager.close()
    file.write_text("nodes: [{name: a, gpus: 1xT4}]")
    manager = GpuResourceManager(DescribedCluster(file), tmp_path / "l")
    manager.wait_ready(30)
    told = MonitoringTold.model_validate(reports.monitoring(manager.ask(Glance.of).result())).cards
    manager.close()
    assert [(card.uuid, card.owner, card.trouble) for card in told] == [
        ("a/0", "me", ""),
        ("a/1", "me", "it is no longer here"),
    ]
    assert [one.getMessage() for one in caplog.records if one.name == "worker.gpus.manager"].count(
        "a/1, held by me, is no longer here"
    ) == 1


# whatever happens


class Happening(RuleBasedStateMachine):
    """Requests, renewals, releases, restarts and time in any order."""

    @initialize()
    def open(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.office = Office(folder / "l", cluster(a="4xT4", b="4xT4", c="2xA100-80GB"))

    @rule(
        count=some.integers(1, 5),
        members=some.integers(1, 3),
        kind=some.sampled_from(["", "T4", "A100"]),
        owner=some.sampled_from("xyz"),
        priority=some.integers(0, 2),
        patience=some.sampled_from([0, 20]),
        key=some.sampled_from(["", "k1", "k2"]),
    )
    def allocate(
        self, count: int, members: int, kind: str, owner: str, priority: int, patience: int, key: str
    ) -> None:
        request = Request(count, members, kind=kind, owner=owner, priority=priority, lease_s=30)
        with suppress(Refusal):
            made = self.office.allocate(request, key, patience)
            if isinstance(made, Allocation):
                assert len(made.cards) == made.request.total

    @rule(which=some.integers(0, 9))
    def release(self, which: int) -> None:
        held = list(self.office.ledger.allocations)
        if held:
            self.office.release(held[which % len(held)])

    @rule(which=some.integers(0, 9))
    def renew(self, which: int) -> None:
        held = list(self.office.ledger.allocations)
        if held:
            self.office.renew(held[which % len(held)])

    @rule(node=some.sampled_from("abc"))
    def clean(self, node: str) -> None:
        self.office.clean(node)

    @rule(seconds=some.sampled_from([1, 5, 31]))
    def pass_time(self, seconds: int) -> None:
        self.office.passes(seconds)

    @rule(away=some.sampled_from([0.0, 100.0]))
    def restart(self, away: float) -> None:
        self.office = self.office.again(away)

    @rule(ill=some.sampled_from(["", "a/0", "c/1"]))
    def look(self, ill: str) -> None:
        self.office.supply(with_card(cluster(a="4xT4", b="4xT4", c="2xA100-80GB"), ill, trouble="ill"))

    @invariant()
    def no_card_is_held_twice_and_none_is_lost(self) -> None:
        if not hasattr(self, "office"):
            return
        ledger = self.office.ledger
        held = [card.uuid for one in ledger.allocations.values() for card in one.cards]
        written = [name for (name,) in ledger._records._db.execute("SELECT card FROM held ORDER BY card")]
        assert sorted(held) == written == sorted({*held})
        free = {card.uuid for node in ledger.nodes for card in self.office.free(node)}
        shelved = {
            uuid
            for shelf in ledger._stock.shelves.values()
            for cards in shelf.nodes.values()
            for uuid in cards
        }
        assert free == shelved
        ill = {card.uuid for node in ledger.nodes for card in node.cards if card.trouble}
        assert free | ill | {*held} == {card.uuid for node in ledger.nodes for card in node.cards}
        assert not free & {*held}

    @invariant()
    def whoever_waits_could_not_be_served(self) -> None:
        if hasattr(self, "office") and self.office.ledger.waiting:
            before = dict(self.office.ledger.waiting)
            self.office.settle()
            assert self.office.ledger.waiting == before

    def teardown(self) -> None:
        if hasattr(self, "office"):
            self.office.passes(61)
            assert not self.office.ledger.allocations
            self.office.ledger.close()
            shutil.rmtree(self.office.file.parent)


TestWhateverHappens = Happening.TestCase
TestWhateverHappens.settings = settings(max_examples=20, stateful_step_count=25)


# many at once


def test_hundreds_of_clients_at_once_are_never_given_one_card_twice(tmp_path: Path) -> None:
    clerk = Clerk(Ledger(tmp_path / "l"))
    clerk.ask(lambda ledger: ledger.supply(cluster(**{f"n{n}": "8xT4" for n in range(10)}))).result()
    inside: Counter[str] = Counter()
    counting = threading.Lock()

    def client(number: int) -> int:
        served = 0
        for _ in range(4):
            request = Request(1 + number % 4, owner=f"o{number % 7}", priority=number % 2)
            made = clerk.allocate(request, patience_s=100).result(timeout=100)
            with counting:
                inside.update(card.uuid for card in made.cards)
                assert max(inside.values()) == 1
            with counting:
                inside.subtract(card.uuid for card in made.cards)
            clerk.ask(lambda ledger, name=made.id: ledger.release(name)).result(timeout=100)  # type: ignore[misc]
            served += 1
        return served

    with ThreadPoolExecutor(200) as pool:
        assert sum(pool.map(client, range(200))) == 800
    assert not clerk.ask(lambda ledger: ledger.allocations).result()
    clerk.close()


def test_patience_that_ends_is_told_to_all_who_wait_for_the_ticket(tmp_path: Path) -> None:
    clerk = Clerk(Ledger(tmp_path / "l"))
    clerk.ask(lambda ledger: ledger.supply(FOUR)).result()
    clerk.allocate(Request(4)).result()
    both = [clerk.allocate(Request(1), "k", 0.2) for _ in range(2)]
    for one in both:
        with pytest.raises(Refusal, match="waited in vain"):
            one.result(timeout=20)
    clerk.close()
