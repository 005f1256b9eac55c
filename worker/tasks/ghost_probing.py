"""ghost-probing (鬼探头): who comes suddenly into the car's path from behind something that hid them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from worker.engines.choice import engine_type
from worker.errors import ItemError
from worker.evaluation.verdicts import seconds
from worker.ghosts.danger import risk
from worker.ghosts.incident import Box, Incident
from worker.ghosts.windows import told_in, told_once
from worker.ghosts.words import (
    AGAIN,
    COLUMNS,
    IMPACTS,
    KINDS,
    PROPOSALS,
    RISKS,
    YES_NO,
    describe,
    evidence_line,
)
from worker.items import Answer, Failure, Item, Json, Result
from worker.media.endings import VIDEOS
from worker.tasks.task import MapTask, Moment, Params

if TYPE_CHECKING:
    from worker.engines.engine import Finder

KEY_FRAMES = 4
"""pictures of one incident"""


class GhostProbingParams(Params):
    lang: Literal["zh", "en"] = "en"
    """of the texts; the keys never change"""
    recall: Literal["balanced", "high"] = "balanced"
    """high: propose more, for a person or a large model that looks at all of them"""
    allow_partial: bool = False
    """answer for a clip whose end is missing, and mark it"""
    pictures: bool = True
    """keep key frames of each incident, for the report"""


class GhostProbing(MapTask[GhostProbingParams, Answer]):
    name = "ghost-probing"
    about = "who comes suddenly into a car's path from behind something that hid them, and when"
    params_type = GhostProbingParams
    suffixes = frozenset(VIDEOS)
    engines: ClassVar = {
        "motion": "worker.engines.motion:Motion",
        "detector": "worker.engines.detector:Detector",
    }
    headlines: ClassVar = {
        "detected": ("clips with a ghost", "检出鬼探头的片段"),
        "detection_rate": ("detection rate", "检出率"),
        "success_rate": ("success rate", "处理成功率"),
    }
    notices: ClassVar = {"motion": PROPOSALS}
    seconds_per_item = 4.0
    batch = 16

    def open(self, device: str) -> None:  # noqa: ARG002
        """Clips are looked at where they are prepared; but a model that does not load must fail no clip."""
        assert self._finder

    def prepare(self, item: Item) -> Answer:
        """All of the work: these engines need no device."""
        from worker.ghosts.clip import look

        if item.file is None:
            raise ItemError("missing", "there is no file to look at")
        params = self.params_of(item)
        seen = look(
            item.file,
            self._finder,
            recall=params.recall,
            allow_partial=params.allow_partial,
            key_frames=KEY_FRAMES if params.pictures else 0,
        )
        incidents = [tell(one, params.lang) for one in seen.incidents]
        keys: dict[str, Json] = {
            "ghost_probing_detected": bool(incidents),
            "incidents": incidents,
            "engine": self._chosen,
            "duration_s": round(seen.duration_s, 2),
            "partial": seen.partial,
        }
        return Answer(keys, seen.pictures)

    def answer(self, samples: Sequence[Answer]) -> Sequence[Answer | Failure]:
        return samples

    def together(self, results: Iterable[Result]) -> Iterable[Result]:
        return told_once(results)

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:
        """An event that two windows of a camera tell counts in the first of them alone."""
        outcomes = [result.outcome for result in results]
        keys = [outcome.keys for outcome in outcomes if isinstance(outcome, Answer)]
        told = [one for k in keys for one in k["incidents"]]
        found = [one for one in told if not told_in(one)]
        detected = sum(k["ghost_probing_detected"] and not all(map(told_in, k["incidents"])) for k in keys)
        return {
            "success_rate": _share(len(keys), len(outcomes)),
            "detected": detected,
            "detection_rate": _share(detected, len(keys)),
            "incidents": len(found),
            "told_twice": len(told) - len(found),
            "object_types": dict(sorted(Counter(one["object_type"] for one in found).items())),
            "risk_levels": dict(sorted(Counter(one["risk_level"] for one in found).items())),
            "partial": sum(k["partial"] is not None for k in keys),
            "duration_s": round(sum(k["duration_s"] for k in keys), 1),
        }

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        incidents = keys["incidents"]
        yes, no = YES_NO[self.params.lang]
        values = (
            yes if keys["ghost_probing_detected"] else no,
            ", ".join(one["start_time"] for one in incidents),
            ", ".join(one["object_type"] for one in incidents),
            ", ".join(one["risk_level"] for one in incidents),
            f"{keys['duration_s']:.1f} s",
            "; ".join(filter(None, (keys["partial"], *(_again(one, self.params.lang) for one in incidents)))),
        )
        return dict(zip(COLUMNS[self.params.lang], values, strict=True))

    def moments(self, result: Result) -> Sequence[Moment]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        return [
            Moment(
                start_s=seconds(one["start_time"]),
                end_s=seconds(one["end_time"]),
                of_s=keys["duration_s"],
                title=f"{one['object_type']} · {one['risk_level']}",
                lines=[
                    *filter(None, [_again(one, self.params.lang)]),
                    one["description"],
                    one["impact"],
                    evidence_line(one["evidence"], self.params.lang),
                ],
                level=next(level for level, said in RISKS.items() if one["risk_level"] in said.values()),
                pictures=[f"{number}-{at}.jpg" for at in range(1, KEY_FRAMES + 1)],
            )
            for number, one in enumerate(keys["incidents"], 1)
        ]

    @property
    def _chosen(self) -> str:
        return self.choice.engine if self.choice else next(iter(self.engines))

    @cached_property
    def _finder(self) -> Finder:
        from worker.engines.choice import Choice
        from worker.engines.engine import Finder

        finder = engine_type(self.engines[self._chosen])(self.choice or Choice(self._chosen))
        assert isinstance(finder, Finder)
        finder.open("cpu")
        return finder


def tell(incident: Incident, lang: Literal["zh", "en"]) -> dict[str, Json]:
    """One incident as the output has it."""
    evidence = incident.evidence
    danger = risk(incident)
    return {
        "start_time": f"{incident.start_s:.1f}s",
        "end_time": f"{incident.end_s:.1f}s",
        "object_type": KINDS[incident.kind][lang],
        "description": describe(incident, lang),
        "risk_level": RISKS[danger][lang],
        "impact": IMPACTS[danger][lang],
        "evidence": {
            "first_seen_s": round(evidence.first_seen_s, 2),
            "side": evidence.side,
            "hidden_by": evidence.hidden_by_kind,
            "hidden_by_box": _corners(evidence.hidden_by) if evidence.hidden_by else None,
            "expansion_per_s": round(evidence.expansion, 2),
            "time_to_collision_s": _rounded(evidence.time_to_collision_s),
            "confidence": round(evidence.confidence, 2),
            "told_in": None,
            "track": [[round(one.time, 2), *_corners(one.box)] for one in evidence.track],
        },
    }


def _again(incident: Mapping[str, Json], lang: Literal["zh", "en"]) -> str:
    before = told_in(incident)
    return AGAIN[lang].format(before) if before else ""


def _corners(box: Box) -> list[int]:
    return [round(box.left), round(box.top), round(box.width), round(box.height)]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
