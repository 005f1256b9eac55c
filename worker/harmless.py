"""What a name may not do where people read it: move the cursor, begin a line, turn text around."""

from __future__ import annotations

from unicodedata import category

IN_ITS_PLACE = "\ufffd"
ZERO_WIDTH_JOINER = "\u200d"
_HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")


def harmless(text: str) -> str:
    """One line without control, formatting and bidi characters; the joiner of emoji stays."""
    if text.isprintable():
        return text
    return "".join(IN_ITS_PLACE if category(c) in _HARMFUL and c != ZERO_WIDTH_JOINER else c for c in text)
