"""How well an engine finds ghosts in real clips that were marked by hand, and how fast.

The clips are not part of the project: their folder is told by --data or WORKER_TEST_DATA."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.folds import Outcome, choose, held_out, merits, settings
from tests.bench.table import Figure, not_here, show
from tests.marks import FRAMES_PER_S, Clip, Event, read_dada
from worker.engines.choice import Choice, engine_type
from worker.engines.engine import Finder
from worker.errors import MachineError
from worker.evaluation.counts import Interval, confusion, jeffreys, wilson
from worker.evaluation.labels import read_labels
from worker.evaluation.score import NEAR_S
from worker.ghosts.clip import Watch, scaled
from worker.ghosts.incident import Box, Incident
from worker.tasks.ghost_probing import GhostProbing

CALM_S = 0.5
"""a stretch is calm until so long before anything is marked"""
SAME_FRAME_S = 0.07
EARLIEST_S = {"motion": 0.1, "detector": 0.25}
"""into a clip; no incident of that engine begins before"""
OVERLAPS = {"motion": 0.1, "detector": 0.3}
"""of a box with a mark: about the same. A patch that moves is a part of somebody, and no outline"""
SPEEDS = {"motion": "8", "detector": "5"}
"""clip seconds a CPU second that are aimed at"""

GRIDS: dict[str, dict[str, list[float]]] = {
    "motion": {
        "strength": [20, 40, 80, 120, 160, 240],
        "steps": [2, 3],
        "inside": [0.05, 0.1],
        "growth": [2.0, 2.5, 3.0],
        "speed": [0.01, 0.02],
    },
    "detector": {
        "in_view_s": [1.0, 1.25, 1.5],
        "beside": [3.0, 3.5, 4.0],
        "growth": [0.6, 0.8, 1.0],
        "sure": [0.5, 0.55, 0.6],
    },
}
"""what is chosen by folds; an engine has `watch(frames)`, `judge(watched, rules)` and `rules`"""

MODELS = {"detector": "weights/FastestDet.onnx"}


@dataclass(frozen=True)
class Case:
    clip: Clip
    file: Path
    label_times: Sequence[float]
    overlap: float
    earliest_s: float

    @property
    def calm_until_s(self) -> float:
        return max(0.0, self.clip.marks[0].time_s - CALM_S)

    @property
    def exposed_s(self) -> float:
        """How long an incident could begin while it was calm."""
        return max(0.0, self.calm_until_s - self.earliest_s)

    def outcome(self, incidents: Sequence[Incident]) -> Outcome:
        return Outcome(
            self.clip.has_ghost,
            incidents,
            right=any(self._right(one) for one in incidents),
            hit=any(
                one.start_s - NEAR_S <= at <= one.end_s + NEAR_S
                for one in incidents
                for at in self.label_times
            ),
            alarms=sum(one.start_s < self.calm_until_s and not self._right(one) for one in incidents),
        )

    def _right(self, incident: Incident) -> bool:
        marks = self.clip.of(Event.FIRST_SEEN, Event.TRACK, Event.ENTERS_PATH, Event.HAZARD)
        return any(
            abs(seen.time - mark.time_s) <= SAME_FRAME_S and seen.box.overlap(_box(mark.box)) >= self.overlap
            for seen in incident.evidence.track
            for mark in marks
        )


def _box(mark: Any) -> Box:
    return Box(mark.x, mark.y, mark.width, mark.height)


@dataclass(frozen=True)
class View:
    """Another look at the same clip: nobody was added, nobody hidden."""

    later_s: float = 0.0
    mirrored: bool = False

    def __str__(self) -> str:
        if self.mirrored:
            return "mirrored"
        return f"from {self.later_s:.2f} s on" if self.later_s else "as it is"


VIEWS = (View(), View(1 / FRAMES_PER_S), View(2 / FRAMES_PER_S), View(mirrored=True))


class Seen:
    """What a finder saw of a clip in one view."""

    def __init__(self, case: Case, finder: Any, view: View) -> None:
        self._case, self._finder, self._view = case, finder, view
        self._watch = Watch(case.file, finder, from_s=view.later_s or None)
        self._seen = held(finder.watch(self._frames()))

    @property
    def seconds(self) -> float:
        return self._watch.end - self._watch.first

    def judged(self, rules: Any) -> Outcome:
        found = [scaled(one, self._watch.scale) for one in self._finder.judge(self._seen, rules)]
        return self._case.outcome([self._turned_back(one) for one in found])

    def _frames(self) -> Iterator[tuple[float, Any]]:
        for time_s, frame in self._watch:
            yield time_s, np.ascontiguousarray(frame[:, ::-1]) if self._view.mirrored else frame

    def _turned_back(self, incident: Incident) -> Incident:
        if not self._view.mirrored:
            return incident
        width = self._watch.film_size[0]
        track = tuple(
            replace(one, box=replace(one.box, left=width - one.box.right)) for one in incident.evidence.track
        )
        return replace(incident, evidence=replace(incident.evidence, track=track))


def held(seen: Any) -> Any:
    """All of it, to be judged more than once."""
    return replace(seen, ways=list(seen.ways))


def cases(data: Path, engine: str) -> list[Case]:
    labels = {one.clip: one for one in read_labels(data / "dada" / "labels.csv").labels}
    return [
        Case(
            clip,
            data / "dada" / clip.video_id,
            labels[clip.video_id].times if clip.has_ghost else (),
            OVERLAPS[engine],
            EARLIEST_S[engine],
        )
        for clip in read_dada()
    ]


def figures(engine: str, model: Path | None, data: Path) -> Iterator[Figure]:
    finder = engine_type(GhostProbing.engines[engine])(Choice(engine, file=model))
    assert isinstance(finder, Finder)
    finder.open("cpu")
    clips = cases(data, engine)
    balanced, high, speed = watched(finder, engine, clips)
    truths = [case.clip.has_ghost for case in clips]
    always = confusion((truth, True) for truth in truths)
    yield Figure(f"{engine}: always yes, F1 and balanced accuracy", f"{always.f1:.2f}, 0.50")
    for n, (what, outcomes) in enumerate(balanced.items()):
        yield from scored(f"{engine}, {what}", clips, outcomes, all_of_it=n in (0, len(balanced) - 1))
    ghosts = [one for one in high if one.ghost]
    hits, passed = sum(one.hit for one in ghosts), sum(bool(one.incidents) for one in high)
    yield Figure(
        f"{engine}, high recall: labelled events with an incident within {NEAR_S:g} s; clips let through",
        f"{hits} of {len(ghosts)}; {passed} of {len(high)} ({passed - hits} others)",
        "85 %",
    )
    yield alarmed(f"{engine}, high recall", clips, high)
    yield Figure(f"{engine}: clip seconds a CPU second, reading included", f"{speed:.1f}", SPEEDS[engine])


def watched(
    finder: Any, engine: str, clips: Sequence[Case]
) -> tuple[dict[str, list[Outcome]], list[Outcome], float]:
    """An engine whose thresholds can be chosen: each view of a clip is watched once and judged by every
    setting. What a detector sees flickers; thresholds that suit one view alone suit its noise."""
    grid, usual = GRIDS[engine], finder.rules["balanced"]
    tried = [replace(usual, **setting) for setting in settings(grid)]
    began, seconds = time.process_time(), 0.0
    views: dict[View, list[Seen]] = {}
    for view in VIEWS:
        views[view] = [Seen(case, finder, view) for case in clips]
        seconds += sum(one.seconds for one in views[view])
    speed = seconds / (time.process_time() - began)
    answers = {
        case.clip.video_id: [[seen[n].judged(rules) for rules in tried] for seen in views.values()]
        for n, case in enumerate(clips)
    }
    outcomes, often = held_out(answers, grid)
    spread = sorted(merits(answers))
    least, middle, best = spread[0], spread[len(spread) // 2], spread[-1]
    note(f"{engine}: merit of {len(tried)} settings on all clips: {least:.2f}, {middle:.2f}, {best:.2f}")
    note(f"{engine}: chosen most often: {settings(grid)[often]}")
    best_of_all = settings(grid)[choose(merits(answers), grid)]
    note(f"{engine}: chosen on all clips: {best_of_all}")
    held = "each clip with thresholds chosen on the others"
    ways = {f"{held}, {view}": [each[n] for each in outcomes.values()] for n, view in enumerate(VIEWS)}
    plain = views[VIEWS[0]]
    ways["usual thresholds, chosen on these very clips"] = [one.judged(usual) for one in plain]
    return ways, [one.judged(finder.rules["high"]) for one in plain], speed


def scored(
    what: str, clips: Sequence[Case], outcomes: Sequence[Outcome], *, all_of_it: bool
) -> Iterator[Figure]:
    judged = [one.judged for one in outcomes]
    found = confusion(judged)
    wrong = [case.clip.video_id for case, (truth, said) in zip(clips, judged, strict=True) if truth != said]
    note(f"{what}: wrong are {', '.join(wrong)}")
    f1 = jeffreys(found, lambda one: one.f1)
    balanced = jeffreys(found, lambda one: one.balanced_accuracy)
    yield Figure(f"{what}: F1", f"{found.f1:.2f} {_told(f1)}", "0.80")
    yield Figure(f"{what}: balanced accuracy", f"{found.balanced_accuracy:.2f} {_told(balanced)}", "0.70")
    if not all_of_it:
        return
    clear = confusion(
        one.judged for case, one in zip(clips, outcomes, strict=True) if not case.clip.label_is_doubtful
    )
    yield Figure(
        f"{what}: F1 and balanced accuracy without the clips whose label is in doubt",
        f"{clear.f1:.2f}, {clear.balanced_accuracy:.2f} of {clear.total} clips",
    )
    ghosts = [one for one in outcomes if one.ghost]
    right, hit = sum(one.right for one in ghosts), sum(one.hit for one in ghosts)
    yield Figure(
        f"{what}: ghosts found for the right reason; within {NEAR_S:g} s of their label",
        f"{right} of {len(ghosts)} {_told(wilson(right, len(ghosts)))}; {hit} of {len(ghosts)}",
        "60 %",
    )
    yield alarmed(what, clips, outcomes)


def alarmed(what: str, clips: Sequence[Case], outcomes: Sequence[Outcome]) -> Figure:
    alarms, seconds = sum(one.alarms for one in outcomes), sum(case.exposed_s for case in clips)
    low, most = rate(alarms, seconds / 3600)
    return Figure(
        f"{what}: false alarms that begin in ordinary driving, an hour",
        f"{alarms} in {seconds:.0f} s: {low:.0f}..{most:.0f}",
        "0 seen",
    )


def rate(count: int, of: float) -> Interval:
    """95 % interval of the rate of what happened so often (Garwood)."""

    def fewer(mean: float, than: int) -> float:
        return sum(math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1)) for n in range(than))

    def mean(share: float, than: int) -> float:
        low, high = 1e-9, 20.0 + 4 * count
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if fewer(middle, than) > share else (low, middle)
        return low

    return (mean(0.975, count) / of if count else 0.0), mean(0.025, count + 1) / of


def note(line: str) -> None:
    """Beside the table."""
    print(line, file=sys.stderr)  # noqa: T201


def _told(interval: Interval | None) -> str:
    return f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORKER_TEST_DATA"))
    parser.add_argument("--engine", choices=list(GRIDS))
    parser.add_argument("--model", type=Path)
    told = parser.parse_args(arguments)
    if told.data is None:
        note("the clips are not here: set WORKER_TEST_DATA, or give --data")
        return 1
    show(
        "ghosts",
        _all([told.engine] if told.engine else list(GRIDS), told.model, Path(told.data)),
    )
    return 0


def _all(engines: Sequence[str], model: Path | None, data: Path) -> Iterator[Figure]:
    for name in engines:
        weights = data / MODELS[name] if name in MODELS else None
        try:
            yield from figures(name, model or weights, data)
        except MachineError as error:
            yield Figure(f"{name}: ghosts in real clips", not_here(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
