"""`worker` and `python -m worker`."""

from __future__ import annotations

import signal
import sys


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM before there is anything to hand back.

    After a plain KeyboardInterrupt inside of an exec(), which every dataclass uses, Python ends by signal 2
    even if it was caught."""


def main() -> None:
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from worker.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(75)


def _interrupt(*_: object) -> None:
    raise Interrupted


if __name__ == "__main__":
    main()
