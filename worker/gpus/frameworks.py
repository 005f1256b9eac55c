"""What a framework has to be told so that it keeps to its cards: told here, and set by who trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.gpus.allocation import Allocation
from worker.gpus.forms import AllocateTold, TrainingGPUConfig, fraction
from worker.gpus.kinds import ASCEND, INTEL
from worker.hardware import gpus

DEVICES = {ASCEND: "npu", INTEL: "xpu"}
BACKENDS = {ASCEND: "hccl", INTEL: "xccl"}


class SetupForm(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu_config: TrainingGPUConfig = TrainingGPUConfig()
    allocation_id: Annotated[str, Field(max_length=100, description="empty: no GPU")] = ""


class PyTorchSettings(BaseModel):
    success: bool = True
    device: str
    world_size: int
    nproc_per_node: int
    backend: Literal["nccl", "hccl", "xccl", "gloo"]
    autocast: Annotated[Literal["bfloat16", "float16", ""], Field(description="empty: in full precision")]
    memory_fraction: Annotated[float | None, Field(description="for set_per_process_memory_fraction")]


class TensorFlowSettings(BaseModel):
    success: bool = True
    visible_devices: Annotated[list[int], Field(description="of each node, once its environment is set")]
    memory_limit_mb: Annotated[int | None, Field(description="of each device")]
    mixed_precision: Literal["mixed_bfloat16", "mixed_float16", "float32"]
    strategy: Literal["default", "MirroredStrategy", "MultiWorkerMirroredStrategy"]


class Prepared(BaseModel):
    """What is held, and what each framework has to be told: this travels to the process that trains."""

    model_config = ConfigDict(frozen=True)

    told: AllocateTold
    pytorch: PyTorchSettings
    tensorflow: TensorFlowSettings

    def rehearsed(self) -> Prepared:
        """The same on the CPU, for cards that only a file describes."""
        on_cpu = {"device": "cpu", "backend": "gloo", "memory_fraction": None}
        return Prepared(
            told=self.told,
            pytorch=self.pytorch.model_copy(update=on_cpu),
            tensorflow=self.tensorflow.model_copy(update={"memory_limit_mb": None}),
        )


def prepared(told: AllocateTold, made: Allocation | None) -> Prepared:
    held = TrainingGPUConfig(
        mixed_precision=told.gpu_config.mixed_precision,
        gpu_memory_fraction=told.gpu_config.gpu_memory_fraction,
    )
    return Prepared(told=told, pytorch=pytorch(held, made), tensorflow=tensorflow(held, made))


def pytorch(asked: TrainingGPUConfig, made: Allocation | None) -> PyTorchSettings:
    if made is None:
        return PyTorchSettings(
            device="cpu", world_size=1, nproc_per_node=1, backend="gloo", autocast="", memory_fraction=None
        )
    maker = made.cards[0].maker
    return PyTorchSettings.model_validate(
        {
            "device": DEVICES.get(maker, "cuda"),
            "world_size": len(made.cards),
            "nproc_per_node": _on_first(made),
            "backend": BACKENDS.get(maker, "nccl"),
            "autocast": _half(made) if asked.mixed_precision else "",
            "memory_fraction": fraction(asked, made),
        }
    )


def tensorflow(asked: TrainingGPUConfig, made: Allocation | None) -> TensorFlowSettings:
    if made is None:
        return TensorFlowSettings(
            visible_devices=[], memory_limit_mb=None, mixed_precision="float32", strategy="default"
        )
    several = "MultiWorkerMirroredStrategy" if len(made.nodes) > 1 else "MirroredStrategy"
    return TensorFlowSettings.model_validate(
        {
            "visible_devices": list(range(_on_first(made))),
            "memory_limit_mb": int(made.cards[0].memory_gb * fraction(asked, made) * 1e9 / 2**20),
            "mixed_precision": f"mixed_{_half(made)}" if asked.mixed_precision else "float32",
            "strategy": several if len(made.cards) > 1 else "default",
        }
    )


def _on_first(made: Allocation) -> int:
    return sum(card.node == made.cards[0].node for card in made.cards)


def _half(made: Allocation) -> str:
    """Cards that only emulate bfloat16 are slow with it."""
    known = gpus.find(made.cards[0].kind.replace("RTX", "RTX "))
    return "bfloat16" if known is None or known.bf16 else "float16"
