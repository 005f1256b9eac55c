"""`worker` and `python -m worker`."""

from __future__ import annotations

import sys

from worker import early

STOPPED = 75


def main() -> None:
    early.listen()
    try:
        from worker.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except BaseException as error:
        if early.heard and not (isinstance(error, SystemExit) and not error.code):
            sys.exit(STOPPED)
        raise
    finally:
        early.deaf()


if __name__ == "__main__":
    main()
