"""Which cards a machine shows, and what leaves a process one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import MachineError, UsageError
from worker.hardware.cards import Card, Machine, cards, choose, models

TWO = """\
GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-11111111-aaaa)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-22222222-bbbb)
"""
SLICED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-11111111-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-33333333-cccc)
  MIG 3g.20gb     Device  1: (UUID: MIG-44444444-dddd)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-22222222-bbbb)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    (tmp_path / "sys").mkdir()
    return tmp_path


def machine(folder: Path, smi: str = "", **environment: str) -> Machine:
    return Machine(environment, folder / "dev", folder / "sys", lambda: smi)


def put(file: Path, text: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def names(found: list[Card]) -> list[str]:
    return [card.name for card in found]


def test_a_machine_without_cards_shows_none(folder: Path) -> None:
    assert cards(machine(folder)) == []


def test_nvidia_smi_names_the_cards_and_they_are_counted_as_it_counts(folder: Path) -> None:
    found = cards(machine(folder, TWO))
    assert [card.environment for card in found] == [
        {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ]
    assert [card.label for card in found] == ["cuda:0", "cuda:1"]


def test_slices_of_a_card_are_used_instead_of_it(folder: Path) -> None:
    assert names(cards(machine(folder, SLICED))) == ["MIG-33333333-cccc", "MIG-44444444-dddd", "1"]


def test_nvidia_smi_tells_what_its_driver_calls_each_card() -> None:
    assert models(SLICED) == ["NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"]
    assert models("No devices were found") == []


def test_without_nvidia_smi_the_device_nodes_are_counted_and_numbered_as_cuda_does(folder: Path) -> None:
    for node in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        put(folder / "dev" / node)
    assert names(cards(machine(folder))) == ["0", "1", "2"]


def test_a_scheduler_s_choice_is_not_exceeded_and_its_order_of_counting_stays(folder: Path) -> None:
    found = cards(machine(folder, TWO, CUDA_VISIBLE_DEVICES="4, 7"))
    assert [card.environment for card in found] == [
        {"CUDA_VISIBLE_DEVICES": "4"},
        {"CUDA_VISIBLE_DEVICES": "7"},
    ]


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_what_a_scheduler_hides_is_not_used(folder: Path, hidden: str) -> None:
    assert cards(machine(folder, TWO, CUDA_VISIBLE_DEVICES=hidden)) == []


@pytest.mark.parametrize(
    ("variable", "device"),
    [
        ("CUDA_VISIBLE_DEVICES", "cuda"),
        ("HIP_VISIBLE_DEVICES", "cuda"),
        ("ROCR_VISIBLE_DEVICES", "cuda"),
        ("ASCEND_RT_VISIBLE_DEVICES", "npu"),
        ("ZE_AFFINITY_MASK", "xpu"),
    ],
)
def test_each_maker_has_its_variable(folder: Path, variable: str, device: str) -> None:
    (card,) = cards(machine(folder, **{variable: "3"}))
    assert (card.device, card.environment) == (device, {variable: "3"})


def test_where_every_maker_s_variable_is_set_the_cards_that_are_there_count(folder: Path) -> None:
    put(folder / "dev/davinci0")
    put(folder / "dev/davinci_manager")
    found = cards(machine(folder, CUDA_VISIBLE_DEVICES="0", ASCEND_RT_VISIBLE_DEVICES="0"))
    assert [card.environment for card in found] == [{"ASCEND_RT_VISIBLE_DEVICES": "0"}]


def test_of_amd_s_nodes_those_that_compute_are_cards(folder: Path) -> None:
    for number, units in enumerate((0, 440, 440)):
        put(folder / f"sys/class/kfd/kfd/topology/nodes/{number}/properties", f"cpu\nsimd_count {units}\n")
    found = cards(machine(folder))
    assert [card.environment for card in found] == [
        {"HIP_VISIBLE_DEVICES": "0"},
        {"HIP_VISIBLE_DEVICES": "1"},
    ]


def test_intel_cards_are_those_of_the_newer_driver(folder: Path) -> None:
    for number, driver in enumerate(("i915", "xe")):
        device = folder / f"sys/class/drm/card{number}/device"
        put(device / "vendor", "0x8086\n")
        (folder / "drivers" / driver).mkdir(parents=True)
        (device / "driver").symlink_to(folder / "drivers" / driver)
    (card,) = cards(machine(folder))
    assert (card.device, card.environment) == ("xpu", {"ZE_AFFINITY_MASK": "0"})


def test_numbers_count_within_what_is_visible_and_uuids_name_cards(folder: Path) -> None:
    two = cards(machine(folder, TWO))
    assert choose("all", two) == two
    assert names(choose("1,0", two)) == ["1", "0"]
    assert names(choose("GPU-22222222-bbbb", two)) == ["1"]
    assert names(choose("1", cards(machine(folder, CUDA_VISIBLE_DEVICES="4,7")))) == ["7"]


def test_what_is_not_there_is_told_with_a_remedy(folder: Path) -> None:
    two = cards(machine(folder, TWO))
    with pytest.raises(MachineError, match="leave --gpus out to work on the CPU"):
        choose("all", [])
    with pytest.raises(MachineError, match=r"shows 2 \(cuda:0, cuda:1\), counted from 0 to 1; .* 1x"):
        choose("2", two)
    with pytest.raises(UsageError, match="write all, numbers"):
        choose("first", two)


def test_a_card_that_is_named_twice_is_refused(folder: Path) -> None:
    two = cards(machine(folder, TWO))
    for wanted in ("0,0", "1,GPU-22222222-bbbb"):
        with pytest.raises(UsageError, match=r"names cuda:. twice: .*--workers"):
            choose(wanted, two)
