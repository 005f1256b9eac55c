"""What a card's memory holds of the longest requests that are expected: as remembered, or tried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.engines.batching import Probe, Remembered, Size, fitting, probed
from worker.engines.choice import Choice
from worker.items import Json

if TYPE_CHECKING:
    from worker.engines.decoding import Decoder

WITHOUT_A_GPU = 4
"""requests at once where there is no memory of a device to measure"""


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
    if (known := Remembered().get(key)) is not None:
        return known
    fits = min(_fitting_on(card, decoder, ask) for card in cards)
    if stopped():
        return Size(1, 1)
    Remembered().put(key, found := Size(fits, fits))
    return found


def key(device: Any, choice: Choice, about: Mapping[str, Json], longest: str) -> str:
    """What the memory that a request takes depends on."""
    import torch

    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    made = [about.get(one) for one in ("quantisation", "precision", "attention")]
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
    free, _ = torch.cuda.mem_get_info(card)
    return fitting(probes, free + torch.cuda.memory_reserved(card))
