"""What of the data sets is of no use, found before the training: it goes on without that, and says so."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields

from PIL import Image

from worker.classification.datasets import NO_DATA, Labelled
from worker.errors import ItemError
from worker.media.picture import rgb

log = logging.getLogger(__name__)

LEFT_OUT = "left_out.csv"
TRAIN, TEST = "train", "test"
Sets = Mapping[tuple[str, str], Sequence[Labelled]]
"""part, name of the data set → its pictures"""
_AT_ONCE = 256
"""pictures between two signs of life"""
_NAMED = 5


@dataclass(frozen=True, slots=True)
class LeftOut:
    part: str
    dataset: str
    picture: str
    label: str
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    why: str
    """it is of no use; empty: it can be read"""
    digest: bytes = b""
    """of what it shows"""


def look(sets: Sets, classes: Sequence[str], alive: Callable[[], None]) -> list[LeftOut]:
    """Every picture is decoded, on all cores: a reader of headers would miss one that was cut off."""
    known = set(classes)
    rows = [row for some in sets.values() for row in some]
    seen: list[Seen] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for start in range(0, len(rows), _AT_ONCE):
            alive()
            seen += threads.map(lambda row: _seen(row, known), rows[start : start + _AT_ONCE])
    each = iter(seen)
    return judge(sets, {key: [next(each) for _ in some] for key, some in sets.items()})


def digest(sets: Sets) -> str:
    """Of which pictures there are, and in which order."""
    found = hashlib.blake2b(digest_size=16)
    for (part, name), rows in sets.items():
        for row in rows:
            found.update("\0".join((part, name, row.name, row.label, "")).encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def judge(sets: Sets, seen: Mapping[tuple[str, str], Sequence[Seen]]) -> list[LeftOut]:
    """A picture to learn from that is in a test too would make that test too easy."""
    tested = {one.digest for (part, _), some in seen.items() if part == TEST for one in some if not one.why}
    found = []
    for (part, name), rows in sets.items():
        for row, one in zip(rows, seen[part, name], strict=True):
            why = one.why or ("in-a-test" if part == TRAIN and one.digest in tested else "")
            if why:
                found.append(LeftOut(part, name, row.name, row.label, why))
    return found


def without(sets: Sets, out: Sequence[LeftOut]) -> dict[tuple[str, str], list[Labelled]]:
    gone = {(one.part, one.dataset, one.picture, one.label) for one in out}
    return {
        key: [row for row in rows if (*key, row.name, row.label) not in gone] for key, rows in sets.items()
    }


def require_most(sets: Sets, out: Sequence[LeftOut], most: float) -> None:
    """What is left out is told; a data set of which nothing much would be left is refused."""
    for key, rows in sets.items():
        gone = [one for one in out if (one.part, one.dataset) == key]
        if not gone:
            continue
        kinds = ", ".join(f"{count} {why}" for why, count in Counter(one.why for one in gone).most_common())
        first = ", ".join(one.picture for one in gone[:_NAMED]) + (", …" if len(gone) > _NAMED else "")
        said = f"{' '.join(key)}: {len(gone)} of {len(rows)} pictures are of no use ({kinds}): {first}"
        if len(gone) > most * len(rows) or len(gone) == len(rows):
            raise ItemError(NO_DATA, f"{said}; mend them, or allow for more with left_out_most")
        log.warning("%s; it goes on without them", said)


def tell_empty(sets: Sets, classes: Sequence[str]) -> None:
    there = {row.label for (part, _), rows in sets.items() if part == TRAIN for row in rows}
    if empty := [name for name in classes if name not in there]:
        first = ", ".join(empty[:_NAMED]) + (", …" if len(empty) > _NAMED else "")
        log.warning("%d classes have no picture to learn from: %s", len(empty), first)


def written(out: Sequence[LeftOut]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([one.name for one in fields(LeftOut)])
    table.writerows(astuple(one) for one in out)
    return text.getvalue()


def read(text: str) -> list[LeftOut]:
    return [LeftOut(**row) for row in csv.DictReader(io.StringIO(text))]


def _seen(row: Labelled, known: set[str]) -> Seen:
    if row.wrong or row.label not in known:
        return Seen(row.wrong or "unknown-class")
    try:
        with row.open() as picture:
            shown = rgb(picture)
    except ItemError as error:
        return Seen(error.kind)
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        return Seen("too-large")
    except Exception:  # on bad bytes the readers raise nearly anything
        return Seen("damaged")
    return Seen("", hashlib.blake2b(shown.tobytes(), digest_size=16, person=b"%dx%d" % shown.size).digest())
