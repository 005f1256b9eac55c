"""Labelled boards in the forms that others read: chat samples, COCO's JSON, YOLO's text."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.boards import prompt
from worker.boards.coordinates import Coordinates, Family
from worker.boards.deeppcb import Pair
from worker.boards.defect import TYPES, Defect, Lang
from worker.items import Json

_YEAR = (1980, 1, 1, 0, 0, 0)
"""of the files in an archive: it is the same archive always"""


@dataclass(frozen=True, slots=True)
class Picture:
    """One to learn from: a board with its defects, or a template, which has none."""

    path: str
    """below the folder of the list"""
    width: int
    height: int
    defects: Sequence[Defect]
    template: str | None = None
    """that is shown before it"""


def pictures(
    pairs: Iterable[Pair], root: Path, sizes: dict[Path, tuple[int, int]], *, paired: bool = False
) -> list[Picture]:
    """Each board, and behind it its template: every board has defects, so nothing else says what none is."""
    return [
        Picture(
            file.relative_to(root).as_posix(),
            *sizes[file],
            defects,
            pair.template.relative_to(root).as_posix() if paired else None,
        )
        for pair in pairs
        for file, defects in ((pair.tested, pair.defects), (pair.template, ()))
    ]


def chat(found: Iterable[Picture], family: Family, lang: Lang) -> bytes:
    """A sample a line, the question with its picture and the answer."""
    return "".join(
        f"{json.dumps(_sample(one, family, lang), ensure_ascii=False)}\n" for one in found
    ).encode()


def _sample(one: Picture, family: Family, lang: Lang) -> Json:
    where = Coordinates(family, one.width, one.height)
    question = [
        *({"type": "image", "image": path} for path in (one.template, one.path) if path),
        {"type": "text", "text": prompt.ask(lang, family, pair=bool(one.template))},
    ]
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": prompt.answer(one.defects, where)},
        ]
    }


def coco(found: Iterable[Picture], *, scored: bool = False) -> bytes:
    """`scored`: the defects were not labelled but found, with some confidence."""
    images: list[Json] = []
    annotations: list[Json] = []
    for number, one in enumerate(found, 1):
        images.append({"id": number, "file_name": one.path, "width": one.width, "height": one.height})
        for each in one.defects:
            box = each.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": TYPES.index(each.type) + 1,
                    "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
                    "area": box.area,
                    "iscrowd": 0,
                    **({"score": each.confidence} if scored else {}),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(TYPES, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def yolo(found: Iterable[Picture]) -> bytes:
    """An archive with a text beside each picture's path: type from 0, centre and size as shares."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in found:
            name = str(Path(one.path).with_suffix(".txt"))
            lines = "".join(f"{_yolo_line(each, one)}\n" for each in one.defects)
            archive.writestr(zipfile.ZipInfo(name, _YEAR), lines, zipfile.ZIP_DEFLATED)
    return kept.getvalue()


def _yolo_line(defect: Defect, one: Picture) -> str:
    box = defect.box
    shares = (
        (box.left + box.right) / 2 / one.width,
        (box.top + box.bottom) / 2 / one.height,
        (box.right - box.left) / one.width,
        (box.bottom - box.top) / one.height,
    )
    return " ".join([str(TYPES.index(defect.type)), *(f"{share:.6f}" for share in shares)])
