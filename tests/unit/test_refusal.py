"""A worker whose card cannot hold the model says so at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import fake_smi, tiny_models
from worker import cli
from worker.enqueue import Wanted, agree
from worker.errors import MachineError
from worker.hardware.cards import Card
from worker.planning import known, plan
from worker.planning.ghosts import GhostParams, GhostProbing
from worker.planning.machine import Machine
from worker.planning.refusal import Room, compare, rooms
from worker.queue.store import open_store

TOLD = """\
0, GPU-11111111-aaaa, NVIDIA GeForce RTX 2080, 8192
1, GPU-22222222-bbbb, NVIDIA A100-SXM4-80GB, 81920
2, GPU-33333333-cccc, NVIDIA GB10, [N/A]
"""
SEVEN = known.find("qwen2.5-vl-7b")


def test_cards_are_found_by_number_and_by_uuid_and_others_are_left_out() -> None:
    chosen = [Card("cuda", name) for name in ("1", "GPU-11111111-aaaa", "MIG-44444444-dddd", "2")]
    assert [(room.label, room.total) for room in rooms(chosen, TOLD)] == [
        ("NVIDIA A100-SXM4-80GB", 80 << 30),
        ("NVIDIA GeForce RTX 2080", 8 << 30),
    ]
    assert rooms(chosen, "") == []


def test_a_card_that_is_too_small_is_refused_with_what_would_do() -> None:
    with pytest.raises(MachineError, match=r"needs 18\.9 GB .* has 8\.6") as refused:
        compare(SEVEN, GhostParams(), Room("RTX 2080", 8 << 10))
    assert "a larger card" in str(refused.value)
    with pytest.raises(MachineError, match=r"another queue with --set quantise=nf4, 9\.3 GB"):
        compare(SEVEN, GhostParams(), Room("T4", 15 << 10))


@pytest.mark.parametrize(
    ("hw", "mib", "model", "params"),
    [
        ("rtx2080", 8192, "videochat2-hd", GhostParams(engine="videochat2", quantise="nf4")),
        ("rtx4090", 24564, "Qwen/Qwen3-VL-32B-Instruct-AWQ", GhostParams(frames=8)),
    ],
)
def test_what_a_run_starts_a_plan_does_not_refuse(hw: str, mib: int, model: str, params: GhostParams) -> None:
    shape = known.find(model)
    compare(shape, params, Room(hw, mib))
    assert plan.make(GhostProbing(), params, Machine(hw), shape=shape, batch=1).fits


def test_workers_that_share_a_card_share_its_memory() -> None:
    compare(SEVEN, GhostParams(), Room("A100", 80 << 10), workers=4)
    with pytest.raises(MachineError, match="fewer --workers"):
        compare(SEVEN, GhostParams(), Room("A100", 80 << 10), workers=5)


@pytest.fixture
def small_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi of a machine whose one card has a gigabyte."""
    folder = fake_smi.machine(tmp_path / "bin", "NVIDIA Small", mib=1024)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in os.environ:
        if name.startswith("WORKER_") or name.endswith("VISIBLE_DEVICES"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("small_card")
@pytest.mark.parametrize(
    ("visible", "given", "code", "says"),
    [
        ({}, [], 3, "of GPU memory, and NVIDIA Small has"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, [], 2, "shows 2 GPUs, and nothing says which.*--gpus all"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, ["--gpus", "0"], 3, "NVIDIA Small has"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, ["--device", "cpu"], 0, "onto cpu"),
    ],
)
def test_a_model_takes_the_only_gpu_and_asks_which_of_several(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: dict[str, str],
    given: list[str],
    code: int,
    says: str,
) -> None:
    model = tiny_models.checkpoint(tmp_path / "model", "qwen3_vl")
    queue = str(tmp_path / "queue")
    agree(open_store(queue, make=True), Wanted("ghost-probing", "qwen", str(model)))
    for name, value in visible.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "worker", "run", queue, "--idle-exit", "1", "--ttl", "2", *given]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, bool(re.search(says, said.stderr))) == (code, True), said.stderr


@pytest.mark.usefixtures("small_card")
def test_run_refuses_before_anything_is_loaded_unless_it_is_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_models.checkpoint(tmp_path / "model", "qwen3_vl")
    queue = str(tmp_path / "queue")
    capsys.readouterr()
    agree(open_store(queue, make=True), Wanted("ghost-probing", "qwen", str(model)))

    def run(*more: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main(["run", queue, "--gpus", "all", "--idle-exit", "1", "--ttl", "2", *more])
        return int(caught.value.code or 0), capsys.readouterr().err

    code, err = run()
    assert code == 3
    assert re.search(r"model needs 1\.[5-7] GB of GPU memory, and NVIDIA Small has 1\.1", err)
    assert err.count("\n") == 1
    assert "of GPU memory" not in run("--force")[1]
