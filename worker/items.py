"""What travels: items go in, answers come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = Any  # a value that json.loads can give


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of work."""

    id: str
    """hash of the recipe's fingerprint, the input, its size and its mark"""
    input: str
    """path relative to the root, with "/"; or any text, for a task that reads no files"""
    size: int = 0
    mark: str = ""
    """cheap fingerprint of the content"""
    params: Mapping[str, Json] = field(default_factory=dict)
    """this item's own parameters, over those of the recipe"""
    generation: int = 0
    """0, or the retry that asked for it again"""
    after: str = ""
    """the shard of an earlier try of this job, from whose checkpoints it goes on"""
    beside: Sequence[str] = ()
    """other inputs that its file shall lie beside, those of them that there are; set only by who opens it"""
    file: Path | None = None
    """where it lies on this machine; set only while it is prepared"""


MACHINE_KINDS = frozenset({"store", "device", "system"})
"""failures that speak of the machine; several in a row stop the worker instead of failing items"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no answer: a kind to count by, and one line for a person."""

    kind: str
    message: str

    @property
    def blames_machine(self) -> bool:
        return self.kind in MACHINE_KINDS

    @property
    def is_unanswered(self) -> bool:
        return self.kind == UNANSWERED.kind


UNANSWERED = Failure("unanswered", "told to stop before it was answered")
"""of a sample that answer() did not get to: neither a result nor a fault; somebody answers it later"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task says of one item."""

    keys: Mapping[str, Json]
    """the task's own keys of the result; the same bytes on every machine"""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """small pictures and the like, by file name; they land in OUT/files/<item>/"""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item: an answer or a failure, and how that went."""

    item: str
    input: str
    outcome: Answer | Failure
    files: Mapping[str, str] = field(default_factory=dict)
    """the answer's files: file name → object of the queue that holds it"""
    run: Mapping[str, Json] = field(default_factory=dict)
    """at (wall clock), seconds, worker, attempt: never part of final_results.json"""
    line: bytes = field(default=b"", init=False, compare=False, repr=False)
    """as it stands in a part, once somebody asked (parts.line); replace() leaves it out"""

    @property
    def ok(self) -> bool:
        return isinstance(self.outcome, Answer)

    @property
    def kind(self) -> str | None:
        """the failure's; None: it is an answer"""
        return self.outcome.kind if isinstance(self.outcome, Failure) else None

    @property
    def seconds(self) -> float | None:
        """what it took, if somebody measured that"""
        seconds = self.run.get("seconds")
        return None if seconds is None else float(seconds)
