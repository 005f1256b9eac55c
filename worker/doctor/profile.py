"""Profiles of machines, and which of them a card is of."""

from __future__ import annotations

import re

NAMES = (
    *("cpu", "rtx2080", "t4", "v100", "a100", "a800", "h100", "h200"),
    *("rtx3090", "rtx4090", "l4", "a10", "a6000", "a40"),
)
ARCHITECTURES = {
    (7, 0): "Volta",
    (7, 2): "Volta",
    (7, 5): "Turing",
    (8, 0): "Ampere",
    (8, 6): "Ampere",
    (8, 7): "Ampere",
    (8, 9): "Ada",
    (9, 0): "Hopper",
}
AMPERE = (8, 0)
"""from here on a card has bf16, and FlashAttention-2 runs"""


def is_called(hw: str, card: str) -> bool:
    """`a100` is NVIDIA A100-SXM4-80GB, `rtx2080` is NVIDIA GeForce RTX 2080 and no RTX 2080 Ti."""
    words = re.findall(r"[a-z0-9]+", card.lower())
    for at, word in enumerate(words):
        for name, rest in ((word, words[at + 1 :]), ("".join(words[at : at + 2]), words[at + 2 :])):
            if name == hw and rest[:1] not in (["ti"], ["super"]):
                return True
    return False


def profile_of(card: str) -> str | None:
    return next((name for name in NAMES if is_called(name, card)), None)


def architecture(capability: tuple[int, int] | None) -> str:
    if capability is None:
        return ""
    return ARCHITECTURES.get(capability) or ("Blackwell" if capability > (9, 0) else "older than Volta")
