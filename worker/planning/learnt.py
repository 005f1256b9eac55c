"""What a card reached here, in a file: plans for such a card then assume that instead of what they guess."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from worker.engines.device import cache_folder
from worker.hardware import gpus
from worker.hardware.gpus import Gpu
from worker.items import Json
from worker.planning.seconds import ASSUMED, Efficiency
from worker.planning.span import Span

AROUND = Span(0.85, 1.15)
"""another model, other clips"""
ENOUGH = 32
"""requests; fewer are mostly the first one's slowness"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reached:
    """Shares of the data sheet's figures."""

    prefill: float
    """vision included"""
    decode: float
    requests: int


class Learnt:
    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_folder() / "plans.json"

    def put(self, card: str, reached: Reached) -> None:
        """`card`: as its driver calls it."""
        from worker.report.files import write_json

        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {**self._read(), card: asdict(reached)})
        except OSError as error:
            log.warning("what the card reached is not remembered: %s", error)

    def of(self, gpu: Gpu | None) -> tuple[Efficiency, str | None]:
        """And on which card it was measured; None: it is assumed."""
        for card, told in self._read().items():
            if gpu is None or gpus.find(card) != gpu:
                continue
            try:
                reached = Reached(**told)
                read, said = AROUND * reached.prefill, AROUND * reached.decode
            except TypeError:
                continue
            return replace(ASSUMED, vision=read, prefill=read, decode=said), card
        return ASSUMED, None

    def _read(self) -> Mapping[str, Json]:
        try:
            found = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
