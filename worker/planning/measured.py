"""After a run, or while it goes on: what was planned beside what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from worker.engines.choice import Choice
from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.items import Json
from worker.planning import known, seconds
from worker.planning.ghosts import GhostParams, form, memory
from worker.planning.learnt import ENOUGH, Learnt, Reached
from worker.planning.memory import CONTEXT
from worker.planning.seconds import ASSUMED
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly

Spent = Mapping[str, Json]


def card_of(spent: Spent) -> str | None:
    """`cuda:0 (NVIDIA A100-SXM4-80GB)`: the only one that a worker sees."""
    places = spent.get("devices") or []
    found = re.fullmatch(r"cuda:\d+ \((.*)\)", places[0]) if len(places) == 1 else None
    return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Planned:
    choice: Choice
    params: GhostParams

    def told(self, batch: int, spent: Spent) -> Mapping[str, Json]:
        """Nothing where there was no GPU that is known, or nothing was asked yet."""
        gpu = _gpu(spent)
        if gpu is None or not spent.get("requests"):
            return {}
        shape = known.of_choice(self.choice)
        told: dict[str, Json] = {}
        if peak := re.match(r"[\d.]+", str(spent.get("peak_memory", ""))):
            planned = sum(memory(shape, self.params, batch).values()) - CONTEXT  # torch sees nothing of that
            told["gpu_memory_gb"] = {"planned": round(planned / 1e9, 1), "measured": float(peak[0])}
        for name, best in _best(shape, self.params, gpu, spent).items():
            share = ASSUMED.decode if name == "decode_s" else ASSUMED.prefill
            if took := _took(name, spent):
                told[name] = {"planned": _rounded(exactly(best).over(share)), "measured": took}
        return {"planned": told}

    def learn(self, spent: Spent, learnt: Learnt | None = None) -> None:
        """What the card reached is what the next plan for it assumes."""
        card, gpu = card_of(spent), _gpu(spent)
        if card is None or gpu is None or spent.get("requests", 0) < ENOUGH:
            return
        best = _best(known.of_choice(self.choice), self.params, gpu, spent)
        took = {name: _took(name, spent) for name in best}
        if all(took.values()) and all(best.values()):
            shares = {name: best[name] / took[name] for name in best}
            reached = Reached(shares["prefill_s"], shares["decode_s"], int(spent["requests"]))
            (learnt or Learnt()).put(card, reached)


def _took(name: str, spent: Spent) -> float:
    """Seconds. Seeing is part of reading a prompt, also where it is told apart."""
    seen = spent.get("vision_s") if name == "prefill_s" else None
    return float(spent.get(name) or 0) + float(seen or 0)


def _gpu(spent: Spent) -> Gpu | None:
    card = card_of(spent)
    return gpus.find(card) if card else None


def _best(shape: Shape, params: GhostParams, gpu: Gpu, spent: Spent) -> dict[str, float]:
    """Seconds that what was done would have taken at the figures of the data sheet."""
    kind = form(shape, params)
    cached = shape.kv_bytes * spent.get("generated_tokens", 0) * spent.get("prompt_tokens", 0)
    read = spent.get("decode_steps", 0) * seconds.language_bytes(shape, kind) + cached / spent["requests"]
    return {
        "prefill_s": float(spent.get("prefill_flops", 0)) / gpu.flops,
        "decode_s": read / (gpu.bandwidth * 1e9),
    }


def _rounded(span: Span) -> list[float]:
    return [round(span.low, 1), round(span.high, 1)]
