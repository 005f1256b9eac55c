"""PyTorch on what was allocated: what is set, what is refused, and a model that learns there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("yaml", reason="the extra gpus is not installed")

import torch

import worker.gpus as library
from worker.errors import MachineError, UsageError
from worker.gpus import frameworks, on_pytorch
from worker.gpus.manager import GpuResourceManager
from worker.gpus.on_pytorch import PyTorchGPUIntegration

SHAPE = {"input_dim": 4, "hidden_units": [8, 8], "output_dim": 1}
UUIDS = ("GPU-1", "GPU-2")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[GpuResourceManager]:
    nodes = "{name: a, gpus: 2xA100-80GB}, {name: v, gpus: 1xV100-16GB}, {name: n, gpus: 1xAscend910B-64GB}"
    (tmp_path / "cluster.yaml").write_text(f"nodes: [{nodes}]")
    yield library.get_gpu_resource_manager(tmp_path / "cluster.yaml", tmp_path / "ledger")
    library.close_gpu_resource_manager()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was before, afterwards."""
    monkeypatch.setattr(os, "environ", {**os.environ})
    for name in ("CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "RANK", "LOCAL_RANK"):
        os.environ.pop(name, None)


class Cuda:
    """torch.cuda of a machine with cards."""

    def __init__(self, *uuids: str, bf16: bool = True, there: bool = True) -> None:
        self._uuids, self._bf16, self._there = uuids, bf16, there
        self.fractions: list[tuple[float, int]] = []
        self.chosen: list[int] = []

    def is_available(self) -> bool:
        return self._there

    def init(self) -> None:
        assert os.environ["CUDA_VISIBLE_DEVICES"]  # before, not after

    def device_count(self) -> int:
        return len(self._uuids)

    def get_device_properties(self, number: int) -> object:
        return SimpleNamespace(uuid=self._uuids[number])

    def get_device_name(self, number: int) -> str:
        return f"card {number}"

    def set_device(self, number: int) -> None:
        self.chosen.append(number)

    def set_per_process_memory_fraction(self, fraction: float, number: int) -> None:
        self.fractions.append((fraction, number))

    def is_bf16_supported(self, *, including_emulation: bool) -> bool:
        return including_emulation or self._bf16


def set_up(cuda: Cuda, monkeypatch: pytest.MonkeyPatch, asked: Any) -> on_pytorch.PyTorchSetup:
    monkeypatch.setattr(torch, "get_device_module", lambda _: cuda)
    return PyTorchGPUIntegration().setup_pytorch_gpu(asked)


def samples() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    inputs = np.random.default_rng(0).random((64, 4), np.float32)
    return inputs, inputs.sum(1, keepdims=True)


@pytest.mark.usefixtures("manager")
def test_a_card_is_named_before_cuda_is_asked_and_its_share_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda("x")
    made = library.allocate_gpu_resources(
        {"gpu_type": "V100", "gpu_memory_fraction": 0.6, "mixed_precision": True}
    )
    setup = set_up(cuda, monkeypatch, made)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert (setup.device, setup.rank, setup.settings.autocast) == ("cuda:0", 0, "float16")
    assert (cuda.fractions, cuda.chosen) == ([(0.6, 0)], [0])


@pytest.mark.usefixtures("manager")
def test_a_card_that_only_emulates_bf16_computes_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"gpu_type": "A100", "mixed_precision": True}
    assert set_up(Cuda("x", bf16=True), monkeypatch, asked).settings.autocast == "bfloat16"
    library.cleanup_gpu_resources("a")
    assert set_up(Cuda("x", bf16=False), monkeypatch, asked).settings.autocast == "float16"


def test_it_is_too_late_once_cuda_was_asked_with_other_cards(
    manager: GpuResourceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(
        UsageError, match=r"torch\.cuda has looked .*='7'; these need CUDA_VISIBLE_DEVICES='0'"
    ):
        set_up(Cuda("x"), monkeypatch, {"gpu_type": "V100"})
    # what it took itself it gave back
    assert not manager.ask(lambda ledger: len(ledger.allocations)).result()
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    assert set_up(Cuda("x"), monkeypatch, {"gpu_type": "V100"}).device == "cuda:0"


@pytest.mark.usefixtures("manager")
def test_cards_that_torch_does_not_find_are_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match=r"1 V100 were allocated, and torch .* finds no cuda"):
        set_up(Cuda(there=False), monkeypatch, {"gpu_type": "V100"})


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize("seen", [("0", "1", "2"), ("0",), ("1", "9")])
def test_more_cards_than_were_allocated_or_others_are_refused(
    seen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = library.allocate_gpu_resources({"gpu_count": 2})
    for number, card in enumerate(made.gpu_config.cards):
        card.uuid = UUIDS[number]
    monkeypatch.setattr(os, "environ", {**os.environ, "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"})
    with pytest.raises(
        UsageError, match=rf"torch sees {len(seen)} cards .* 2 were allocated \(GPU-1, GPU-2\)"
    ):
        set_up(Cuda(*seen), monkeypatch, made)


@pytest.mark.usefixtures("manager")
def test_two_cards_want_two_processes() -> None:
    with pytest.raises(UsageError, match=r"2 cards want as many processes.*torchrun --nproc-per-node 2"):
        PyTorchGPUIntegration().setup_pytorch_gpu({"gpu_count": 2}, rehearse=True)


@pytest.mark.usefixtures("manager")
def test_what_is_set_up_is_what_the_server_tells() -> None:
    made = library.allocate_gpu_resources({"gpu_type": "V100", "mixed_precision": True})
    held = library.get_gpu_resource_manager().ask(lambda ledger: ledger.get(made.allocation_id)).result()
    told = frameworks.pytorch(library.TrainingGPUConfig(gpu_type="V100", mixed_precision=True), held)
    setup = PyTorchGPUIntegration().setup_pytorch_gpu(made, rehearse=True)
    on_cpu = {"device": "cpu", "backend": "gloo", "memory_fraction": None}
    assert setup.settings == told.model_copy(update=on_cpu)


def test_a_model_has_the_layers_that_were_asked_for() -> None:
    integration = PyTorchGPUIntegration()
    integration.setup_pytorch_gpu()
    model = integration.create_pytorch_model_with_gpu("mlp", {**SHAPE, "activation": "tanh", "dropout": 0.1})
    names = [type(layer).__name__ for layer in model.children()]
    assert names == ["Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    assert model(torch.zeros(3, 4)).shape == (3, 1)


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        ("cnn", {}, "no model is called 'cnn'; there are mlp"),
        (
            "mlp",
            {**SHAPE, "hidden_units": 0},
            "mlp.hidden_units.*: Input should be greater than or equal to 1",
        ),
        ("mlp", {"input_dim": 3, "hidden_units": 3}, "mlp.output_dim: Field required"),
        ("mlp", {**SHAPE, "activation": "sin"}, "mlp.activation: Input should be 'relu', 'gelu'"),
    ],
)
def test_a_wrong_model_is_refused_in_one_line(kind: str, shape: Mapping[str, Any], said: str) -> None:
    integration = PyTorchGPUIntegration()
    integration.setup_pytorch_gpu()
    with pytest.raises(UsageError, match=said):
        integration.create_pytorch_model_with_gpu(kind, shape)


def test_nothing_is_made_before_it_was_set_up() -> None:
    with pytest.raises(UsageError, match="call setup_pytorch_gpu first"):
        PyTorchGPUIntegration().create_pytorch_model_with_gpu("mlp", SHAPE)


def test_a_step_in_parts_is_the_same_step() -> None:
    integration = PyTorchGPUIntegration()
    integration.setup_pytorch_gpu()
    inputs, targets = samples()
    weights = []
    for batch in (0, 10):
        learner = integration.learner("mlp", SHAPE, 0.01, classes=False, seed=3)
        losses = [learner.step(inputs, targets, batch) for _ in range(20)]
        assert losses[-1] < losses[0] / 2
        weights.append(learner.weights())
    for name, found in weights[0].items():
        np.testing.assert_allclose(found, weights[1][name], atol=1e-4)


@pytest.mark.usefixtures("manager")
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    inputs, targets = samples()
    np.savez(tmp_path / "data.npz", x=inputs, y=targets)
    asked = {
        "gpu_config": {"gpu_count": 2, "distributed_training": True},
        "data": tmp_path / "data.npz",
        "model": SHAPE,
        "steps": 5,
        "batch_size": 15,
        "out": tmp_path / "weights.npz",
    }
    heard: list[Mapping[str, Any]] = []
    engine = library.AlgorithmTrainingEngine(rehearse=True)
    told = asyncio.run(engine.train_algorithm("mlp", asked, heard.append))
    assert (told.result["replicas"], told.result["batch_size"], told.result["samples_at_once"]) == (2, 16, 8)
    assert [one["step"] for one in heard if one["stage"] == "training"] == [5]

    integration = PyTorchGPUIntegration()
    integration.setup_pytorch_gpu()
    alone = integration.learner("mlp", SHAPE, 1e-3, classes=False)
    draw = np.random.default_rng(0)
    for _ in range(5):
        chosen = draw.integers(len(inputs), size=16)
        loss = alone.step(inputs[chosen], targets[chosen])
    assert told.result["loss"] == pytest.approx(loss, rel=1e-4)
    saved = np.load(tmp_path / "weights.npz", allow_pickle=False)
    for name, found in alone.weights().items():
        np.testing.assert_allclose(saved[name], found, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card here")
@pytest.mark.parametrize("mixed", [False, True])
def test_a_real_card_learns_within_its_share(tmp_path: Path, mixed: bool) -> None:
    np.savez(tmp_path / "data.npz", **dict(zip("xy", samples(), strict=True)))
    library.get_gpu_resource_manager(ledger=tmp_path / "ledger")
    try:
        config = {"gpu_count": 1, "mixed_precision": mixed, "gpu_memory_fraction": 0.3}
        asked = {"gpu_config": config, "data": tmp_path / "data.npz", "model": SHAPE, "steps": 50}
        told = asyncio.run(library.AlgorithmTrainingEngine().train_algorithm("mlp", asked))
    finally:
        library.close_gpu_resource_manager()
    assert told.device == "cuda"
    assert told.result["loss"] < told.result["first_loss"]
