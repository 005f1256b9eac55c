"""Nodes and pods as a cluster tells them: which cards there are, who has them, and what a pod must say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.kube import node, pod
from worker.errors import UsageError
from worker.gpus.allocation import Allocation, Held, Request
from worker.gpus.config import GpuConfig
from worker.gpus.forms import TrainingGPUConfig, allocate_told
from worker.gpus.inventory import Node, Use
from worker.gpus.kube.fragments import pods
from worker.gpus.kube.objects import LABEL, Accelerators
from worker.gpus.kube.tolerations import Toleration, parse
from worker.gpus.slots import occupied

GPU = "nvidia.com/gpu"
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}
HERE = Accelerators(GpuConfig().resources, {"GB10": 128.0})


def read(told: dict[str, Any], accelerators: Accelerators = HERE) -> Node:
    found = accelerators.node(told)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("resource", "labels", "kind", "gigabytes"),
    [
        (GPU, A100, "A100", 85.9),
        (GPU, {"nvidia.com/gpu.product": "Tesla-T4"}, "T4", 16),
        (GPU, {"nvidia.com/gpu.product": "Tesla-V100-SXM2"}, "V100", 16),  # of two sizes the smaller is sure
        (GPU, {"nvidia.com/gpu.product": "NVIDIA-GB10"}, "GB10", 128),  # gpu_memory_specs
        (GPU, {"cloud.google.com/gke-accelerator": "nvidia-a100-80gb"}, "A100", 80),
        (
            GPU,
            {**A100, "nvidia.com/gpu.product": "A100-SXM4-80GB-SHARED", f"{GPU}.replicas": "4"},
            "A100",
            21.5,
        ),
        (
            GPU,
            {"nvidia.com/gpu.product": "A100-SXM4-40GB-MIG-1g.5gb", "nvidia.com/gpu.memory": "5120"},
            "A100",
            5.4,
        ),
        ("nvidia.com/mig-1g.10gb", {**A100, "nvidia.com/mig-1g.10gb.memory": "9728"}, "A100", 10.2),
        ("nvidia.com/mig-3g.40gb", A100, "A100", 40),
        (GPU, {}, "unknown", 0),
        (
            "amd.com/gpu",
            {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"},
            "MI300X",
            192,
        ),
        ("amd.com/gpu", {"amd.com/gpu.product-name": "MI210", "amd.com/gpu.vram": "65536"}, "MI210", 68.7),
        ("gpu.intel.com/i915", {"gpu.intel.com/product": "Max_1550"}, "Max1550", 128),
        ("gpu.intel.com/xe", {"gpu.intel.com/product": "Max_1100"}, "Max1100", 48),
        ("huawei.com/Ascend910", {"node.kubernetes.io/npu.chip.name": "910B3"}, "Ascend910B", 32),
        ("huawei.com/Ascend910", {}, "Ascend910", 32),
        ("huawei.com/Ascend910-2c", {}, "Ascend910", 0),
        ("huawei.com/npu", {}, "unknown", 0),
    ],
)
def test_every_maker_s_cards_are_known_by_their_plugin_s_labels(
    resource: str, labels: Mapping[str, str], kind: str, gigabytes: float
) -> None:
    found = read(node("n", {resource: 2}, labels))
    assert [card.uuid for card in found.cards] == [f"n/{resource}/0", f"n/{resource}/1"]
    assert [(card.kind, round(card.memory_gb, 1), card.trouble) for card in found.cards] == [
        (kind, gigabytes, "")
    ] * 2


@pytest.mark.parametrize(
    "resource", ["gpu.intel.com/i915_monitoring", "huawei.com/Ascend910-memory", "cpu", "example.com/fpga"]
)
def test_what_is_no_accelerator_is_none(resource: str) -> None:
    assert HERE.node(node("n", {resource: 2})) is None


def test_whole_cards_and_slices_of_a_node_stand_side_by_side() -> None:
    found = read(node("n", {GPU: 1, "nvidia.com/mig-1g.10gb": 7}, A100))
    assert [card.resource for card in found.cards] == [GPU] + ["nvidia.com/mig-1g.10gb"] * 7
    assert len({card.sort for card in found.cards}) == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"spec": {"unschedulable": True}}, "cordoned: kubectl uncordon n"),
        (
            {"spec": {"taints": [{"key": "sold", "value": "b", "effect": "NoSchedule"}]}},
            "tainted sold=b:NoSchedule: take it all the same with --tolerate sold",
        ),
        ({"spec": {"taints": [{"key": "old", "effect": "PreferNoSchedule"}]}}, ""),
        ({"status": {"conditions": []}}, "not ready: its kubelet says nothing"),
        (
            {"status": {"conditions": [{"type": "Ready", "status": "False", "message": "PLEG"}]}},
            "not ready: PLEG",
        ),
    ],
)
def test_a_node_that_takes_no_pods_is_told_with_the_reason(change: dict[str, Any], why: str) -> None:
    told = node("n", {GPU: 1}, A100)
    for part, what in change.items():
        told[part] |= what
    assert [card.trouble for card in read(told).cards] == [why]


def test_a_tolerated_taint_is_none_and_the_pod_is_told_to_tolerate_it() -> None:
    told = node("n", {GPU: 1}, A100)
    told["spec"]["taints"] = [{"key": "gpus", "value": "ours", "effect": "NoSchedule"}]
    for said, fits in (("gpus", True), ("gpus=ours", True), ("gpus=ours:NoExecute", False), ("other", False)):
        found = read(told, Accelerators({}, {}, (parse(said),)))
        assert (not found.cards[0].trouble) is fits
    made = allocation(found, 1)
    (one,) = pods(made, (parse("gpus=ours"), parse("x")))
    assert one.fragment["spec"]["tolerations"] == [
        {"key": "gpus", "operator": "Equal", "value": "ours"},
        {"key": "x", "operator": "Exists"},
    ]
    with pytest.raises(UsageError, match="--tolerate a b: write KEY"):
        parse("a b")
    assert parse("k=:NoSchedule") == Toleration("k", "", "NoSchedule")


def test_cards_that_the_device_plugin_counts_out_are_ill_and_the_others_are_not() -> None:
    told = node("n", {GPU: 4}, A100)
    told["status"] = {**told["status"], "allocatable": {GPU: "3"}}
    found = occupied(read(told), {"n/nvidia.com/gpu/3": "held"})
    assert [bool(card.trouble) for card in found.cards] == [False, False, True, False]
    assert found.cards[2].trouble == "the device plugin offers 3 of 4 nvidia.com/gpu"


# pods


def test_a_pod_has_what_the_scheduler_counts_for_it() -> None:
    told = pod("p", GPU, 2, on="n", labels={LABEL: "one"})
    assert HERE.uses(told) == ("n", (Use(GPU, 2, "default/p", "one"),))
    told["spec"]["containers"] *= 2
    told["spec"]["initContainers"] = [
        {"resources": {"limits": {GPU: "1"}}, "restartPolicy": "Always"},
        {"resources": {"limits": {GPU: "3"}}},
    ]
    assert HERE.uses(told) == ("n", (Use(GPU, 5, "default/p", "one"),))
    told["spec"]["initContainers"][1]["resources"] = {"requests": {GPU: "6"}}
    assert HERE.uses(told) == ("n", (Use(GPU, 7, "default/p", "one"),))


def test_a_pod_that_has_ended_or_has_no_node_has_nothing() -> None:
    told = pod("p", GPU, 2, on="n")
    told["status"] = {"phase": "Succeeded"}
    assert HERE.uses(told) is None
    assert HERE.uses(pod("p", GPU, 2)) is None
    assert HERE.uses(pod("p", on="n")) is None


def lying(uses: list[Use], holder: Mapping[str, str], cards: int = 4) -> list[str]:
    found = read(node("n", {GPU: cards}, A100))
    there = occupied(
        Node("n", found.cards, tuple(uses)), {f"n/{GPU}/{slot}": who for slot, who in holder.items()}
    )
    return ["ill" if card.trouble else "+".join(card.pods) for card in there.cards]


def test_an_allocation_s_own_pod_lies_on_its_slots_and_a_stranger_where_nobody_holds_one() -> None:
    holder = {"0": "a", "2": "a"}
    assert lying([Use(GPU, 2, "own", "a"), Use(GPU, 1, "x")], holder) == ["own", "x", "own", ""]
    assert lying([Use(GPU, 1, "own", "a"), Use(GPU, 1, "own2", "a")], holder) == ["own", "", "own2", ""]


def test_what_a_pod_has_beyond_its_allocation_is_a_stranger_s() -> None:
    assert lying([Use(GPU, 2, "own", "a")], {"0": "a"}) == ["own", "own", "", ""]
    assert lying([Use(GPU, 1, "late", "ended")], {"0": "a"}) == ["", "late", "", ""]


def test_strangers_that_took_what_is_held_are_seen_there_when_it_is_given_back() -> None:
    assert lying([Use(GPU, 3, "x")], {"0": "a", "1": "a"}) == ["x", "", "x", "x"]


def test_the_ill_are_counted_on_empty_slots_first() -> None:
    ill = Use(GPU, 2, trouble="ill")
    assert lying([Use(GPU, 1, "x"), ill], {"3": "a"}) == ["x", "ill", "ill", ""]
    assert lying([Use(GPU, 3, "x"), ill], {}) == ["x", "x", "ill", "ill"]


# what a pod has to say


def allocation(found: Node, count: int, *cards: int, members: int = 1, spans: bool = False) -> Allocation:
    held = tuple(Held.of(found.cards[index]) for index in cards or (0,))
    return Allocation("a1", Request(count, members, spans), held, "", 0.0, 1.0)


def test_a_pod_is_sent_to_its_node_through_the_scheduler_with_its_cards_and_its_name() -> None:
    found = read(node("gpu-1", {GPU: 4}, A100))
    told = allocate_told(TrainingGPUConfig(gpu_count=2), allocation(found, 2, 0, 1))
    (one,) = told.gpu_config.pods
    assert (one.node_name, one.resource, one.count) == ("gpu-1", GPU, 2)
    assert one.fragment["metadata"]["labels"] == {LABEL: "a1"}
    term = one.fragment["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["gpu-1"]
    assert one.fragment["spec"]["containers"][0]["resources"] == {"limits": {GPU: "2"}}
    assert told.gpu_config.environment == {}  # the device plugin sets it, and knows which card it is


def test_each_member_of_a_gang_is_a_pod_and_what_was_split_is_one_a_node() -> None:
    a, b = (read(node(name, {GPU: 4}, A100)) for name in "ab")
    both = Node("ab", a.cards + b.cards)
    gang = pods(allocation(both, 2, 0, 1, 2, 3, 4, 5, members=3))
    assert [(one.node_name, one.count) for one in gang] == [("a", 2), ("a", 2), ("b", 2)]
    split = pods(allocation(both, 4, 0, 1, 4, 5, spans=True))
    assert [(one.node_name, one.count) for one in split] == [("a", 2), ("b", 2)]
