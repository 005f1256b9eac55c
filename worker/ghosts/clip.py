"""A clip goes in; what emerges in it comes out, with pictures that show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from worker.ghosts.incident import Box, Evidence, Incident, Sighting
from worker.media.evidence import Box as DrawnBox
from worker.media.evidence import drawn
from worker.media.rgb import Rgb
from worker.media.streaming import Stream

if TYPE_CHECKING:
    from worker.engines.engine import Finder

_OCCLUDER = (60, 120, 220)
_WIDTH, _QUALITY = 480, 75
"""of key frames, about 15 kB each: a thousand of them fit into a report that is mailed around"""


@dataclass(frozen=True, slots=True)
class Seen:
    incidents: Sequence[Incident]
    """boxes in pixels of the clip as shown"""
    duration_s: float
    """from its first frame until its last one ends"""
    size: tuple[int, int]
    partial: str | None
    """what could not be read, where that was allowed"""
    pictures: Mapping[str, bytes]
    """key frames by file name: <incident>-<picture>.jpg, both counted from 1"""


def look(
    file: Path,
    finder: Finder,
    *,
    recall: Literal["balanced", "high"] = "balanced",
    allow_partial: bool = False,
    key_frames: int = 4,
) -> Seen:
    """One pass for the finder; a short one more for the pictures of each incident."""
    watch = Watch(file, finder, allow_partial=allow_partial)
    found = finder.find(watch, recall)
    incidents = [scaled(one, watch.scale) for one in found]
    pictures = {
        f"{number}-{at}.jpg": picture
        for number, incident in enumerate(incidents, 1)
        for at, picture in enumerate(_pictures(file, incident, watch.film_size, key_frames), 1)
    }
    return Seen(incidents, watch.end - watch.first, watch.film_size, watch.partial, pictures)


class Watch:
    """The frames as the finder likes them, and what was noticed on the way."""

    def __init__(
        self, file: Path, finder: Finder, *, allow_partial: bool = False, from_s: float | None = None
    ) -> None:
        self.film_size = (0, 0)
        self.first = self.end = 0.0
        self._width = finder.width
        self._stream = Stream(
            file,
            fps=finder.fps,
            size=self._fit,
            from_s=from_s,
            allow_partial=allow_partial,
            quick=finder.quick,
        )

    @property
    def partial(self) -> str | None:
        return self._stream.partial

    @property
    def scale(self) -> float:
        """from a finder's pixel to the film's"""
        return self.film_size[0] / self._fit(*self.film_size)[0]

    def _fit(self, width: int, height: int) -> tuple[int, int]:
        self.film_size = width, height
        if self._width is None or self._width >= width:
            return width, height
        return self._width, max(1, round(height * self._width / width))

    def __iter__(self) -> Iterator[tuple[float, Rgb]]:
        first = None
        for time, frame in self._stream:
            first = time if first is None else first
            self.first, self.end = first, time
            yield time, frame
        self.end = self._stream.end_s


def scaled(incident: Incident, by: float) -> Incident:
    """Its boxes in the pixels of another size."""
    evidence = incident.evidence
    track = tuple(replace(one, box=one.box.scaled(by)) for one in evidence.track)
    hidden_by = evidence.hidden_by.scaled(by) if evidence.hidden_by else None
    return replace(incident, evidence=replace(evidence, track=track, hidden_by=hidden_by))


def _pictures(file: Path, incident: Incident, size: tuple[int, int], most: int) -> Iterator[bytes]:
    """Moments of its track, from when it was first seen to the last, with what is said of them drawn in."""
    chosen = _spread(incident.evidence.track, most)
    if not chosen:
        return
    for time, frame in Stream(file, at=[one.time for one in chosen], allow_partial=True):
        sighting = min(chosen, key=lambda one: abs(one.time - time))
        boxes = _boxes(incident.evidence, sighting, size)
        yield drawn(frame, boxes, caption=f"{sighting.time:.1f} s", width=_WIDTH, quality=_QUALITY)


def _spread(track: Sequence[Sighting], most: int) -> list[Sighting]:
    if len(track) <= most:
        return list(track)[:most]
    last = len(track) - 1
    return [track[round(n * last / max(1, most - 1))] for n in range(most)]


def _boxes(evidence: Evidence, sighting: Sighting, size: tuple[int, int]) -> list[DrawnBox]:
    boxes = [_share(sighting.box, size)]
    if evidence.hidden_by and sighting is evidence.track[0]:
        boxes.append(replace(_share(evidence.hidden_by, size), colour=_OCCLUDER))
    return boxes


def _share(box: Box, size: tuple[int, int]) -> DrawnBox:
    width, height = size
    return DrawnBox(box.left / width, box.top / height, box.right / width, box.bottom / height)
