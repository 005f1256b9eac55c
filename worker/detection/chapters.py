"""What the report says of a data set: what is wrong, how many boxes of what and how large, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from worker.detection.statistics import curve, middle
from worker.items import Json
from worker.tasks.chapters import Chapter, Curves, Sheet, Shown, Words

_FINDINGS: Sequence[Words] = (("Level", "级别"), ("Check", "检查"), ("Found", "发现"), ("What to do", "处理"))
_SPLITS: Sequence[Words] = (
    ("Split", "划分"),
    ("Pictures", "图片"),
    ("Of use", "可用"),
    ("Empty", "无框"),
    ("Boxes", "框"),
    ("Small", "小"),
    ("Medium", "中"),
    ("Large", "大"),
    ("Per picture", "每图"),
    ("W:H", "宽高比"),
    ("Sizes", "尺寸"),
)
_CURVES: Mapping[str, Words] = {
    "box_side": ("Side of the boxes, pixels, by percentile", "框边长 (像素), 按百分位"),
    "aspect_ratio": ("Width to height of the boxes, by percentile", "框宽高比, 按百分位"),
    "boxes_per_picture": ("Boxes a picture, by percentile", "每图框数, 按百分位"),
}


def chapters(keys: Mapping[str, Json], files: Sequence[str]) -> Iterator[Chapter]:
    splits = keys["splits"]
    rows = [[one["level"], one["check"], one["found"], one["remedy"]] for one in keys["findings"]]
    yield Chapter(("What is wrong", "问题"), [Sheet(_FINDINGS, rows)])
    yield Chapter(
        ("Pictures and boxes", "图片与框"), [Sheet(_SPLITS, [_row(*one) for one in splits.items()])]
    )
    classes: list[Words] = [("Class", "类别"), *((name, name) for name in splits)]
    counts = [[name, *(str(one["classes"][name]) for one in splits.values())] for name in keys["classes"]]
    yield Chapter(("Boxes of each class", "各类框数"), [Sheet(classes, counts)])
    drawn = [
        Curves(title, {split: curve(one[key]) for split, one in splits.items() if one[key]})
        for key, title in _CURVES.items()
    ]
    yield Chapter(("How large they are", "框的大小"), drawn)
    if shown := {name: name for split in splits if (name := f"{split}.jpg") in files}:
        yield Chapter(("Evenly chosen pictures", "均匀抽取的图片"), [Shown(shown)])


def _row(split: str, one: Mapping[str, Json]) -> list[str]:
    counts = [str(one[key]) for key in ("pictures", "useful", "without_boxes", "boxes")]
    sizes = [f"{one[key]} ({one[key] / (one['boxes'] or 1):.0%})" for key in ("small", "medium", "large")]
    common = ", ".join(f"{size} ({count})" for size, count in one["picture_sizes"].items())
    return [split, *counts, *sizes, middle(one["boxes_per_picture"]), middle(one["aspect_ratio"]), common]
