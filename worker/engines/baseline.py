"""Baseline: a board beside its template, compared by OpenCV; needs no model and no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from worker.engines.engine import Engine

if TYPE_CHECKING:
    from worker.boards.copper import Mask
    from worker.boards.defect import Defect


class Baseline(Engine):
    about = "compares a board with its template, which must lie beside it; no model, no GPU"
    version: ClassVar[str] = "1"

    @staticmethod
    def inspect(template: Mask, tested: Mask) -> Sequence[Defect]:
        """Candidates, the surest first."""
        from worker.boards.baseline import inspect

        return inspect(template, tested)
