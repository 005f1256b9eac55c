"""Faults of the machine are told apart from failures of items, and counted."""

from __future__ import annotations

import pytest

from tests.fakes import answered, failed
from worker.blame import ILL_AFTER, failure_of
from worker.errors import EndpointAwayError, MachineError, UnfinishedError, UsageError, WorkerError
from worker.faults import Faults
from worker.items import UNANSWERED, Item, Result

ITEMS = [Item(f"id{n}", f"{n}") for n in range(10)]


@pytest.mark.parametrize("error", [MachineError("a"), UnfinishedError("b"), EndpointAwayError("c")])
def test_what_stops_a_worker_is_no_items_fault(error: WorkerError) -> None:
    assert failure_of(error).blames_machine
    assert not failure_of(UsageError("d")).blames_machine


def test_an_answer_and_an_items_own_failure_are_final() -> None:
    faults = Faults()
    assert faults.is_final(answered(ITEMS[0]))
    assert all(faults.is_final(failed(item)) for item in ITEMS)


@pytest.mark.parametrize("kind", ["store", "device", "system"])
def test_several_different_items_in_a_row_are_an_ill_machine(kind: str) -> None:
    faults = Faults()
    assert not any(faults.is_final(failed(item, kind)) for item in ITEMS[: ILL_AFTER - 1])
    with pytest.raises(MachineError, match="this machine is ill, 3 items in a row: no"):
        faults.is_final(failed(ITEMS[ILL_AFTER], kind))


def test_one_item_alone_is_no_ill_machine_but_a_failed_item() -> None:
    faults = Faults()
    assert [faults.is_final(failed(ITEMS[0], "device")) for _ in range(ILL_AFTER)] == [False, False, True]


def test_what_was_not_answered_is_nobodys_fault() -> None:
    faults = Faults()
    assert not any(faults.is_final(Result(item.id, "", UNANSWERED)) for item in ITEMS)


def test_what_is_never_answered_fails_in_the_end_and_does_not_go_round_for_ever() -> None:
    faults, result = Faults(), Result("id", "", UNANSWERED)
    assert [faults.is_final(result) for _ in range(ILL_AFTER)] == [False, False, True]


def test_when_stopping_it_is_no_result_however_often() -> None:
    faults, result = Faults(), Result("id", "", UNANSWERED)
    assert [faults.judge([result], stopping=True) for _ in range(ILL_AFTER)] == [([], None)] * ILL_AFTER


@pytest.mark.parametrize("between", [answered(ITEMS[-1]), failed(ITEMS[-1])], ids=["answer", "failure"])
def test_work_done_between_them_ends_a_row(between: object) -> None:
    faults = Faults()
    for item in ITEMS[:-1]:
        assert not faults.is_final(failed(item, "device"))
        assert faults.is_final(between)  # type: ignore[arg-type]
