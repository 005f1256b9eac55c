"""What is said between a job's ranks and who started them, and between nodes: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import get_args

from worker.errors import UnfinishedError
from worker.items import Json

# from a rank


@dataclass(frozen=True, slots=True)
class Hello:
    rank: int
    pid: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that takes long on a slow disk; now the ranks look for each other."""


@dataclass(frozen=True, slots=True)
class Together:
    """The ranks have found each other."""


@dataclass(frozen=True, slots=True)
class Raised:
    """Why a rank ended before its work was done."""

    rank: int
    text: str
    kind: str = "error"
    """a failure's; or one of the kinds below"""
    is_final: bool = False
    """another try ends alike: the item's own fault, or, with a code, the machine's"""
    code: int = 0
    """of what a person has to know: what a command ends with"""


STOPPED, HUNGRY, NETWORK, DIED, LOST = "stopped", "out-of-memory", "network", "died", "lost"
"""told to stop; its batch was too large; its backend does not work; it said nothing more; its node is gone"""


@dataclass(frozen=True, slots=True)
class Answered:
    """The last word of rank 0."""

    keys: Mapping[str, Json] | None
    files: Mapping[str, str] = field(default_factory=dict)
    """base64"""
    failure: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Over:
    """A rank that is not the first has done its part."""


# from rank 0, of its workspace


@dataclass(frozen=True, slots=True)
class Progress:
    step: int
    steps: int | None
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Alive:
    pass


@dataclass(frozen=True, slots=True)
class Save:
    """Asks for a folder to save into."""

    step: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Saved:
    pass


@dataclass(frozen=True, slots=True)
class NotSaved:
    pass


@dataclass(frozen=True, slots=True)
class Best:
    """Asks for the best checkpoint; for each of its files it is asked back whether that is wanted."""


@dataclass(frozen=True, slots=True)
class Wish:
    wanted: bool


@dataclass(frozen=True, slots=True)
class Settle:
    pass


@dataclass(frozen=True, slots=True)
class Publish:
    name: str
    file: str


# to a rank


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint, fetched to this node."""

    step: int
    score: float | None
    folder: str


@dataclass(frozen=True, slots=True)
class Begin:
    """What is to be done, the same on every node but for places."""

    task: str
    params: Mapping[str, Json]
    item: Mapping[str, Json]
    device: str
    """without a number: each rank has its own"""
    backend: str
    halved: int
    """how often the batch did not fit"""
    folder: str = ""
    file: str = ""
    """where the item lies"""
    found: Found | None = None
    log: str = "text"
    debug: bool = False
    limit_s: float = 3600.0
    """for which one may wait for the others"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to save."""

    folder: str


@dataclass(frozen=True, slots=True)
class Wanted:
    name: str


@dataclass(frozen=True, slots=True)
class Done:
    pass


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is none."""


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str
    time_left: float


# between nodes


@dataclass(frozen=True, slots=True)
class Here:
    """A node that follows, and the recipe that its queue has."""

    node: int
    fingerprint: str
    ranks: int


@dataclass(frozen=True, slots=True)
class Start:
    """The ranks of every node are to be started. What the job is, each reads in its own queue."""

    shard: str
    item: str
    """its id"""
    backend: str
    halved: int
    port: int
    """of torchrun's own meeting, on the first node"""
    checkpoint: tuple[str, int, int] | None
    """shard, epoch and number: whence it goes on"""


@dataclass(frozen=True, slots=True)
class End:
    """The ranks are to be ended, if they have not by now; in answer: nothing more comes of them."""


@dataclass(frozen=True, slots=True)
class Leave:
    """There is nothing left to do, or the first node was told to stop."""

    reason: str = ""
    again: bool = False
    """what is wrong may pass"""


Word = (
    Hello
    | Loaded
    | Together
    | Raised
    | Answered
    | Over
    | Progress
    | Alive
    | Save
    | Saved
    | NotSaved
    | Best
    | Wish
    | Settle
    | Publish
    | Found
    | Begin
    | Place
    | Wanted
    | Done
    | Nothing
    | Stop
    | Here
    | Start
    | End
    | Leave
)
_WORDS: Mapping[str, type[Word]] = {one.__name__: one for one in get_args(Word)}
MOST = 1 << 24
"""bytes of a word"""


def encode(word: Word) -> bytes:
    return json.dumps([type(word).__name__, asdict(word)]).encode() + b"\n"


def decode(line: bytes) -> Word:
    try:
        name, said = json.loads(line)
        return _made(name, said)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnfinishedError(f"a word between processes is not understood: {line[:80]!r}") from error


def _made(name: str, said: Mapping[str, Json]) -> Word:
    changed = dict(said)
    if name == "Begin" and said["found"]:
        changed["found"] = Found(**said["found"])
    if name == "Start":
        changed["checkpoint"] = tuple(said["checkpoint"]) if said["checkpoint"] else None
    if name == "Answered" and said["failure"]:
        changed["failure"] = tuple(said["failure"])
    return _WORDS[name](**changed)
