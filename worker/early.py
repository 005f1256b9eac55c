"""A stop that comes before anybody listens for stops, or when nobody does any more."""

from __future__ import annotations

import signal

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
heard: list[str] = []
"""what was heard so: an import that is interrupted may turn the exception into another, or swallow it"""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM before there is anything to hand back.

    After a plain KeyboardInterrupt inside of an exec(), which every dataclass uses, Python ends by signal 2
    even if it was caught."""


def listen() -> None:
    for number in STOPS:
        signal.signal(number, _interrupt)


def deaf() -> None:
    """What was decided stands: Python drops its handlers on its way out, and then a signal would end it."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, _: object) -> None:
    heard.append(signal.Signals(number).name)
    raise Interrupted
