"""A training that takes its own cards: each sees its own alone, and they come back however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml", reason="the extra gpus is not installed")

import worker.gpus as library
from tests import gpu_lessons
from worker.errors import UsageError
from worker.gpus import AlgorithmTrainingEngine, TrainingError, TrainingTold
from worker.gpus.ledger import Ledger
from worker.gpus.manager import GpuResourceManager
from worker.gpus.refusals import Refusal

ROOT = Path(__file__).parents[2]
ONE = {"gpu_config": {"gpu_count": 1}}
ALL = {"gpu_config": {"gpu_count": 2, "wait_s": 600}}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[GpuResourceManager]:
    (tmp_path / "cluster.yaml").write_text("nodes: [{name: a, gpus: 2xA100-80GB}]")
    yield library.get_gpu_resource_manager(tmp_path / "cluster.yaml", tmp_path / "ledger")
    library.close_gpu_resource_manager()


def holds(manager: GpuResourceManager) -> tuple[int, int]:
    """Allocations, and who waits."""
    return manager.ask(lambda ledger: (len(ledger.allocations), len(ledger.waiting))).result()


async def come_true(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


class Heard:
    def __init__(self) -> None:
        self.all: list[Mapping[str, Any]] = []

    def __call__(self, what: Mapping[str, Any]) -> None:
        self.all.append(what)

    def has(self, name: str) -> bool:
        return any(name in one for one in self.all)

    def of(self, name: str) -> Any:
        return next(one[name] for one in self.all if name in one)


def train(
    algorithm: Any, parameters: Mapping[str, Any], progress: Any = None
) -> Coroutine[Any, Any, TrainingTold]:
    return AlgorithmTrainingEngine(rehearse=True).train_algorithm(algorithm, parameters, progress)


def test_two_at_once_see_a_card_each_and_the_program_goes_on(
    manager: GpuResourceManager, tmp_path: Path
) -> None:
    until = tmp_path / "go on"
    heard = Heard(), Heard()

    async def both() -> list[TrainingTold]:
        asked = {**ONE, "until": str(until)}
        told = asyncio.gather(*(train(gpu_lessons.cards, asked, one) for one in heard))
        await come_true(lambda: all(one.has("pid") for one in heard))
        assert holds(manager) == (2, 0)
        until.touch()
        return list(await told)

    told = asyncio.run(both())
    assert {one.result["cards"] for one in told} == {"0", "1"}
    assert not any(one.result["torch"] for one in told)  # the environment was there before any framework
    assert told[0].gpu_config["environment"] == {"a": {"CUDA_VISIBLE_DEVICES": told[0].result["cards"]}}
    assert [one["stage"] for one in heard[0].all] == ["start", "training"]
    assert len({os.getpid(), heard[0].of("pid"), heard[1].of("pid")}) == 3
    assert holds(manager) == (0, 0)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "failing: ValueError: no such optimiser"),
        ("dies", "failing: its process ended by signal 9"),
        ("exits", "failing: its process ended with exit code 5 and without an answer"),
        ("answers", "failing: TypeError: Object of type set is not JSON serializable"),
    ],
)
def test_a_training_that_fails_is_told_and_gives_its_cards_back(
    how: str, said: str, manager: GpuResourceManager
) -> None:
    with pytest.raises(TrainingError, match=said):
        asyncio.run(train("tests.gpu_lessons:failing", {**ONE, "how": how}))
    assert holds(manager) == (0, 0)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_cancelled_training_ends_with_its_children_before_its_cards_are_free(
    deaf: bool, manager: GpuResourceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.gpus.apprentices.GRACE_S", 0.2)
    heard = Heard()

    async def cancelled() -> None:
        task = asyncio.ensure_future(train(gpu_lessons.endless, {**ONE, "deaf": deaf}, heard))
        await come_true(lambda: heard.has("pids"))
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # again, while it is ending
        with pytest.raises(asyncio.CancelledError):
            await task
        assert holds(manager) == (0, 0)
        await come_true(lambda: not any(map(is_alive, heard.of("pids"))))

    asyncio.run(cancelled())


def test_who_is_cancelled_in_line_leaves_it(manager: GpuResourceManager) -> None:
    held = library.allocate_gpu_resources({"gpu_count": 1})

    async def cancelled() -> None:
        task = asyncio.ensure_future(train(gpu_lessons.cards, ALL))
        await come_true(lambda: holds(manager) == (1, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert holds(manager) == (1, 0)
    library.cleanup_gpu_resources(allocation_id=held.allocation_id)


def test_cards_come_back_though_the_manager_finds_none_any_more(
    manager: GpuResourceManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = tmp_path / "go on"

    async def unready() -> None:
        heard = Heard()
        task = asyncio.ensure_future(train(gpu_lessons.cards, {**ONE, "until": str(until)}, heard))
        await come_true(lambda: heard.has("pid"))
        with monkeypatch.context() as ill:
            ill.setattr(manager, "_trouble", "the driver is away")
            until.touch()
            await task

    asyncio.run(unready())
    assert holds(manager) == (0, 0)


def test_a_place_among_other_processes_is_not_handed_on(
    manager: GpuResourceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")  # the program is one of several that torchrun started
    assert asyncio.run(train(gpu_lessons.cards, ONE)).result["cards"] == "0"
    assert holds(manager) == (0, 0)


def test_cancelled_before_anything_happened_it_leaves_nothing(manager: GpuResourceManager) -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(train(gpu_lessons.cards, ONE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert holds(manager) == (0, 0)


def test_a_timeout_of_the_caller_is_a_cancellation_too(manager: GpuResourceManager) -> None:
    async def impatient() -> None:
        async with asyncio.timeout(0.5):
            await train(gpu_lessons.endless, ONE)

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert holds(manager) == (0, 0)


@pytest.mark.parametrize("by", ["this program", "another"])
def test_one_whose_cards_were_taken_back_ends(by: str, manager: GpuResourceManager) -> None:
    heard = Heard()

    async def robbed() -> None:
        task = asyncio.ensure_future(
            train(gpu_lessons.endless, {"gpu_config": {"lease_s": 1}}, heard),
        )
        await come_true(lambda: heard.has("pids"))
        if by == "another":
            manager.clean("a").result()
        else:
            library.cleanup_gpu_resources("a")
        with pytest.raises(TrainingError, match="its cards were taken back"):
            await task
        await come_true(lambda: not any(map(is_alive, heard.of("pids"))))

    asyncio.run(robbed())


def test_when_its_program_is_killed_the_training_ends_and_the_lease_gives_the_cards_back(
    tmp_path: Path,
) -> None:
    (tmp_path / "cluster.yaml").write_text("nodes: [{name: a, gpus: 2xA100-80GB}]")
    program = textwrap.dedent("""
        import asyncio, json, sys
        from pathlib import Path
        import worker.gpus as library
        library.get_gpu_resource_manager(Path("cluster.yaml"), Path("ledger"))
        engine = library.AlgorithmTrainingEngine(rehearse=True)
        asked = {"gpu_config": {"lease_s": 2}}
        say = lambda what: print(json.dumps(what), flush=True)
        asyncio.run(engine.train_algorithm("tests.gpu_lessons:endless", asked, say))
    """)
    started = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout
    pids = next(told["pids"] for told in map(json.loads, started.stdout) if "pids" in told)
    assert all(map(is_alive, pids))
    started.send_signal(signal.SIGKILL)
    started.communicate()
    asyncio.run(come_true(lambda: not any(map(is_alive, pids))))

    ledger = Ledger(tmp_path / "ledger")

    def is_free() -> bool:
        with ledger.turn():
            ledger.sweep()
            return not ledger.allocations

    with ledger.turn():
        assert len(ledger.allocations) == 1
    asyncio.run(come_true(is_free))
    ledger.close()


def test_the_cpu_is_taken_only_where_that_was_allowed_and_is_said(manager: GpuResourceManager) -> None:
    three = {"gpu_count": 3}
    with pytest.raises(Refusal, match="never here"):
        asyncio.run(train(gpu_lessons.cards, {"gpu_config": three}))
    told = asyncio.run(train(gpu_lessons.cards, {"gpu_config": {**three, "allow_cpu": True}}))
    assert (told.device, told.result["cards"]) == ("cpu", "-1")
    assert "on the CPU: 3 GPU: never here" in told.message
    told = asyncio.run(train(gpu_lessons.cards, {}))
    assert told.message == "on the CPU: no GPU was asked for"
    assert holds(manager) == (0, 0)


def test_where_no_gpu_is_ever_found_a_program_may_go_on_without(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("nodes: []")
    try:
        with pytest.raises(Refusal, match="no GPU was found"):
            library.get_gpu_resource_manager(tmp_path / "cluster.yaml", tmp_path / "ledger")
        told = asyncio.run(train(gpu_lessons.cards, {"gpu_config": {"allow_cpu": True}}))
        assert "no GPU was found" in told.message
    finally:
        library.close_gpu_resource_manager()


def test_cards_of_another_machine_are_not_taken_for_ours(manager: GpuResourceManager) -> None:
    with pytest.raises(UsageError, match=r"a is not this machine .* rehearse=True"):
        asyncio.run(AlgorithmTrainingEngine().train_algorithm(gpu_lessons.cards, ONE))
    assert holds(manager) == (0, 0)


def test_what_listens_to_the_progress_may_fail_and_ends_the_training(manager: GpuResourceManager) -> None:
    def listener(what: Mapping[str, Any]) -> None:
        if "pids" in what:
            raise LookupError("no such chart")

    with pytest.raises(LookupError, match="no such chart"):
        asyncio.run(train(gpu_lessons.endless, ONE, listener))
    assert holds(manager) == (0, 0)


@pytest.mark.parametrize(
    ("algorithm", "parameters", "said"),
    [
        ("resnet", {}, "no algorithm is called 'resnet': there are mlp, and module:function"),
        ("mlp", {"framework": "jax"}, "framework is 'jax': there are pytorch and tensorflow"),
        ("mlp", {"gpu_config": {"gpu_count": 0}}, "gpu_config.gpu_count: Input should be greater"),
        ("mlp", {"gpu_config": {"gpus": 2}}, "gpu_config.gpus: Extra inputs are not permitted"),
        ("mlp", {"data": {1, 2}}, "parameters go to another process as JSON: set is not JSON"),
        (lambda: None, {}, "cannot be found by another process: define it with def"),
    ],
)
def test_a_wrong_order_is_refused_in_one_line(algorithm: Any, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        asyncio.run(train(algorithm, parameters))
    assert "\n" not in str(refused.value)
