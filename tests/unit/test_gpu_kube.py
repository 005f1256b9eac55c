"""The ledger in a cluster's object: written by several managers, and none gives away what another has."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import pytest

pytest.importorskip("hypothesis", reason="the developers' tools are not installed")

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests import fuzz  # noqa: F401
from tests.fake_kube import FakeApi
from tests.fakes import HandClock
from tests.kube import node, pod, until
from worker.errors import MachineError
from worker.gpus import reports
from worker.gpus.allocation import Allocation, Held, Request
from worker.gpus.forms import TrainingGPUConfig
from worker.gpus.glance import Glance
from worker.gpus.inventory import Node
from worker.gpus.keeper import Overtaken
from worker.gpus.kube import records as module
from worker.gpus.kube.book import Book, encode
from worker.gpus.kube.inventory import KubernetesCluster
from worker.gpus.kube.mirror import Mirror
from worker.gpus.kube.objects import LABEL, Accelerators
from worker.gpus.kube.records import NAME, ROOM_BYTES, ConfigMapRecords
from worker.gpus.ledger import Ledger
from worker.gpus.manager import GpuResourceManager
from worker.gpus.refusals import Reason, Refusal

GPU = "nvidia.com/gpu"
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}
LEDGER = f"/api/v1/namespaces/here/configmaps/{NAME}"
T = TypeVar("T")


def nodes(pods: Mapping[str, tuple[str, int, str]] | None = None, **gpus: int) -> list[Node]:
    """`pods`: name → node, cards, allocation."""
    here = Accelerators({}, {})
    found = []
    for name, count in gpus.items():
        read = here.node(node(name, {GPU: count}, A100))
        assert read
        uses = [
            use
            for called, (on, number, allocation) in (pods or {}).items()
            for _, some in [here.uses(pod(called, GPU, number, on, {LABEL: allocation})) or ("", ())]
            for use in some
            if on == name
        ]
        found.append(Node(name, read.cards, tuple(uses)))
    return found


class Manager:
    """One of several, with a clock that nobody shares."""

    def __init__(
        self, api: FakeApi, clock: HandClock | None = None, supply: list[Node] | None = None
    ) -> None:
        self.clock = clock or HandClock()
        self.ledger = Ledger(ConfigMapRecords(api, "here", self.clock), self.clock)  # type: ignore[arg-type]
        self.do(lambda ledger: ledger.supply(nodes(a=4) if supply is None else supply))

    def do(self, question: Callable[[Ledger], T]) -> T:
        while True:
            try:
                with self.ledger.turn():
                    return question(self.ledger)
            except Overtaken:
                pass

    def allocate(self, request: Request, key: str = "", patience_s: float = 0.0) -> Any:
        return self.do(lambda ledger: ledger.allocate(request, key, patience_s))

    def passes(self, seconds: float) -> None:
        end = self.clock.time + seconds
        while self.clock.time < end:
            self.clock.time = min(self.clock.time + 4, end)
            self.do(lambda ledger: ledger.sweep())

    def held(self) -> list[str]:
        return self.do(lambda ledger: sorted(ledger.allocations))

    def free(self) -> int:
        return self.do(lambda ledger: sum(len(ledger.free(node)) for node in ledger.nodes))


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def both(api: FakeApi) -> tuple[Manager, Manager]:
    second = HandClock()
    second.time = 5e6  # its machine was started long before
    return Manager(api), Manager(api, second)


# several managers


def overtaken(one: Manager, request: Request, meanwhile: Callable[[], object]) -> None:
    def decides() -> None:
        with one.ledger.turn():
            one.ledger.allocate(request)
            meanwhile()

    with pytest.raises(Overtaken):
        decides()


def test_what_one_manager_gave_another_sees_and_does_not_give_again(both: tuple[Manager, Manager]) -> None:
    one, other = both
    made = one.allocate(Request(3))
    assert other.free() == 1
    assert other.do(lambda ledger: ledger.get(made.id)).cards == made.cards
    with pytest.raises(Refusal, match="not free now"):
        other.allocate(Request(2))
    other.do(lambda ledger: ledger.release(made.id))
    assert one.free() == 4


def test_who_decided_on_what_is_no_longer_so_decides_again(both: tuple[Manager, Manager]) -> None:
    one, other = both
    overtaken(one, Request(3), lambda: other.allocate(Request(2)))
    assert one.free() == 2
    assert len(one.held()) == 1


def test_a_gang_is_written_whole_or_not_at_all(api: FakeApi) -> None:
    one, other = (Manager(api, supply=nodes(a=2, b=2)) for _ in range(2))
    overtaken(one, Request(1, members=4), lambda: other.allocate(Request(1)))
    assert one.free() == other.free() == 3
    gang = one.allocate(Request(1, members=3))
    assert gang.nodes == ("a", "b") or gang.nodes == ("b", "a")
    assert other.do(lambda ledger: ledger.get(gang.id)).cards == gang.cards


def test_a_key_gives_the_same_answer_from_every_manager(both: tuple[Manager, Manager]) -> None:
    one, other = both
    made = one.allocate(Request(1), "k")
    assert other.allocate(Request(1), "k").id == made.id
    with pytest.raises(Refusal, match="used for another request"):
        other.allocate(Request(2), "k")
    other.do(lambda ledger: ledger.release(made.id))
    with pytest.raises(Refusal, match="given back meanwhile"):
        one.allocate(Request(1), "k")


def test_who_waits_at_one_manager_is_served_by_another(both: tuple[Manager, Manager]) -> None:
    one, other = both
    held = one.allocate(Request(4))
    ticket = one.allocate(Request(2), patience_s=60)
    other.do(lambda ledger: ledger.release(held.id))
    assert len(one.do(lambda ledger: ledger.get(ticket.ticket)).cards) == 2


def test_strangers_are_counted_alike_wherever_each_manager_has_put_them(api: FakeApi) -> None:
    one, other = Manager(api), Manager(api)
    held = one.allocate(Request(1))
    strange = nodes({"x": ("a", 1, "")}, a=4)
    other.do(lambda ledger: ledger.supply(strange))  # beside the one that is held
    one.do(lambda ledger: ledger.release(held.id))
    one.do(lambda ledger: ledger.supply(strange))  # on the first
    assert len(one.allocate(Request(3)).cards) == 3
    assert other.free() == 0


def test_a_whole_card_is_never_a_slice_nor_a_slice_a_whole_card(api: FakeApi) -> None:
    found = Accelerators({}, {}).node(node("a", {GPU: 1, "nvidia.com/mig-1g.10gb": 2}, A100))
    assert found
    manager = Manager(api, supply=[found])

    def given(said: str) -> str:
        made = manager.allocate(TrainingGPUConfig(gpu_type=said).request())
        return str(made.cards[0].resource)

    assert given("nvidia.com/gpu") == GPU
    assert given("A100") == "nvidia.com/mig-1g.10gb"  # any will do, and the smallest is first
    assert given("nvidia.com/mig-1g.10gb") == "nvidia.com/mig-1g.10gb"
    with pytest.raises(Refusal, match="not free now"):
        given("nvidia.com/mig-1g.10gb")


# leases


def test_a_lease_ends_for_every_manager_by_its_own_clock(both: tuple[Manager, Manager]) -> None:
    one, other = both
    kept, dead = (one.allocate(Request(1, lease_s=60)) for _ in range(2))
    other.passes(40)
    one.do(lambda ledger: ledger.renew(kept.id))  # no time has passed for this one
    other.passes(24)
    assert other.held() == [kept.id]
    assert one.held() == [kept.id]
    with pytest.raises(Refusal, match="its lease may have ended"):
        one.do(lambda ledger: ledger.renew(dead.id))


def test_a_lease_stands_still_while_nobody_could_renew_it(api: FakeApi) -> None:
    first = Manager(api)
    made = first.allocate(Request(1, lease_s=60))
    first.clock.time += 3600  # nobody looked
    heir = Manager(api)
    heir.passes(56)
    assert heir.held() == [made.id]
    heir.passes(8)
    assert heir.held() == []


def test_managers_that_fall_over_again_and_again_still_end_leases(api: FakeApi) -> None:
    first = Manager(api)
    first.allocate(Request(1, lease_s=100))
    for _ in range(3):
        manager = Manager(api)
        manager.passes(40)
    assert manager.held() == []


def test_nothing_is_written_while_nothing_happens(api: FakeApi) -> None:
    manager = Manager(api)
    before = api.asked[f"put {LEDGER}"]
    manager.passes(100)
    assert api.asked[f"put {LEDGER}"] == before
    manager.allocate(Request(1, lease_s=1000))
    manager.passes(100)
    assert api.asked[f"put {LEDGER}"] - before == 4  # itself, and that time passes


# trouble on the way


def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_happens_twice(api: FakeApi) -> None:
    manager = Manager(api)
    api.fail = ["", "lost"]
    made = manager.allocate(Request(3))
    assert manager.held() == [made.id]
    assert Manager(api).free() == 1


def test_a_write_whose_answer_was_lost_counts_though_others_wrote_since(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Manager(api), Manager(api)
    put = api.put

    def cut_off(path: str, body: dict[str, Any]) -> dict[str, Any]:
        monkeypatch.setattr(api, "put", put)
        put(path, body)
        other.allocate(Request(1))
        raise module.Away("the answer was lost")

    monkeypatch.setattr(api, "put", cut_off)
    made = one.allocate(Request(2))
    assert made.id in one.held()
    assert one.free() == 1


def test_a_write_that_comes_late_does_not_undo_what_was_decided_since(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    one, other = Manager(api), Manager(api)
    put, late = api.put, []

    def on_its_way(path: str, body: dict[str, Any]) -> dict[str, Any]:
        late.append((path, body))
        raise module.Away("no answer")

    monkeypatch.setattr(api, "put", on_its_way)
    with pytest.raises(Refusal, match="not ready: no answer"):
        one.allocate(Request(3))
    monkeypatch.setattr(api, "put", put)
    other.allocate(Request(3))
    with pytest.raises(module.Conflict):
        put(*late[0])
    assert one.free() == other.free() == 1


def test_a_manager_without_an_api_server_is_not_ready_and_forgets_nothing(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    manager = Manager(api)
    made = manager.allocate(Request(3))
    api.fail = ["away"]
    with pytest.raises(Refusal) as refused:
        manager.allocate(Request(1))
    assert refused.value.reason is Reason.NOT_READY
    assert manager.held() == [made.id]


def test_an_object_that_is_no_ledger_or_of_another_format_is_left_alone(api: FakeApi) -> None:
    api.set(LEDGER, {"metadata": {"name": NAME}, "data": {"a": "b"}})
    with pytest.raises(MachineError, match="is no ledger of GPUs"):
        Manager(api)


def test_a_ledger_that_somebody_deleted_begins_anew_and_says_what_is_lost(
    api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    manager = Manager(api)
    manager.allocate(Request(3))
    api.drop(LEDGER)
    assert manager.free() == 4
    assert "gpu-ledger was deleted: 1 allocations are forgotten" in caplog.text


def test_a_full_ledger_takes_nothing_new_and_still_gives_back(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(api)
    made = manager.allocate(Request(1))
    monkeypatch.setattr(module, "ROOM_BYTES", 100)
    with pytest.raises(Refusal, match=r"not free now: the ledger is full: 1 allocations in \d+ bytes"):
        manager.allocate(Request(1))
    manager.do(lambda ledger: ledger.renew(made.id))
    manager.do(lambda ledger: ledger.release(made.id))
    assert manager.free() == 4


def test_a_thousand_nodes_of_eight_cards_handed_out_one_by_one_go_into_one_object() -> None:
    cards = [Held(f"gpu-{at // 8:04}", at % 8, "", "A100", "nvidia", 85.9, GPU) for at in range(8000)]
    luck = random.Random(1)
    book = Book()
    for at, card in enumerate(cards):
        request = Request(1, kind="A100", memory_gb=40.0, owner=f"owner-{at % 50}")
        made = Allocation(
            uuid.UUID(int=luck.getrandbits(128)).hex,
            request,
            (card,),
            f"run-{at}",
            -luck.random() * 9999,
            600.0,
        )
        book.allocations[made.id] = made
    assert 8000 * 20 < len(encode(book, 0.0)) < ROOM_BYTES / 2


# whatever happens


class Happening(RuleBasedStateMachine):
    """Two managers, strangers' pods, pods of ours, lost answers and restarts in any order."""

    GPUS = {"a": 4, "b": 3}  # noqa: RUF012

    @initialize()
    def begin(self) -> None:
        self.api = FakeApi()
        self.pods: dict[str, tuple[str, int, str]] = {}
        self.number = 0
        self.managers = [self.manager(0), self.manager(1)]

    def manager(self, which: int) -> Manager:
        clock = HandClock()
        clock.time += which * 1e6
        return Manager(self.api, clock, self.there())

    def there(self) -> list[Node]:
        return nodes(self.pods, **self.GPUS)

    def look(self) -> None:
        for manager in self.managers:
            manager.do(lambda ledger: ledger.supply(self.there()))

    def reserved(self) -> dict[str, int]:
        made = self.managers[0].do(lambda ledger: list(ledger.allocations.values()))
        return {name: sum(card.node == name for one in made for card in one.cards) for name in self.GPUS}

    def foreign(self, node: str) -> int:
        """What pods have beyond what is held for them."""
        made = self.managers[0].do(lambda ledger: dict(ledger.allocations))
        total = 0
        for name in {one[2] for one in self.pods.values()}:
            has = sum(count for on, count, of in self.pods.values() if (on, of) == (node, name))
            held = sum(card.node == node for card in made[name].cards) if name in made else 0
            total += max(0, has - held)
        return total

    @rule(
        which=some.integers(0, 1),
        count=some.integers(1, 3),
        members=some.integers(1, 2),
        patience=some.sampled_from([0, 20]),
        key=some.sampled_from(["", "k"]),
        befalls=some.sampled_from([[], ["lost"], ["", "lost"], ["", "away"]]),
    )
    def allocate(
        self, which: int, count: int, members: int, patience: int, key: str, befalls: list[str]
    ) -> None:
        self.look()
        before = self.managers[which].held()
        self.api.fail = list(befalls)
        with suppress(Refusal):
            made = self.managers[which].allocate(Request(count, members, lease_s=30), key, patience)
            if isinstance(made, Allocation):
                assert len(made.cards) == count * members
                taken = self.reserved()
                # a stranger may have taken what was reserved, but nobody is sent where he is
                for name in made.nodes if made.id not in before else ():
                    assert taken[name] + self.foreign(name) <= self.GPUS[name]
        self.api.fail = []

    @rule(which=some.integers(0, 1), first=some.integers(0, 1))
    def both_at_once(self, which: int, first: int) -> None:
        """Both decide on the same version, and one of them writes first."""
        self.look()
        one, other = self.managers[which], self.managers[1 - which]
        with suppress(Overtaken, Refusal), one.ledger.turn():
            one.ledger.allocate(Request(2, lease_s=30))
            if first:
                with suppress(Refusal):
                    other.allocate(Request(2, lease_s=30))

    @rule(which=some.integers(0, 1), what=some.sampled_from(["release", "renew"]), at=some.integers(0, 5))
    def holding(self, which: int, what: str, at: int) -> None:
        if held := self.managers[which].held():
            name = held[at % len(held)]
            self.managers[which].do(lambda ledger: getattr(ledger, what)(name))

    @rule(at=some.integers(0, 5))
    def start_ours(self, at: int) -> None:
        made = self.managers[0].do(lambda ledger: list(ledger.allocations.values()))
        started = {name for _, _, name in self.pods.values()}
        if made and (one := made[at % len(made)]).id not in started:
            for name in one.nodes:
                count = sum(card.node == name for card in one.cards)
                self.number += 1
                self.pods[f"p{self.number}"] = (name, count, one.id)

    @rule(name=some.sampled_from("ab"), count=some.integers(1, 2))
    def start_theirs(self, name: str, count: int) -> None:
        """The scheduler knows of pods alone."""
        used = sum(number for on, number, _ in self.pods.values() if on == name)
        if used + count <= self.GPUS[name]:
            self.number += 1
            self.pods[f"p{self.number}"] = (name, count, "")

    @rule(at=some.integers(0, 9))
    def stop_one(self, at: int) -> None:
        if self.pods:
            del self.pods[list(self.pods)[at % len(self.pods)]]

    @rule(which=some.integers(0, 1), seconds=some.sampled_from([1, 10, 31]))
    def pass_time(self, which: int, seconds: int) -> None:
        self.managers[which].passes(seconds)

    @rule(which=some.integers(0, 1))
    def kill(self, which: int) -> None:
        self.managers[which] = self.manager(which)

    @invariant()
    def both_count_alike_and_right(self) -> None:
        if not hasattr(self, "managers"):
            return
        self.look()
        taken = self.reserved()
        assert all(taken[name] <= number for name, number in self.GPUS.items())
        free = sum(max(0, number - taken[name] - self.foreign(name)) for name, number in self.GPUS.items())
        assert [manager.free() for manager in self.managers] == [free, free]
        assert self.managers[0].held() == self.managers[1].held()

    def teardown(self) -> None:
        if hasattr(self, "managers"):
            self.managers[0].passes(62)
            assert self.managers[1].held() == []


TestWhateverHappens = Happening.TestCase
TestWhateverHappens.settings = settings(max_examples=25, stateful_step_count=20)


# looking


def follow(api: FakeApi) -> tuple[Mirror[str], threading.Semaphore]:
    changed = threading.Semaphore(0)
    mirror = Mirror(api, "/api/v1/nodes", lambda told: str(told["metadata"].get("say", "")) or None)
    mirror.follow(changed.release)
    return mirror, changed


@pytest.fixture
def told(api: FakeApi) -> Iterator[Callable[..., list[str]]]:
    """What the mirror says once it was told to say so."""
    for name in "abc":
        api.set(f"/api/v1/nodes/{name}", {"metadata": {"name": name, "say": name}})
    api.page = 2
    mirror, changed = follow(api)

    def look(*expected: str) -> list[str]:
        while sorted(mirror.found(30)) != sorted(expected):
            assert changed.acquire(timeout=30), mirror.found(0)
        return sorted(mirror.found(0))

    yield look
    mirror.close()
    api.end_streams()


def test_a_mirror_lists_page_by_page_and_then_follows(api: FakeApi, told: Callable[..., list[str]]) -> None:
    assert told(*"abc") == ["a", "b", "c"]
    api.set("/api/v1/nodes/d", {"metadata": {"name": "d", "say": "d"}})
    told(*"abcd")
    api.set("/api/v1/nodes/a", {"metadata": {"name": "a", "say": "A"}})
    told(*"Abcd")
    api.set("/api/v1/nodes/b", {"metadata": {"name": "b"}})  # nothing there that one would keep
    api.drop("/api/v1/nodes/c")
    told(*"Ad")
    assert api.asked["get /api/v1/nodes"] == 2


def test_a_stream_that_ends_goes_on_where_it_was(api: FakeApi, told: Callable[..., list[str]]) -> None:
    told(*"abc")
    api.bookmark("/api/v1/nodes")
    api.end_streams()
    api.fail = ["away", "away"]
    api.set("/api/v1/nodes/d", {"metadata": {"name": "d", "say": "d"}})
    told(*"abcd")
    assert api.asked["get /api/v1/nodes"] == 2


@pytest.mark.parametrize("how", ["at once", "as an event"])
def test_what_is_no_longer_kept_is_listed_anew(
    api: FakeApi, told: Callable[..., list[str]], how: str
) -> None:
    told(*"abc")
    if how == "at once":
        api.forget()
        api.drop("/api/v1/nodes/c")
        api.forget()
        api.end_streams()
    else:
        api.error("/api/v1/nodes", 410)
        api.drop("/api/v1/nodes/c")
    told(*"ab")


def test_a_mirror_that_never_reached_the_server_says_why(api: FakeApi) -> None:
    api.fail = ["away"] * 1000
    mirror, _ = follow(api)
    with pytest.raises(MachineError, match=r"/api/v1/nodes: (not read yet|nobody answers)"):
        mirror.found(0.05)
    mirror.close()


# all of it


def test_a_manager_of_a_cluster_gives_cards_with_what_the_pod_has_to_say(api: FakeApi) -> None:
    api.set("/api/v1/nodes/a", node("a", {GPU: 4}, A100))
    manager = GpuResourceManager(KubernetesCluster(api, Accelerators({}, {})), ConfigMapRecords(api, "here"))
    manager.wait_ready(30)
    try:
        made = manager.allocate(TrainingGPUConfig(gpu_count=2, gpu_type="A100", memory_gb=80)).result(30)
        assert [card.uuid for card in made.cards] == ["a/nvidia.com/gpu/0", "a/nvidia.com/gpu/1"]
        api.set("/api/v1/pods/x", pod("x", GPU, 2, on="a"))
        until(lambda: "default/x" in str(reports.monitoring(manager.ask(Glance.of).result(30))))
        waited = manager.allocate(TrainingGPUConfig(gpu_count=4, wait_s=60))
        manager.release(made.id).result(30)
        assert not waited.done()
        api.drop("/api/v1/pods/x")
        assert len(waited.result(60).cards) == 4
    finally:
        manager.close()
        api.end_streams()
