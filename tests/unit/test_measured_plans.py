"""What was planned stands beside what was measured, and the next plan assumes what the card reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from worker.engines.choice import Choice
from worker.hardware import gpus
from worker.planning import kinds, known, plan
from worker.planning.ghosts import GhostParams
from worker.planning.learnt import Learnt
from worker.planning.machine import Machine
from worker.planning.measured import Planned, card_of
from worker.planning.memory import CONTEXT
from worker.planning.seconds import ASSUMED
from worker.queue.beat import Beat
from worker.report.performance import performance

CARD = "NVIDIA A100-SXM4-80GB"
PEAK = 312e12


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    folder = tiny_models.checkpoint(tmp_path / "model", "qwen3_vl")
    return Planned(Choice("qwen", "small", "tree:0", folder), GhostParams())


def spent(**more: Any) -> dict[str, Any]:
    """Of a run whose card reached 40 % of its peak."""
    return {
        "devices": [f"cuda:0 ({CARD})"],
        "requests": 100,
        "prompt_tokens": 100 * 3000,
        "generated_tokens": 100 * 50,
        "prefill_flops": 100 * PEAK,
        "prefill_s": 250.0,
        "decode_steps": 500,
        "decode_s": 20.0,
        "peak_memory": "21.3 GB",
        **more,
    }


def test_the_card_is_the_one_a_worker_sees() -> None:
    assert card_of(spent()) == CARD
    assert card_of({"devices": ["cpu (CPU)"]}) is None
    assert card_of({"devices": [f"cuda:0 ({CARD})", f"cuda:1 ({CARD})"]}) is None
    assert card_of({}) is None


def test_what_was_planned_stands_beside_what_was_measured(planned: Planned) -> None:
    told = planned.told(1, spent())["planned"]
    assert told["prefill_s"]["measured"] == 250.0
    low, high = told["prefill_s"]["planned"]
    assert low < 250 < high
    assert [low, high] == pytest.approx([100 / ASSUMED.prefill.high, 100 / ASSUMED.prefill.low], abs=0.1)
    assert told["gpu_memory_gb"]["measured"] == 21.3
    assert told["gpu_memory_gb"]["planned"] < CONTEXT / 1e9, "torch's peak has no context"
    seen = planned.told(1, spent(vision_s=50.0))["planned"]
    assert seen["prefill_s"]["measured"] == 300.0
    assert planned.told(1, spent(devices=["cpu (CPU)"])) == {}
    assert planned.told(1, spent(requests=0)) == {}


def test_performance_tells_it_by_worker(planned: Planned) -> None:
    info = {"spent": {**spent(), **planned.told(1, spent())}}
    went = performance([], [Beat("w", 1, 60.0, info=info, at=1.0)], 0)
    (worker,) = went["workers"]
    assert worker["planned"]["prefill_s"]["measured"] == 250.0


def test_the_next_plan_assumes_what_the_card_reached(planned: Planned, tmp_path: Path) -> None:
    learnt = Learnt(tmp_path / "cache" / "plans.json")
    assert learnt.of(gpus.find(CARD)) == (ASSUMED, None)
    planned.learn(spent(), learnt)
    reached, card = learnt.of(gpus.find(CARD))
    assert card == CARD
    assert (reached.prefill.low, reached.prefill.high) == pytest.approx((0.34, 0.46))
    assert learnt.of(gpus.find("NVIDIA L4")) == (ASSUMED, None)

    work = kinds.find("ghost-probing")()

    def prefill(**more: Any) -> float:
        asked = plan.make(
            work, GhostParams(), Machine("a100", **more), shape=known.find("qwen2.5-vl-7b"), batch=1
        )
        span = asked.needs.seconds["prefill"]
        return span.high / span.low

    assert prefill(reached=reached, reached_on=card) < prefill() / 1.5


def test_a_short_run_and_a_torn_file_teach_nothing(planned: Planned, tmp_path: Path) -> None:
    learnt = Learnt(tmp_path / "plans.json")
    planned.learn(spent(requests=3), learnt)
    assert not (tmp_path / "plans.json").exists()
    (tmp_path / "plans.json").write_text(f'{{"{CARD}": {{"prefill": "much"}}}}')
    assert learnt.of(gpus.find(CARD)) == (ASSUMED, None)
