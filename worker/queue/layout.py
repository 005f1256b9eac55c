"""Names of the objects of a queue. `ls` of a queue shows these and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

RUN = "run.json"
LOOKOUT = "lookout.json"
INBOX = "inbox/"
ITEMS = "items/"
CLAIMS = "claims/"
WORKERS = "workers/"
PARTS = "parts/"
DONE = "done/"
RETRIES = "retries/"
TAKEN = "taken/"
ROOTS = "roots/"
CUTS = "cuts/"
SUPERSEDED = "superseded/"
FILES = "files/"
JOBS = "jobs/"
MODELS = "models/"


def shard(sha256: str, count: int) -> str:
    """A shard's name: its content's hash, and how many items it has, so that a list tells."""
    return f"{sha256[:20]}-{count}"


def items(shard: str) -> str:
    return f"{ITEMS}{shard}.jsonl"


def claims(shard: str) -> str:
    return f"{CLAIMS}{shard}/"


def claim(shard: str, epoch: int) -> str:
    return f"{CLAIMS}{shard}/{epoch}.json"


def released(shard: str, epoch: int) -> str:
    return f"{CLAIMS}{shard}/{epoch}.released"


def worker(uuid: str) -> str:
    return f"{WORKERS}{uuid}.json"


def parts(shard: str) -> str:
    return f"{PARTS}{shard}/"


def part(shard: str, epoch: int, number: int) -> str:
    return f"{PARTS}{shard}/{epoch}-{number}.jsonl"


def done(shard: str) -> str:
    return f"{DONE}{shard}.json"


def retry(generation: int) -> str:
    return f"{RETRIES}{generation}.json"


def takings(inbox_name: str) -> str:
    """What the names of all records of one inbox file begin with."""
    return f"{TAKEN}{hashlib.sha256(inbox_name.encode()).hexdigest()[:16]}-"


def taken(inbox_name: str, content: bytes) -> str:
    """The record that these bytes under this name were cut into shards."""
    return f"{takings(inbox_name)}{hashlib.sha256(content).hexdigest()[:16]}.json"


def root(location: str) -> str:
    """One place that enqueue saw the inputs at."""
    return f"{ROOTS}{hashlib.sha256(location.encode()).hexdigest()[:16]}.json"


def cut(ids: Iterable[str]) -> str:
    """How large the shards of this list are."""
    return f"{CUTS}{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:16]}.json"


def superseded(number: int) -> str:
    """Items whose file has another content by now, and those whose content lies there."""
    return f"{SUPERSEDED}{number}.json"


def file(content: bytes) -> str:
    """A picture or the like that belongs to an answer, named by its content."""
    return file_of(hashlib.sha256(content).hexdigest())


def file_of(sha256: str) -> str:
    return f"{FILES}{sha256}"


def model(sha256: str) -> str:
    """A model that is one file."""
    return f"{MODELS}{sha256}"


def jobs(shard: str) -> str:
    return f"{JOBS}{shard}/"


def base(shard: str, epoch: int) -> str:
    """What this epoch of a job went on from."""
    return f"{JOBS}{shard}/{epoch}/base.json"


def manifest(shard: str, epoch: int, number: int) -> str:
    """Written last: it makes the checkpoint whole."""
    return f"{JOBS}{shard}/{epoch}/{number}.json"


def checkpoint_file(shard: str, epoch: int, number: int, name: str) -> str:
    return f"{JOBS}{shard}/{epoch}/{number}/{name}"


def shard_of(name: str) -> str:
    """items/<shard>.jsonl, done/<shard>.json → <shard>"""
    return name.rsplit("/", 1)[1].split(".", 1)[0]


def number_of(name: str) -> int:
    """superseded/<n>.json → n"""
    return int(shard_of(name))


def count_of(shard: str) -> int | None:
    """<hash>-<count> → count.  None: not a name of ours."""
    count = shard.rpartition("-")[2]
    return int(count) if count.isdecimal() and "-" in shard else None


def claim_of(name: str) -> tuple[str, int, bool] | None:
    """claims/<shard>/<epoch>.json → shard, epoch, released?  None: not a name of ours."""
    pieces = name.split("/")
    if len(pieces) != 3:
        return None
    number, _, kind = pieces[2].partition(".")
    if not number.isdigit() or kind not in ("json", "released"):
        return None
    return pieces[1], int(number), kind == "released"


def part_of(name: str) -> tuple[int, int] | None:
    """parts/<shard>/<epoch>-<n>.jsonl → epoch, n.  None: not a name of ours."""
    epoch, _, number = name.rsplit("/", 1)[-1].removesuffix(".jsonl").partition("-")
    return (int(epoch), int(number)) if epoch.isdigit() and number.isdigit() else None


def job_epoch_of(name: str) -> int | None:
    """jobs/<shard>/<epoch>/… → epoch"""
    pieces = name.split("/")
    return int(pieces[2]) if len(pieces) > 3 and pieces[2].isdigit() else None


def checkpoint_of(name: str) -> tuple[int, int] | None:
    """jobs/<shard>/<epoch>/<n>.json → epoch, n.  None: another object of a job."""
    pieces = name.split("/")
    if len(pieces) != 4 or not pieces[3].endswith(".json"):
        return None
    epoch, number = pieces[2], pieces[3].removesuffix(".json")
    return (int(epoch), int(number)) if epoch.isdigit() and number.isdigit() else None


def checkpoint_file_of(name: str) -> tuple[int, int] | None:
    """jobs/<shard>/<epoch>/<n>/<file> → epoch, n.  None: another object of a job."""
    pieces = name.split("/")
    if len(pieces) < 5 or not (pieces[2].isdigit() and pieces[3].isdigit()):
        return None
    return int(pieces[2]), int(pieces[3])
