"""What a machine was said to be, against the cards that are found in it."""

from __future__ import annotations

from collections.abc import Sequence

from worker.hardware import gpus


def disagreement(hw: str, found: Sequence[str]) -> str | None:
    """One line; None: they agree, or nothing is known. `found`: as the driver names the cards."""
    said = gpus.of(hw)
    if said is None or not found:
        return None
    known = {name: gpu.hw if (gpu := gpus.find(name)) else None for name in found}
    if hw in known.values():
        return None
    others = sorted({other for other in known.values() if other})
    remedy = (
        f"use its own profile: --hw {others[0]}, or HW={others[0]} with make"
        if others
        else "no profile is made for it; `worker doctor` says what fits, docs/compatibility.md which stack"
    )
    return f"--hw {hw} means another card than {', '.join(sorted(known))}, which is here: {remedy}"
