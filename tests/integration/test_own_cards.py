"""`worker run --gpus`: workers take their cards from one ledger and never meet; nvidia-smi is a fake one."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests import fake_smi
from tests.tasks.sayings import HASTE
from tests.workers import Worker, answers, eventually, finish, run, worker
from worker.gpus.ledger import Ledger

pytestmark = pytest.mark.skipif(
    Path("/dev/nvidiactl").exists(), reason="a real NVIDIA driver answers here, and not the fake one"
)
ITEMS = [f"item {number}" for number in range(9)]


@pytest.fixture(autouse=True)
def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    folder = fake_smi.machine(tmp_path / "bin", *2 * ["NVIDIA A100-SXM4-80GB"])
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def queue_of(folder: Path) -> Path:
    code, said = run("enqueue", folder / "queue", "--task", "sleepy", "--set", "seconds=60", *ITEMS)
    assert code == 0, said
    return folder / "queue"


def card_of(one: Worker) -> str:
    found = re.search(r"--gpus \S+: (cuda:\d)", one.said)
    return found[1] if found else ""


def test_workers_never_share_a_card_and_one_that_is_killed_leaves_his_at_once(tmp_path: Path) -> None:
    queue, haste = queue_of(tmp_path), tmp_path / "haste"
    command = ("run", queue, "--ttl", "2s", "--ledger", tmp_path / "gpus.sqlite")
    env = {HASTE: str(haste)}
    three = [worker(*command, "--gpus", "1xA100", env=env) for _ in range(3)]
    eventually(lambda: sum(card_of(one) != "" for one in three) == 2)
    (refused,) = (one for one in three if not card_of(one))
    holders = [one for one in three if one is not refused]
    assert {card_of(one) for one in holders} == {"cuda:0", "cuda:1"}
    code, said = finish(refused)
    assert code == 75
    assert f"(process {holders[0].pid})" in said
    assert "not free now: 0 of 2 such cards are free" in said
    assert "--wait-gpus 10m waits for them" in said

    code, said = run(*command, "--gpus", "all")
    assert (code, "0 of 2 such cards are free" in said) == (75, True), said
    code, said = run(*command, "--gpus", "3x")
    assert (code, "2 such cards are here" in said) == (3, True), said

    patient = worker(*command, "--gpus", card_of(holders[0])[-1], "--wait-gpus", "60s", env=env)
    holders[0].signal_all(signal.SIGKILL)
    haste.touch()
    for one in (holders[1], patient):
        code, said = finish(one)
        assert code == 0, said
    assert sorted(answers(queue)) == ITEMS
    assert left(tmp_path) == []


def test_cards_on_which_others_compute_are_avoided_unless_they_are_named(
    tmp_path: Path, two_cards: Path
) -> None:
    (two_cards / "tenants").write_text("GPU-0000, 4711\n")
    queue, env = queue_of(tmp_path), {HASTE: str(two_cards)}
    command = ("run", queue, "--ledger", tmp_path / "gpus.sqlite")
    code, said = run(*command, "--gpus", "2x", env=env)
    assert code == 75, said
    assert "1 of 2 such cards are free, 1 in use by others" in said
    code, said = run(*command, "--gpus", "1x", env=env)
    assert code == 0, said
    assert "--gpus 1x: cuda:1" in said
    code, said = run(*command, "--gpus", "0", env=env)
    assert code == 0, said
    assert "card 0: others compute there: 4711" in said
    assert left(tmp_path) == []


def test_where_no_ledger_can_be_kept_named_cards_are_taken_all_the_same(tmp_path: Path) -> None:
    queue, env = queue_of(tmp_path), {HASTE: str(tmp_path)}
    (tmp_path / "notes").write_text("no folder")
    command = ("run", queue, "--ledger", tmp_path / "notes" / "gpus.sqlite")
    code, said = run(*command, "--gpus", "1x", env=env)
    assert (code, "is it a ledger of GPUs" in said) == (3, True), said
    code, said = run(*command, "--gpus", "all", env=env)
    assert code == 0, said
    assert "--gpus 0,1: not entered into the ledger, so others may be given them too" in said


def left(folder: Path) -> list[str]:
    ledger = Ledger(folder / "gpus.sqlite")
    with ledger.turn():
        found = list(ledger.allocations)
    ledger.close()
    return found
