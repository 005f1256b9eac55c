"""PyTorch on what was allocated, and nowhere else."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.errors import MachineError, UsageError
from worker.gpus import library, models, surroundings
from worker.gpus.forms import AllocateTold
from worker.gpus.frameworks import Prepared, PyTorchSettings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

RENDEZVOUS = "WORKER_GPUS_RENDEZVOUS"
"""a file where the processes of one training find each other; without it as torchrun says"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PyTorchSetup:
    """Of this process."""

    settings: PyTorchSettings
    told: AllocateTold
    device: str
    """cuda:0 …, or cpu"""
    rank: int = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Where the model computes its output and its loss."""
        import torch

        if not self.settings.autocast:
            return nullcontext()
        return torch.autocast(self.settings.device, getattr(torch, self.settings.autocast))


class PyTorchGPUIntegration:
    def __init__(self) -> None:
        self._setup: PyTorchSetup | None = None

    @property
    def setup(self) -> PyTorchSetup:
        if self._setup is None:
            raise UsageError("PyTorch was not set up in this process: call setup_pytorch_gpu first")
        return self._setup

    def setup_pytorch_gpu(
        self,
        gpu_config: AllocateTold | Prepared | library.Asked | None = None,
        *,
        node_name: str = "",
        rehearse: bool = False,
    ) -> PyTorchSetup:
        """`gpu_config`: what allocate_gpu_resources answered, or what it should be asked for; None: the CPU.

        `rehearse`: all of it but on the CPU, for the cards of a described cluster."""
        ready = gpu_config if isinstance(gpu_config, Prepared) else library.prepare_gpu_resources(gpu_config)
        try:
            self._setup = _set_up(ready.rehearsed() if rehearse else ready, node_name)
        except BaseException:
            if ready.told.allocation_id and not isinstance(gpu_config, AllocateTold | Prepared):
                library.cleanup_gpu_resources(allocation_id=ready.told.allocation_id)
            raise
        return self._setup

    def create_pytorch_model_with_gpu(self, kind: str, model_config: Mapping[str, Any]) -> nn.Module:
        """On the device that was set up; of several processes each holds the same model."""
        model = build(models.read(kind, model_config)).to(self.setup.device)
        if self.setup.settings.world_size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        on_card = self.setup.settings.device != "cpu"
        return DistributedDataParallel(model, device_ids=[self.setup.device] if on_card else None)

    def learner(
        self,
        kind: str,
        model_config: Mapping[str, Any],
        learning_rate: float,
        *,
        classes: bool,
        seed: int = 0,
    ) -> PyTorchLearner:
        import torch

        torch.manual_seed(seed)
        model = self.create_pytorch_model_with_gpu(kind, model_config)
        return PyTorchLearner(self.setup, model, learning_rate, classes)

    def room(self) -> float:
        """Bytes that this process may take on its device."""
        import torch

        settings = self.setup.settings
        if settings.device == "cpu":
            return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        free, total = torch.get_device_module(settings.device).mem_get_info(self.setup.device)
        return float(min(free, (settings.memory_fraction or 1.0) * total))

    def close(self) -> None:
        """Before its processes end. The cards stay held: cleanup_gpu_resources gives them back."""
        if self._setup and self._setup.settings.world_size > 1:
            import torch.distributed

            torch.distributed.destroy_process_group()
        self._setup = None


class PyTorchLearner:
    """A model with what teaches it."""

    def __init__(self, setup: PyTorchSetup, model: nn.Module, learning_rate: float, classes: bool) -> None:
        import torch
        from torch import nn

        self.model = model
        self.replicas = setup.settings.world_size
        self._setup = setup
        self._optimiser = torch.optim.Adam(model.parameters(), learning_rate)
        self._loss = nn.CrossEntropyLoss() if classes else nn.MSELoss()
        self._scaler = torch.amp.GradScaler(
            setup.settings.device,
            enabled=setup.settings.autocast == "float16" and setup.settings.device != "cpu",
        )

    def step(self, inputs: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], batch: int = 0) -> float:
        """Of all replicas' samples, each replica its share, `batch` at a time; 0: all at once. The loss."""
        import torch

        mine = slice(self._setup.rank, None, self.replicas)
        samples = torch.as_tensor(inputs[mine], device=self._setup.device)
        wanted = torch.as_tensor(targets[mine], device=self._setup.device)
        self.model.train()
        self._optimiser.zero_grad()
        loss = torch.zeros((), device=self._setup.device)
        for part, last in _parts(len(samples), batch):
            with self._together(last), self._setup.autocast():
                share = (part.stop - part.start) / len(samples)
                of_part = self._loss(self.model(samples[part]), wanted[part]) * share
                self._scaler.scale(of_part).backward()
            loss += of_part.detach()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        if self.replicas > 1:
            torch.distributed.all_reduce(loss)
        return float(loss) / self.replicas

    def weights(self) -> Mapping[str, np.ndarray[Any, Any]]:
        plain: torch.nn.Module = getattr(self.model, "module", self.model)
        return {name: one.detach().float().cpu().numpy() for name, one in plain.state_dict().items()}

    def _together(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel once a step."""
        apart = self.replicas > 1 and not last
        return self.model.no_sync() if apart else nullcontext()  # type: ignore[operator]


def _parts(count: int, batch: int) -> Iterator[tuple[slice, bool]]:
    size = batch or count
    for start in range(0, count, size):
        yield slice(start, min(start + size, count)), start + size >= count


def build(shape: models.Mlp) -> nn.Sequential:
    from torch import nn

    activation = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[shape.activation]
    layers: list[nn.Module] = []
    before = shape.input_dim
    for units in shape.hidden:
        layers += [nn.Linear(before, units), activation()]
        if shape.dropout:
            layers.append(nn.Dropout(shape.dropout))
        before = units
    return nn.Sequential(*layers, nn.Linear(before, shape.output_dim))


def _set_up(ready: Prepared, node_name: str) -> PyTorchSetup:
    settings = ready.pytorch
    if ready.told.gpu_config.enabled:
        surroundings.enter(surroundings.environment(ready.told, node_name), _too_late())
    rank, local_rank = _place(settings)
    if settings.device == "cpu":
        setup = PyTorchSetup(settings, ready.told, "cpu", rank)
    else:
        setup = PyTorchSetup(
            _on_cards(ready, local_rank), ready.told, f"{settings.device}:{local_rank}", rank
        )
    _join(setup)
    return setup


def _too_late() -> str:
    torch = sys.modules.get("torch")
    return "torch.cuda" if torch and torch.cuda.is_initialized() else ""


def _place(settings: PyTorchSettings) -> tuple[int, int]:
    """As torchrun tells it: among all, and on this node."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != settings.world_size:
        raise UsageError(
            f"{settings.world_size} cards want as many processes, and there are {world_size}: start it with "
            f"torchrun --nproc-per-node {settings.nproc_per_node}, or let AlgorithmTrainingEngine do it"
        )
    if world_size == 1:
        return 0, 0
    return int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])


def _on_cards(ready: Prepared, local_rank: int) -> PyTorchSettings:
    """What the cards themselves say counts more than what their names let expect."""
    import torch

    settings = ready.pytorch
    if settings.device == "npu":
        importlib.import_module("torch_npu")
    cards: Any = torch.get_device_module(settings.device)
    if not cards.is_available():
        raise MachineError(
            f"{ready.told.gpu_config.gpu_count} {ready.told.gpu_config.gpu_type} were allocated, and "
            f"torch {torch.__version__} finds no {settings.device} here: install the torch of these cards "
            "(docs/compatibility.md); cards that only a file describes can be rehearsed: rehearse=True"
        )
    cards.init()
    _check_seen(ready, cards)
    cards.set_device(local_rank)
    if settings.memory_fraction is not None:
        cards.set_per_process_memory_fraction(settings.memory_fraction, local_rank)
    if settings.device == "cuda" and settings.autocast == "bfloat16" and not _has_bf16(cards):
        log.warning("%s only emulates bfloat16: float16 is taken", cards.get_device_name(local_rank))
        return settings.model_copy(update={"autocast": "float16"})
    return settings


def _has_bf16(cards: Any) -> bool:
    return bool(cards.is_bf16_supported(including_emulation=False))


def _check_seen(ready: Prepared, cards: Any) -> None:
    """Who asked CUDA anything, if only whether it is there, has fixed what this process sees."""
    seen = [f"GPU-{getattr(cards.get_device_properties(n), 'uuid', '')}" for n in range(cards.device_count())]
    held = [one.uuid for one in ready.told.gpu_config.cards]
    # slices, and other makers' cards, are not called so by torch
    told = held[0].startswith("GPU-") and "CUDA_VISIBLE_DEVICES" in os.environ
    others = [one for one in seen if one not in held] if told else []
    if len(seen) != ready.pytorch.nproc_per_node or others:
        raise UsageError(
            f"torch sees {len(seen)} cards ({', '.join(seen)}), and {ready.pytorch.nproc_per_node} were "
            f"allocated ({', '.join(held)}): set them up before anything asks for torch.cuda"
        )


def _join(setup: PyTorchSetup) -> None:
    if setup.settings.world_size == 1:
        return
    import torch.distributed

    place = os.environ.get(RENDEZVOUS)
    torch.distributed.init_process_group(
        setup.settings.backend,
        init_method=f"file://{place}" if place else "env://",
        rank=setup.rank,
        world_size=setup.settings.world_size,
    )


_integration = PyTorchGPUIntegration()


def get_pytorch_gpu_integration() -> PyTorchGPUIntegration:
    """The one of this process: a process has one CUDA."""
    return _integration


def setup_pytorch_gpu(
    gpu_config: AllocateTold | library.Asked | None = None, *, node_name: str = "", rehearse: bool = False
) -> PyTorchSetup:
    return _integration.setup_pytorch_gpu(gpu_config, node_name=node_name, rehearse=rehearse)


def create_pytorch_model_with_gpu(kind: str, model_config: Mapping[str, Any]) -> nn.Module:
    return _integration.create_pytorch_model_with_gpu(kind, model_config)
