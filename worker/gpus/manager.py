"""The GPUs of one inventory, handed out by one ledger: what the server and the library share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from worker.errors import WorkerError
from worker.gpus.allocation import Allocation
from worker.gpus.clerk import Clerk
from worker.gpus.config import GpuConfig
from worker.gpus.events import Events
from worker.gpus.forms import TrainingGPUConfig
from worker.gpus.inventory import Inventory, Node
from worker.gpus.ledger import Ledger
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.watch import Watch

SOON_S = 0.5
"""after which one looks again at a card that was given back while something ran there"""

log = logging.getLogger(__name__)
T = TypeVar("T")


class GpuResourceManager:
    def __init__(self, inventory: Inventory, ledger: Path, config: GpuConfig | None = None) -> None:
        self.config = config or GpuConfig()
        self.events = Events()
        self.watch = Watch(self.events, self.config.resource_change_threshold)
        self.clerk = Clerk(Ledger(ledger), self.events.note)
        self._inventory = inventory
        self._trouble = "nobody has looked for GPUs yet"
        self._looked = threading.Event()
        self._soon = threading.Event()
        self._closing = False
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

    def allocate(self, asked: TrainingGPUConfig, key: str = "") -> Future[Allocation]:
        self.check_ready()
        return self.clerk.allocate(asked.request(), key, asked.wait_s, asked.less())

    def validate(self, asked: TrainingGPUConfig) -> Future[bool]:
        """Free now? Refused if it can never be."""
        request = asked.request()
        return self.ask(lambda ledger: ledger.check(request))

    def release(self, name: str) -> Future[Allocation]:
        return self._given_back(lambda ledger: ledger.release(name))

    def clean(self, node: str) -> Future[list[Allocation]]:
        return self._given_back(lambda ledger: ledger.clean(node))

    def _given_back(self, question: Callable[[Ledger], T]) -> Future[T]:
        answer = self.ask(question)
        answer.add_done_callback(lambda _: self._soon.set())
        return answer

    def close(self) -> None:
        self._closing = True
        self._soon.set()
        self._lookout.join()
        self.clerk.close()

    def _look_out(self) -> None:
        while not self._closing:
            self._look()
            self._looked.set()
            if self._soon.wait(self.config.monitor_update_interval):
                self._soon.clear()
                threading.Event().wait(0 if self._closing else SOON_S)

    def _look(self) -> None:
        try:
            nodes = self._inventory.look()
            self.watch.look(nodes, self.clerk.ask(lambda ledger: _supply(ledger, nodes)).result())
        except WorkerError as error:
            self._worry(str(error))
        except Exception as error:
            log.exception("looking for GPUs")
            self._worry(f"{type(error).__name__}: {error}")
        else:
            self._worry("" if any(node.cards for node in nodes) else "no GPU was found")

    def _worry(self, trouble: str) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble != before:
            log.warning("not ready: %s", trouble) if trouble else log.info("ready")
            self.events.tell("not_ready" if trouble else "ready", {"why": trouble})


def _supply(ledger: Ledger, nodes: Sequence[Node]) -> int:
    """How many cards are held of what there is now."""
    ledger.supply(nodes)
    return sum(len(one.cards) for one in ledger.allocations.values())
