"""ghost-probing (鬼探头): who comes suddenly into the car's path from behind something that hid them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

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
from worker.tasks.task import Moment, Params
from worker.tasks.vision import VisionTask

if TYPE_CHECKING:
    from worker.engines.engine import Finder
    from worker.ghosts.asking import Question
    from worker.ghosts.clip import Seen
    from worker.planning.measured import Planned

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
    frames: int = Field(default=32, ge=1, le=768)
    """of a clip, that a language model sees"""
    max_tokens: int = Field(default=512, ge=16)
    """the longest reply of a language model"""
    quantise: Literal["none", "nf4"] = "none"
    """nf4: a language model's weights in 4 bits, where 16 do not fit"""


class GhostProbing(VisionTask[GhostProbingParams, "Question"]):
    name = "ghost-probing"
    about = "who comes suddenly into a car's path from behind something that hid them, and when"
    params_type = GhostProbingParams
    suffixes = frozenset(VIDEOS)
    engines: ClassVar = {
        "motion": "worker.engines.motion:Motion",
        "detector": "worker.engines.detector:Detector",
        "qwen": "worker.engines.qwen:Qwen",
        "videochat2": "worker.engines.videochat2:VideoChat2",
        "openai": "worker.engines.openai:OpenAi",
    }
    gpu_is_idle: ClassVar = frozenset({"motion", "detector", "openai"})
    headlines: ClassVar = {
        "detected": ("clips with a ghost", "检出鬼探头的片段"),
        "detection_rate": ("detection rate", "检出率"),
        "success_rate": ("success rate", "处理成功率"),
    }
    notices: ClassVar = {"motion": PROPOSALS}
    seconds_per_item = 4.0
    batch = 16
    _clips_asked = 0
    _counting = Lock()

    def open(self, device: str) -> None:
        """Finders look at clips in the children; but a model that does not load must fail no clip."""
        assert self._finder or self._vision
        super().open(device)

    def close(self) -> None:
        if self._vision and (planned := self._planned):
            planned.learn(self._vision.spent())
        super().close()

    def prepare(self, item: Item) -> Answer | Question:
        """All of a finder's work; or what a language model is asked, if the screen lets the clip through."""
        if item.file is None:
            raise ItemError("missing", "there is no file to look at")
        params = self.params_of(item)
        if self._finder is None:
            return self._question(item.file, params)
        seen = self._look(self._finder, item.file, params)
        if self._vision and seen.incidents:
            return replace(self._question(item.file, params), screen=seen.incidents)
        return self._told(seen, params)

    def answer(self, samples: Sequence[Question]) -> Sequence[Answer | Failure]:
        """Of a language model; the others have answered where clips are prepared."""
        from worker.engines.asking import ask
        from worker.ghosts import asking

        assert self._vision
        with self._counting:
            self._clips_asked += len(samples)
        said = ask(self._vision, samples)
        self.batch = self._vision.batch  # memory may have run out
        return [
            asking.answer(question, one, self._chosen, self._screened_by, KEY_FRAMES * self.params.pictures)
            for question, one in zip(samples, said, strict=True)
        ]

    def together(self, results: Iterable[Result]) -> Iterable[Result]:
        return told_once(results)

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:
        """An event that two windows of a camera tell counts in the first of them alone."""
        outcomes = [result.outcome for result in results]
        keys = [outcome.keys for outcome in outcomes if isinstance(outcome, Answer)]
        told = [one for k in keys for one in k["incidents"]]
        found = [one for one in told if not told_in(one)]
        repeated = [k for k in keys if k["incidents"] and all(map(told_in, k["incidents"]))]
        detected = sum(k["ghost_probing_detected"] for k in keys) - sum(
            k["ghost_probing_detected"] for k in repeated
        )
        return {
            "success_rate": _share(len(keys), len(outcomes)),
            "detected": detected,
            "detection_rate": _share(detected, len(keys)),
            "incidents": len(found),
            "told_twice": len(told) - len(found),
            "object_types": dict(sorted(Counter(one["object_type"] for one in found).items())),
            "risk_levels": dict(sorted(Counter(one["risk_level"] for one in found).items())),
            "partial": sum(k["partial"] is not None for k in keys),
            "doubtful": sum(bool(k.get("doubts")) for k in keys),
            "repaired": sum(k.get("repaired", False) for k in keys),
            "screened_out": sum(not k["screen"]["let_through"] for k in keys if "screen" in k),
            "duration_s": round(sum(k["duration_s"] for k in keys), 1),
        }

    def spent(self) -> Mapping[str, Json]:
        if not self._vision:
            return {}
        spent = {"clips_asked": self._clips_asked, **self._vision.spent()}
        return {**spent, **(self._planned.told(self.batch, spent) if self._planned else {})}

    def figures(self, spent: Mapping[str, float], summary: Mapping[str, Json]) -> Mapping[str, Json]:
        from worker.engines.figures import device_seconds, figures

        told = dict(figures(spent))
        if asked := spent.get("clips_asked"):
            # what the clips that the screen kept back would have taken, at the others' mean
            share = summary["screened_out"] / asked
            saved = {"s": device_seconds(spent) * share, "usd": spent.get("cost_usd", 0.0) * share}
            told |= {f"screen_saved_{unit}": round(much, 4) for unit, much in saved.items() if much}
        return told

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        incidents = keys["incidents"]
        yes, no = YES_NO[self.params.lang]
        again = [_again(one, self.params.lang) for one in incidents]
        values = (
            yes if keys["ghost_probing_detected"] else no,
            ", ".join(one["start_time"] for one in incidents),
            ", ".join(one["object_type"] for one in incidents),
            ", ".join(one["risk_level"] for one in incidents),
            f"{keys['duration_s']:.1f} s",
            "; ".join(filter(None, (keys["partial"], *again, *keys.get("doubts", ())))),
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
                    *self._evidence(one),
                ],
                level=next(
                    (level for level, said in RISKS.items() if one["risk_level"] in said.values()), "medium"
                ),
                pictures=[f"{number}-{at}.jpg" for at in range(1, KEY_FRAMES + 1)],
            )
            for number, one in enumerate(keys["incidents"], 1)
        ]

    def _evidence(self, incident: Mapping[str, Json]) -> list[str]:
        """What a finder's verdict rests on; a language model tells nothing of that."""
        evidence = incident.get("evidence", {})
        return [evidence_line(evidence, self.params.lang)] if "first_seen_s" in evidence else []

    def _look(self, finder: Finder, file: Path, params: GhostProbingParams) -> Seen:
        from worker.ghosts.clip import look

        return look(
            file,
            finder,
            recall="high" if self._vision else params.recall,
            allow_partial=params.allow_partial,
            key_frames=0 if self._vision else KEY_FRAMES * params.pictures,
        )

    def _told(self, seen: Seen, params: GhostProbingParams) -> Answer:
        """What a finder saw."""
        incidents = [tell(one, params.lang) for one in seen.incidents]
        keys: dict[str, Json] = {
            "ghost_probing_detected": bool(incidents),
            "incidents": incidents,
            "engine": self._screened_by or self._chosen,
            "duration_s": round(seen.duration_s, 2),
            "partial": seen.partial,
        }
        if self._screened_by:
            keys["screen"] = {"engine": self._screened_by, "let_through": False}
        return Answer(keys, seen.pictures)

    def _question(self, file: Path, params: GhostProbingParams) -> Question:
        from worker.ghosts.asking import question

        assert self._vision
        return question(
            file,
            self._vision,
            lang=params.lang,
            frames=params.frames,
            max_tokens=params.max_tokens,
            allow_partial=params.allow_partial,
        )

    @property
    def _screened_by(self) -> str | None:
        return self.choice.screen.engine if self.choice and self.choice.screen else None

    @cached_property
    def _planned(self) -> Planned | None:
        """What was expected of the language model, if it is on this machine."""
        from worker.engines.choice import LOCAL
        from worker.planning.ghosts import params_of
        from worker.planning.measured import Planned

        choice = self.choice
        if choice is None or choice.file is None or choice.engine not in LOCAL:
            return None
        return Planned(choice, params_of(choice.engine, self.params.model_dump()))

    @cached_property
    def _finder(self) -> Finder | None:
        """Who looks at all of a clip, for the answer itself or as the screen before a language model."""
        from worker.engines.engine import Finder

        screen = self.choice.screen if self.choice else None
        finder = self._make(screen) if screen else self._engine
        if not isinstance(finder, Finder):
            return None
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
