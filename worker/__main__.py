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
    finally:
        # what was decided stands: Python drops its handlers on its way out, and then a signal would end it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    raise Interrupted


if __name__ == "__main__":
    main()
