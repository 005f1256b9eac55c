"""What tasks have in common that may ask a vision engine: its life, from its choice to its end."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic

from worker.engines.choice import Choice, engine_type
from worker.tasks.task import MapTask, P, S

if TYPE_CHECKING:
    from worker.engines.engine import Engine, VisionEngine


class VisionTask(MapTask[P, S], Generic[P, S]):
    """Its parameters may have `quantise`."""

    @property
    def at_once(self) -> int:  # type: ignore[override]
        return self._vision.at_once if self._vision else 1

    def open(self, device: str) -> None:
        if self._vision:
            self._vision.purse = self.purse
            self._vision.wanted_batch = self.wanted_batch
            self._vision.open(device)
            self.batch = self._vision.batch

    def stop(self) -> None:
        if self._vision:
            self._vision.stop()

    def close(self) -> None:
        if self._vision:
            self._vision.close()

    @property
    def _chosen(self) -> str:
        return self.choice.engine if self.choice else next(iter(self.engines))

    @cached_property
    def _engine(self) -> Engine:
        choice = self.choice or Choice(self._chosen)
        return self._make(replace(choice, quantise=getattr(self.params, "quantise", "none")))

    @cached_property
    def _vision(self) -> VisionEngine | None:
        """The language model that is asked; it is opened where there is a device."""
        from worker.engines.engine import VisionEngine

        return self._engine if isinstance(self._engine, VisionEngine) else None

    def _make(self, choice: Choice) -> Engine:
        return engine_type(self.engines[choice.engine])(choice)
