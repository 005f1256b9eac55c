"""detect-check: a data set of pictures and boxes, looked at before a training is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from worker import signs
from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Json, Result
from worker.tasks.task import MapTask, Params

if TYPE_CHECKING:
    from worker.tasks.chapters import Chapter


class DetectCheckParams(Params):
    root: str = ""
    """the folder that all of the data lies in, seen from the item: nothing outside of it is read. Empty: the
    item's own"""
    images: str = ""
    """of a COCO JSON: the folder that its file names are seen from, itself seen from the JSON"""
    val: str = ""
    """of a COCO JSON or a list of DeepPCB, which are to learn from: another one, to measure by"""
    val_images: str = ""
    """its folder, as images; empty: its own"""
    imgsz: int = Field(default=640, ge=32, le=8192)
    """pixels of a picture's longer side in the training: boxes that would be too small there are told"""
    max_megapixels: int = Field(default=100, ge=1, le=1000)
    """a picture with more is not decoded, and counts as broken"""


class DetectCheck(MapTask[DetectCheckParams, Answer]):
    name = "detect-check"
    about = "a detector's data set (YOLO yaml, COCO JSON, DeepPCB list): faults, leaks, sizes, and it cleaned"
    params_type = DetectCheckParams
    suffixes = frozenset({".yaml", ".yml", ".json", ".txt"})
    seconds_per_item = 60.0
    paretos: ClassVar[Mapping[str, tuple[str, str]]] = {"boxes": ("Boxes of each class", "各类框数")}
    headlines: ClassVar[Mapping[str, tuple[str, str]]] = {
        "verdict": ("verdict", "结论"),
        "pictures": ("pictures", "图片"),
    }

    def prepare(self, item: Item) -> Answer:
        """All of the work: it needs no device."""
        from worker.detection.inspection import inspect
        from worker.detection.reading import read

        if item.file is None:
            raise ItemError("missing", "there is no data set to read")
        params = self.params_of(item)
        data = read(item.file, params.root, params.images, params.val, params.val_images)
        return inspect(data, params.max_megapixels, params.imgsz, signs.give)

    def answer(self, samples: Sequence[Answer]) -> Sequence[Answer | Failure]:
        return samples

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:
        boxes: Counter[str] = Counter()
        verdicts: Counter[str] = Counter()
        pictures = 0
        for result in results:
            if isinstance(result.outcome, Answer):
                keys = result.outcome.keys
                verdicts[keys["verdict"]] += 1
                for split in keys["splits"].values():
                    boxes.update(split["classes"])
                    pictures += split["pictures"]
        worst = next((one for one in ("blocker", "warning", "ok") if verdicts[one]), None)
        return {"verdict": worst, "pictures": pictures, "boxes": dict(sorted(boxes.items()))}

    def chapters(self, result: Result, read: Callable[[str], bytes]) -> Sequence[Chapter]:  # noqa: ARG002
        from worker.detection.chapters import chapters

        assert isinstance(result.outcome, Answer)
        return [*chapters(result.outcome.keys, list(result.files))]

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        levels = Counter(one["level"] for one in keys["findings"])
        return {
            "Verdict": keys["verdict"],
            **{f"{split} pictures": str(one["useful"]) for split, one in keys["splits"].items()},
            "Boxes": str(sum(one["boxes"] for one in keys["splits"].values())),
            "Blockers": str(levels["blocker"]),
            "Warnings": str(levels["warning"]),
        }
