"""Several processes learn what one learns, however they share it out, and go on with what others made."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import lessons
from tests.ranks import Learnt, Lesson, learn
from worker.training.strategy import INSTALL

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.timeout(600)

STEPS, HALF = 8, 4
HAS_DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
WITHIN = 1e-5
"""of a loss in 32 bits: sums are taken in another order"""


SHARDED = ("fsdp2", "zero2", "zero3") if HAS_DEEPSPEED else ("fsdp2",)
ROUGH: Mapping[str, dict[str, Any]] = {
    f"{name}, rough": {
        "strategy": name,
        "precision": "bf16",
        "offload_optimizer": name == "zero2",
        "gradient_checkpointing": True,
        "gradient_accumulation_steps": 2,
        "batch_size": 2,
    }
    for name in ("ddp", *SHARDED[:2])
}
"""as it is on cards, and with random numbers at every step"""


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Learnt]:
    """By name: what one learnt alone; what two learnt, and learnt in halves, and one after them."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("strategies")
    even = lessons.write(folder / "even", dropout=0.0)
    rough = lessons.write(folder / "rough", dropout=0.2)

    def lesson(queue: str, epoch: int = 1, stop_at: int = 0, copy: str = "", **changed: Any) -> Lesson:
        file = rough if "rough" in queue else even
        # of a batch of three some tests are left over, which fill up a last batch
        settings = {"max_steps": STEPS, "eval_batch_size": 3, "gradient_accumulation_steps": 1, **changed}
        copied = str(folder / copy) if copy else ""
        return Lesson(str(file), str(folder / queue), epoch, settings, stop_at, copied)

    one = {
        "alone": lesson("alone", gradient_accumulation_steps=2),
        "begun": lesson("begun", stop_at=HALF, gradient_accumulation_steps=2),
    }
    two, after = {}, {}
    for name, how in (*((name, {"strategy": name}) for name in ("ddp", *SHARDED)), *ROUGH.items()):
        two[name] = lesson(name, **how)
        two[f"{name}, half"] = lesson(f"{name}-halves", stop_at=HALF, copy=f"{name}-half", **how)
        two[f"{name}, halves"] = lesson(f"{name}-halves", epoch=2, **how)
        if name not in ROUGH:
            after[f"{name}, then one"] = lesson(f"{name}-half", epoch=2)
    two["begun, then two"] = lesson("begun", epoch=2, strategy=SHARDED[-1])
    found = _done(one, folder / "one", 1) | _done(two, folder / "two", 2)
    return found | _done(after, folder / "after", 1)


def _done(lessons: Mapping[str, Lesson], folder: Path, processes: int) -> dict[str, Learnt]:
    return dict(zip(lessons, learn(folder, list(lessons.values()), processes), strict=True))


def alike(one: Learnt, other: Learnt) -> None:
    assert one.losses == pytest.approx(other.losses, abs=WITHIN)
    assert [tried["step"] for tried in one.tried] == [6, 8]
    for tried, expected in zip(one.tried, other.tried, strict=True):
        assert tried == pytest.approx(expected, abs=WITHIN)


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2", "zero3"])
def test_two_learn_what_one_learns_from_twice_as_many_batches(
    name: str, learnt: Mapping[str, Learnt]
) -> None:
    _require(name)
    alike(learnt[name], learnt["alone"])
    assert len(set(learnt[name].weights)) == 1
    assert learnt[f"{name}, half"].stopped
    assert learnt[f"{name}, halves"] == learnt[name]
    alike(learnt[f"{name}, then one"], learnt["alone"])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero2"])
def test_in_16_bits_and_with_random_numbers_halves_are_a_whole(
    strategy: str, learnt: Mapping[str, Learnt]
) -> None:
    _require(strategy)
    name = f"{strategy}, rough"
    assert len(set(learnt[name].weights)) == 1
    assert learnt[f"{name}, half"].stopped
    assert learnt[f"{name}, halves"] == learnt[name]


def test_what_one_began_two_go_on_with(learnt: Mapping[str, Learnt]) -> None:
    assert learnt["begun"].stopped
    alike(learnt["begun, then two"], learnt["alone"])


def _require(name: str) -> None:
    if name not in ("ddp", *SHARDED):
        pytest.skip(f"deepspeed is not installed: {INSTALL}")
