"""Reports as ghost-probing makes them, of clips that nobody drove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import media
from tests.queues import QueueUnderTest
from worker.evaluation.labels import Label
from worker.evaluation.score import match
from worker.evaluation.verdicts import verdict
from worker.ghosts.incident import Box, Evidence, Incident, ObjectKind, Sighting
from worker.ghosts.words import Lang
from worker.items import Answer, Failure, Json, Result
from worker.media.evidence import Box as Frame
from worker.media.evidence import drawn
from worker.queue.finals import Spent
from worker.report.files import relative_paths
from worker.report.html import Report, render
from worker.report.performance import performance
from worker.report.provenance import provenance
from worker.report.record import record
from worker.tasks.ghost_probing import KEY_FRAMES, GhostProbing, GhostProbingParams, tell

_KINDS: tuple[ObjectKind, ...] = ("person", "rider", "vehicle", "unknown")


def ghost_page(
    folder: Path,
    clips: Sequence[str],
    *,
    positives: int,
    failures: Mapping[str, Failure] | None = None,
    labelled: bool = False,
    lang: Lang = "en",
    picture_bytes: int = 0,
) -> Path:
    """report.html of these clips. The first `positives` of them hold one incident or two, in turn."""
    results = [_answered(folder, n, name, n < positives, lang, picture_bytes) for n, name in enumerate(clips)]
    results += [Result(f"{n:020x}bad", name, why) for n, (name, why) in enumerate((failures or {}).items())]
    task = GhostProbing(GhostProbingParams(lang=lang))
    kinds = [result.outcome.kind for result in results if isinstance(result.outcome, Failure)]
    summary = {
        "task": task.name,
        "fingerprint": "f00df00df00df00d",
        "total": len(results),
        "ok": len(clips),
        "failed": len(kinds),
        "failures": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "refused": [],
        "superseded": 0,
        **task.summarise(results),
    }
    report = Report(
        summary=summary,
        results=results,
        row=task.row,
        moments=task.moments,
        performance=performance((Spent(r.input, 3.1, None, 1) for r in results), [], 4),
        provenance=provenance(QueueUnderTest().run, "queue", [], [], {}),
        out=folder,
        headlines=task.headlines,
        notice=task.notices["motion"],
        score=_score(results) if labelled else None,
    )
    page = folder / "report.html"
    page.write_text(render(report, lang), encoding="utf-8")
    return page


def _answered(folder: Path, n: int, name: str, ghost: bool, lang: Lang, picture_bytes: int) -> Result:
    incidents = [tell(_incident(n, at), lang) for at in range(1 + n % 2)] if ghost else []
    keys: dict[str, Json] = {
        "ghost_probing_detected": ghost,
        "incidents": incidents,
        "engine": "motion",
        "duration_s": 15.0 + n % 7,
        "partial": None,
    }
    pictures = [f"{one + 1}-{at + 1}.jpg" for one in range(len(incidents)) for at in range(KEY_FRAMES)]
    result = Result(f"{n:020x}0000", name, Answer(keys), files={one: f"files/{one}" for one in pictures})
    for at, path in enumerate(relative_paths(result).values()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(_picture(at).ljust(picture_bytes, b"\0"))
    return result


def _incident(n: int, at: int) -> Incident:
    start = 2.0 + n % 5 + 6.0 * at
    track = tuple(Sighting(start + k / 10, Box(40 + 4 * k, 30, 12 + k, 24 + k)) for k in range(12))
    hidden_by = Box(0, 10, 50, 60) if n % 3 else None
    evidence = Evidence(track, "left", hidden_by, "bus" if hidden_by else None, 0.8, 1.0 + n % 4, 0.6)
    return Incident(start, start + 1.2, _KINDS[n % 4], evidence)


def _picture(at: int) -> bytes:
    return drawn(media.moving(at), [Frame(0.2 + at / 20, 0.3, 0.35 + at / 20, 0.8)])


def _score(results: Sequence[Result]) -> Mapping[str, Json]:
    """Every third clip is a ghost."""
    labels = [
        Label(one.input, "none" if n % 3 else "ghost probing", () if n % 3 else (5.0,))
        for n, one in enumerate(results)
    ]
    return match(labels, [verdict(record(one)) for one in results]).document()
