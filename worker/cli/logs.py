"""Logging to stderr: text for people or JSON lines for machines, without secrets, one line a record."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from worker.harmless import harmless
from worker.redact import redact


class Decent(logging.Filter):
    """No secrets, and nothing that a name could do to a terminal or a log. Sits on the handler, so that
    records of every library pass through it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = harmless(redact(record.getMessage())), ()
        if record.exc_info:
            # a formatter takes exc_text as it stands
            record.exc_text = indented(logging.Formatter().formatException(record.exc_info))
        return True


class JsonLines(logging.Formatter):
    def __init__(self, member: int = 0) -> None:
        super().__init__()
        self._member = member

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **({"member": self._member} if self._member else {}),
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, ensure_ascii=False)


def indented(trace: str) -> str:
    """A traceback of which no line looks like one of the log."""
    return "\n".join(f"  {harmless(line)}" for line in redact(trace).split("\n"))


def set_up(form: str, *, debug: bool, member: int = 0) -> None:
    """`form`: text or json. `member`: which of several workers speaks."""
    handler = logging.StreamHandler()
    handler.addFilter(Decent())
    who = f"worker {member}: " if member else ""
    text = logging.Formatter(f"%(asctime)s %(levelname)-7s {who}%(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines(member) if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("worker").setLevel(logging.DEBUG if debug else logging.INFO)
