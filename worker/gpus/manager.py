"""The GPUs of one inventory, handed out by one ledger: what the server and the library share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from worker.errors import WorkerError
from worker.gpus import reports
from worker.gpus.allocation import Allocation
from worker.gpus.clerk import Clerk
from worker.gpus.config import GpuConfig
from worker.gpus.events import Events
from worker.gpus.forms import PlanTold, TrainingGPUConfig
from worker.gpus.inventory import Followed, Inventory, Node
from worker.gpus.keeper import Keeper
from worker.gpus.kube.tolerations import Toleration
from worker.gpus.ledger import Ledger
from worker.gpus.refusals import Reason, Refusal, Said
from worker.gpus.watch import Watch

SOON_S = 0.5
"""after which one looks again at a card that was given back while something ran there"""
TOLD_S = 0.05
"""after which one looks at what an inventory told of by itself: changes come in crowds"""

log = logging.getLogger(__name__)
T = TypeVar("T")


class GpuResourceManager:
    def __init__(
        self,
        inventory: Inventory,
        ledger: Path | Keeper,
        config: GpuConfig | None = None,
        of: str = "this machine",
        tells: bool = True,
    ) -> None:
        """`of`: what the inventory is that of: two do not share a ledger. `tells`: it logs how it stands."""
        self.config = config or GpuConfig()
        self.tolerations: Sequence[Toleration] = ()
        """that pods have to say in a cluster"""
        self.events = Events()
        self.watch = Watch(self.events, self.config.resource_change_threshold)
        self.clerk = Clerk(Ledger(ledger), self.events.note)
        self._inventory = inventory
        self._of = of
        self._tells = tells
        self._missing: list[str] = []
        self._trouble = "nobody has looked for GPUs yet"
        self._looked = threading.Event()
        self._soon = threading.Event()
        self._closing = False
        self._pause = SOON_S
        if isinstance(inventory, Followed):
            self._pause = TOLD_S
            inventory.follow(self._soon.set)
        self._lookout = threading.Thread(target=self._look_out, name="inventory", daemon=True)
        self._lookout.start()

    @property
    def trouble(self) -> str:
        """Why it is not ready; empty: it is."""
        return self._trouble

    def wait_ready(self, seconds: float) -> None:
        """For the first look. Refused with the reason if it found nothing."""
        self._looked.wait(seconds)
        self.check_ready()

    def check_ready(self) -> None:
        if self._trouble:
            raise Refusal(Reason.NOT_READY, why=self._trouble)

    def ask(self, question: Callable[[Ledger], T]) -> Future[T]:
        self.check_ready()
        return self.clerk.ask(question)

    def allocate(self, asked: TrainingGPUConfig, key: str = "", process: str = "") -> Future[Allocation]:
        """`process`: with which it ends: see tenants.py."""
        self.check_ready()
        less = asked.less()
        return self.clerk.allocate(
            replace(asked.request(), process=process),
            key,
            asked.wait_s,
            less and replace(less, process=process),
        )

    def planned(self, asked: TrainingGPUConfig) -> tuple[TrainingGPUConfig, PlanTold | None]:
        """As the plan of its task wants it. Takes a moment."""
        if not asked.task:
            return asked, None
        from worker.gpus.planned import settle  # plans know models, and are read when somebody asks

        request = asked.request()
        sorts = self.ask(lambda ledger: reports.sorts(ledger, request)).result()
        return settle(asked, sorts) if sorts else (asked, None)  # without such cards there is nothing to plan

    def validate(self, asked: TrainingGPUConfig) -> Future[bool]:
        """Free now? Refused if it can never be."""
        request = asked.request()
        return self.ask(lambda ledger: ledger.check(request))

    def renew(self, name: str) -> Future[tuple[Allocation, float]]:
        """With the seconds of its lease. Ready or not: a driver that is silent ends nobody's lease."""
        return self.clerk.ask(lambda ledger: (ledger.renew(name), ledger.left(name)))

    def release(self, name: str) -> Future[Allocation]:
        """Ready or not."""
        return self._given_back(lambda ledger: ledger.release(name))

    def withdraw(self, key: str) -> Future[list[Allocation]]:
        """Ready or not."""
        return self._given_back(lambda ledger: ledger.withdraw(key))

    def clean(self, node: str) -> Future[list[Allocation]]:
        self.check_ready()
        return self._given_back(lambda ledger: ledger.clean(node))

    def _given_back(self, question: Callable[[Ledger], T]) -> Future[T]:
        answer = self.clerk.ask(question)
        answer.add_done_callback(lambda _: self._soon.set())
        return answer

    def close(self) -> None:
        self._closing = True
        self._soon.set()
        if isinstance(self._inventory, Followed):
            self._inventory.close()
        self._lookout.join()
        self.clerk.close()

    def _look_out(self) -> None:
        while not self._closing:
            self._look()
            self._looked.set()
            if self._soon.wait(self.config.monitor_update_interval):
                self._soon.clear()
                threading.Event().wait(0 if self._closing else self._pause)

    def _look(self) -> None:
        try:
            nodes = self._inventory.look()
            seen, missing, held = self.clerk.ask(lambda ledger: self._supply(ledger, nodes)).result()
            self._tell_missing(missing)
            self.watch.look(seen, held)
        except WorkerError as error:
            self._worry(_why(error))
        except Exception as error:
            log.exception("looking for GPUs")
            self._worry(f"{type(error).__name__}: {error}")
        else:
            self._worry("" if any(node.cards for node in nodes) else "no GPU was found")

    def _supply(self, ledger: Ledger, nodes: Sequence[Node]) -> tuple[Sequence[Node], list[str], int]:
        """The nodes with what occupies them; who holds what is no longer here; how many are held in all."""
        ledger.belong(self._of)
        ledger.supply(nodes)
        missing = [f"{card.uuid}, held by {one.who}, is no longer here" for one, card in ledger.missing()]
        return ledger.nodes, missing, sum(len(one.cards) for one in ledger.allocations.values())

    def _tell_missing(self, missing: list[str]) -> None:
        for line in missing:
            if self._tells and line not in self._missing:
                log.warning("%s", line)
        self._missing = missing

    def _worry(self, trouble: str) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble != before:
            if self._tells:
                log.warning("not ready: %s", trouble) if trouble else log.info("ready")
            self.events.tell("not_ready" if trouble else "ready", {"why": trouble})


def _why(error: WorkerError) -> str:
    """Without saying twice that it is not ready."""
    if isinstance(error, Refusal) and error.reason is Reason.NOT_READY:
        why = error.facts["why"]
        return why.english if isinstance(why, Said) else str(why)
    return str(error)
