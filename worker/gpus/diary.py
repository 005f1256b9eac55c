"""What happens to the ledger, in order, whoever wrote it: what a turn that failed wrote is struck out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from worker.gpus.allocation import Allocation, Waiting

Kind = Literal["made", "renewed", "ended", "waiting", "left"]


class Change(NamedTuple):
    kind: Kind
    about: Allocation | Waiting
    why: str = ""


class Diary:
    def __init__(self) -> None:
        self._open: list[Change] = []
        self._closed: list[Change] = []
        self._held: dict[str, Allocation] | None = None
        """as it was told last; None: nobody was told anything yet"""
        self._waiting: dict[str, Waiting] = {}

    def write(self, kind: Kind, about: Allocation | Waiting, why: str = "") -> None:
        self._open.append(Change(kind, about, why))

    def strike(self) -> None:
        self._open.clear()

    def close(self) -> None:
        """What was written is on the disk."""
        held = self._held or {}
        for kind, about, _ in self._open:
            if isinstance(about, Waiting):
                self._waiting.pop(about.ticket, None)
                if kind == "waiting":
                    self._waiting[about.ticket] = about
            elif kind == "ended":
                held.pop(about.id, None)
            else:
                held[about.id] = about
                self._waiting.pop(about.id, None)
        self._held = held
        self._closed += self._open
        self._open = []

    def compare(
        self,
        held: Mapping[str, Allocation],
        waiting: Mapping[str, Waiting],
        why: Callable[[str], str],
    ) -> None:
        """The ledger was read anew: what others wrote is what differs."""
        if self._held is None:
            self._held, self._waiting = dict(held), dict(waiting)
            return
        for name, one in self._held.items():
            if name not in held:
                self.write("ended", one, why(name))
            elif held[name].until != one.until:
                self.write("renewed", held[name])
        for name, one in held.items():
            if name not in self._held:
                self.write("made", one)
        for ticket, late in self._waiting.items():
            if ticket not in waiting and ticket not in held:
                self.write("left", late)
        for ticket, late in waiting.items():
            if ticket not in self._waiting:
                self.write("waiting", late)

    def take(self) -> Sequence[Change]:
        taken, self._closed = self._closed, []
        return taken
