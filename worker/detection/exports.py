"""The cleaned data as others read it. Pictures are named and not copied: they may be a hundred gigabytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from worker.detection.dataset import TEST, TRAIN, VAL, Box
from worker.detection.looking import Seen
from worker.detection.yolo import labels_of
from worker.items import Json

ARCHIVE = "yolo.zip"
_YEAR = (1980, 1, 1, 0, 0, 0)
"""of the files in an archive: it is the same archive always"""


def written(seen: Sequence[Seen], classes: Sequence[str]) -> dict[str, bytes]:
    """COCO's JSON of each split, whose file names are seen from the root; YOLO's texts, lists and yaml."""
    useful = [one for one in seen if not one.useless]
    splits = dict.fromkeys(one.split for one in useful)
    found = {
        f"{split}-coco.json": coco([one for one in useful if one.split == split], classes) for split in splits
    }
    return found | {ARCHIVE: yolo(useful, classes)}


def coco(seen: Sequence[Seen], classes: Sequence[str]) -> bytes:
    """Categories are numbered from 1. An entry a line."""
    out = io.BytesIO()
    out.write(b'{"images": [')
    _listed(out, (_image(number, one) for number, one in enumerate(seen, 1)))
    out.write(b'], "annotations": [')
    boxes = ((number, box) for number, one in enumerate(seen, 1) for box in one.boxes)
    _listed(out, (_annotation(number, image, box) for number, (image, box) in enumerate(boxes, 1)))
    out.write(b'], "categories": [')
    _listed(out, ({"id": number, "name": name} for number, name in enumerate(classes, 1)))
    out.write(b"]}\n")
    return out.getvalue()


def _listed(out: io.BytesIO, entries: Iterator[Json]) -> None:
    for number, one in enumerate(entries):
        out.write((",\n" if number else "\n").encode())
        out.write(json.dumps(one, ensure_ascii=False).encode())


def _image(number: int, one: Seen) -> Json:
    return {"id": number, "file_name": one.name, "width": one.width, "height": one.height}


def _annotation(number: int, image: int, box: Box) -> Json:
    wide, high = box.right - box.left, box.bottom - box.top
    return {
        "id": number,
        "image_id": image,
        "category_id": box.kind + 1,
        "bbox": [round(side, 3) for side in (box.left, box.top, wide, high)],
        "area": round(wide * high, 3),
        "iscrowd": 0,
    }


def yolo(seen: Sequence[Seen], classes: Sequence[str]) -> bytes:
    """To be unpacked where the pictures lie as they do below the root, without their old labels."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:

        def write(name: str, text: str) -> None:
            archive.writestr(zipfile.ZipInfo(name, _YEAR), text.encode(), zipfile.ZIP_DEFLATED)

        splits = [split for split in (TRAIN, VAL, TEST) if any(one.split == split for one in seen)]
        lists = {split: f"{split}-clean.txt" for split in splits}
        names = dict(enumerate(classes))
        write(
            "clean.yaml",
            "".join(
                f"{key}: {json.dumps(said, ensure_ascii=False)}\n"
                for key, said in (*lists.items(), ("names", [names[number] for number in names]))
            ),
        )
        for split, name in lists.items():
            write(name, "".join(f"./{one.name}\n" for one in seen if one.split == split))
        for one in seen:
            text = labels_of(Path("/", one.name)).relative_to("/").as_posix()
            write(text, "".join(f"{_line(box, one)}\n" for box in one.boxes))
    return kept.getvalue()


def _line(box: Box, one: Seen) -> str:
    shares = (
        (box.left + box.right) / 2 / one.width,
        (box.top + box.bottom) / 2 / one.height,
        (box.right - box.left) / one.width,
        (box.bottom - box.top) / one.height,
    )
    return " ".join([str(box.kind), *(f"{share:.6f}" for share in shares)])
