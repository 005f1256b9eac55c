"""A request may name a task: its plan says how much memory, and of how many cards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra gpus is not installed")

from fastapi.testclient import TestClient

from worker.gpus.api import create_app
from worker.gpus.described import DescribedCluster
from worker.gpus.manager import GpuResourceManager
from worker.gpus.memory import Fit, Named, fit
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.shares import Sort, Strategy, share
from worker.hardware import gpus
from worker.planning import kinds, known, plan
from worker.planning.machine import Machine

A100, V100, ADA = Sort("A100", 80, 8), Sort("V100", 16, 4), Sort("RTX4090", 24, 8)


def fits(*sorts: Sort, strategy: Strategy = "conservative", count: int | None = None, **params: Any) -> Fit:
    return fit(Named("classify-train", "qwen2.5-vl-7b", params), strategy, sorts, count)


def refused(*sorts: Sort, task: str = "classify-train", model: str = "", **params: Any) -> Refusal:
    with pytest.raises(Refusal) as told:
        fit(Named(task, model, params), "conservative", sorts)
    return told.value


def test_what_is_needed_is_what_the_plan_says_and_the_card_is_larger_by_the_share() -> None:
    found = fits(A100, method="qlora")
    work = kinds.find("classify-train")()
    params = work.params_type.model_validate({"method": "qlora"})
    made = plan.make(work, params, Machine("a100"), shape=known.find("qwen2.5-vl-7b"))
    assert (found.count, found.batch, found.said) == (1, 8, "")
    assert found.need_gb * 1e9 == pytest.approx(made.needs.gpu_total)
    assert found.need_gb <= 0.8 * found.memory_gb <= found.need_gb + 0.01


def test_a_training_that_is_spread_gets_the_fewest_cards_that_hold_it() -> None:
    found = fits(V100, A100)
    assert found.count == 4
    assert V100.memory_gb < found.memory_gb <= A100.memory_gb
    with pytest.raises(Refusal, match="80% are 64"):
        fits(A100, count=1)


def test_what_does_not_fit_at_once_is_learnt_in_smaller_batches_that_make_the_same_step() -> None:
    found = fits(ADA, method="qlora", batch=128, gradient_accumulation_steps=1)
    assert (found.batch, found.accumulation) == (64, 2)
    assert (
        found.said == "gradient_accumulation_steps 2 with batches of 64, for 1 with batches of 128 do not fit"
    )
    assert found.memory_gb <= 24


def test_who_plans_for_more_of_a_card_fits_a_smaller_one() -> None:
    by = {
        strategy: fits(A100, strategy=strategy, method="qlora").memory_gb
        for strategy in ("aggressive", "dynamic", "conservative")
    }
    assert by["aggressive"] < by["dynamic"] < by["conservative"]
    assert [share("dynamic", parameters) for parameters in (5e8, 7e9, 7e10, None)] == [0.95, 0.9, 0.8, 0.8]


def test_what_no_card_holds_is_refused_in_the_plan_s_words() -> None:
    told = refused(V100)
    assert told.reason is Reason.IMPOSSIBLE
    assert "its plan needs 48.2 GB of each of 4 at a batch of 8, and of the largest here 80% are 12.8" in str(
        told
    )
    assert "what would do: params method=qlora: 9." in str(told)
    assert "方案需要每卡 48.2 GB" in told.text("zh")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"task": "nope"}, "no plans are known for 'nope'"),
        ({"model": "nope"}, "known are qwen2.5-vl-32b"),
        ({"model": "/etc"}, "known are qwen2.5-vl-32b"),
        ({"task": "mlp-train", "model": "qwen2.5-vl-7b"}, "mlp-train has none"),
        ({"method": "x"}, "params.method is \"x\": Input should be 'full', 'lora' or 'qlora'"),
        ({"metod": "x"}, "params.metod"),
    ],
)
def test_what_plans_do_not_know_is_named(asked: dict[str, Any], said: str) -> None:
    told = refused(A100, **asked)
    assert told.reason is Reason.WRONG_VALUE
    assert said in str(told)


@pytest.mark.parametrize("kind", ["MI300X", "Ascend910B", "L40S"])
def test_cards_that_plans_do_not_know_are_known_by_their_memory(kind: str) -> None:
    assert gpus.find(kind) is None
    assert fits(Sort(kind, 64, 8)).need_gb == fits(Sort("A100", 64, 8)).need_gb


# asked over the wire


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    (tmp_path / "cluster.yaml").write_text(
        "nodes: [{name: a, gpus: 8xA100-80GB}, {name: b, gpus: 4xV100-16GB}]"
    )
    manager = GpuResourceManager(DescribedCluster(tmp_path / "cluster.yaml"), tmp_path / "l")
    manager.wait_ready(30)
    yield TestClient(create_app(manager), base_url="http://localhost/api/v1/gpu")
    manager.close()


def test_an_allocation_for_a_task_tells_its_plan(client: TestClient) -> None:
    asked = {"task": "classify-train", "model": "qwen2.5-vl-7b", "memory_strategy": "dynamic"}
    told = client.post("allocate", json=asked).json()
    assert told["plan"]["gpu_count"] == len(told["gpu_config"]["cards"]) == 4
    assert told["gpu_config"]["gpu_memory_fraction"] == told["plan"]["share"] == 0.9
    assert told["plan"]["memory_gb"] <= told["gpu_config"]["memory_gb"] == 80
    assert told["plan"]["needed_gb"] <= 0.9 * 80
    valid = client.post("validate", json=asked).json()
    assert (valid["valid"], valid["available_now"], valid["plan"]) == (True, True, told["plan"])


def test_a_task_that_no_card_holds_is_impossible_and_the_cpu_only_where_it_is_allowed(
    client: TestClient,
) -> None:
    asked = {"task": "classify-train", "gpu_type": "V100", "allow_shrink": True}
    answer = client.post("allocate", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "impossible")
    assert "its plan needs" in answer.json()["error"]["message"]
    assert client.post("validate", json=asked).json()["valid"] is False
    told = client.post("allocate", json={**asked, "allow_cpu": True}).json()
    assert told["gpu_config"]["enabled"] is False
    assert told["message"].startswith("on the CPU: classify-train: never here: its plan needs")
    absent = client.post("allocate", json={"task": "classify-train", "gpu_type": "H100"}).json()
    assert "there are A100 80 GB, V100 16 GB" in absent["error"]["message"]


def test_without_a_task_the_strategy_is_the_framework_s_fraction(client: TestClient) -> None:
    def fraction(**asked: Any) -> float:
        told = client.post("allocate", json=asked).json()["gpu_config"]["gpu_memory_fraction"]
        assert isinstance(told, float)
        return told

    assert fraction() == 0.8
    assert fraction(memory_strategy="aggressive") == 0.95
    assert fraction(memory_strategy="aggressive", gpu_memory_fraction=0.5) == 0.5
