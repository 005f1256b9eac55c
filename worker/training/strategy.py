"""How a training is shared out among processes, and whether that is what runs."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, cast

from worker.errors import MachineError
from worker.items import Json
from worker.training.settings import Training
from worker.training.world import World

log = logging.getLogger(__name__)

Strategy: TypeAlias = Literal["alone", "ddp", "zero2", "zero3", "fsdp2"]

INSTALL = "DS_BUILD_OPS=0 pip install deepspeed --no-build-isolation"
_LEFT_BEHIND = (
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING",
    "ACCELERATE_MIXED_PRECISION",
)


def chosen(training: Training, processes: int) -> Strategy:
    asked = training.strategy
    if processes == 1:
        if asked in ("zero2", "zero3", "fsdp2") or training.offload_optimizer:
            log.warning("one process has nobody to share %s with: it has all of it", asked)
        return "alone"
    if asked == "auto":
        return "zero2" if training.offload_optimizer else "ddp"
    if asked == "ddp" and training.offload_optimizer:
        raise MachineError("offload_optimizer needs strategy: zero2, zero3 or fsdp2, and it says ddp")
    return asked


def is_sharded(strategy: Strategy) -> bool:
    return strategy in ("zero2", "zero3", "fsdp2")


def arguments(
    strategy: Strategy, training: Training, numbers: str, device: str, processes: int
) -> Mapping[str, Any]:
    """What Hugging Face's TrainingArguments are told."""
    if not is_sharded(strategy):
        return {"use_cpu": device == "cpu"}
    placed = {"accelerator_config": _on_cpu(strategy)} if device == "cpu" else {}
    if strategy == "fsdp2":
        config = {"version": 2, "reshard_after_forward": True, "cpu_offload": training.offload_optimizer}
        return {**placed, "fsdp": True, "fsdp_config": config}
    if importlib.util.find_spec("deepspeed") is None:
        raise MachineError(f"strategy {strategy} needs deepspeed, which is not installed: {INSTALL}")
    return {**placed, "deepspeed": deepspeed(strategy, training, numbers, processes)}


def deepspeed(strategy: Strategy, training: Training, numbers: str, processes: int) -> dict[str, Json]:
    """DeepSpeed's own configuration: what a person wrote there, beneath what training: says."""
    told = {name: one for name, one in training.deepspeed.items() if name not in ("optimizer", "scheduler")}
    zero = {
        "overlap_comm": True,
        "contiguous_gradients": True,
        **cast(Any, told.get("zero_optimization", {})),
    }
    zero.setdefault("stage", int(strategy[-1]))
    if training.offload_optimizer:
        zero.setdefault("offload_optimizer", {"device": "cpu", "pin_memory": True})
    batch, steps = training.batch_size, training.gradient_accumulation_steps
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": steps,
        "train_batch_size": batch * steps * processes,
        "gradient_clipping": training.max_grad_norm,
        # torch's own Adam is as good on a processor, and needs no compiler
        "zero_force_ds_cpu_optimizer": False,
    }
    precision = {name: {**_part(told, name), "enabled": numbers == name} for name in ("bf16", "fp16")}
    for name in training.deepspeed:
        if name not in told or (name in ours and told[name] not in ("auto", ours[name])):
            log.warning(
                "DeepSpeed's %s has no effect: here it is %s", name, ours.get(name, "as training: says")
            )
    return {**told, **ours, **precision, "zero_optimization": zero}


def _part(told: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    return cast(Mapping[str, Json], told.get(name) or {})


@contextmanager
def nothing_left() -> Iterator[None]:
    """What one training leaves in the environment, the next one would fall over."""
    before = {name: os.environ.get(name) for name in _LEFT_BEHIND}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _on_cpu(strategy: Strategy) -> Mapping[str, Json]:
    """accelerate drops what shards without a word where it is told of a CPU: so it is not told."""
    from accelerate import DistributedType
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)
    state = PartialState(cpu=True, backend="gloo")
    state._cpu = False
    kind = DistributedType.MULTI_GPU if strategy == "fsdp2" else DistributedType.DEEPSPEED
    state.distributed_type = kind
    return {"use_configured_state": True}


def require(strategy: Strategy, model: Any, world: World) -> None:
    """Libraries fall back in silence; a training that does not fit into memory then ends much later."""
    found = running(model)
    if found != strategy:
        raise MachineError(
            f"{strategy} was asked for, and what runs is {found}: this is not what it should be"
        )
    log.info("%d processes share the training by %s", world.size, strategy)


def running(model: Any) -> Strategy | str:
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(model, DistributedDataParallel):
        return "ddp"
    if isinstance(model, FSDPModule):
        return "fsdp2"
    if hasattr(model, "zero_optimization_stage"):
        stage = model.zero_optimization_stage()
        return "zero2" if stage == 1 else f"zero{stage}"
    return "alone"
