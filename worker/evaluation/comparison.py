"""Two runs over the same clips: where they agree, and one run made of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worker.evaluation.verdicts import VERDICT, Verdict, seconds
from worker.items import Json

Rule = Callable[[Mapping[str, Json], Mapping[str, Json]], bool]


@dataclass(frozen=True, slots=True)
class Comparison:
    both_yes: Sequence[str]
    only_a: Sequence[str]
    only_b: Sequence[str]
    both_no: Sequence[str]
    failed: Sequence[str]
    """there is no answer in one of them"""
    missing: Sequence[str]
    """in one of them alone"""

    @property
    def compared(self) -> int:
        return len(self.both_yes) + len(self.only_a) + len(self.only_b) + len(self.both_no)

    @property
    def agreement(self) -> float | None:
        return (len(self.both_yes) + len(self.both_no)) / self.compared if self.compared else None

    @property
    def kappa(self) -> float | None:
        """Agreement beyond what two who know nothing of each other would have (Cohen)."""
        n = self.compared
        if not n or self.agreement is None:
            return None
        a = (len(self.both_yes) + len(self.only_a)) / n
        b = (len(self.both_yes) + len(self.only_b)) / n
        chance = a * b + (1 - a) * (1 - b)
        return None if chance == 1 else (self.agreement - chance) / (1 - chance)

    def document(self) -> dict[str, Json]:
        return {
            "compared": self.compared,
            "agreement": _rounded(self.agreement),
            "kappa": _rounded(self.kappa),
            "both_yes": len(self.both_yes),
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "both_no": len(self.both_no),
            "failed": list(self.failed),
            "missing": list(self.missing),
        }


def compare(a: Sequence[Verdict], b: Sequence[Verdict]) -> Comparison:
    ours, theirs = ({one.input: one.yes for one in run} for run in (a, b))
    shared = sorted(ours.keys() & theirs.keys())
    answered = [name for name in shared if ours[name] is not None and theirs[name] is not None]
    said: dict[tuple[bool, bool], list[str]] = defaultdict(list)
    for name in answered:
        said[bool(ours[name]), bool(theirs[name])].append(name)
    return Comparison(
        said[True, True],
        said[True, False],
        said[False, True],
        said[False, False],
        failed=sorted(set(shared) - set(answered)),
        missing=sorted(ours.keys() ^ theirs.keys()),
    )


def rule(name: str, weight: float, threshold: float) -> Rule:
    """any: one says yes; all: both do; weighted: their mean sureness, A's by `weight`, is enough."""
    if name == "any":
        return lambda a, b: bool(a[VERDICT] or b[VERDICT])
    if name == "all":
        return lambda a, b: bool(a[VERDICT] and b[VERDICT])
    return lambda a, b: weight * _sureness(a) + (1 - weight) * _sureness(b) >= threshold


def merge(a: Json, b: Json, decide: Rule) -> list[dict[str, Json]]:
    """One line a clip: the verdict by the rule, the incidents of both where it is yes. Where only one
    answered its word counts; where none did A's failure stays."""
    theirs = {one["input"]: one for one in b["results"]}
    ours = {one["input"]: one for one in a["results"]}
    return [_merged(ours.get(name), theirs.get(name), decide) for name in sorted(ours.keys() | theirs.keys())]


def _merged(a: Json, b: Json, decide: Rule) -> dict[str, Json]:
    answered = [one for one in (a, b) if one is not None and one["status"] == "ok"]
    if len(answered) < 2:
        return dict((answered or [one for one in (a, b) if one is not None])[0]) | {
            "merged_from": len(answered)
        }
    yes = decide(a, b)
    incidents = sorted([*a["incidents"], *b["incidents"]], key=lambda one: seconds(one["start_time"]))
    return dict(a) | {VERDICT: yes, "incidents": incidents if yes else [], "merged_from": 2}


def _sureness(result: Mapping[str, Json]) -> float:
    """0 to 1; an engine that tells none is sure of its word."""
    if not result[VERDICT]:
        return 0.0
    told = [(one.get("evidence") or {}).get("confidence", 1.0) for one in result["incidents"]]
    return max(told, default=1.0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
