"""The GPUs of a machine or a cluster: found, handed out, and taken back. docs/gpu-manager.md says how."""

from worker.gpus.forms import TrainingGPUConfig
from worker.gpus.library import (
    allocate_gpu_resources,
    cleanup_gpu_resources,
    close_gpu_resource_manager,
    get_available_gpu_nodes,
    get_gpu_monitoring_data,
    get_gpu_resource_manager,
    validate_gpu_requirements,
)

__all__ = [
    "TrainingGPUConfig",
    "allocate_gpu_resources",
    "cleanup_gpu_resources",
    "close_gpu_resource_manager",
    "get_available_gpu_nodes",
    "get_gpu_monitoring_data",
    "get_gpu_resource_manager",
    "validate_gpu_requirements",
]
