"""The cards that a worker takes for itself, and how others know that it is gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gpu_clusters import cluster, with_card
from worker.errors import MachineError, UnfinishedError
from worker.gpus import own, tenants
from worker.gpus.allocation import Allocation, Request
from worker.gpus.inventory import Node
from worker.gpus.ledger import Ledger
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.wanted import Wanted
from worker.hardware import cards as hardware


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("2x", Wanted(2)),
        (" 2 X ", Wanted(2)),
        ("２×Ａ１００", Wanted(2, "A100", "nvidia")),
        ("2xA100-80GB", Wanted(2, "A100", "nvidia", 80)),
        ("1x24GB", Wanted(1, memory_gb=24)),
        ("4x4090", Wanted(4, "RTX4090", "nvidia")),
        ("2", None),
        ("0,1", None),
        ("all", None),
        ("GPU-4f2ax1", None),
        ("MIG-33333333-cccc", None),
    ],
)
def test_a_count_is_told_from_a_number(said: str, wanted: Wanted | None) -> None:
    assert own.counted(said) == wanted


@pytest.mark.parametrize("said", ["0x", "2xQ100", "99999999x"])
def test_a_wrong_count_is_one_line(said: str) -> None:
    with pytest.raises(Refusal):
        own.counted(said)


def test_of_what_a_scheduler_gave_no_more_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    ledger = tmp_path / "l"
    assert [card.name for card in own.take("all", ledger=ledger).cards] == ["4", "7"]
    assert [card.name for card in own.take("1xA100", ledger=ledger).cards] == ["4"]
    with pytest.raises(MachineError, match=r"--gpus 3x: the environment gives cuda:4, cuda:7"):
        own.take("3x", ledger=ledger)
    assert not ledger.exists()


@pytest.mark.parametrize("nothing", ["", "-1", "NoDevFiles"])
def test_who_was_given_no_card_takes_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nothing: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
    with pytest.raises(MachineError, match="--gpus 1x: the environment gives no GPU: look at CUDA_VISIBLE"):
        own.take("1x", ledger=tmp_path / "l", inventory=Shown(TWO))


def test_without_any_card_it_is_said_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"--gpus 2x: .*no GPU was found; or leave --gpus out"):
        own.take("2x", ledger=tmp_path / "l", inventory=Shown(()))


# holding


class Shown:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    def look(self) -> Sequence[Node]:
        return self.nodes


TWO = cluster(a="2xT4")


def test_a_hold_ends_once_and_can_be_had_again(tmp_path: Path) -> None:
    ledger, shown = tmp_path / "l", Shown(TWO)
    with own.take("2x", ledger=ledger, inventory=shown) as hold:
        assert [card.environment["CUDA_VISIBLE_DEVICES"] for card in hold.cards] == ["0", "1"]
        with pytest.raises(UnfinishedError, match=r"--gpus 1x: .*held by .*\(process \d+\): --wait-gpus"):
            own.take("1x", ledger=ledger, inventory=shown)
        with pytest.raises(MachineError, match=r"--gpus 3x: .*2 such cards are here"):
            own.take("3x", ledger=ledger, inventory=shown)
        hold.release()
        hold.release()
        own.take("2x", ledger=ledger, inventory=shown).release()


def test_a_lease_that_ended_is_taken_again_if_nobody_has_the_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "RENEWALS", 600)
    with own.take("1x", ledger=tmp_path / "l", inventory=Shown(TWO)) as hold:
        first = hold._made
        assert hold._manager
        assert first
        hold._manager.release(first.id).result()
        for _ in range(600):
            if hold._made is not first:
                break
            hold._over.wait(0.1)
        assert hold._made
        assert hold._made.cards == first.cards


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "l")
    with made.turn():
        made.supply(with_card(TWO, "a/0", processes=(4711,)))
    yield made
    made.close()


def allocate(ledger: Ledger, request: Request) -> Allocation:
    with ledger.turn():
        made = ledger.allocate(request)
    assert isinstance(made, Allocation)
    return made


def test_named_cards_are_had_whatever_runs_there_but_from_nobody_who_holds_them(ledger: Ledger) -> None:
    both = Request(2, cards=("a/0", "a/1"))
    made = allocate(ledger, both)
    assert Request.decode(made.request.encode()) == both
    for request, reason in (
        (Request(1, cards=("a/1",)), Reason.BUSY),
        (Request(1, cards=("a/9",)), Reason.IMPOSSIBLE),
    ):
        with pytest.raises(Refusal) as refused:
            allocate(ledger, request)
        assert refused.value.reason is reason
    with ledger.turn():
        ledger.release(made.id)
    assert [card.uuid for card in allocate(ledger, Request(1)).cards] == ["a/1"]


def test_who_names_cards_does_not_overtake_who_waits_for_them(ledger: Ledger) -> None:
    with ledger.turn():
        ledger.allocate(Request(2), patience_s=60)
    with pytest.raises(Refusal, match="1 requests wait in line"):
        allocate(ledger, Request(1, cards=("a/1",)))


# who is gone


def other() -> str:
    """A process that names itself, and ends."""
    code = "from worker.gpus import tenants; print(tenants.this())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return said.stdout.strip()


@pytest.mark.skipif(not tenants.this(), reason="this machine does not tell processes apart")
def test_cards_of_a_process_that_ended_come_back_before_their_lease(ledger: Ledger) -> None:
    allocate(ledger, Request(1, process=other()))
    mine = allocate(ledger, Request(1, cards=("a/0",), process=tenants.this()))
    with ledger.turn():
        ledger.sweep()
    assert list(ledger.allocations) == [mine.id]


def test_only_what_is_sure_counts_as_gone() -> None:
    here = tenants.this()
    pid, rest = here.partition(".")[::2]
    assert not tenants.is_gone(here)
    assert not tenants.is_gone("")
    assert not tenants.is_gone(f"{pid}.{rest}-of-another-boot")
    assert tenants.is_gone(f"{pid}.1@{rest.partition('@')[2]}")


def test_a_card_of_any_maker_is_left_to_a_process_by_its_own_variable() -> None:
    assert hardware.of(hardware.AMD, 3).environment == {"HIP_VISIBLE_DEVICES": "3"}
    assert hardware.of(hardware.NVIDIA, 3, "MIG-1").environment["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    amd = [replace(card, maker="amd") for card in TWO[0].cards]
    assert own._meant(amd, [hardware.of(hardware.AMD, 1)]) == [amd[1]]
    with pytest.raises(MachineError, match="the inventory does not know cuda:1"):
        own._meant(amd, [hardware.of(hardware.NVIDIA, 1)])


def test_a_user_without_a_home_is_told_to_name_a_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(MachineError, match="name a file with --ledger"):
        own.take("1x", inventory=Shown(TWO))
