"""Where one worker of this machine stands, for people: its lines on the screen and its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from worker.items import Json


@dataclass(frozen=True, slots=True)
class Standing:
    """Counted over all its working processes: a death takes nothing back."""

    device: str
    worker: str = ""
    """the id of the process that works now; "" when none does"""
    info: Mapping[str, Json] = field(default_factory=dict)
    """what that process says of itself"""
    answered: int = 0
    failed: int = 0
    """of those answered"""
    deaths: int = 0
    silence_s: float = 0.0
    """since the last beat that the store acknowledged"""

    def with_(self, worker: str, info: Mapping[str, Json], silence_s: float) -> Standing:
        """While a process works."""
        return replace(
            self,
            worker=worker,
            info=info,
            answered=self.answered + int(info.get("answered", 0)),
            failed=self.failed + int(info.get("failed", 0)),
            silence_s=silence_s,
        )

    def after(self, info: Mapping[str, Json], *, died: bool) -> Standing:
        """When it has ended."""
        ended = self.with_("", info, 0.0)
        return replace(ended, info={}, deaths=self.deaths + died)
