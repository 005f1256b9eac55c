"""All cards of this machine, whoever made them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from worker.errors import MachineError
from worker.gpus import nvidia
from worker.gpus.ascend import NpuSmi
from worker.gpus.intel import XpuSmi
from worker.gpus.inventory import Card, Inventory, Node
from worker.gpus.nvidia_smi import NvidiaSmi
from worker.gpus.rocm import Rocm

log = logging.getLogger(__name__)


class Nvidia:
    """From the driver's library; where that cannot be had, from nvidia-smi."""

    def __init__(self, name: str) -> None:
        self._library = nvidia.ThisMachine(name=name)
        self._program = NvidiaSmi(name)

    def look(self) -> Sequence[Node]:
        try:
            return self._library.look()
        except MachineError as error:
            if found := self._program.look():
                return found
            raise error from None


class ThisMachine:
    """Who does not answer is told, and takes none of the others' cards along. His own, seen before, stay in
    the list, ill with that reason: somebody may hold them."""

    def __init__(self, name: str = "", makers: Mapping[str, Inventory] | None = None) -> None:
        self._node = name or socket.gethostname()
        self._makers = makers or {
            "NVIDIA": Nvidia(self._node),
            "AMD": Rocm(self._node),
            "Intel": XpuSmi(self._node),
            "Ascend": NpuSmi(self._node),
        }
        self._seen: dict[str, tuple[Card, ...]] = {}
        self._told: dict[str, str] = {}

    def look(self) -> Sequence[Node]:
        with ThreadPoolExecutor(len(self._makers)) as pool:
            answers = dict(zip(self._makers, pool.map(_ask, self._makers.values()), strict=True))
        cards: list[Card] = []
        for maker, (found, trouble) in answers.items():
            if trouble:
                found = tuple(replace(card, trouble=trouble) for card in self._seen.get(maker, ()))
            self._seen[maker] = found or self._seen.get(maker, ())
            cards += found
        troubles = {maker: trouble for maker, (_, trouble) in answers.items() if trouble}
        if not any(found for found, _ in answers.values()):
            raise MachineError("; ".join(troubles.values()) or "no GPU was found")
        self._tell(
            {maker: text for maker, text in troubles.items() if maker != "NVIDIA" or self._seen[maker]}
        )
        return [Node(self._node, tuple(cards))]

    def _tell(self, troubles: dict[str, str]) -> None:
        for maker, text in troubles.items():
            if self._told.get(maker) != text:
                log.warning("%s cards: %s", maker, text)
        self._told = troubles


def _ask(maker: Inventory) -> tuple[tuple[Card, ...], str]:
    """Its cards, or why it does not tell them."""
    try:
        return tuple(card for node in maker.look() for card in node.cards), ""
    except MachineError as error:
        return (), str(error)
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # another release, another form
        return (), f"its program answers what is not understood: {type(error).__name__}: {error}"
