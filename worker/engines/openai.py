"""openai: a model behind any OpenAI-compatible endpoint, asked over the network about frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from worker.engines.background import Background
from worker.engines.endpoint import endpoint
from worker.engines.engine import Reply, Request, VisionEngine
from worker.engines.spending import Prices, Till
from worker.errors import MachineError, UsageError
from worker.items import Failure, Json
from worker.purse import refuse_unpriced

if TYPE_CHECKING:
    from worker.engines.calls import Calls

SIDE = 512
"""pixels of a frame's longer side: what OpenAI's models see at the lowest price"""
AT_ONCE = 8
LIMIT_S = 120.0
SMALL = Request(
    frames=[np.full((64, 64, 3), 128, np.uint8)],
    times=[0.0],
    prompt='Is this picture gray? Answer in JSON: {"gray": true} or {"gray": false}',
    schema={
        "type": "object",
        "properties": {"gray": {"type": "boolean"}},
        "required": ["gray"],
        "additionalProperties": False,
    },
)
"""asked before the first clip: a wrong key or model, one that sees no pictures, and what form it takes"""


@dataclass(frozen=True, slots=True)
class Terms:
    """How much is asked at once, for how long, and at what price: as the environment says."""

    at_once: int
    limit_s: float
    prices: Prices | None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        return cls(
            at_once=int(_number(environment, "WORKER_CONCURRENCY", least=1.0) or AT_ONCE),
            limit_s=_number(environment, "WORKER_CALL_LIMIT", least=1.0) or LIMIT_S,
            prices=_prices(environment),
        )


class OpenAi(VisionEngine):
    about = (
        "any OpenAI-compatible endpoint (OpenAI, Azure OpenAI, vLLM); frames leave this machine, and may cost"
    )
    model: ClassVar[Literal["none", "file", "folder", "name"]] = "name"
    _calls: Calls | None = None
    _stopped = False

    @cached_property
    def _terms(self) -> Terms:
        return Terms.read(os.environ)

    @property
    def at_once(self) -> int:  # type: ignore[override]
        return self._terms.at_once

    def open(self, device: str) -> None:  # noqa: ARG002
        if self.choice.model is None:
            raise UsageError("engine openai needs --model, the name that the endpoint knows it by")
        self._endpoint = endpoint(os.environ, self.choice.model)
        if self.purse:
            refuse_unpriced(self.purse.budget, self._terms.prices)
            self.purse.is_priced |= self._terms.prices is not None
        try:
            from worker.engines.calls import Calls  # late: it needs httpx
        except ImportError as error:
            raise MachineError(f"engine openai needs {error.name}: pip install httpx") from None
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every call
        self.batch = self.at_once  # as many again stand ready
        self._background = Background()
        self._calls = Calls(
            self._endpoint,
            SMALL,
            at_once=self.at_once,
            limit_s=self._terms.limit_s,
            till=Till(self._terms.prices, self.purse),
        )
        if self._stopped:
            self.stop()
        said = self._background.run(self._calls.ask_small())
        if isinstance(said, Failure) and said.kind == "rejected":
            raise MachineError(
                f"model {self.choice.model} does not take even a small picture: {said.message}"
            )

    def close(self) -> None:
        if self._calls:
            self._background.run(self._calls.close())
            self._background.close()
            self._calls = None

    def stop(self) -> None:
        self._stopped = True
        if calls := self._calls:
            self._background.tell(calls.stop)

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, SIDE / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        assert self._calls, "it is not open"
        return self._background.run(self._calls.answer(requests))

    def spent(self) -> Mapping[str, Json]:
        if self._calls is None:
            return {}
        return {
            **self._calls.spent.told(),
            **self._calls.till.told(),
            "endpoint": self._endpoint.shown,
            "answers_as": self._calls.dialect.form.value,
        }


def _prices(environment: Mapping[str, str]) -> Prices | None:
    asked = _number(environment, "WORKER_PRICE_IN", least=0.0)
    answered = _number(environment, "WORKER_PRICE_OUT", least=0.0)
    if (asked is None) != (answered is None):
        raise UsageError("WORKER_PRICE_IN and WORKER_PRICE_OUT belong together: USD a million tokens")
    return None if asked is None or answered is None else Prices(asked, answered)


def _number(environment: Mapping[str, str], name: str, *, least: float) -> float | None:
    if not (text := environment.get(name, "").strip()):
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if least <= number < float("inf"):
        return number
    raise UsageError(f"{name} is '{text}'; it must be a number of at least {least:g}")
