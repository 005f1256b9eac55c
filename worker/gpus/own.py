"""The cards that a worker works on: taken from this machine's ledger, so that no two programs meet on one.

Whoever names cards gets those, whatever else runs there, unless somebody holds them; whoever says how many
gets healthy ones on which nothing runs. What the environment gives is a scheduler's, and not asked for."""

from __future__ import annotations

import getpass
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from worker.errors import MachineError, UnfinishedError, WorkerError
from worker.gpus import tenants
from worker.gpus.allocation import Allocation, Held, Request
from worker.gpus.config import GpuConfig
from worker.gpus.here import ThisMachine
from worker.gpus.inventory import Card, Inventory
from worker.gpus.kinds import memory_in, plain
from worker.gpus.makers import MAKERS
from worker.gpus.manager import GpuResourceManager
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.serving import default_ledger
from worker.gpus.wanted import Wanted, parse
from worker.hardware import cards as hardware

LEASE_S = 60.0
RENEWALS = 4
"""in a lease"""
FIRST_LOOK_S = 120.0
AGAIN_S = 1.0
WAITING_S = 5.0
"""how often one who waits looks at the cards"""

log = logging.getLogger(__name__)


def counted(said: str) -> Wanted | None:
    """`2x`, `2xA100`, `1x24GB`: so many. None: it names cards, as `all`, `0,1` and UUIDs do."""
    found = re.fullmatch(r"\s*(\d+)\s*[x×*]\s*(.*)", plain(said), re.IGNORECASE)
    if not found:
        return None
    kind, _ = memory_in(found[2])
    return parse(f"{found[1]}x{found[2]}" if kind.strip() else f"{found[1]} GPU {found[2]}")


class Hold:
    """Ours until they are given back, or this process ends."""

    def __init__(
        self,
        cards: Sequence[hardware.Card],
        manager: GpuResourceManager | None = None,
        made: Allocation | None = None,
    ) -> None:
        self.cards = list(cards)
        self._manager = manager
        self._made = made
        self._over = threading.Event()
        if manager and made:
            threading.Thread(target=self._renew, args=(manager,), name="lease", daemon=True).start()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        manager, self._manager = self._manager, None
        self._over.set()
        if manager and self._made:
            with suppress(WorkerError):  # its lease may have ended
                manager.release(self._made.id).result()
        if manager:
            manager.close()

    def _renew(self, manager: GpuResourceManager) -> None:
        while (made := self._made) and not self._over.wait(LEASE_S / RENEWALS):
            try:
                manager.renew(made.id).result()
            except Exception as error:  # the disk may be full for a moment
                if not isinstance(error, Refusal) or error.reason is not Reason.NO_ALLOCATION:
                    log.warning("the cards are renewed later: %s", error)
                elif not self._again(manager, made):
                    return

    def _again(self, manager: GpuResourceManager, lost: Allocation) -> bool:
        """Whoever was stopped for longer than his lease has lost his cards; mostly they are still free."""
        try:
            self._made = manager.clerk.allocate(_named(lost.cards)).result()
        except Refusal as refused:
            log.error("the lease of the cards ended, and they are not to be had again: %s", refused)
            return False
        return True


def take(
    said: str, wait_s: float = 0.0, ledger: Path | None = None, inventory: Inventory | None = None
) -> Hold:
    """What `--gpus` says."""
    there = hardware.cards(hardware.Machine())
    count = counted(said)
    if count is None:
        return hold(hardware.choose(said, there), wait_s, ledger, inventory)
    if there and there[0].given:
        return Hold(_some_given(said, count, there))
    if not there and (variable := _given_by(os.environ)):
        raise MachineError(
            f"--gpus {said}: the environment gives no GPU: look at {variable}, "
            "or leave --gpus out to work on the CPU"
        )
    try:
        manager = _open(ledger, inventory, wait_s)
    except MachineError as error:
        raise MachineError(f"--gpus {said}: {error}; or leave --gpus out to work on the CPU") from error
    with _refusals(said, manager):
        made = _made(manager, _request(count), wait_s)
    found = [hardware.of(MAKERS[card.maker], card.index, card.uuid) for card in made.cards]
    log.info("--gpus %s: %s", said, ", ".join(card.label for card in found))
    return Hold(found, manager, made)


def hold(
    chosen: Sequence[hardware.Card],
    wait_s: float = 0.0,
    ledger: Path | None = None,
    inventory: Inventory | None = None,
) -> Hold:
    """These. Where no ledger can be kept they are taken all the same, and it is said."""
    if not chosen or chosen[0].given:
        return Hold(chosen)
    said = ",".join(card.name for card in chosen)
    manager: GpuResourceManager | None = None
    try:
        manager = _open(ledger, inventory, wait_s)
        meant = manager.ask(lambda ledger: _meant(ledger.nodes[0].cards, chosen)).result()
    except WorkerError as error:
        log.warning(
            "--gpus %s: not entered into the ledger, so others may be given them too: %s", said, error
        )
        if manager:
            manager.close()
        return Hold(chosen)
    for card in meant:
        if card.trouble or card.processes:
            runs = f"others compute there: {', '.join(map(str, card.processes))}"
            log.warning("--gpus %s: card %d: %s", said, card.index, card.trouble or runs)
    with _refusals(said, manager):
        return Hold(chosen, manager, _made(manager, _named(meant), wait_s))


def _given_by(environment: Mapping[str, str]) -> str:
    """What says which cards are ours, even if that is none."""
    known = (variable for maker in hardware.LOOKS for variable in maker.variables)
    return next((variable for variable in known if variable in environment), "")


def _some_given(said: str, count: Wanted, there: Sequence[hardware.Card]) -> Sequence[hardware.Card]:
    if len(there) < count.count:
        given = ", ".join(card.label for card in there)
        raise MachineError(f"--gpus {said}: the environment gives {given}: ask for {len(there)}x")
    if count.kind or count.memory_gb:
        log.warning("--gpus %s: the environment gives the cards, so their kind is not looked at", said)
    return there[: count.count]


def _open(ledger: Path | None, inventory: Inventory | None, wait_s: float) -> GpuResourceManager:
    often = GpuConfig(monitor_update_interval=WAITING_S) if wait_s else None
    manager = GpuResourceManager(inventory or ThisMachine(), ledger or default_ledger(), often, tells=False)
    try:
        manager.wait_ready(FIRST_LOOK_S)
    except BaseException as error:
        manager.close()
        raise MachineError(str(error)) if isinstance(error, Refusal) else error from None
    return manager


@contextmanager
def _refusals(said: str, manager: GpuResourceManager) -> Iterator[None]:
    try:
        yield
    except Refusal as refused:
        manager.close()
        if refused.reason is Reason.BUSY:
            hint = "--wait-gpus 10m waits for them, --gpus 1x takes any that is free"
            raise UnfinishedError(f"--gpus {said}: {refused}: {hint}") from None
        raise MachineError(f"--gpus {said}: {refused}") from None
    except BaseException:
        manager.close()
        raise


def _made(manager: GpuResourceManager, wanted: Request, wait_s: float) -> Allocation:
    """Who names cards is not in line, and asks again and again."""
    ends = time.monotonic() + wait_s
    while True:
        try:
            return manager.clerk.allocate(wanted, patience_s=0.0 if wanted.cards else wait_s).result()
        except Refusal as refused:
            if refused.reason is not Reason.BUSY or time.monotonic() >= ends:
                raise
        time.sleep(AGAIN_S)


def _request(count: Wanted) -> Request:
    return replace(
        _named(()), count=count.count, kind=count.kind, maker=count.maker, memory_gb=count.memory_gb or 0.0
    )


def _named(cards: Sequence[Card | Held]) -> Request:
    names = tuple(card.uuid for card in cards)
    return Request(count=len(names), cards=names, owner=_user(), process=tenants.this(), lease_s=LEASE_S)


def _meant(there: Sequence[Card], chosen: Sequence[hardware.Card]) -> list[Card]:
    """The same cards, as the inventory knows them."""
    found = []
    for card in chosen:
        same = [one for one in there if (one.uuid == card.uuid if card.uuid else _is_number(one, card))]
        if not same:
            raise MachineError(f"the inventory does not know {card.label}")
        found.append(same[0])
    return found


def _is_number(one: Card, card: hardware.Card) -> bool:
    return str(one.index) == card.name and MAKERS[one.maker].variables[0] in card.environment


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return f"user {os.getuid()}"
