"""What a rank ends with, as it travels: told in words there, an exception or an outcome again here."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence

from worker.blame import failure_of
from worker.errors import ItemError, MachineError, UnfinishedError, UnfitError, UsageError, WorkerError
from worker.items import MACHINE_KINDS, Answer, Failure, Json
from worker.ranks import backend
from worker.ranks.words import DIED, HUNGRY, LOST, NETWORK, STOPPED, Answered, Raised
from worker.tasks.task import Stopped
from worker.training.batches import out_of_memory


class RankError(Exception):
    """One of the processes ended before its work was done."""


class HungryError(Exception):
    """The batch does not fit."""


class NodeLostError(Exception):
    """A node is gone, with its ranks."""


class NetworkError(Exception):
    """The ranks cannot speak with each other in this way."""


def raised(rank: int, error: Exception, file: str = "") -> Raised:
    """What whoever started the ranks has to know. `file`: the task's own, where a person looks first."""
    if isinstance(error, Stopped):
        return Raised(rank, "told to stop", STOPPED)
    if isinstance(error, NetworkError):
        return Raised(rank, str(error), NETWORK)
    failure = failure_of(error, file)
    if isinstance(error, ItemError):
        return Raised(rank, failure.message, failure.kind, is_final=True)
    if isinstance(error, WorkerError):
        is_final = isinstance(error, UnfitError)
        return Raised(rank, str(error), failure.kind, is_final=is_final, code=error.exit_code)
    kind = HUNGRY if out_of_memory(error) else failure.kind
    return Raised(rank, f"rank {rank}: {failure.message}", kind)


def cause(ends: Sequence[Raised]) -> Raised:
    """Of what was heard at about the same time: who is killed says nothing, and the others complain of it."""
    return min(ends, key=_weight)


def _weight(end: Raised) -> int:
    kinds = (HUNGRY, LOST, DIED)
    if end.is_final or end.code:  # what a node says before it leaves
        return -1
    return kinds.index(end.kind) if end.kind in kinds else len(kinds)


def exception_of(end: Raised, way: str) -> Exception:
    """What the job ends with, or is tried again after. `way`: between the ranks."""
    if end.kind == STOPPED:
        return Stopped()
    if end.kind == HUNGRY:
        return HungryError(end.text)
    if end.kind == LOST:
        return NodeLostError(end.text)
    if end.kind == NETWORK and way != backend.GLOO:
        return NetworkError(end.text)
    if end.is_final and end.code:
        return UnfitError(end.text)
    if end.is_final:
        return ItemError(end.kind, end.text)
    if end.code == UsageError.exit_code:
        return UsageError(end.text)
    if end.code == UnfinishedError.exit_code:
        return UnfinishedError(end.text)
    if end.code or end.kind in MACHINE_KINDS:
        return MachineError(end.text)
    return RankError(end.text)


def outcome_of(word: Answered) -> Answer | Failure:
    if word.failure:
        return Failure(*word.failure)
    keys: Mapping[str, Json] = word.keys or {}
    return Answer(keys, {name: b64decode(data) for name, data in word.files.items()})
