"""Two runs over the same clips: where they agree, and one run made of both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    doubled: Sequence[str] = ()
    """more than once in one of them, with other parameters: which answers belong together nobody can tell"""

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
            "doubled": list(self.doubled),
        }


def compare(a: Sequence[Verdict], b: Sequence[Verdict]) -> Comparison:
    doubled = _doubled([one.input for one in a], [one.input for one in b])
    ours, theirs = ({one.input: one.yes for one in run if one.input not in doubled} for run in (a, b))
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
        doubled=sorted(doubled),
    )


def rule(name: str, weight: float, threshold: float) -> Rule:
    """any: one says yes; all: both do; weighted: their mean sureness, A's by `weight`, is enough."""
    if name == "any":
        return lambda a, b: bool(a[VERDICT] or b[VERDICT])
    if name == "all":
        return lambda a, b: bool(a[VERDICT] and b[VERDICT])
    return lambda a, b: weight * _sureness(a) + (1 - weight) * _sureness(b) >= threshold


def merge(a: Json, b: Json, decide: Rule) -> list[dict[str, Json]]:
    """One line a clip: the verdict by the rule, the incidents of both where it is yes, and who told each.
    Where only one answered its word counts; where none did A's failure stays. A clip that one of them answers
    more than once is in no line; nor are pictures, which stay with their runs."""
    doubled = _doubled(*([one["input"] for one in run["results"]] for run in (a, b)))
    ours, theirs = (
        {one["input"]: one for one in run["results"] if one["input"] not in doubled} for run in (a, b)
    )
    return [_merged(ours.get(name), theirs.get(name), decide) for name in sorted(ours.keys() | theirs.keys())]


def _doubled(*runs: Iterable[str]) -> set[str]:
    return {name for run in runs for name, count in Counter(run).items() if count > 1}


def _merged(a: Json, b: Json, decide: Rule) -> dict[str, Json]:
    answered = [one for one in (a, b) if one is not None and one["status"] == "ok"]
    if len(answered) < 2:
        only = (answered or [one for one in (a, b) if one is not None])[0]
        return _without(only, "files") | {"merged_from": len(answered)}
    yes = decide(a, b)
    incidents = _joined(_told(a), _told(b))
    merged = {VERDICT: yes, "incidents": incidents if yes else [], "merged_from": 2}
    return _without(a, "files", "engine") | merged


def _joined(ours: Sequence[dict[str, Json]], theirs: Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    """In the order of time. What both tell of one time is one incident: in the surer one's words, from the
    earlier start to the later end."""
    joined = list(ours)
    open_ones = list(range(len(joined)))
    for one in theirs:
        at = next((n for n in open_ones if _meet(joined[n], one)), None)
        if at is None:
            joined.append(one)
        else:
            open_ones.remove(at)
            joined[at] = _one_of(joined[at], one)
    return sorted(joined, key=lambda one: seconds(one["start_time"]))


def _meet(a: Mapping[str, Json], b: Mapping[str, Json]) -> bool:
    starts, ends = ([seconds(one[key]) for one in (a, b)] for key in ("start_time", "end_time"))
    return max(starts) <= min(ends)


def _one_of(a: dict[str, Json], b: dict[str, Json]) -> dict[str, Json]:
    surer, other = (b, a) if _confidence(b) > _confidence(a) else (a, b)
    engines = [one["engine"] for one in (surer, other) if "engine" in one]
    return {
        **surer,
        "start_time": min(a["start_time"], b["start_time"], key=seconds),
        "end_time": max(a["end_time"], b["end_time"], key=seconds),
        **({"engine": "+".join(dict.fromkeys(engines))} if engines else {}),
    }


def _told(result: Mapping[str, Json]) -> list[dict[str, Json]]:
    by = {"engine": result["engine"]} if "engine" in result else {}
    return [dict(one) | by for one in result["incidents"]]


def _without(result: Mapping[str, Json], *names: str) -> dict[str, Json]:
    return {name: value for name, value in result.items() if name not in names}


def _sureness(result: Mapping[str, Json]) -> float:
    """0 to 1; an engine that tells none is sure of its word."""
    if not result[VERDICT]:
        return 0.0
    return max(map(_confidence, result["incidents"]), default=1.0)


def _confidence(incident: Mapping[str, Json]) -> float:
    sure: float = (incident.get("evidence") or {}).get("confidence", 1.0)
    return sure


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
