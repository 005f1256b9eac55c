"""What two windows of one camera tell of one event counts once, and is marked the second time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from worker.ghosts.windows import told_in, told_once
from worker.items import Answer, Failure, Json, Result
from worker.media.stamp import began_at, stamp
from worker.tasks.ghost_probing import GhostProbing, GhostProbingParams

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
Told = tuple[float, float, str]
"""start, end, what"""


def name(at: float, folder: str = "front") -> str:
    return f"{folder}/{stamp(NOON + timedelta(seconds=at))}.mkv"


def window(input: str, *told: Told, length: float = 10.0) -> Result:
    incidents: list[Json] = [
        {
            "start_time": f"{start}s",
            "end_time": f"{end}s",
            "object_type": what,
            "description": "it comes",
            "risk_level": "low",
            "impact": "watch it",
            "evidence": {"first_seen_s": start, "expansion_per_s": 0.5, "confidence": 0.5, "told_in": None},
        }
        for start, end, what in told
    ]
    keys = {
        "ghost_probing_detected": bool(told),
        "incidents": incidents,
        "duration_s": length,
        "partial": None,
    }
    return Result(input, input, Answer(keys))


def marks(results: Sequence[Result]) -> list[list[str | None]]:
    told = [result.outcome for result in told_once(results)]
    return [[told_in(i) for i in one.keys["incidents"]] for one in told if isinstance(one, Answer)]


@pytest.mark.parametrize("kinds", [("rider", "rider"), ("something moving", "rider"), ("行人", "未知物体")])
def test_the_second_window_says_where_it_was_told_before(kinds: tuple[str, str]) -> None:
    results = [window(name(0), (8.5, 10, kinds[0])), window(name(8), (0.7, 2.5, kinds[1]))]
    assert marks(results) == [[None], [name(0)]]


@pytest.mark.parametrize(
    "second",
    [
        window(name(8), (0.7, 2.5, "pedestrian")),
        window(name(8), (2.5, 3.5, "rider")),
        window(name(8, "back"), (0.7, 2.5, "rider")),
        window(name(20), (0.0, 2.5, "rider")),
        window("front/a.mkv", (8.5, 10, "rider")),
    ],
    ids=["of another kind", "later", "of another camera", "of a window that does not overlap", "of a clip"],
)
def test_another_event_is_not_marked(second: Result) -> None:
    first = window(name(0), (8.5, 10, "rider"))
    assert marks([first, second]) == [[None], [None]]


def test_an_event_is_told_once_a_window() -> None:
    two = [window(name(0), (8.5, 9.5, "rider")), window(name(8), (0.6, 1.0, "rider"), (0.9, 2.5, "rider"))]
    assert marks(two) == [[None], [name(0), None]]


def test_three_windows_name_the_first() -> None:
    results = [
        window(name(0), (7, 10, "something moving")),
        Result("x", name(1), Failure("truncated", "")),
        window(name(4), (3, 8, "rider")),
        window(name(8), (0, 4, "rider"), (0, 4, "pedestrian")),
    ]
    assert marks(results) == [[None], [name(0)], [name(0), None]]


def test_what_was_told_before_counts_once_and_the_report_says_so() -> None:
    task = GhostProbing(GhostProbingParams(lang="en"))
    first = window(name(0), (8.5, 10, "rider"))
    results = list(task.together([first, window(name(8), (0.5, 2, "rider")), window(name(16))]))
    summary = task.summarise(results)
    assert (summary["incidents"], summary["told_twice"], summary["object_types"]) == (1, 1, {"rider": 1})
    assert (summary["detected"], summary["detection_rate"]) == (1, 0.3333)
    assert [task.row(result)["Notes"] for result in results] == ["", f"told already in {name(0)}", ""]
    assert [task.moments(result)[0].lines[0] for result in results[:2]] == [
        "it comes",
        f"told already in {name(0)}",
    ]
    assert [result.item for result in results] == [name(0), name(8), name(16)], "none is left out"


def test_a_name_tells_its_moment_or_none() -> None:
    assert began_at(name(0.25)) == NOON.timestamp() + 0.25
    for other in ("clip.mp4", "20261121T120000Z.mkv", "20261321T120000.000000Z.mkv"):
        assert began_at(str(Path("front") / other)) is None
