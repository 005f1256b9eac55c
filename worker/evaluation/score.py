"""A run against labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from worker.evaluation.counts import Confusion, Interval, Judged, confusion, jeffreys, wilson
from worker.evaluation.labels import Label, Unusable, read_labels
from worker.evaluation.verdicts import Verdict, verdict
from worker.items import Json

FIGURES = ("precision", "recall", "f1", "balanced_accuracy", "accuracy")
NEAR_S = 2.0
"""labels are rough: an incident hits when the labelled second is so near to it"""


@dataclass(frozen=True, slots=True)
class Pair:
    label: Label
    verdict: Verdict

    @property
    def judged(self) -> Judged:
        return self.label.positive, bool(self.verdict.yes)

    @property
    def hits(self) -> bool | None:
        """Is a labelled second near an incident?  None: the label tells no time, or nothing was found."""
        if not self.label.times or not self.verdict.spans:
            return None
        return any(
            start - NEAR_S <= time <= end + NEAR_S
            for time in self.label.times
            for start, end in self.verdict.spans
        )


@dataclass(frozen=True, slots=True)
class Score:
    pairs: Sequence[Pair]
    """labelled and answered"""
    failed: Sequence[Pair]
    """labelled, but there is no answer: they count neither as yes nor as no"""
    missing: Sequence[Label]
    """labelled, but not in the results"""
    unlabelled: int
    """in the results, but not labelled"""
    unusable: Sequence[Unusable]
    """rows of the labels"""

    @property
    def judged(self) -> list[Judged]:
        return [pair.judged for pair in self.pairs]

    @property
    def confusion(self) -> Confusion:
        return confusion(self.judged)

    @property
    def wrong(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.judged[0] != pair.judged[1]]

    @property
    def time_hits(self) -> tuple[int, int]:
        """Of the ghosts that were found and whose label tells a time: how many at that time."""
        told = [pair.hits for pair in self.pairs if pair.judged == (True, True) and pair.hits is not None]
        return sum(told), len(told)

    @property
    def screened(self) -> Mapping[str, Json] | None:
        """How many clips, and how many of the ghosts, a screen let through to the language model."""
        seen = [pair for pair in self.pairs if pair.verdict.let_through is not None]
        ghosts = [pair for pair in seen if pair.label.positive]
        kept = sum(bool(pair.verdict.let_through) for pair in ghosts)
        if not seen:
            return None
        return {
            "clips": len(seen),
            "let_through": sum(bool(pair.verdict.let_through) for pair in seen),
            "ghosts": len(ghosts),
            "ghosts_let_through": kept,
            "recall_interval": wilson(kept, len(ghosts)),
        }

    def document(self) -> dict[str, Json]:
        found, hits = self.confusion, self.time_hits
        truths = [truth for truth, _ in self.judged]
        return {
            "clips": len(self.pairs),
            "confusion": {
                "true_yes": found.true_yes,
                "false_yes": found.false_yes,
                "false_no": found.false_no,
                "true_no": found.true_no,
            },
            **figures(self.judged),
            "always_yes": _plain(confusion((truth, True) for truth in truths)),
            "always_no": _plain(confusion((truth, False) for truth in truths)),
            "time_hits": {"within_s": NEAR_S, "hits": hits[0], "of": hits[1], "interval": wilson(*hits)},
            "screen": self.screened,
            "categories": _categories(self.pairs),
            "wrong": [_told(pair) for pair in self.wrong],
            "failed": [{"clip": p.label.clip, "failure": p.verdict.failure} for p in self.failed],
            "missing": [label.clip for label in self.missing],
            "unlabelled": self.unlabelled,
            "unusable_rows": [{"row": one.row, "text": one.text, "why": one.why} for one in self.unusable],
        }


def score(labels: Path, lines: Iterable[Mapping[str, Json]]) -> Score:
    """`lines`: of final_results.json."""
    told = read_labels(labels)
    return match(told.labels, [verdict(line) for line in lines], told.unusable)


def match(labels: Sequence[Label], verdicts: Sequence[Verdict], unusable: Sequence[Unusable] = ()) -> Score:
    """A label names a clip by its path, else its file's name, else that name without its ending; one name
    that fits several clips fits none, and of the labels of one clip the first counts."""
    places = [_places(names) for names in zip(*(one.names for one in verdicts), strict=True)]
    pairs: dict[int, Pair] = {}
    missing: list[Label] = []
    troubles = list(unusable)
    for label in labels:
        name = normalize("NFC", label.clip.replace("\\", "/").removeprefix("./"))
        there = next((found[name] for found in places if name in found), [])
        if not there:
            missing.append(label)
        elif len(there) > 1:
            remedy = "write its path" if len({verdicts[at].input for at in there}) > 1 else "one must go"
            troubles.append(Unusable(0, label.clip, f"{len(there)} answers have that name: {remedy}"))
        elif there[0] in pairs:
            first = pairs[there[0]].label.clip
            troubles.append(Unusable(0, label.clip, f"it is the clip that {first} names above, which counts"))
        else:
            pairs[there[0]] = Pair(label, verdicts[there[0]])
    return Score(
        [pair for pair in pairs.values() if pair.verdict.yes is not None],
        [pair for pair in pairs.values() if pair.verdict.yes is None],
        missing,
        len(verdicts) - len(pairs),
        troubles,
    )


def _places(names: Iterable[str]) -> Mapping[str, Sequence[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        places[normalize("NFC", name)].append(at)  # some systems write an é as two letters
    return places


def figures(judged: Sequence[Judged]) -> dict[str, Json]:
    """Each with its 95 % interval."""
    found = confusion(judged)
    yes, real = found.true_yes + found.false_yes, found.true_yes + found.false_no
    return {
        "precision": _figure(found.precision, wilson(found.true_yes, yes)),
        "recall": _figure(found.recall, wilson(found.true_yes, real)),
        "f1": _figure(found.f1, jeffreys(found, lambda one: one.f1)),
        "balanced_accuracy": _figure(
            found.balanced_accuracy, jeffreys(found, lambda one: one.balanced_accuracy)
        ),
        "accuracy": _figure(found.accuracy, wilson(found.true_yes + found.true_no, found.total)),
    }


def _figure(value: float | None, interval: Interval | None) -> dict[str, Json]:
    return {
        "value": _rounded(value),
        "interval": None if interval is None else [round(one, 4) for one in interval],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _plain(found: Confusion) -> Mapping[str, Json]:
    return {name: _rounded(getattr(found, name)) for name in FIGURES}


def _categories(pairs: Iterable[Pair]) -> dict[str, Json]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for pair in pairs:
        counts[pair.label.category][0] += 1
        counts[pair.label.category][1] += bool(pair.verdict.yes)
    return {name: {"clips": total, "said_yes": yes} for name, (total, yes) in sorted(counts.items())}


def _told(pair: Pair) -> dict[str, Json]:
    return {
        "clip": pair.label.clip,
        "label": pair.label.category,
        "label_times_s": list(pair.label.times),
        "said": "yes" if pair.verdict.yes else "no",
        "screened_out": pair.verdict.let_through is False,
        "incidents_s": [list(span) for span in pair.verdict.spans],
    }
