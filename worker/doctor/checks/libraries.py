"""The packages: new enough, and doing their work on this card."""

from __future__ import annotations

import re
from collections.abc import Iterator

from worker.doctor.facts import Facts
from worker.doctor.finding import Finding, blocker, ok, warning
from worker.hardware import gpus, stacks

LEAST = {"torch": "2.7", "transformers": "5.20", "accelerate": "1.10", "bitsandbytes": "0.48"}
"""what engines of language models need: the extra `vlm`"""
AWQ = ("compressed-tensors", "llmcompressor", "gptqmodel", "autoawq")
SLOW_TORCH, CUDNN = "2.9", 91500


def packages(facts: Facts) -> Iterator[Finding]:
    versions = facts.libraries.versions
    there = {name: versions[name] for name in LEAST if name in versions}
    old = [
        f"{name} {v} (needs {LEAST[name]})" for name, v in there.items() if _parts(v) < _parts(LEAST[name])
    ]
    if old:
        yield warning(
            f"too old for the engines of language models: {', '.join(old)}",
            "pip install 'gpu-batch-worker[vlm]', or the lock of this card's stack (docs/compatibility.md)",
        )
    elif facts.gpus.cards and (missing := [name for name in ("torch", "transformers") if name not in there]):
        yield warning(
            f"no {' and no '.join(missing)}: language models do not run, what works on a CPU does",
            "the lock of this card's stack (docs/compatibility.md), or pip install 'gpu-batch-worker[vlm]'",
        )
    else:
        said = ", ".join(f"{name} {version}" for name, version in there.items())
        untried = "" if facts.gpus.cards or not there else "; not tried, for there is no card"
        yield ok(f"{said or 'none of the language models'}{untried}")


def flash_attention(facts: Facts) -> Iterator[Finding]:
    card, version = facts.card, facts.libraries.versions.get("flash-attn")
    if card is None:
        return
    if card.capability and card.capability < gpus.AMPERE:
        remove = "pip uninstall flash-attn: it cannot be used; " if version else ""
        yield warning(
            f"{gpus.ARCHITECTURES.get(card.capability, card.name)} ({card.sm}) cannot run it, it needs sm_80",
            f"{remove}nothing else: SDPA is taken by itself",
        )
    elif version is None:
        yield ok("not installed: SDPA is taken")
    elif trial := facts.libraries.trials.get("flash-attn"):
        if trial.wrong is None:
            yield ok(f"{version} works")
        else:
            old = "GLIBC" in trial.wrong
            why = f"the wheel is for a newer glibc than {facts.system.glibc}: " if old else ""
            yield warning(
                f"{version} is installed and does not work: {trial.wrong}",
                f"{why}pip uninstall flash-attn (SDPA is taken), or build it here: pip install "
                "--no-build-isolation --no-binary flash-attn flash-attn",
            )


def bitsandbytes(facts: Facts) -> Iterator[Finding]:
    if not facts.gpus.cards:
        return
    level = blocker if facts.need and facts.need.four_bits else warning
    trial = facts.libraries.trials.get("bitsandbytes")
    if trial is None and "bitsandbytes" not in facts.libraries.versions:
        if level is blocker:
            yield blocker("not installed, and the base is loaded in four bits", "pip install bitsandbytes")
        else:
            yield ok("not installed: no NF4, so quantise=nf4 is refused")
    elif trial and trial.wrong:
        yield level(
            f"{trial.version} does not work here: {trial.wrong}",
            "take the one that is locked for this card (docs/compatibility.md)",
        )
    elif trial:
        yield ok(f"{trial.version} quantises to four bits and back on the card")


def awq(facts: Facts) -> Iterator[Finding]:
    trials = facts.libraries.trials
    for name in AWQ:
        if (trial := trials.get(name)) and trial.wrong:
            yield warning(
                f"{name} {trial.version} does not load: {trial.wrong}",
                f"pip uninstall {name}, or the locked one",
            )
    versions = facts.libraries.versions
    if "autoawq" in versions:
        yield warning(
            f"autoawq {versions['autoawq']} is no longer developed, and knows no Qwen3-VL",
            "quantise with llm-compressor, in an environment of its own; to read AWQ nothing is needed",
        )
    elif not any(trials[name].wrong for name in AWQ if name in trials):
        there = ", ".join(f"{name} {versions[name]}" for name in AWQ if name in versions)
        yield ok(f"{there or 'no library'}; checkpoints in AWQ are read with torch alone")


def conv3d(facts: Facts) -> Iterator[Finding]:
    version = facts.libraries.versions.get("torch", "")
    torch = facts.libraries.torch
    if not version or not facts.gpus.cards:
        return
    cudnn = torch.cudnn if torch else None
    mended = version.startswith(f"{SLOW_TORCH}.1") and cudnn is not None and cudnn >= CUDNN
    if version.startswith(f"{SLOW_TORCH}.") and not mended:
        yield warning(
            f"torch {version} does Conv3d without cuDNN: Qwen3-VL's vision is 10 to 20 times slower",
            "torch 2.8, or 2.10 and newer; or 2.9.1 with cuDNN 9.15. The engine qwen goes round it, "
            "trainings and vLLM do not",
        )
    else:
        yield ok(f"torch {version} is not the slow 2.9")


def glibc(facts: Facts) -> Iterator[Finding]:
    version = facts.system.glibc
    level = blocker if facts.gpus.cards else warning
    least = ".".join(map(str, stacks.GLIBC))
    if version is None:
        yield level("another libc: wheels for GPUs are not made for it", "take an image of Debian or Ubuntu")
    elif _parts(version) < stacks.GLIBC:
        yield level(
            f"{version} is older than {least}, which torch is built for",
            "take a newer image, such as Debian 12",
        )
    else:
        yield ok(version)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))
