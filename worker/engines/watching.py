"""What finders have in common that watch a clip first and judge afterwards what they saw in it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Generic, Literal, TypeVar

from worker.engines.engine import Finder
from worker.ghosts.incident import Incident
from worker.ghosts.scene import Scene
from worker.media import heap
from worker.media.rgb import Rgb

Way = TypeVar("Way")
"""of something through the picture"""
Rules = TypeVar("Rules")


@dataclass(frozen=True, slots=True)
class Watched(Generic[Way]):
    """What was seen in a clip: enough for any rules."""

    scene: Scene
    ways: Iterable[Way]
    """in the order they begin; told while the clip is watched, so that no more than those of the last
    seconds are held, however long it is"""


class Watching(Finder, Generic[Way, Rules]):
    rules: ClassVar[Mapping[str, Any]]
    """for each recall"""

    def open(self, device: str) -> None:  # noqa: ARG002
        import cv2

        cv2.setNumThreads(1)  # one process a core: threads of one would wait for those of another
        heap.keep()

    def find(
        self, frames: Iterable[tuple[float, Rgb]], recall: Literal["balanced", "high"]
    ) -> Sequence[Incident]:
        watched = self.watch(frames)
        return self.judge(watched, self.rules[recall]) if watched else []

    def watch(self, frames: Iterable[tuple[float, Rgb]]) -> Watched[Way] | None:
        """None: there is no frame."""
        rest = iter(frames)
        first = next(rest, None)
        if first is None:
            return None
        time, (height, width) = first[0], first[1].shape[:2]
        scene = Scene(width, height, time)
        return Watched(scene, self._ways(chain((first,), rest), scene))

    @abstractmethod
    def _ways(self, frames: Iterable[tuple[float, Rgb]], scene: Scene) -> Iterator[Way]: ...

    @staticmethod
    @abstractmethod
    def judge(seen: Watched[Way], rules: Rules) -> Sequence[Incident]: ...
