"""All of a look at a data set: read, decoded, judged, and written cleaned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from PIL import Image

from worker.detection import exports, findings, sheets
from worker.detection.dataset import DataSet
from worker.detection.faults import Faults
from worker.detection.looking import Seen, look
from worker.detection.statistics import of_split
from worker.detection.twins import parted
from worker.items import Answer, Json


def inspect(data: DataSet, max_megapixels: int, imgsz: int, alive: Callable[[], None]) -> Answer:
    faults = Faults(data.faults)
    seen: list[Seen] = []
    wanted = sheets.chosen(data.pictures)
    thumbs: dict[int, Image.Image] = {}
    for at, looked in enumerate(look(data, max_megapixels, wanted, alive)):
        seen.append(looked.seen)
        faults.add(looked.faults)
        if looked.thumb:
            thumbs[at] = sheets.small(looked.thumb)
    cells: defaultdict[str, list[sheets.Cell]] = defaultdict(list)
    for at, thumb in thumbs.items():
        cells[seen[at].split].append(sheets.Cell(seen[at], thumb))
    seen, twins = parted(seen)
    faults.add(twins)
    splits = {
        split: of_split([one for one in seen if one.split == split], data.classes)
        for split in dict.fromkeys(one.split for one in seen)
    }
    found = findings.judge(faults, splits, seen, imgsz)
    verdict = findings.verdict(found)
    files = sheets.sheets(cells, data.classes)
    if faults.counts:
        files[findings.FAULTS] = faults.written()
    if verdict != "blocker":
        files |= exports.written(seen, data.classes)
    keys: dict[str, Json] = {
        "verdict": verdict,
        "findings": [one.as_json() for one in found],
        "classes": list(data.classes),
        "splits": splits,
        "faults": dict(sorted(faults.counts.items())),
        "cleaned": verdict != "blocker",
    }
    return Answer(keys, files)
