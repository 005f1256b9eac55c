"""A clip as a question to a model, and what the model said of it as an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.engines.asking import Asked
from worker.engines.engine import Request
from worker.evaluation.verdicts import seconds
from worker.ghosts import prompt
from worker.ghosts.incident import Incident
from worker.ghosts.reply import Said, read_reply
from worker.ghosts.words import KINDS, Lang
from worker.items import Answer, Failure, Json

if TYPE_CHECKING:
    from worker.engines.engine import VisionEngine

NEAR_S = 2.0
"""so far apart, a model and a detector may tell the beginning of one event"""
_WIDTH, _QUALITY = 480, 75


@dataclass(frozen=True, slots=True)
class Question:
    request: Request
    lang: Lang
    duration_s: float
    partial: str | None
    screen: Sequence[Incident] | None = None
    """what the screen saw; None: there was none"""

    def read(self, text: str) -> Said:
        return read_reply(text, self.duration_s, self.lang)

    def again(self, why: str) -> str:
        return prompt.ask_again(self.lang, self.request.prompt, why)


def question(
    file: Path,
    engine: VisionEngine,
    *,
    lang: Lang,
    frames: int,
    max_tokens: int,
    allow_partial: bool,
) -> Question:
    from worker.media.sampling import sample  # late: the worker's own process reads no films

    found = sample(file, n=frames, size=engine.frame_size, sharp=engine.sharp, allow_partial=allow_partial)
    request = Request(
        frames=list(found.frames),
        times=found.times,
        prompt=prompt.ask(lang, frames, found.duration_s),
        schema=prompt.schema(lang),
        max_tokens=max_tokens,
    )
    return Question(request, lang, found.duration_s, found.partial)


def pictures(question: Question, incidents: Sequence[Mapping[str, Json]], most: int) -> dict[str, bytes]:
    """Frames that the model saw of each incident: <incident>-<picture>.jpg, both counted from 1."""
    from worker.media.evidence import drawn

    times, frames = question.request.times, question.request.frames
    return {
        f"{number}-{at}.jpg": drawn(
            frames[n], [], caption=f"{times[n]:.1f} s", width=_WIDTH, quality=_QUALITY
        )
        for number, incident in enumerate(incidents, 1)
        for at, n in enumerate(_within(times, incident, most), 1)
    }


def _within(times: Sequence[float], incident: Mapping[str, Json], most: int) -> list[int]:
    """From the frame nearest to its start to the one nearest to its end."""
    told = sorted(seconds(incident[key]) for key in ("start_time", "end_time"))
    first, last = (min(range(len(times)), key=lambda n: abs(times[n] - at)) for at in told)
    wanted = min(most, last - first + 1)
    return [first + round(n * (last - first) / max(1, wanted - 1)) for n in range(wanted)]


def refined(incidents: Sequence[Mapping[str, Json]], seen: Sequence[Incident]) -> list[dict[str, Json]]:
    """With the time at which a detector first saw who came, if it did; what the model said is kept."""
    left = list(seen)
    told = []
    for one in incidents:
        same = min(
            (other for other in left if _is_same(one, other)), key=lambda s: _apart(one, s), default=None
        )
        if same is None:
            told.append(dict(one))
        else:
            left.remove(same)
            first = f"{same.evidence.first_seen_s:.1f}s"
            told.append({**one, "start_time": first, "start_time_said": one["start_time"]})
    return told


def _is_same(incident: Mapping[str, Json], seen: Incident) -> bool:
    """Near in time, not behind the end, and no other kind of road user."""
    said = next(
        (kind for kind, words in KINDS.items() if incident["object_type"] in words.values()), seen.kind
    )
    is_kind = said == seen.kind or "unknown" in (said, seen.kind)
    return is_kind and _apart(incident, seen) <= NEAR_S and _first(seen) <= seconds(incident["end_time"])


def _apart(incident: Mapping[str, Json], seen: Incident) -> float:
    return abs(_first(seen) - seconds(incident["start_time"]))


def _first(seen: Incident) -> float:
    return seen.evidence.first_seen_s


def answer(
    question: Question, asked: Asked[Said] | Failure, engine: str, screened_by: str | None, key_frames: int
) -> Answer | Failure:
    """As the outputs have it."""
    if isinstance(asked, Failure):
        return asked
    incidents = asked.said.incidents
    shown = pictures(question, incidents, key_frames)
    keys: dict[str, Json] = {
        "ghost_probing_detected": asked.said.detected,
        "incidents": list(incidents),
        "engine": engine,
        "duration_s": round(question.duration_s, 2),
        "partial": question.partial,
        "doubts": list(asked.said.doubts),
        "repaired": asked.repaired,
    }
    if screened_by:
        keys["screen"] = {"engine": screened_by, "let_through": True}
    if screened_by == "detector":  # motion tells times worse than a model does
        keys["incidents"] = refined(incidents, question.screen or ())
    return Answer(keys, shown)
