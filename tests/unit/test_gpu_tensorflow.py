"""TensorFlow on what was allocated: what is set, what is refused, and a model that learns there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("yaml", reason="the extra gpus is not installed")

import worker.gpus as library
from tests import gpu_lessons
from worker.errors import MachineError, UsageError
from worker.gpus import frameworks, on_tensorflow
from worker.gpus.manager import GpuResourceManager
from worker.gpus.on_tensorflow import TensorFlowGPUIntegration

A100 = {"gpu_type": "A100"}
SHAPE = {"input_dim": 4, "hidden_units": [8], "output_dim": 1}
SHARE_MB = int(0.8 * 80e9 / 2**20)

real = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="tensorflow is not installed: make test-tensorflow"
)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[GpuResourceManager]:
    nodes = "{name: a, gpus: 2xA100-80GB}, {name: v, gpus: 2xV100-16GB}"
    (tmp_path / "cluster.yaml").write_text(f"nodes: [{nodes}]")
    yield library.get_gpu_resource_manager(tmp_path / "cluster.yaml", tmp_path / "ledger")
    library.close_gpu_resource_manager()


class Config:
    """tf.config of a machine with cards."""

    def __init__(self, cards: int, capability: tuple[int, int] = (8, 0), computed: bool = False) -> None:
        self.cards = [f"card {number}" for number in range(cards)]
        self._capability, self._computed = capability, computed
        self.visible: list[str] = []
        self.limits: dict[str, int] = {}
        self.growing: list[str] = []
        self.experimental = SimpleNamespace(
            set_memory_growth=lambda card, _: self.growing.append(card),
            get_device_details=lambda _: {"compute_capability": self._capability},
        )

    def list_physical_devices(self, _: str) -> list[str]:
        return self.cards

    def set_visible_devices(self, cards: list[str], _: str) -> None:
        assert os.environ["CUDA_VISIBLE_DEVICES"]  # before, not after
        if self._computed:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        self.visible = cards

    def LogicalDeviceConfiguration(self, memory_limit: int) -> int:  # noqa: N802
        return memory_limit

    def set_logical_device_configuration(self, card: str, limits: list[int]) -> None:
        (self.limits[card],) = limits


class Framework:
    """tensorflow, as far as a setup asks it."""

    __version__ = "2.0"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.policies: list[str] = []
        self.keras = SimpleNamespace(mixed_precision=SimpleNamespace(set_global_policy=self.policies.append))
        self.distribute = SimpleNamespace(
            MirroredStrategy=lambda devices: ("mirrored", devices), get_strategy=lambda: ("default",)
        )


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> Framework:
    monkeypatch.setattr(os, "environ", {**os.environ, "CUDA_VISIBLE_DEVICES": "0"})
    made = Framework(Config(2))
    monkeypatch.setattr(on_tensorflow, "_tensorflow", lambda: made)
    monkeypatch.setattr(on_tensorflow, "_too_late", lambda: "")
    return made


@pytest.mark.usefixtures("manager")
def test_cards_are_visible_and_limited_before_anything_is_computed(framework: Framework) -> None:
    setup = TensorFlowGPUIntegration().setup_tensorflow_gpu({"gpu_count": 2, "mixed_precision": True, **A100})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert framework.config.visible == ["card 0", "card 1"]
    assert framework.config.limits == {"card 0": SHARE_MB, "card 1": SHARE_MB}
    assert framework.policies == ["mixed_bfloat16"]
    assert setup.strategy == ("mirrored", ["GPU:0", "GPU:1"])


@pytest.mark.usefixtures("manager")
def test_a_card_that_only_emulates_bf16_computes_in_fp16(framework: Framework) -> None:
    framework.config = Config(1, capability=(7, 5))
    setup = TensorFlowGPUIntegration().setup_tensorflow_gpu({**A100, "mixed_precision": True})
    assert (setup.settings.mixed_precision, framework.policies) == ("mixed_float16", ["mixed_float16"])


def test_without_a_limit_memory_grows(framework: Framework, manager: GpuResourceManager) -> None:
    framework.config = Config(1)
    made = library.allocate_gpu_resources(A100)
    held = manager.ask(lambda ledger: ledger.get(made.allocation_id)).result()
    ready = frameworks.prepared(made, held)
    unlimited = ready.model_copy(
        update={"tensorflow": ready.tensorflow.model_copy(update={"memory_limit_mb": None})}
    )
    TensorFlowGPUIntegration().setup_tensorflow_gpu(unlimited)
    assert (framework.config.growing, framework.config.limits) == (["card 0"], {})


def test_what_cannot_be_set_is_refused_and_given_back(
    framework: Framework, manager: GpuResourceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    integration = TensorFlowGPUIntegration()
    with pytest.raises(MachineError, match=r"1 A100 were allocated, and TensorFlow 2\.0 finds 2 here"):
        integration.setup_tensorflow_gpu(A100)
    framework.config = Config(1, computed=True)
    with pytest.raises(UsageError, match="TensorFlow has computed already"):
        integration.setup_tensorflow_gpu(A100)
    monkeypatch.setattr(on_tensorflow, "_too_late", lambda: "TensorFlow")
    os.environ["CUDA_VISIBLE_DEVICES"] = "7"
    with pytest.raises(UsageError, match=r"TensorFlow has looked for cards already, with .*'7'; these need"):
        integration.setup_tensorflow_gpu(A100)
    assert not manager.ask(lambda ledger: len(ledger.allocations)).result()


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="tensorflow is installed")
def test_without_tensorflow_it_is_said_what_to_install() -> None:
    with pytest.raises(MachineError, match=r"tensorflow is not installed: pip install .*tensorflow\.txt"):
        library.setup_tensorflow_gpu()


# in processes of their own, for devices are set once


def train(algorithm: Any, gpu_config: dict[str, Any], **parameters: Any) -> Any:
    asked = {"framework": "tensorflow", "gpu_config": gpu_config, "model": SHAPE, **parameters}
    engine = library.AlgorithmTrainingEngine(rehearse=True)
    return asyncio.run(engine.train_algorithm(algorithm, asked)).result


@real
@pytest.mark.usefixtures("manager")
def test_a_process_has_the_strategy_the_policy_and_the_cards_that_were_told() -> None:
    told = train(
        gpu_lessons.tensorflow_as_it_is, {"gpu_count": 2, "gpu_type": "V100", "mixed_precision": True}
    )
    assert told == {
        "cards": "0,1",
        "strategy": "MirroredStrategy",
        "replicas": 2,
        "devices": 2,
        "policy": "mixed_float16",
        "layers": [["Dense", "float16"], ["Dense", "float32"]],
    }


@real
@pytest.mark.usefixtures("manager")
def test_once_it_has_computed_it_takes_no_devices_any_more() -> None:
    said = train(gpu_lessons.tensorflow_too_late, {"enabled": False})
    assert [one.partition(",")[0].partition(" (")[0] for one in said] == [
        "TensorFlow has computed already",
        "TensorFlow has looked for cards already",
    ]


@real
@pytest.mark.usefixtures("manager")
def test_two_replicas_learn_what_one_learns_and_parts_what_a_whole_step_learns(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).random((64, 4), np.float32)
    np.savez(tmp_path / "data.npz", x=inputs, y=inputs.sum(1, keepdims=True))
    out = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for cards, file in enumerate(out, 1):
        more = {"steps": 5, "batch_size": 16, "data": tmp_path / "data.npz", "out": file}
        told = train("mlp", {"gpu_count": cards}, **more)
        assert (told["replicas"], told["samples_at_once"]) == (cards, 16 // cards)
        assert told["loss"] < told["first_loss"]
    one, two = (np.load(file, allow_pickle=False) for file in out)
    assert one.files
    for name in one.files:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5)


@real
def test_a_step_in_parts_is_the_same_step() -> None:
    integration = TensorFlowGPUIntegration()
    integration.setup_tensorflow_gpu()
    inputs = np.random.default_rng(0).random((64, 4), np.float32)
    found = []
    for batch in (0, 10):
        learner = integration.learner("mlp", SHAPE, 0.01, classes=False, seed=3)
        losses = [learner.step(inputs, inputs.sum(1, keepdims=True), batch) for _ in range(5)]
        assert losses[-1] < losses[0]
        found.append(list(learner.weights().values()))
    for whole, parts in zip(*found, strict=True):
        np.testing.assert_allclose(whole, parts, atol=1e-5)


@real
def test_a_model_has_the_layers_that_were_asked_for() -> None:
    integration = TensorFlowGPUIntegration()
    integration.setup_tensorflow_gpu()
    told = {**SHAPE, "hidden_units": [8, 3], "dropout": 0.1}
    model = integration.create_tensorflow_model_with_gpu("mlp", told)
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Dropout"] * 2 + ["Dense"]
    assert model(np.zeros((3, 4), np.float32)).shape == (3, 1)
    with pytest.raises(UsageError, match="no model is called 'cnn'; there are mlp"):
        integration.create_tensorflow_model_with_gpu("cnn", {})
