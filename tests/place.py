"""A place to launch workers at that is all in this process: what each verb does there can be seen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import click
import pytest

from worker.errors import UnfinishedError, UsageError
from worker.launch.cost import Cost
from worker.launch.launch import Launch, Receipt
from worker.launch.launcher import LAUNCHERS, Launcher, Look, Standing

if TYPE_CHECKING:
    from worker.launch.launcher import Keep, Say

NAME = "fake"


class Fake(Launcher):
    name = NAME
    standings: ClassVar[list[Standing | UnfinishedError]] = []
    """what the scheduler answers, one after the other; the last one for ever"""
    asked: ClassVar[list[str]] = []
    """the verbs that reached it"""
    queue_away: ClassVar[int] = 0
    """so many looks meet no queue"""
    on_again: ClassVar[Callable[[], object]] = staticmethod(lambda: None)

    def check(self, launch: Launch) -> None:
        if launch.setting("tier") == "none":
            raise UsageError("--tier none is no tier; there are low and high")

    def render(self, launch: Launch) -> Mapping[str, str]:
        told = f"{launch.name} {launch.profile.hw} {' '.join(launch.recipe_words)} × {launch.workers}\n"
        return (
            {"job.yml": told, "parts/shell.sh": "exec worker\n"} if launch.setting("two") else {"job": told}
        )

    def cost(self, launch: Launch) -> Cost:
        from worker.launch import cost

        return cost.of(launch)

    def submit(self, launch: Launch, known: Receipt | None, say: Say, keep: Keep) -> Receipt:
        from worker.launch import queue

        self.asked.append("submit")
        receipt = known or Receipt(self.name, launch, launch.queue)
        keep(receipt.also(made=["cluster"]))
        queue.enqueue(launch, launch.queue, launch.inputs, None, say)
        return receipt.also(jobs=["job-1"], made=["cluster"])

    def standing(self, receipt: Receipt) -> Standing:  # noqa: ARG002
        self.asked.append("standing")
        standing = self.standings.pop(0) if len(self.standings) > 1 else self.standings[0]
        if isinstance(standing, UnfinishedError):
            raise standing
        return standing

    def look(self, receipt: Receipt) -> Look:
        if Fake.queue_away:
            Fake.queue_away -= 1
            raise UnfinishedError("store away")
        return super().look(receipt)

    def again(self, receipt: Receipt, say: Say) -> Receipt:  # noqa: ARG002
        self.asked.append("again")
        Fake.on_again()
        return receipt.also(jobs=[f"job-{len(receipt.jobs) + 1}"])

    def fetch(self, receipt: Receipt, out: Path, say: Say) -> bool:
        from worker.launch import queue

        return queue.fetch(receipt.queue, out, say)

    def cancel(self, receipt: Receipt, say: Say) -> None:
        self.asked.append("cancel")
        say(f"{', '.join(receipt.jobs)} ended")

    def delete(self, receipt: Receipt, say: Say) -> None:  # noqa: ARG002
        self.asked.append(f"delete {' '.join(receipt.made)}")


def open_place(patch: pytest.MonkeyPatch) -> type[Fake]:
    options: Any = ModuleType("its options")
    options.OPTIONS = (
        click.option("--tier", default="low", help="of the machines"),
        click.option("--two", is_flag=True, help="write two files"),
    )
    patch.setitem(LAUNCHERS, NAME, ("tests.place", "Fake", "a place that is here"))
    patch.setitem(sys.modules, f"worker.cli.launch_{NAME}", options)
    patch.setitem(sys.modules, "tests.place", sys.modules[__name__])
    patch.setattr(Fake, "standings", [Standing("running", "1 running")])
    patch.setattr(Fake, "asked", [])
    patch.setattr(Fake, "queue_away", 0)
    patch.setattr(Fake, "on_again", staticmethod(lambda: None))
    return Fake
