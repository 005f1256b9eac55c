"""The table of GPUs: every card is found by its driver's name, and its figures agree with each other."""

from __future__ import annotations

import pytest

from worker.errors import UsageError
from worker.hardware import gpus
from worker.hardware.gpus import Gpu

DRIVERS = {
    "NVIDIA H200": ("h200", 141, 4800, 989.5),
    "NVIDIA H200 NVL": ("h200", 141, 4800, 835.5),
    "NVIDIA H100 80GB HBM3": ("h100", 80, 3350, 989.5),
    "NVIDIA H100 PCIe": ("h100", 80, 2039, 756.5),
    "NVIDIA H100 NVL": ("h100", 94, 3938, 835.5),
    "NVIDIA A100-SXM4-80GB": ("a100", 80, 2039, 312),
    "NVIDIA A100 80GB PCIe": ("a100", 80, 1935, 312),
    "NVIDIA A100-SXM4-40GB": ("a100", 40, 1555, 312),
    "NVIDIA A100-PCIE-40GB": ("a100", 40, 1555, 312),
    "NVIDIA A800-SXM4-80GB": ("a800", 80, 2039, 312),
    "NVIDIA A800 80GB PCIe": ("a800", 80, 1935, 312),
    "NVIDIA A800 40GB Active": ("a800", 40, 1555, 312),
    "Tesla V100-SXM2-16GB": ("v100", 16, 900, 125),
    "Tesla V100-SXM2-32GB": ("v100", 32, 900, 125),
    "Tesla V100-PCIE-16GB": ("v100", 16, 900, 112),
    "Tesla V100-PCIE-32GB": ("v100", 32, 900, 112),
    "Tesla V100S-PCIE-32GB": ("v100", 32, 1134, 130),
    "Tesla T4": ("t4", 16, 320, 65),
    "NVIDIA GeForce RTX 2080": ("rtx2080", 8, 448, 40.3),
    "NVIDIA A10": ("a10", 24, 600, 125),
    "NVIDIA L4": ("l4", 24, 300, 121),
    "NVIDIA GeForce RTX 3090": ("rtx3090", 24, 936, 71),
    "NVIDIA GeForce RTX 4090": ("rtx4090", 24, 1008, 165.2),
    "NVIDIA RTX A6000": ("a6000", 48, 768, 154.8),
    "NVIDIA A40": ("a40", 48, 696, 149.7),
}

# cores and their highest clock in MHz: each core multiplies and adds once a cycle
CORES = {
    "NVIDIA H200": (16896, 1980),
    "NVIDIA H100 80GB HBM3": (16896, 1980),
    "NVIDIA H100 PCIe": (14592, 1755),
    "NVIDIA A100-SXM4-80GB": (6912, 1410),
    "NVIDIA A800 80GB PCIe": (6912, 1410),
    "Tesla V100-SXM2-16GB": (5120, 1530),
    "Tesla V100-PCIE-16GB": (5120, 1380),
    "Tesla V100S-PCIE-32GB": (5120, 1597),
    "Tesla T4": (2560, 1590),
    "NVIDIA GeForce RTX 2080": (2944, 1710),
    "NVIDIA A10": (9216, 1695),
    "NVIDIA L4": (7424, 2040),
    "NVIDIA GeForce RTX 3090": (10496, 1695),
    "NVIDIA GeForce RTX 4090": (16384, 2520),
    "NVIDIA RTX A6000": (10752, 1800),
    "NVIDIA A40": (10752, 1740),
}


def found(told: str) -> Gpu:
    gpu = gpus.find(told)
    assert gpu, told
    return gpu


@pytest.mark.parametrize(("told", "facts"), DRIVERS.items())
def test_a_card_is_known_by_what_its_driver_calls_it(
    told: str, facts: tuple[str, float, float, float]
) -> None:
    gpu = found(told)
    assert (gpu.hw, gpu.gigabytes, gpu.bandwidth, gpu.half) == facts
    assert gpu.flops == pytest.approx(facts[3] * 1e12)


def test_every_row_of_the_table_is_some_card_s() -> None:
    assert {gpus.find(told) for told in DRIVERS} == set(gpus.TABLE)


@pytest.mark.parametrize(
    "told",
    [
        "NVIDIA GeForce RTX 2080 Ti",
        "NVIDIA GeForce RTX 2080 with Max-Q Design",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GH200 480GB",
        "NVIDIA A10G",
        "NVIDIA L40S",
        "Radeon",
        "",
    ],
)
def test_of_another_card_nothing_is_said(told: str) -> None:
    assert gpus.find(told) is None


@pytest.mark.parametrize(("told", "cores"), CORES.items())
def test_what_a_card_computes_follows_from_its_cores_and_their_clock(
    told: str, cores: tuple[int, int]
) -> None:
    count, megahertz = cores
    assert found(told).fp32 == pytest.approx(2 * count * megahertz / 1e6, rel=0.02)


def test_only_ampere_and_newer_have_bf16_tf32_and_flash_attention() -> None:
    old = {"v100", "t4", "rtx2080"}
    for gpu in gpus.TABLE:
        assert gpu.bf16 == gpu.flash == (gpu.tf32 is not None) == (gpu.hw not in old)
        assert gpu.source


def test_an_a800_is_an_ampere_card_with_less_nvlink() -> None:
    a100, a800 = found("NVIDIA A100-SXM4-80GB"), found("NVIDIA A800-SXM4-80GB")
    assert (a800.sm, a800.architecture, a800.nvlink) == ((8, 0), "Ampere", 400)
    assert (a100.nvlink, a100.flops) == (600, a800.flops)


@pytest.mark.parametrize("hw", gpus.HARDWARE)
def test_every_profile_means_one_card(hw: str) -> None:
    gpu = gpus.of(hw)
    assert (gpu is None) == (hw == "cpu")
    assert gpu is None or gpu.hw == hw


def test_the_card_of_a_profile_is_the_plainest_of_its_kind() -> None:
    assert gpus.of("a800") == gpus.find("NVIDIA A800-SXM4-80GB")
    assert gpus.of("h100") == gpus.find("NVIDIA H100 80GB HBM3")


def test_an_unknown_profile_is_one_line_with_the_names() -> None:
    with pytest.raises(UsageError, match=r"--hw h800: there are a10, a100, .*cpu.*v100"):
        gpus.of("h800")
