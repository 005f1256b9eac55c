"""What there is: this machine by its driver's library, and clusters that a file describes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("yaml", reason="the extra gpus is not installed")

from tests.nvml import Nvml
from worker.errors import MachineError
from worker.gpus import config
from worker.gpus.described import DescribedCluster
from worker.gpus.inventory import Card
from worker.gpus.nvidia import ThisMachine
from worker.gpus.refusals import Refusal


def cards(name: str) -> tuple[Card, ...]:
    nvml = Nvml.of(name)
    (node,) = ThisMachine(nvml, "here").look()
    assert nvml.open == 0
    assert {card.node for card in node.cards} == {"here"}
    return node.cards


def test_bridges_and_numa_nodes_make_neighbours() -> None:
    found = cards("v100-bridges")
    assert [card.links for card in found] == [(1,), (0,), (3,), (2,)]
    assert [card.numa for card in found] == [0, 0, 1, 1]
    assert {(card.kind, int(card.memory_gb)) for card in found} == {("V100", 34)}


def test_processes_that_nobody_was_given_the_card_for_are_seen() -> None:
    assert [card.processes for card in cards("v100-bridges")] == [(), (), (), (4711,)]
    assert cards("v100-bridges")[3].busy == 0.97


def test_an_ill_card_is_named_with_its_reason_and_alone() -> None:
    assert [card.trouble for card in cards("v100-bridges")] == [
        "",
        "3 uncorrectable memory errors since the driver was loaded",
        "",
        "",
    ]
    found = sorted(cards("a800-switch"), key=lambda card: card.index)
    assert [card.trouble for card in found] == [
        "",
        "",
        "GPU is lost",
        "rows wait to be remapped: reset the card",
    ]


def test_over_a_switch_all_reach_each_other() -> None:
    links = {card.index: card.links for card in cards("a800-switch")}
    assert links == {0: (1, 3), 1: (0, 3), 2: (), 3: (0, 1)}


def test_a_card_in_slices_is_its_slices() -> None:
    *slices, plain = cards("a100-slices")
    assert [card.uuid[:4] for card in slices] == ["MIG-", "MIG-"]
    assert [round(card.memory_gb) for card in slices] == [21, 10]
    assert plain.kind == "GTX1080"


def test_a_driver_that_does_not_answer_is_told_with_its_own_words() -> None:
    with pytest.raises(MachineError, match="Driver/library version mismatch"):
        ThisMachine(Nvml({"error": "Driver/library version mismatch"})).look()


# a file that describes a cluster


def described(folder: Path, text: str) -> DescribedCluster:
    (folder / "cluster.yaml").write_text(text)
    return DescribedCluster(folder / "cluster.yaml")


def test_a_cluster_is_described_in_a_line_a_sort_of_node(tmp_path: Path) -> None:
    nodes = described(
        tmp_path,
        "nodes:\n"
        "  - {name: gpu, copies: 11, gpus: 8xA100-80GB, nvlink: all, numa: [[0, 1, 2, 3], [4, 5, 6, 7]]}\n"
        "  - {name: old, gpus: 2xV100-16GB, nvlink: [[0, 1]], ill: {1: row remapping failed}}\n",
    ).look()
    assert [node.name for node in nodes][::5] == ["gpu-00", "gpu-05", "gpu-10"]
    first, last = nodes[0].cards[5], nodes[-1].cards[1]
    assert (first.kind, first.memory_gb, first.numa, first.links) == ("A100", 80, 1, (0, 1, 2, 3, 4, 6, 7))
    assert (last.memory_gb, last.links, last.trouble) == (16, (0,), "row remapping failed")
    assert len({card.uuid for node in nodes for card in node.cards}) == 90


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: [", "while parsing"),
        ("nodes: 3", "nodes"),
        ("nodes: [{name: a, gpus: 2xQ100}]", "no GPU is called '2xQ100'"),
        ("nodes: [{name: a, gpus: '2'}]", "name a kind, or GB"),
        ("nodes: [{name: a, gpus: T4}, {name: a, gpus: T4}]", "two nodes are called a"),
        ("nodes: [{name: a, gpu: T4}]", "gpu"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Refusal, match=r"cluster\.yaml: ") as refused:
        described(tmp_path, text).look()
    assert said in str(refused.value)


def test_a_size_that_the_file_leaves_open_is_that_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("nodes: [{name: a, gpus: A100}, {name: b, gpus: A100-80GB}]")
    nodes = DescribedCluster(tmp_path / "cluster.yaml", {"A100": 40}).look()
    assert [node.cards[0].memory_gb for node in nodes] == [40, 80]


def test_who_edits_the_file_changes_the_cluster(tmp_path: Path) -> None:
    cluster = described(tmp_path, "nodes: [{name: a, gpus: T4}]")
    assert len(cluster.look()) == 1
    (tmp_path / "cluster.yaml").write_text("nodes: [{name: a, gpus: T4}, {name: b, gpus: T4}]")
    assert len(cluster.look()) == 2


# gpu_config.yaml


def test_a_file_with_the_known_names_loads_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "gpu_config.yaml"
    file.write_text(
        "gpu_resource:\n  gpu: nvidia.com/gpu\n  nvidia: nvidia.com/gpu\n  amd: amd.com/gpu\n"
        "  intel: intel.com/gpu\n  npu: huawei.com/npu\n"
        "default_gpu_resource_name: nvidia.com/gpu\n"
        "gpu_memory_specs:\n  T4: 16\n  V100: 32\n  A100: 80\n  RTX3090: 24\n"
        "monitor_update_interval: 30\nresource_change_threshold: 0.05\nlog_level: INFO\nextra: 1\n"
    )
    read = config.load(file)
    assert read.gpu_memory_specs == {"T4": 16, "V100": 32, "A100": 80, "RTX3090": 24}
    assert read.resources == config.GpuConfig().resources
    assert read.resources["huawei.com/npu"] == "npu"


def test_a_wrong_value_is_named(tmp_path: Path) -> None:
    file = tmp_path / "gpu_config.yaml"
    file.write_text("monitor_update_interval: soon")
    with pytest.raises(Refusal, match="monitor_update_interval"):
        config.load(file)


@pytest.mark.parametrize(("told", "named"), [(b"log_level: loud", "log_level"), (b"\xff\xfe", "utf-8")])
def test_what_no_log_and_no_editor_knows_is_one_line(tmp_path: Path, told: bytes, named: str) -> None:
    file = tmp_path / "gpu_config.yaml"
    file.write_bytes(told)
    with pytest.raises(Refusal, match=named):
        config.load(file)
    file.write_text("log_level: debug")
    assert config.load(file).log_level == "DEBUG"
