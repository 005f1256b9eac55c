"""The cards themselves: what they are, whether driver and wheel fit them, and who else is on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from worker.doctor.facts import Capability, Facts
from worker.doctor.finding import Finding, blocker, ok, warning
from worker.hardware import gpus, stacks
from worker.hardware.stacks import DRIVERS

KNOWN_SILENCES = {
    "version mismatch": "the driver was updated under a running kernel module: restart the machine",
    "couldn't communicate": "the kernel module is not loaded: modprobe nvidia, or install the driver again",
    "Unknown Error": "the container lost its devices: start it again, with --gpus all",
    "No devices were found": "the driver sees no card: look at dmesg for NVRM and Xid lines",
    "no answer": "the driver hangs: look at dmesg for Xid lines, and restart the machine",
}
SHARED_GB = 0.5
"""what a screen takes at the most"""


def card(facts: Facts) -> Iterator[Finding]:
    here, hw = facts.gpus, facts.wanted.hw
    if here.cards:
        for (name, size, capability), count in Counter(
            (one.name, one.gigabytes, one.capability) for one in here.cards
        ).items():
            sm = "sm_{}{}".format(*capability) if capability else "sm unknown"
            kind = gpus.ARCHITECTURES.get(capability, "unknown to us") if capability else "unknown"
            also = "; an A100 with less NVLink, not Hopper" if "A800" in name else ""
            yield ok(f"{count} × {name}, {size:.0f} GB, {kind} ({sm}){also}")
        if here.visible is not None and here.visible.strip() in ("", "-1", "NoDevFiles"):
            yield blocker(
                f"CUDA_VISIBLE_DEVICES={here.visible!r} hides them all", "unset CUDA_VISIBLE_DEVICES"
            )
        return
    if here.silence:
        known = [remedy for words, remedy in KNOWN_SILENCES.items() if words in here.silence]
        yield blocker(f"nvidia-smi: {here.silence}", known[0] if known else "install the driver again")
    elif here.nodes:
        yield warning(
            f"{here.nodes} device files of NVIDIA, and no nvidia-smi to ask",
            "start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
    elif here.other:
        yield ok(f"{len(here.other)} of another maker: {', '.join(here.other)}; checked no further")
    elif hw not in (None, "cpu"):
        yield blocker(
            f"none, and the profile is {hw}",
            "start a container with --gpus all; SLURM: --gres=gpu:1; a machine without one: --hw cpu",
        )
    else:
        yield ok("none: what runs on a CPU runs here (media-check; ghost-probing by motion or detector)")


def profile(facts: Facts) -> Iterator[Finding]:
    hw, cards = facts.wanted.hw, facts.gpus.cards
    if hw is None or not cards:
        return
    known = {one.name: gpu.hw if (gpu := gpus.find(one.name)) else None for one in cards}
    if others := sorted(name for name, own in known.items() if own != hw):
        own = known[others[0]]
        remedy = (
            f"its own: --hw {own}, or HW={own} with make" if own else "none is made for it: take its kind's"
        )
        yield warning(f"the profile is {hw}, and the card {', '.join(others)}", remedy)
    else:
        yield ok(f"{hw} is what is here")


def driver(facts: Facts) -> Iterator[Finding]:
    if not facts.gpus.cards:
        return
    version = facts.gpus.cards[0].driver
    most = max((cuda for cuda, least in DRIVERS.items() if _parts(version) >= _parts(least)), default=None)
    cuda = facts.libraries.torch.cuda if facts.libraries.torch else None
    if most is None:
        yield blocker(f"{version} is too old for CUDA 11", f"install driver {DRIVERS[11]} or newer")
    elif cuda is None or int(cuda.partition(".")[0]) <= most:
        yield ok(f"{version}: runs wheels for CUDA {most}.x and older{f'; torch is for {cuda}' * bool(cuda)}")
    else:
        major = int(cuda.partition(".")[0])
        yield blocker(
            f"{version} runs wheels for CUDA {most}.x at the most, and torch is for {cuda}",
            f"{_stack(facts)}; or driver {DRIVERS.get(major, 'newer than this')} and newer",
        )


def wheel(facts: Facts) -> Iterator[Finding]:
    torch = facts.libraries.torch
    if torch is None or not facts.gpus.cards:
        return
    if torch.error:
        yield blocker(f"torch {torch.version} does not load: {torch.error}", _stack(facts))
    elif torch.cuda is None:
        yield blocker(f"torch {torch.version} is for CPUs alone", _stack(facts))
    else:
        without = {
            one.sm for one in facts.gpus.cards if one.capability and not has_code(torch.archs, one.capability)
        }
        archs = " ".join(torch.archs)
        if without:
            yield blocker(
                f"torch {torch.version} has code for {archs}, none of it for {', '.join(sorted(without))}",
                _stack(facts),
            )
        elif not torch.available:
            yield blocker(
                f"torch {torch.version} sees no card, nvidia-smi does",
                "compare the driver with `driver` here, and look at CUDA_VISIBLE_DEVICES",
            )
        else:
            yield ok(f"torch {torch.version} has code for this card ({archs})")


def _stack(facts: Facts) -> str:
    """What is locked for this card, and runs with its driver."""
    card = facts.gpus.cards[0]
    for one in stacks.fitting(card.capability) if card.capability else []:
        if one.driver and _parts(one.driver) <= _parts(card.driver):
            known = gpus.find(card.name)
            make = f"make setup HW={known.hw} WORKER_STACK={one.name}; " if known else ""
            return f"the stack {one.name}, torch {one.torch} ({make}docs/compatibility.md)"
    return "no stack of ours runs on this card with this driver (docs/compatibility.md)"


def has_code(archs: Sequence[str], capability: Capability) -> bool:
    """A binary runs on its own major version from its minor version on; PTX on all that came later."""
    matches = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", one) for one in archs]
    found = [(one[1], (int(one[2]), int(one[3]))) for one in matches if one]
    return any(of <= capability and (kind == "compute" or of[0] == capability[0]) for kind, of in found)


def bf16(facts: Facts) -> Iterator[Finding]:
    torch = facts.libraries.torch
    if not facts.gpus.cards:
        return
    told = list(torch.bf16) if torch else []
    real = told or [one.capability is not None and one.capability >= gpus.AMPERE for one in facts.gpus.cards]
    if all(real):
        yield ok("computed by the card itself")
    else:
        yield warning(
            f"{facts.gpus.cards[real.index(False)].sm} has none: what torch shows is emulated, and slow",
            "fp16: leave WORKER_PRECISION alone; train in fp16 with a scaled loss (AMP)",
        )


def mig(facts: Facts) -> Iterator[Finding]:
    on = [one for one in facts.gpus.cards if one.mig]
    if not facts.gpus.cards:
        return
    if empty := [one for one in on if not one.slices]:
        numbers = ",".join(str(one.index) for one in empty)
        yield blocker(
            f"on, and card {numbers} has no slices: nothing can run on it",
            f"as root: nvidia-smi mig -i {numbers} -cgi 0 -C, or nvidia-smi -i {numbers} -mig 0",
        )
    elif on:
        yield ok(
            f"{sum(one.slices for one in on)} slices; --gpus all takes each; they share no memory by NCCL"
        )
    else:
        yield ok("off")


def ecc(facts: Facts) -> Iterator[Finding]:
    cards = facts.gpus.cards
    if not cards:
        return
    if ill := [one for one in cards if one.uncorrected]:
        yield warning(
            f"card {ill[0].index} had {ill[0].uncorrected} memory errors that could not be corrected",
            f"as root, with nobody on it: nvidia-smi -r -i {ill[0].index}; if they come again, take another",
        )
    elif all(one.ecc is None for one in cards):
        yield ok("these cards have none")
    else:
        yield ok("on, no errors" if all(one.ecc for one in cards) else "off, which leaves more memory")


def tenants(facts: Facts) -> Iterator[Finding]:
    busy = [one for one in facts.gpus.cards if one.held > SHARED_GB]
    for one in busy:
        names = ", ".join(f"{PurePath(tenant.name).name or '?'} ({tenant.pid})" for tenant in one.tenants)
        rest = ",".join(str(other.index) for other in facts.gpus.cards if other not in busy)
        leave = f"leave the card out: --gpus {rest}" if rest else "wait until they end"
        yield warning(
            f"card {one.index}: {one.held:.1f} of {one.gigabytes:.0f} GB are held by "
            + (names or "what runs outside of this container"),
            f"end them, or {leave}" if names else leave,
        )
    if facts.gpus.cards and not busy:
        yield ok("nobody else is on the cards")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
