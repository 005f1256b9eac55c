"""docs/compatibility.md"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.hardware.stacks import GLIBC, PYTHON, STACKS, fitting, stack_of

GPU_STACKS = [stack for stack in STACKS.values() if stack.torch]

TEMPLATE = Path(__file__).with_name("page.md")


def text() -> str:
    return TEMPLATE.read_text("utf-8").format(
        python=_dotted(PYTHON),
        glibc=_dotted(GLIBC),
        profiles=_profiles(),
        stacks=_stacks(),
        matrix=_matrix(),
        flash="\n".join(f"  - {stack.name}: {stack.flash}" for stack in GPU_STACKS),
        quantise=_quantise(),
        checked="\n".join(f"- {stack.name}: {stack.checked}." for stack in STACKS.values()),
        cards=_cards(),
    )


def _profiles() -> str:
    rows = []
    for hw in sorted(gpus.HARDWARE):
        known = [gpu for gpu in gpus.TABLE if gpu.hw == hw]
        rows.append([f"`{hw}`", *_of(known), stack_of(hw).name])
    return _table(["profile", "card", "capability", "GB", "bf16", "FlashAttention-2", "stack"], rows)


def _of(known: Sequence[Gpu]) -> list[str]:
    if not known:
        return ["no GPU", "", "", "", ""]
    sizes = sorted({gpu.gigabytes for gpu in known})
    one = known[0]
    return [
        one.architecture,
        _dotted(one.sm),
        " or ".join(f"{size:g}" for size in sizes),
        _yes(one.bf16),
        _yes(one.flash),
    ]


def _stacks() -> str:
    facts = [
        ("cards", [stack.cards for stack in GPU_STACKS]),
        ("CUDA", [str(stack.cuda) for stack in GPU_STACKS]),
        ("driver, at least", [str(stack.driver) for stack in GPU_STACKS]),
        ("torch", [str(stack.torch) for stack in GPU_STACKS]),
        ("torchvision", [str(stack.torchvision) for stack in GPU_STACKS]),
    ]
    facts += _versions([stack.packages for stack in GPU_STACKS])
    return _table(["", *(stack.name for stack in GPU_STACKS)], ([name, *row] for name, row in facts))


def _quantise() -> str:
    facts = _versions([{"torch": str(stack.torch), **stack.quantise} for stack in GPU_STACKS])
    return _table(
        ["", *(f"quantise-{stack.name}" for stack in GPU_STACKS)], ([name, *row] for name, row in facts)
    )


def _versions(of: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    names = sorted({name for one in of for name in one})
    return [(name, [one.get(name, "as resolved") for one in of]) for name in names]


def _matrix() -> str:
    rows = []
    for sm, name in gpus.ARCHITECTURES.items():
        own = fitting(sm)[0]
        cells = ["**yes**" if stack is own else _yes(stack.runs_on(sm)) for stack in GPU_STACKS]
        rows.append([f"{name} ({_dotted(sm)})", *cells])
    return _table(["", *(stack.name for stack in GPU_STACKS)], rows)


def _cards() -> str:
    names = [
        "profile",
        "driver's name",
        "GB",
        "MiB, by its driver",
        "GB/s",
        "fp16 TFLOP/s",
        "fp32 TFLOP/s",
        "NVLink GB/s",
        "source",
    ]
    return _table(
        names,
        (
            [
                gpu.hw,
                f"`{gpu.name}`".replace("|", "\\|"),
                f"{gpu.gigabytes:g}",
                str(gpu.mib),
                *(f"{number:g}" for number in (gpu.bandwidth, gpu.half, gpu.fp32)),
                "" if gpu.nvlink is None else f"{gpu.nvlink:g}",
                gpu.source,
            ]
            for gpu in gpus.TABLE
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _dotted(sm: tuple[int, int]) -> str:
    return "{}.{}".format(*sm)


def _yes(it_is: bool) -> str:
    return "yes" if it_is else "no"
