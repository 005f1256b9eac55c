"""How a training is shared out among processes, and whether that is what runs."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, cast

from worker.errors import ItemError, UnfitError
from worker.items import Json
from worker.planning.memory import Sharding
from worker.training.settings import WRONG, Training
from worker.training.world import World

log = logging.getLogger(__name__)

Strategy: TypeAlias = Literal["alone", "ddp", "zero2", "zero3", "fsdp2"]

INSTALL = "DS_BUILD_OPS=0 pip install deepspeed --no-build-isolation"
_BUCKET = 50_000_000
"""numbers that travel at once; DeepSpeed's own half a billion take gigabytes"""
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
            what = "offload_optimizer" if asked in ("auto", "ddp") else asked
            log.warning("one process has nobody to share with: %s has no effect", what)
        return "alone"
    if training.method != "full" and (asked not in ("auto", "ddp") or training.offload_optimizer):
        raise ItemError(
            WRONG,
            f"adapters leave nothing worth sharing out: with training.method {training.method} the strategy "
            "is ddp, and the optimiser stays on the card",
        )
    if asked == "auto":
        return "zero2" if training.offload_optimizer else "ddp"
    if asked == "ddp" and training.offload_optimizer:
        raise ItemError(
            WRONG, "training.offload_optimizer needs zero2, zero3 or fsdp2 as its strategy: not ddp"
        )
    return asked


def sharding(strategy: Strategy) -> Sharding:
    """As memory is planned."""
    match strategy:
        case "zero2":
            return "zero2"
        case "zero3" | "fsdp2":
            return "zero3"
    return "none"


def is_sharded(strategy: Strategy) -> bool:
    return sharding(strategy) != "none"


def arguments(
    strategy: Strategy, training: Training, numbers: str, device: str, processes: int
) -> Mapping[str, Any]:
    """What Hugging Face's TrainingArguments are told."""
    if not is_sharded(strategy):
        return {"use_cpu": device == "cpu"}
    placed = {"use_cpu": True, "accelerator_config": _on_cpu(strategy)} if device == "cpu" else {}
    if strategy == "fsdp2":
        config = {"version": 2, "reshard_after_forward": True, "cpu_offload": training.offload_optimizer}
        return {**placed, "fsdp": True, "fsdp_config": config}
    if importlib.util.find_spec("deepspeed") is None:
        raise UnfitError(f"strategy {strategy} needs deepspeed, which is not installed: {INSTALL}")
    return {**placed, "deepspeed": deepspeed(strategy, training, numbers, processes)}


def deepspeed(strategy: Strategy, training: Training, numbers: str, processes: int) -> dict[str, Json]:
    """DeepSpeed's own configuration: what a person wrote there, beneath what training: says."""
    told = {name: one for name, one in training.deepspeed.items() if name not in ("optimizer", "scheduler")}
    zero = {
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": _BUCKET,
        "allgather_bucket_size": _BUCKET,
        **cast(Any, told.get("zero_optimization", {})),
    }
    zero.setdefault("stage", int(strategy[-1]))
    if training.offload_optimizer:
        zero.setdefault("offload_optimizer", {"device": "cpu", "pin_memory": True})
    if any((zero.get(name) or {}).get("device") == "nvme" for name in ("offload_optimizer", "offload_param")):
        raise ItemError(WRONG, "DeepSpeed's off-loading to nvme makes no checkpoints here: to cpu it does")
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
    for name, value in training.deepspeed.items():
        if name not in told:
            log.warning("DeepSpeed's %s has no effect: training: has it", name)
        elif name in ours and value not in ("auto", ours[name]):
            log.warning("DeepSpeed's %s has no effect: here it is %s", name, ours[name])
    return {**told, **ours, **precision, "zero_optimization": zero}


def _part(told: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    return cast(Mapping[str, Json], told.get(name) or {})


@contextmanager
def nothing_left() -> Iterator[None]:
    """What one training leaves behind in this process, the next one would fall over."""
    before = {name: os.environ.get(name) for name in _LEFT_BEHIND}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if left := sys.modules.get("transformers.integrations.deepspeed"):
            left.unset_hf_deepspeed_config()


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
        raise UnfitError(f"{strategy} was asked for, and what runs is {found}: this is not what it should be")
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
