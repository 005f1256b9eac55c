"""The moment at which a recording began, in UTC, as its file's name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath

_FORM = "%Y%m%dT%H%M%S.%fZ"


def stamp(began: datetime) -> str:
    return began.astimezone(UTC).strftime(_FORM)


def began_at(file: str) -> float | None:
    """Seconds since 1970. None: the name tells no moment."""
    try:
        return datetime.strptime(PurePosixPath(file).stem, _FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
