"""What a run said of each clip: read from its final_results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    let_through: bool | None = None
    """to the language model, by the screen before it; None: there was no screen"""

    @property
    def names(self) -> tuple[str, str, str]:
        """What a label may call it, the most exact first."""
        path = PurePosixPath(self.input)
        return self.input, path.name, path.stem


def read_results(place: Path) -> Json:
    """The document. `place`: a folder of results, or the file itself."""
    file = place / FILE if place.is_dir() else place
    try:
        document = json.loads(file.read_bytes())
        task, results = document["task"], document["results"]
        for one in results:
            verdict(one)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; name a folder that worker collect wrote") from None
    except KeyError as error:
        if error.args[0] in (VERDICT, "incidents"):
            raise UsageError(f"{file} holds answers of {task}, which know no yes and no") from None
        raise UsageError(f"{file} is no {FILE}: it lacks {error}") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file} is no {FILE} ({type(error).__name__}: {error})") from None
    return document


def verdict(one: Mapping[str, Json]) -> Verdict:
    if one["status"] != "ok":
        return Verdict(one["input"], None, failure=one["failure"]["kind"])
    incidents = one["incidents"]
    sure = [i["evidence"]["confidence"] for i in incidents if "confidence" in (i.get("evidence") or {})]
    return Verdict(
        one["input"],
        bool(one[VERDICT]),
        [(seconds(i["start_time"]), seconds(i["end_time"])) for i in incidents],
        confidence=max(sure, default=None),
        let_through=(one.get("screen") or {}).get("let_through"),
    )


def seconds(text: str) -> float:
    """ "12.4s" → 12.4"""
    return float(text.strip().lower().removesuffix("s"))
