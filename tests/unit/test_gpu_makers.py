"""Cards of all makers on this machine, by what their programs printed on others."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from worker.errors import MachineError
from worker.gpus import tools
from worker.gpus.ascend import NpuSmi
from worker.gpus.here import ThisMachine
from worker.gpus.intel import XpuSmi
from worker.gpus.inventory import Card, Inventory, Node
from worker.gpus.nvidia_smi import CARDS, LIST, TENANTS, NvidiaSmi
from worker.gpus.rocm import Rocm
from worker.hardware.command import Said

DATA = Path(__file__).parents[1] / "data" / "cards"


def printed(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def says(text: str, code: int = 0) -> tools.Ask:
    return lambda _: Said(code, text, text if code else "")


def absent(_: Sequence[str]) -> None:
    return None


def cards(maker: Inventory) -> tuple[Card, ...]:
    (node,) = maker.look()
    assert {card.node for card in node.cards} == {"here"}
    assert len({card.uuid for card in node.cards}) == len(node.cards)
    return node.cards


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


# AMD


def kernel(sys: Path, *places: tuple[int, int, str]) -> Path:
    """Its list of what computes: a CPU, then these cards, by their place on the bus."""
    nodes = sys / "class/kfd/kfd/topology/nodes"
    put(nodes / "0/properties", "cpu_cores_count 64\nsimd_count 0\n")
    for number, (bus, gpu, tenant) in enumerate(places, 1):
        put(nodes / f"{number}/properties", f"simd_count 416\nlocation_id {bus << 8}\ndomain 0\n")
        put(nodes / f"{number}/gpu_id", f"{gpu}\n")
        if tenant:
            put(sys / f"class/kfd/kfd/proc/{tenant}/vram_{gpu}", "61203283968\n")
    return sys


def test_an_amd_card_is_numbered_as_hip_counts_and_has_the_processes_that_the_kernel_sees(
    tmp_path: Path,
) -> None:
    sys = kernel(tmp_path, (0x2C, 21470, "4711"), (0x29, 64146, ""))
    put(sys / "bus/pci/devices/0000:2c:00.0/numa_node", "1\n")
    idle, busy = cards(Rocm("here", says(printed("rocm-smi-mi250")), sys))
    assert (idle.index, idle.processes, idle.numa, idle.trouble) == (1, (), None, "")
    assert (busy.index, busy.processes, busy.numa, busy.busy) == (0, (4711,), 1, 0.98)
    assert (busy.kind, busy.maker, round(busy.memory_gb), round(busy.used_gb)) == ("MI250", "amd", 69, 61)


def test_an_older_rocm_and_a_kernel_that_says_nothing_do(tmp_path: Path) -> None:
    found = cards(Rocm("here", says(printed("rocm-smi-mi210")), tmp_path))
    assert [(card.index, card.kind, card.uuid) for card in found] == [
        (0, "MI210", "here/0000:c1:00.0"),
        (1, "MI210", "here/0000:c5:00.0"),
    ]


def test_an_ill_amd_card_is_ill_alone(tmp_path: Path) -> None:
    sys = kernel(tmp_path, (0x29, 64146, ""))
    put(sys / "bus/pci/devices/0000:29:00.0/ras/umc_err_count", "ue: 3\nce: 12\n")
    assert [card.trouble for card in cards(Rocm("here", says(printed("rocm-smi-mi250")), sys))] == [
        "3 uncorrectable memory errors",
        "the kernel does not compute on it: look at dmesg for amdgpu",
    ]


def test_amd_cards_without_their_program_are_told(tmp_path: Path) -> None:
    assert Rocm("here", absent, tmp_path).look() == []
    with pytest.raises(MachineError, match="1 AMD cards are here, but no rocm-smi"):
        Rocm("here", absent, kernel(tmp_path, (0x29, 1, ""))).look()


# Intel


def xpu_smi(question: str = "", answer: object = None) -> tools.Ask:
    answers = json.loads((DATA / "xpu-smi-max1100.json").read_text()) | {question: answer}

    def ask(words: Sequence[str]) -> Said:
        told = answers[" ".join(words[1:])]
        return told if isinstance(told, Said) else Said(0, json.dumps(told))

    return ask


def test_intel_cards_tell_memory_use_and_who_computes() -> None:
    idle, busy = cards(XpuSmi("here", xpu_smi()))
    assert (idle.index, idle.kind, idle.maker, round(idle.memory_gb)) == (0, "Max1100", "intel", 52)
    assert (idle.processes, idle.used_gb < 0.1, idle.trouble) == ((), True, "")  # xpu-smi sees itself
    assert (busy.processes, busy.busy, round(busy.used_gb, 1)) == ((768707,), 0.88, 5.7)


def test_an_ill_intel_card_and_one_that_does_not_answer_are_ill_alone() -> None:
    critical = {"memory": {"status": "Critical", "description": "2 channels failed."}, "device_id": 1}
    silent = Said(124, "", "no answer in 20 s")
    assert [card.trouble for card in cards(XpuSmi("here", xpu_smi("health -d 1 -j", critical)))] == [
        "",
        "memory: 2 channels failed.",
    ]
    found = cards(XpuSmi("here", xpu_smi("discovery -d 0 -j", silent)))
    assert [card.trouble for card in found] == ["xpu-smi does not tell its cards: no answer in 20 s", ""]


# Ascend


def test_the_table_of_npu_smi_is_read() -> None:
    found = cards(NpuSmi("here", says(printed("npu-smi-910b3"))))
    assert [card.index for card in found] == list(range(8))
    assert {(card.kind, card.maker, round(card.memory_gb)) for card in found} == {("Ascend910B", "npu", 69)}
    assert [card.processes for card in found] == [(), (), (1333928,), (), (), (), (), ()]
    assert (round(found[2].used_gb), found[0].uuid) == (43, "here/0000:c1:00.0")


def test_two_chips_of_a_card_are_two() -> None:
    found = cards(NpuSmi("here", says(printed("npu-smi-a3"))))
    assert [card.index for card in found] == [0, 1, 2, 3, 4, 5]
    assert [len(card.processes) for card in found] == [4, 1, 1, 1, 0, 0]
    assert [card.busy for card in found] == [0.17, 0.17, 0.17, 0.17, 0.0, 0.0]


def test_an_ill_npu_is_ill_alone() -> None:
    table = printed("npu-smi-910b3").replace(
        "| 3     910B3               | OK   ", "| 3     910B3               | Alarm"
    )
    found = cards(NpuSmi("here", says(table)))
    assert [card.index for card in found if card.trouble] == [3]
    assert found[3].trouble == "npu-smi calls its health Alarm"


# NVIDIA without its library

NVIDIA: Mapping[tuple[str, ...], str] = {
    CARDS: "0, GPU-1, NVIDIA A100-SXM4-40GB, 40960, 512, 0, 0\n"
    "1, GPU-2, NVIDIA A100-SXM4-40GB, 40960, 0, 97, 2\n"
    "2, GPU-3, NVIDIA GeForce RTX 2080, 8192, 0, [N/A], [N/A]\n",
    TENANTS: "GPU-3, 4711\n",
    LIST: "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-a)\n  MIG 1g.5gb+me   Device  1: (UUID: MIG-b)\n"
    "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)\nGPU 2: NVIDIA GeForce RTX 2080 (UUID: GPU-3)\n",
}


def test_nvidia_smi_will_do_where_the_library_is_not_there() -> None:
    found = cards(NvidiaSmi("here", lambda words: Said(0, NVIDIA[tuple(words)])))
    assert [(card.index, card.uuid, round(card.memory_gb)) for card in found] == [
        (0, "MIG-a", 20),
        (0, "MIG-b", 5),
        (1, "GPU-2", 43),
        (2, "GPU-3", 9),
    ]
    assert [card.processes for card in found] == [(), (), (), (4711,)]
    assert found[2].trouble == "2 uncorrectable memory errors since the driver was loaded"


# all together

TWO = (Card("here", 0, "here/a", "MI210", "amd", 69.0), Card("here", 1, "here/b", "MI210", "amd", 69.0))


class Shown:
    """A maker's cards; or what it says instead."""

    def __init__(self, *answers: Sequence[Card] | Exception) -> None:
        self.answers = list(answers)

    def look(self) -> Sequence[Node]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [Node("here", tuple(answer))]


def test_who_does_not_answer_is_told_and_takes_nobody_along(caplog: pytest.LogCaptureFixture) -> None:
    silent = Shown(MachineError("npu-smi does not tell its cards: no answer in 20 s"))
    broken = Shown(KeyError("device_list"))
    machine = ThisMachine("here", {"AMD": Shown(TWO), "Ascend": silent, "Intel": broken})
    for _ in range(2):
        assert cards(machine) == TWO
    assert [record.getMessage() for record in caplog.records] == [
        "Ascend cards: npu-smi does not tell its cards: no answer in 20 s",
        "Intel cards: its program answers what is not understood: KeyError: 'device_list'",
    ]


def test_cards_whose_program_falls_silent_stay_and_are_ill() -> None:
    other = Card("here", 0, "here/c", "Ascend910B", "npu", 64.0)
    machine = ThisMachine(
        "here", {"AMD": Shown(TWO, MachineError("it hangs"), TWO), "Ascend": Shown([other])}
    )
    assert [[card.trouble for card in cards(machine)] for _ in range(3)] == [
        ["", "", ""],
        ["it hangs", "it hangs", ""],
        ["", "", ""],
    ]


def test_where_nobody_shows_a_card_each_says_why() -> None:
    with pytest.raises(MachineError, match="no driver; no answer"):
        ThisMachine(
            "here", {"a": Shown(MachineError("no driver")), "b": Shown(MachineError("no answer"))}
        ).look()
    with pytest.raises(MachineError, match="no GPU was found"):
        ThisMachine("here", {"a": Shown(())}).look()


@pytest.mark.parametrize("maker", [Rocm, XpuSmi, NpuSmi, NvidiaSmi])
@pytest.mark.parametrize(
    "text", ["", "no driver\n", "[]", "{}", '{"card0": 3}', '{"device_list": 7}', "| 1 | 2 |\n"]
)
def test_nonsense_is_told_and_shows_no_card(maker: type[NpuSmi], text: str) -> None:
    good = Shown(TWO)
    machine = ThisMachine("here", {"good": good, "other": maker("here", says(text))})
    assert cards(machine) == TWO


@pytest.mark.parametrize("maker", [Rocm, XpuSmi, NpuSmi, NvidiaSmi])
def test_a_program_that_fails_is_told_with_its_own_words(maker: type[NpuSmi]) -> None:
    with pytest.raises(MachineError, match="does not tell its cards: Driver not initialized"):
        maker("here", says("Driver not initialized\n", code=2)).look()


def test_a_program_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "LIMIT_S", 0.2)
    with pytest.raises(MachineError, match=r"no answer in 0\.2 s"):
        tools.text(tools.ask, sys.executable, "-c", "import time; time.sleep(60)")
