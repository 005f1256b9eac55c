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
from worker.gpus.on_pytorch import (
    create_pytorch_model_with_gpu,
    get_pytorch_gpu_integration,
    setup_pytorch_gpu,
)
from worker.gpus.on_tensorflow import (
    create_tensorflow_model_with_gpu,
    get_tensorflow_gpu_integration,
    setup_tensorflow_gpu,
)
from worker.gpus.training import AlgorithmTrainingEngine, TrainingError, TrainingTold

__all__ = [
    "AlgorithmTrainingEngine",
    "TrainingError",
    "TrainingGPUConfig",
    "TrainingTold",
    "allocate_gpu_resources",
    "cleanup_gpu_resources",
    "close_gpu_resource_manager",
    "create_pytorch_model_with_gpu",
    "create_tensorflow_model_with_gpu",
    "get_available_gpu_nodes",
    "get_gpu_monitoring_data",
    "get_gpu_resource_manager",
    "get_pytorch_gpu_integration",
    "get_tensorflow_gpu_integration",
    "setup_pytorch_gpu",
    "setup_tensorflow_gpu",
    "validate_gpu_requirements",
]
