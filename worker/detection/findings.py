"""What is to be said of a data set: a line for each check, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from worker.detection.dataset import TRAIN, VAL, Fault
from worker.detection.faults import KEPT, Faults
from worker.detection.looking import Seen
from worker.detection.statistics import Splits, tiny
from worker.doctor.finding import Finding, Level, blocker, ok, warning

FAULTS = "faults.csv"
LEVELS: Sequence[Level] = ("blocker", "warning", "ok")
_VISIBLE = 8.0
"""pixels of a detector's finest grid"""
_MANY_TINY = 0.1
_FEW = 20
_CLEANED = "train on the cleaned data, or"


@dataclass(frozen=True, slots=True)
class _Check:
    level: Level
    what: str
    remedy: str


CHECKS: Mapping[str, _Check] = {
    "outside-root": _Check(
        "blocker",
        "files outside of the root",
        "they are not looked at: name the folder that holds all of the data with root=, or copy them into it",
    ),
    "unknown-class": _Check(
        "blocker",
        "boxes of a class that is not named",
        "count classes from 0 (COCO: by the id of a category), or name the one that is missing",
    ),
    "missing-picture": _Check(
        "warning",
        "pictures that are named and not there",
        f"{_CLEANED} fetch them: the data may be half copied",
    ),
    "broken-picture": _Check("warning", "pictures that cannot be decoded", f"{_CLEANED} fetch them again"),
    "missing-label": _Check(
        "warning",
        "pictures without labels",
        "they are left out: label them; where there is nothing to be found, an empty text says so",
    ),
    "orphan-label": _Check(
        "warning", "labels without a picture", "bring back or rename the picture, or delete the labels"
    ),
    "shared-labels": _Check(
        "warning", "pictures that share their labels with another", f"{_CLEANED} rename one of the two"
    ),
    "odd-line": _Check("warning", "labels that cannot be read", f"{_CLEANED} mend these lines"),
    "out-of-range": _Check(
        "warning",
        "boxes beyond the edge of their picture",
        f"{_CLEANED} mend them: what is inside is kept, what is none of it is dropped",
    ),
    "no-size": _Check("warning", "boxes without width or height", f"{_CLEANED} delete them"),
    "duplicate-box": _Check("warning", "boxes that are there twice", f"{_CLEANED} delete one of the two"),
    "crowd": _Check("warning", "boxes about a crowd", "they are left out, as COCO means it"),
    "other-size": _Check(
        "warning",
        "pictures of another size than their labels were made for",
        f"{_CLEANED} fetch the pictures that were labelled",
    ),
    "turned": _Check(
        "warning",
        "pictures that their EXIF data turn",
        "make sure that whoever labelled them saw them so, or turn them for good (jpegtran, exiftran)",
    ),
    "duplicate-picture": _Check(
        "warning", "pictures that are there twice in a split", f"{_CLEANED} delete one of the two"
    ),
    "leak": _Check(
        "warning",
        "pictures that another split has too",
        f"{_CLEANED} delete them there: who has learned from a test finds it too easy",
    ),
}


def judge(faults: Faults, splits: Splits, seen: Sequence[Seen], imgsz: int) -> list[Finding]:
    """The worst first."""
    found = [
        *_enough(splits),
        *(_of(check, faults) for check in CHECKS),
        replace(_classes(splits), check="classes"),
        replace(_tiny(seen, imgsz), check="tiny-boxes"),
    ]
    if faults.untold:
        more = f"{faults.untold:,} faults more than the {KEPT:,} in {FAULTS}"
        found.append(replace(warning(more, "mend those, and look again"), check="faults"))
    return sorted(found, key=lambda one: LEVELS.index(one.level))


def verdict(found: Sequence[Finding]) -> Level:
    return min((one.level for one in found), key=LEVELS.index, default="ok")


def _of(check: str, faults: Faults) -> Finding:
    about, count = CHECKS[check], faults.counts[check]
    if not count:
        return Finding("ok", f"no {about.what}", "", check)
    some = "; ".join(map(_line, faults.named[check]))
    more = f"; all in {FAULTS}" if count > len(faults.named[check]) else ""
    return Finding(about.level, f"{count:,} {about.what}: {some}{more}", about.remedy, check)


def _line(one: Fault) -> str:
    return f"{one.file}:{one.line} {one.why}" if one.line else f"{one.file} {one.why}"


def _enough(splits: Splits) -> Iterator[Finding]:
    for split, one in splits.items():
        left = one["pictures"] - one["useful"]
        said = (
            f"{split}: {one['useful']:,} of {one['pictures']:,} pictures are of use, {one['boxes']:,} boxes"
        )
        if not one["boxes"]:
            finding = (blocker if split in (TRAIN, VAL) else warning)(
                f"{said}: none to learn from or to measure by", "label some, or mend what is told below"
            )
        elif left > one["useful"]:
            finding = blocker(said, "most of it would be left out: mend what is told below first")
        else:
            finding = ok(said)
        yield replace(finding, check="pictures")
    if TRAIN not in splits:
        yield Finding("blocker", "no picture of train is there", "name some under train:", "pictures")
    if VAL not in splits:
        remedy = "name some under val:, or with val=: without them nobody knows how good the model is"
        yield Finding("warning", "there are no pictures of val", remedy, "pictures")


def _classes(splits: Splits) -> Finding:
    counts = splits[TRAIN]["classes"] if TRAIN in splits else {}
    if few := [f"{name} ({count})" for name, count in counts.items() if count < _FEW]:
        named = ", ".join(few[:10]) + (", …" if len(few) > 10 else "")
        return warning(
            f"{len(few)} classes have less than {_FEW} boxes to learn from: {named}",
            "label more of them, or do without these classes",
        )
    return ok(f"each class has {_FEW} boxes to learn from, or more")


def _tiny(seen: Sequence[Seen], imgsz: int) -> Finding:
    count, whole = tiny(seen, imgsz, _VISIBLE), sum(len(one.boxes) for one in seen if not one.useless)
    said = f"{count:,} of {whole:,} boxes are narrower than {_VISIBLE:g} pixels once a picture is {imgsz}"
    if whole and count > _MANY_TINY * whole:
        return warning(said, "train on larger pictures (imgsz=), or on tiles of them")
    return ok(said)
