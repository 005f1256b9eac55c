"""What people write for GPUs is understood, or refused in one sentence."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis", reason="the developers' tools are not installed")

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as some

from tests import fuzz  # noqa: F401
from worker.gpus.kinds import KINDS, Kind, memory_in, named
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.wanted import RESOURCES, Wanted, gpu_type, parse

A100 = ("A100", "nvidia")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("2", Wanted(2)),
        ("4 GPUs", Wanted(4)),
        ("gpu:2", Wanted(2)),
        ("gres/gpu:a100:2", Wanted(2, *A100)),
        ("2张显卡", Wanted(2)),
        ("八卡", Wanted(8)),
        ("2xA100", Wanted(2, *A100)),
        ("2 x A100-80GB", Wanted(2, *A100, 80)),
        ("２×Ａ１００", Wanted(2, *A100)),
        ("A100*2", Wanted(2, *A100)),
        ("两张A100", Wanted(2, *A100)),
        ("A100 2张", Wanted(2, *A100)),
        ("A100-40GB:2", Wanted(2, *A100, 40)),
        ("NVIDIA A100-SXM4-80GB", Wanted(1, *A100, 80)),
        ("A100 80GiB", Wanted(1, *A100, 80)),
        ("V100-32GB", Wanted(1, "V100", "nvidia", 32)),
        ("V100-16", Wanted(1, "V100", "nvidia", 16)),
        ("4090", Wanted(1, "RTX4090", "nvidia")),
        ("4x4090", Wanted(4, "RTX4090", "nvidia")),
        ("4090x8", Wanted(8, "RTX4090", "nvidia")),
        ("2080 Ti", Wanted(1, "RTX2080Ti", "nvidia")),
        ("两块 RTX 3090 24GB", Wanted(2, "RTX3090", "nvidia", 24)),
        ("昇腾910B x 8", Wanted(8, "Ascend910B", "npu")),
        ("24GB", Wanted(memory_gb=24)),
        ("nvidia.com/gpu", Wanted(1, maker="nvidia", resource="nvidia.com/gpu")),
        ("nvidia.com/gpu: 2", Wanted(2, maker="nvidia", resource="nvidia.com/gpu")),
        ('"amd.com/gpu": "4"', Wanted(4, maker="amd", resource="amd.com/gpu")),
        ("gpu.intel.com/xe=1", Wanted(1, maker="intel", resource="gpu.intel.com/xe")),
        ("huawei.com/npu: 1", Wanted(1, maker="npu", resource="huawei.com/npu")),
        ("huawei.com/Ascend910B: 8", Wanted(8, "Ascend910B", "npu", resource="huawei.com/Ascend910B")),
        (
            "nvidia.com/mig-1g.5gb: 3",
            Wanted(3, maker="nvidia", memory_gb=5, resource="nvidia.com/mig-1g.5gb"),
        ),
    ],
)
def test_what_people_write(said: str, wanted: Wanted) -> None:
    assert parse(said) == wanted


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", Reason.UNREADABLE),
        ("-1", Reason.UNREADABLE),
        ("0", Reason.NOT_WHOLE),
        ("0xA100", Reason.NOT_WHOLE),
        ("nvidia.com/gpu: half", Reason.NOT_WHOLE),
        ("nvidia.com/gpu: 500m", Reason.NOT_WHOLE),
        ("999999xT4", Reason.NOT_WHOLE),
        ("2.5xA100", Reason.UNKNOWN_TYPE),
        ("2x", Reason.UNKNOWN_TYPE),
        ("2xA101", Reason.UNKNOWN_TYPE),
        ("example.com/gpu: 1", Reason.UNKNOWN_TYPE),
        ("9" * 300, Reason.UNREADABLE),
    ],
)
def test_what_is_refused_and_why(said: str, reason: Reason) -> None:
    with pytest.raises(Refusal) as refused:
        parse(said)
    assert refused.value.reason is reason


def test_each_sentence_is_there_in_both_languages_with_the_same_facts() -> None:
    refused = Refusal(Reason.UNKNOWN_TYPE, said="Q100", known="T4, V100")
    assert str(refused) == "no GPU is called 'Q100'; there are T4, V100"
    assert refused.text("zh") == "没有名为“Q100”的 GPU；可用的有：T4, V100"
    for reason in Reason:
        english, chinese = (
            sorted(part.partition("}")[0] for part in text.split("{")[1:]) for text in reason.value
        )
        assert english == chinese


def test_a_type_alone_has_no_count() -> None:
    assert gpu_type("any") == gpu_type("") == Wanted()
    assert gpu_type("h100") == Wanted(1, "H100", "nvidia")
    with pytest.raises(Refusal, match="no GPU is called '2xA100'"):
        gpu_type("2xA100")


@pytest.mark.parametrize(
    ("driver", "kind"),
    [
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX4090D"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA GeForce GTX 1080", "GTX1080"),
    ],
)
def test_a_driver_s_name_becomes_a_kind_s(driver: str, kind: str) -> None:
    assert named(driver) == kind


KIND = some.sampled_from(KINDS)
COUNT = some.integers(1, 4096)
FORMS = some.sampled_from(
    ["{n}x{k}", "{n} x {k}", "{n}×{k}", "{k}x{n}", "{k}*{n}", "{k}:{n}", "gpu:{k}:{n}", "{n}张{k}"]
)


@given(KIND, COUNT, FORMS, some.sampled_from([str, str.lower, str.upper]))
def test_each_kind_is_understood_in_each_form(
    kind: Kind, n: int, form: str, case: Callable[[str], str]
) -> None:
    read = parse(case(form.format(n=n, k=kind.name)))
    assert (read.count, read.kind) == (n, kind.name)


@given(
    KIND,
    some.integers(0, 3),
    some.sampled_from(["{k}-{m}GB", "{k} {m}G", "{k}_{m}", "{k} {m}GiB", "{m}GB {k}"]),
)
def test_each_size_that_a_kind_is_sold_in_is_understood(kind: Kind, which: int, form: str) -> None:
    size = kind.sizes[which % len(kind.sizes)]
    read = parse(form.format(k=kind.name, m=size))
    assert (read.kind, read.memory_gb) == (kind.name, size)


@given(some.sampled_from(sorted(RESOURCES)), COUNT, some.sampled_from([": ", "=", ":", " ", '": "']))
def test_each_resource_is_understood(name: str, count: int, between: str) -> None:
    assert parse(f"{name}{between}{count}") == Wanted(count, maker=RESOURCES[name], resource=name)


WORDS = some.sampled_from(
    [
        "A100",
        "4090",
        "x",
        ":",
        "gpu",
        "2",
        "80GB",
        "nvidia.com/gpu",
        "张",
        "两",
        "-",
        " ",
        "0",
        "½",
        "\n",
        "²",
    ]
)


@settings(max_examples=500)
@given(some.one_of(some.text(max_size=300), some.lists(WORDS, max_size=12).map("".join)))
def test_whatever_is_written_is_understood_or_refused(said: str) -> None:
    try:
        read = parse(said)
    except Refusal as refused:
        read = Wanted()
        refused.text("zh")
    assert 1 <= read.count <= 65_536
    assert read.memory_gb is None or read.memory_gb >= 0


@given(some.floats(0.5, 9999).map(lambda number: round(number, 2)))
def test_gib_are_more_than_gb(size: float) -> None:
    gb, gib, mib = (memory_in(f"{size}{unit}")[1] for unit in ("GB", "GiB", "MiB"))
    assert gb == pytest.approx(size)
    assert gib == pytest.approx(size * 1.073741824, abs=1e-3)
    assert mib == pytest.approx(size * 1.048576e-3, abs=1e-3)
