"""Taints that are taken all the same: `KEY`, `KEY=VALUE` or `KEY=VALUE:EFFECT`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from worker.errors import UsageError

_FORM = re.compile(r"([\w./-]+)(?:=([\w.-]*))?(?::(NoSchedule|NoExecute))?")


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str
    value: str | None = None
    """None: any"""
    effect: str = ""
    """empty: any"""

    def told(self) -> dict[str, str]:
        """As a pod writes it."""
        told = {"key": self.key, "operator": "Exists" if self.value is None else "Equal"}
        if self.value is not None:
            told["value"] = self.value
        if self.effect:
            told["effect"] = self.effect
        return told


def parse(said: str) -> Toleration:
    found = _FORM.fullmatch(said)
    if not found:
        raise UsageError(f"--tolerate {said}: write KEY, KEY=VALUE or KEY=VALUE:NoSchedule")
    return Toleration(found[1], found[2], found[3] or "")


def tolerated(taint: Mapping[str, str], tolerations: Iterable[Toleration]) -> bool:
    return any(
        one.key == taint["key"]
        and one.value in (None, taint.get("value", ""))
        and one.effect in ("", taint["effect"])
        for one in tolerations
    )
