"""A length of time as people say it."""

from __future__ import annotations


def seconds(value: float) -> str:
    """A duration as people say it: 42 s, 7 min, 3.5 h, 2.1 days."""
    if value < 100:
        return f"{value:.0f} s"
    if value < 100 * 60:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 48 * 3600 else f"{value / 86400:.1f} days"
