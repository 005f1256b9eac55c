"""What a run said of each clip: read from its final_results.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from worker.errors import UsageError
from worker.items import Json

FILE = "final_results.json"
VERDICT = "ghost_probing_detected"


@dataclass(frozen=True, slots=True)
class Verdict:
    input: str
    yes: bool | None
    """None: the item failed, there is no answer"""
    spans: Sequence[tuple[float, float]] = ()
    """when its incidents begin and end, in seconds"""
    failure: str = ""
    confidence: float | None = None
    """of the surest incident, where the engine tells"""

    @property
    def names(self) -> tuple[str, str, str]:
        """What a label may call it, the most exact first."""
        path = PurePosixPath(self.input)
        return self.input, path.name, path.stem


@dataclass(frozen=True, slots=True)
class Verdicts:
    file: Path
    document: Json
    verdicts: Sequence[Verdict]


def read_verdicts(place: Path) -> Verdicts:
    """`place`: a folder of results, or the file itself."""
    file = place / FILE if place.is_dir() else place
    try:
        document = json.loads(file.read_bytes())
        results = document["results"]
        if (
            results
            and not any(VERDICT in one for one in results)
            and any(one["status"] == "ok" for one in results)
        ):
            raise UsageError(f"{file} holds answers of {document['task']}: only ghost-probing can be scored")
        return Verdicts(file, document, [_verdict(one) for one in results])
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; name a folder that worker collect wrote") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is no {FILE} ({type(error).__name__}: {error})") from None


def _verdict(one: Json) -> Verdict:
    if one["status"] != "ok":
        return Verdict(one["input"], None, failure=one["failure"]["kind"])
    incidents = one["incidents"]
    sure = [i["evidence"]["confidence"] for i in incidents if "confidence" in (i.get("evidence") or {})]
    return Verdict(
        one["input"],
        bool(one[VERDICT]),
        [(seconds(i["start_time"]), seconds(i["end_time"])) for i in incidents],
        confidence=max(sure, default=None),
    )


def seconds(text: str) -> float:
    """ "12.4s" → 12.4"""
    return float(text.strip().lower().removesuffix("s"))
