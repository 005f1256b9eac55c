"""The small models that the integrations build, as JSON describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import UsageError

F = TypeVar("F", bound=BaseModel)
Width = Annotated[int, Field(ge=1, le=1_000_000)]

ADAM = 16
"""bytes a parameter: itself, its gradient, and two moments"""


class Mlp(BaseModel):
    """Layers in which every unit sees all of the layer before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_dim: Width
    hidden_units: Annotated[Width | tuple[Width, ...], Field(description="of one layer, or of several")]
    output_dim: Width
    activation: Literal["relu", "gelu", "tanh", "sigmoid"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def hidden(self) -> Sequence[int]:
        return (self.hidden_units,) if isinstance(self.hidden_units, int) else self.hidden_units

    @property
    def widths(self) -> Sequence[int]:
        return self.input_dim, *self.hidden, self.output_dim

    @property
    def fixed_bytes(self) -> int:
        """While it is trained with Adam."""
        return ADAM * sum(before * after + after for before, after in pairwise(self.widths))

    @property
    def sample_bytes(self) -> int:
        """What a step keeps of a sample: each layer before and after its activation, and their gradients."""
        return 4 * 4 * sum(self.widths)


MODELS = {"mlp": Mlp}


def read(kind: str, told: Mapping[str, Any]) -> Mlp:
    if kind not in MODELS:
        raise UsageError(f"no model is called '{kind}'; there are {', '.join(MODELS)}")
    return filled(MODELS[kind], told, kind)


def filled(form: type[F], told: Any, name: str) -> F:
    try:
        return form.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join((name, *(str(part) for part in first["loc"])))
        raise UsageError(f"{where}: {first['msg']}") from error
