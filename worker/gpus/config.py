"""`gpu_config.yaml`: names of resources, memory of kinds, and how often to look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from worker.gpus.kinds import AMD, ASCEND, INTEL, NVIDIA
from worker.gpus.refusals import Reason, Refusal

MAKERS = {"gpu": NVIDIA, "nvidia": NVIDIA, "amd": AMD, "intel": INTEL, "npu": ASCEND}


Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def _upper(told: object) -> object:
    return told.upper() if isinstance(told, str) else told


class ResourceNames(BaseModel):
    model_config = ConfigDict(frozen=True)

    gpu: str = "nvidia.com/gpu"
    nvidia: str = "nvidia.com/gpu"
    amd: str = "amd.com/gpu"
    intel: str = "intel.com/gpu"
    npu: str = "huawei.com/npu"


class GpuConfig(BaseModel):
    """Keys that are unknown here are left alone: the file is shared with others."""

    model_config = ConfigDict(frozen=True)

    gpu_resource: ResourceNames = ResourceNames()
    default_gpu_resource_name: str = "nvidia.com/gpu"
    gpu_memory_specs: dict[str, Annotated[float, Field(gt=0)]] = {}
    """GB of a kind, where its card does not tell"""
    monitor_update_interval: Annotated[float, Field(gt=0)] = 30.0
    """seconds"""
    resource_change_threshold: Annotated[float, Field(ge=0, le=1)] = 0.05
    log_level: Annotated[Level, BeforeValidator(_upper)] = "INFO"

    @property
    def resources(self) -> dict[str, str]:
        """Makers by the names that the file gives their resources."""
        names = self.gpu_resource.model_dump()
        return {names[key].casefold(): maker for key, maker in MAKERS.items()}


def load(file: Path | None) -> GpuConfig:
    if file is None:
        return GpuConfig()
    import yaml

    try:
        return GpuConfig.model_validate(yaml.safe_load(file.read_text("utf-8")) or {})
    except OSError as error:
        raise Refusal(Reason.WRONG_FILE, file=file, said=error.strerror) from error
    except (yaml.YAMLError, pydantic.ValidationError, UnicodeDecodeError) as error:
        raise Refusal(Reason.WRONG_FILE, file=file, said=" ".join(str(error).split())) from error
