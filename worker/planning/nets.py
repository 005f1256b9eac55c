"""The small nets that people train on cards which a manager hands out: inputs, hidden layers, outputs."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from pydantic import Field

from worker.planning import ram
from worker.planning.machine import Machine
from worker.planning.shape import Shape
from worker.planning.span import Span, exactly
from worker.planning.work import Asked, Needs, Work
from worker.tasks.task import Params

CONTEXT = 0.8e9
_SHARE = Span(0.01, 0.2)
"""of the card's peak in fp32: small products, and a loader that is python"""


class MlpParams(Params):
    input_dim: int = Field(default=784, ge=1)
    hidden_units: tuple[int, ...] = (512, 256)
    output_dim: int = Field(default=10, ge=1)
    epochs: int = Field(default=10, ge=1)
    batch: int = Field(default=256, ge=1)
    mixed_precision: bool = False


class MlpTrain(Work[MlpParams]):
    name = "mlp-train"
    about = "train a small net of dense layers"
    params_type = MlpParams
    most: ClassVar[int] = 65536

    def batch(self, params: MlpParams, machine: Machine, shape: Shape | None) -> int | None:  # noqa: ARG002
        return params.batch

    def needs(self, asked: Asked[MlpParams]) -> Needs:
        params, machine = asked.params, asked.machine
        wide = [params.input_dim, *params.hidden_units, params.output_dim]
        count = parameters(wide)
        kept = 2 if params.mixed_precision else 4
        states = {
            "weights, gradients, optimiser": count * 16.0,
            "activations": 2.0 * asked.batch * sum(wide) * kept,
            "context": CONTEXT,
        }
        if machine.gpu is None:
            return Needs(ram={"process": ram.PROCESS / 4, **states}, notes=[f"{count:,} parameters"])
        items = 60_000 if asked.items is None else asked.items
        peak = machine.gpu.fp32 * 1e12
        work = exactly(6 * count * items * params.epochs / peak).over(_SHARE)
        return Needs(
            gpu=states,
            ram={"process": ram.PROCESS * machine.gpus},
            seconds={"training": work * (1 / machine.gpus)},
            notes=[f"{count:,} parameters"],
            error="30 %",
        )


def parameters(wide: list[int]) -> int:
    return sum((into + 1) * out for into, out in pairwise(wide))
