"""What a card's memory holds of the longest requests that are expected: as remembered, or tried out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.engines.batching import Batches, Probe, Remembered, Size, fitting, probed
from worker.engines.choice import Choice
from worker.items import Json

if TYPE_CHECKING:
    from worker.engines.decoding import Decoder

WITHOUT_A_GPU = 4
"""requests at once where there is no memory of a device to measure"""
MORE = 1.2
"""times the memory there was: what was measured with so little is measured again"""

log = logging.getLogger(__name__)


def batches(
    key: str,
    cards: Sequence[Any],
    decoder: Decoder,
    ask: Callable[[int], None],
    *,
    wanted: int | None,
    stopped: Callable[[], bool],
    expected: Callable[[], bool],
) -> Batches:
    """As large as somebody `wanted`, or as fit; that is remembered, and so is how it changes."""
    size = Size(wanted, wanted) if wanted else measured(key, cards, decoder, ask, stopped)
    decoder.begin_anew()

    def resized(batch: int) -> None:
        if size.room:
            Remembered().put(key, replace(size, batch=batch))

    return Batches(size.batch, most=size.most, release=decoder.release, resized=resized, expected=expected)


def measured(
    key: str,
    cards: Sequence[Any],
    decoder: Decoder,
    ask: Callable[[int], None],
    stopped: Callable[[], bool],
) -> Size:
    """`ask` answers so many of the longest requests. What is stopped while it is tried is not remembered."""
    if not cards or cards[0].type != "cuda":
        return Size(WITHOUT_A_GPU, WITHOUT_A_GPU)
    remembered = Remembered()
    if (known := remembered.get(key)) is not None and min(map(_room, cards)) < MORE * known.room:
        log.info("%d requests at once, %d fitted: so says %s", known.batch, known.most, remembered.file)
        return known
    fits = min(_fitting_on(card, decoder, ask) for card in cards)
    if stopped():
        return Size(1, 1)
    remembered.put(key, found := Size(fits, fits, float(min(map(_room, cards)))))
    log.info("%d requests at once fit, which %s remembers", fits, remembered.file)
    return found


def key(device: Any, choice: Choice, about: Mapping[str, Json], longest: str) -> str:
    """What the memory that a request takes depends on."""
    import torch

    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    made = [about.get(one) for one in ("devices", "quantisation", "precision", "attention")]
    return " | ".join(map(str, (card, choice.model, choice.revision, *made, longest, torch.__version__)))


def _fitting_on(card: Any, decoder: Decoder, ask: Callable[[int], None]) -> int:
    import torch

    def tried(count: int) -> Probe:
        decoder.release()
        torch.cuda.reset_peak_memory_stats(card)
        ask(count)
        return Probe(count, torch.cuda.max_memory_allocated(card), decoder.kept)

    probes = probed(tried)
    decoder.release()
    return fitting(probes, _room(card))


def _room(card: Any) -> float:
    """What nobody else has."""
    import torch

    free, _ = torch.cuda.mem_get_info(card)
    return float(free + torch.cuda.memory_reserved(card))
