"""Which labels a node has whose cards a profile means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NVIDIA, GKE = "nvidia.com/gpu.product", "cloud.google.com/gke-accelerator"
"""of NVIDIA's GPU feature discovery, and of Google's node pools"""

_GKE = {
    "a100": ("nvidia-tesla-a100", "nvidia-a100-80gb"),
    "h100": ("nvidia-h100-80gb", "nvidia-h100-mega-80gb"),
    "h200": ("nvidia-h200-141gb",),
    "l4": ("nvidia-l4",),
    "t4": ("nvidia-tesla-t4",),
    "v100": ("nvidia-tesla-v100",),
}
_NVIDIA = {
    "a10": ("NVIDIA-A10",),
    "a100": (
        "NVIDIA-A100-SXM4-80GB",
        "NVIDIA-A100-80GB-PCIe",
        "NVIDIA-A100-SXM4-40GB",
        "NVIDIA-A100-PCIE-40GB",
    ),
    "a40": ("NVIDIA-A40",),
    "a6000": ("NVIDIA-RTX-A6000",),
    "a800": (
        "NVIDIA-A800-SXM4-80GB",
        "NVIDIA-A800-80GB-PCIe",
        "NVIDIA-A800-SXM4-40GB",
        "NVIDIA-A800-PCIE-40GB",
    ),
    "h100": ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
    "h200": ("NVIDIA-H200", "NVIDIA-H200-NVL"),
    "l4": ("NVIDIA-L4",),
    "rtx2080": ("NVIDIA-GeForce-RTX-2080", "GeForce-RTX-2080"),
    "rtx3090": ("NVIDIA-GeForce-RTX-3090",),
    "rtx4090": ("NVIDIA-GeForce-RTX-4090",),
    "t4": ("Tesla-T4", "NVIDIA-T4"),
    "v100": (
        "Tesla-V100-SXM2-16GB",
        "Tesla-V100-SXM2-32GB",
        "Tesla-V100-SXM3-32GB",
        "Tesla-V100-PCIE-16GB",
        "Tesla-V100-PCIE-32GB",
        "Tesla-V100S-PCIE-32GB",
    ),
}


def labels_of(hw: str) -> Mapping[str, Sequence[str]]:
    """Label → values; a node has one of them. Empty: nobody knows what such nodes are called."""
    known = {NVIDIA: _NVIDIA.get(hw, ()), GKE: _GKE.get(hw, ())}
    return {label: values for label, values in known.items() if values}
