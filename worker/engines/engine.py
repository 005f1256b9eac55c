"""The contract of an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from worker import signs
from worker.engines.choice import Choice
from worker.engines.resizing import Resizing
from worker.ghosts.incident import Incident
from worker.items import Failure, Json
from worker.media.rgb import Rgb

if TYPE_CHECKING:
    from worker.purse import Purse


class Engine(ABC):
    """One family of models. It is opened once, by whoever will ask it."""

    about: ClassVar[str]
    """one line for `worker tasks`"""
    model: ClassVar[Literal["none", "file", "folder", "name"]] = "none"
    """what --model must name: a file that travels with the queue; a folder, or a model of the hub; or what
    somebody else's server calls it"""
    version: ClassVar[str] = "1"
    """of its rules; part of the recipe once it is another, so that old and new answers never mix"""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    @classmethod  # noqa: B027
    def check(cls, file: Path) -> None:
        """Refuse a file that is no model of ours, where somebody names it: before the recipe is frozen."""

    def open(self, device: str) -> None:  # noqa: B027
        """Load the model and warm up."""

    def close(self) -> None:  # noqa: B027
        """Give the device back."""


class Finder(Engine):
    """Looks at all of a clip on a CPU, one frame after the other, and names what emerges.

    It runs in the processes that prepare: it needs no batch, and knows one frame at a time."""

    fps: ClassVar[float] = 10.0
    """so many frames a second are wanted"""
    width: ClassVar[int | None] = None
    """frames are scaled to this width; None: as they are"""
    quick: ClassVar[bool] = False
    """colours a level or two off will do, if they come the faster"""

    @abstractmethod
    def find(
        self, frames: Iterable[tuple[float, Rgb]], recall: Literal["balanced", "high"]
    ) -> Sequence[Incident]:
        """Frames come in order with their times, in seconds. Boxes are in pixels of these frames.

        `recall`: high proposes more, for somebody who looks at all of them."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question about some frames."""

    frames: Sequence[Rgb]
    """as large as `frame_size` said; pictures as `resizing` makes them"""
    times: Sequence[float]
    """seconds from the film's start; none: they are pictures, each for itself"""
    prompt: str
    """what is asked; the engine tells the frames' times in its model's own way"""
    schema: Json | None = None
    """the JSON schema that the answer should have"""
    max_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    tokens: int
    """that were generated"""
    truncated: bool = False
    """the limit of tokens ended it"""


class VisionEngine(Engine):
    """Answers questions about frames on the device, a batch at a time.

    An instance lives in every process that prepares, for `frame_size`, and in the worker; only the
    worker's is opened."""

    purse: Purse | None = None
    """who pays for each answer asks it first; set before open()"""
    wanted_batch: int | None = None
    """a person's choice; None: as many as fit. Set before open()"""
    at_once: int = 1
    """so many requests it waits for at a time, each asked from a thread of its own. 1: it computes here"""
    batch: int = 1
    """so many requests it likes at once: open() may find out what this card holds"""

    family: str | None = None
    """of the model, where it is known: how it tells places in a picture"""
    resizing: Resizing | None = None
    """what pictures it wants; None: any"""

    sharp: ClassVar[bool] = False
    """its frames are scaled as torch scales without antialiasing: so its makers did"""

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        """What the frames of a film of this size are scaled to. Needs no model, and nothing heavy."""
        return width, height

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        """In the order given. A Failure is one request's own; what ails the machine is raised."""

    def stop(self) -> None:
        """From any thread, before open() too: answer() shall end soon, and so shall every later one. What
        has no whole answer by then is UNANSWERED."""

    def alive(self) -> None:
        """To be called whenever an answer gets on, by what takes more than some seconds: a worker that
        says nothing for an item limit is killed. As often as you like: a clock is read."""
        signs.give()

    def spent(self) -> Mapping[str, Json]:
        """Since open(), from any thread: tokens, seconds of prefill and of decoding, and the like, for
        performance.json.

        Numbers, which add up over workers; other values say what was chosen, and why."""
        return {}
