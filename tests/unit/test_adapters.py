"""Adapters learn beside a model that stays as it was, and nothing else is saved."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import lessons, tiny_models
from tests.unit.test_training import Hook, Job, KilledError, losses, told
from worker import models
from worker.classification import model
from worker.classification.datasets import squared
from worker.classification.engine import Classifier
from worker.classification.teaching import Teaching, publish
from worker.engines import loading
from worker.engines.choice import Choice
from worker.errors import ItemError, MachineError, UsageError
from worker.jobs.workspace import Checkpoint
from worker.tasks.classify import Classify
from worker.training import adapters
from worker.training.adapters import Adapter
from worker.training.beginning import require_same
from worker.training.course import Course
from worker.training.settings import Lora, Training

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("accelerate")
pytest.importorskip("peft", reason="peft is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402

ADAPTED = {
    "lora": {"rank": 4, "alpha": 32, "dropout": 0.1, "targets": "all"},
    "learning_rate": 2e-2,
}


def lesson(folder: Path, method: str, **changed: Any) -> Path:
    file = lessons.write(folder)
    said = "".join(f"  {name}: {one}\n" for name, one in {"method": method, **ADAPTED, **changed}.items())
    text = (
        file.read_text().replace("  learning_rate: 5e-3\n", "").replace("training:\n", f"training:\n{said}")
    )
    file.write_text(text)
    return file


def shown(base: Path, count: int = 1) -> dict[str, Any]:
    reader = model.Reader.of(base, "What is it?", 64)
    chance = np.random.default_rng(0)
    return {**reader.inputs([*chance.integers(0, 255, (count, reader.side, reader.side, 3), np.uint8)])}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("targets", ["language", "all"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_adapters_change_nothing_at_first_and_nothing_else_learns(
    family: str, targets: str, tmp_path: Path
) -> None:
    base = tiny_models.checkpoint(tmp_path / "base", family)
    plain = model.new(base, ["cat", "dog"], "cpu", Training()).eval()
    lora = Lora(rank=2, targets=targets)
    made = model.new(base, ["cat", "dog"], "cpu", Training(method="lora", lora=lora)).eval()
    inputs = shown(base)
    with torch.no_grad():
        assert torch.equal(made(**inputs).logits, plain(**inputs).logits)
    learns = {name for name in adapters.trained(made) if ".lora_" not in name}
    assert learns == {"score.weight"}
    beside = {name.rpartition(".lora_A")[0] for name in adapters.trained(made) if ".lora_A" in name}
    seven = {f"model.language_model.layers.{at}" for at in range(3)}
    assert len([one for one in beside if one.startswith(tuple(seven))]) == 3 * 7
    assert any(".visual." in one for one in beside) == (targets == "all")


def test_layers_compute_again_what_they_do_not_keep(tmp_path: Path) -> None:
    course = Teaching.of(lesson(tmp_path, "lora"), "", "", "cpu").course()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        course.compute_again()
    assert any(getattr(one, "gradient_checkpointing", False) for one in course.model.modules())


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_what_is_saved_is_what_learns_and_nothing_is_left_random(method: str, tmp_path: Path) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    base = tiny_models.checkpoint(tmp_path / "base", "qwen2_5_vl")
    training = Training(method=method, lora=Lora(rank=2))
    made, other, untaught = (model.new(base, ["cat", "dog"], "cpu", training).eval() for _ in range(3))
    with torch.no_grad():
        for one in adapters.trained(made).values():
            one.normal_()
    adapters.save(made, tmp_path / "saved")
    size = sum(one.numel() for one in adapters.trained(made).values())
    assert (tmp_path / "saved" / "model.safetensors").stat().st_size < 4 * size + 20_000
    adapters.load(other, tmp_path / "saved")
    begun = Checkpoint(1, None, tmp_path / "saved")
    require_same(adapters.kept(other), ["cat", "dog"], begun)
    with pytest.raises(ItemError, match="another model"):
        require_same(other.state_dict(), ["cat", "dog"], begun)
    inputs = shown(base)
    with torch.no_grad():
        assert torch.equal(other(**inputs).logits, made(**inputs).logits)
        assert not torch.allclose(untaught(**inputs).logits, made(**inputs).logits, atol=1e-2)
        assert torch.allclose(adapters.settle(other)(**inputs).logits, made(**inputs).logits, atol=1e-3)
    wrong = model.new(base, ["cat", "dog"], "cpu", Training(method=method, lora=Lora(targets="all")))
    with pytest.raises(UsageError, match=r"missing .*lora.* of another shape"):
        adapters.load(wrong, tmp_path / "saved")


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_killed_five_times_it_ends_with_the_same_adapters_which_then_answer(
    method: str, tmp_path: Path
) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    file = lesson(tmp_path / "lesson", method)
    whole, job = Job(file, tmp_path), Job(file, tmp_path)
    done = whole.go_on()
    assert min(losses(done)) < losses(done)[0]
    if method == "lora":
        assert max(line["eval/overall_accuracy"] for line in told(done)) >= 0.9
        chance = random.Random(7)
        for at in sorted(chance.randint(1, 23) for _ in range(5)):
            with pytest.raises(KilledError):
                job.go_on(_deadly(at))
        again = job.go_on()
        assert job.last() == whole.last()
        assert told(again) == told(done)
    before = {file.name for file in (tmp_path / "lesson" / "base").iterdir()}

    taken = _published(whole, done, tmp_path / "taken")
    choice = models.choose(Classify, None, str(taken), None)
    assert choice
    engine = Classifier(replace(choice, file=taken))
    engine.open("cpu")
    pictures = sorted((tmp_path / "lesson" / "colours" / "test").rglob("*.png"))
    said = engine.answer([squared(Image.open(one), engine.reader.side) for one in pictures])
    right = [next(iter(one)) == file.parent.name for one, file in zip(said, pictures, strict=True)]
    assert sum(right) / len(right) == max(line["eval/overall_accuracy"] for line in told(done))
    assert {file.name for file in (tmp_path / "lesson" / "base").iterdir()} == before

    (tmp_path / "lesson" / "base" / "chat_template.jinja").write_text("another")
    with pytest.raises(MachineError, match="this machine has no base tree:"):
        model.trained(Choice("classifier", "taken", file=taken), "cpu")
    (taken / "adapter.json").write_text('{"base": {}}')
    with pytest.raises(UsageError, match=r"adapter\.json cannot be read"):
        Adapter.read(taken)


def test_what_is_frozen_has_sixteen_bits_and_what_learns_has_all(tmp_path: Path) -> None:
    base = tiny_models.checkpoint(tmp_path / "base", "qwen2_5_vl")
    weights = {name: one.bfloat16() for name, one in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    training = Training(method="lora", precision="bf16", lora=Lora(targets="all"))
    made = model.new(base, ["cat", "dog"], "cpu", training)
    learns = adapters.trained(made)
    assert {one.dtype for one in learns.values()} == {torch.float32}
    frozen = {one.dtype for name, one in made.named_parameters() if name not in learns}
    assert frozen == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        made(**shown(base)).logits.sum().backward()
    assert all(one.grad.isfinite().all() and one.grad.dtype == torch.float32 for one in learns.values())


def test_a_model_that_writes_learns_in_four_bits_after_it_was_asked(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers.trainer_utils import validate_quantization_for_training

    base = tiny_models.checkpoint(tmp_path / "base", "qwen3_vl")
    writes = loading.load(
        Choice("qwen", "base", file=base),
        "cpu",
        architectures="AutoModelForImageTextToText",
        quantise="nf4",
        wanted_numbers="fp32",
    ).model
    adapters.attach(writes, Lora(rank=2))
    validate_quantization_for_training(writes)
    words = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        before = writes.eval()(words, labels=words).loss
    Course(writes, [], {}, dict, len, dict, "", 0.0).compute_again()
    learner = torch.optim.SGD(adapters.trained(writes).values(), lr=0.1)
    for _ in range(5):
        writes.train()(words, labels=words).loss.backward()
        learner.step()
        learner.zero_grad()
    with torch.no_grad():
        assert writes.eval()(words, labels=words).loss < before


def _deadly(at: int) -> Hook:
    def hook(what: str, step: int) -> None:
        if what == "step" and step >= at:
            raise KilledError

    return hook


def _published(job: Job, done: Any, into: Path) -> Path:
    workspace = job.workspace()
    publish(done, job.teaching, workspace)
    into.mkdir()
    for name, source in workspace.published.items():
        job.store.download(source, into / name)
    return into
