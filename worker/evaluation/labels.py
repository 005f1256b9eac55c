"""Labels of clips as people keep them: a CSV with a byte order mark, gaps, two kinds of colons and doubts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UsageError

_CLIP_COLUMNS = ("video_id", "video", "clip", "file", "input", "视频", "文件")
_LABEL_COLUMNS = ("ground_truth_label", "ground_truth", "label", "标签")
_NOTHING = frozenset({"none", "no", "negative", "normal", "无", "没有", "否"})
_GHOSTS = frozenset({"ghost", "ghost probing", "鬼探头"})
_OTHERS = frozenset({"cut in", "lane change", "overtaking", "加塞", "切入", "变道", "超车", "other", "其他"})
_NUMBER, _AT = r"\d+(?:\.\d+)?", r"\s*(?:s|sec|秒)?\s*[:：]"
_BETWEEN = re.compile(rf"[;；|]|[,，、](?=\s*{_NUMBER}{_AT})")
_EVENT = re.compile(rf"(?:(?P<time>{_NUMBER}){_AT}\s*)?(?P<what>[^\W\d_].*)", re.IGNORECASE)
_DELIMITERS = (",", ";", "\t")
_ENCODINGS = ("utf-8-sig", "gb18030")


@dataclass(frozen=True, slots=True)
class Label:
    clip: str
    category: str
    """none, ghost probing, cut-in … as it was written, in small letters"""
    times: tuple[float, ...] = ()
    """when a ghost appears, in seconds; empty: the label does not say"""

    @property
    def positive(self) -> bool:
        return is_ghost(self.category)


@dataclass(frozen=True, slots=True)
class Unusable:
    row: int
    """of the file, the first is 1"""
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Labels:
    labels: Sequence[Label]
    unusable: Sequence[Unusable]


def is_ghost(category: str) -> bool:
    return _plain(category) in _GHOSTS


def read_labels(file: Path) -> Labels:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"--labels {file}: {error.strerror}; name a CSV file") from None
    for encoding in _ENCODINGS:
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise UsageError(f"--labels {file} is neither UTF-8 nor GB18030: save it as UTF-8")
    found = parse_labels(text, str(file))
    if found.unusable and not found.labels:
        first = found.unusable[0]
        raise UsageError(
            f"--labels {file}: none of its {len(found.unusable)} rows can be used; "
            f"row {first.row}: {first.why}"
        )
    return found


def parse_labels(text: str, name: str) -> Labels:
    rows, (head, clip_at, label_at) = _table(text, name)
    labels: dict[str, Label] = {}
    unusable: list[Unusable] = []
    for number, row in enumerate(rows[head + 1 :], head + 2):
        if not any(cell.strip() for cell in row):
            continue
        found = _label(row, clip_at, label_at)
        known = labels.get(found.clip) if isinstance(found, Label) else None
        if known is not None and known != found:
            found = f"{known.clip} has another label above, which counts"
        if isinstance(found, Label):
            labels[found.clip] = found
        else:
            unusable.append(Unusable(number, ",".join(row), found))
    return Labels(list(labels.values()), unusable)


def _table(text: str, name: str) -> tuple[list[list[str]], tuple[int, int, int]]:
    """The rows, divided as it fits the columns: spreadsheets write semicolons and tabs as well."""
    for delimiter in _DELIMITERS:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=None), delimiter=delimiter))
        except csv.Error as error:
            raise UsageError(f"--labels {name} is no CSV: {error}") from None
        if columns := _columns(rows):
            return rows, columns
    raise UsageError(
        f"--labels {name} has no columns video_id and ground_truth_label: name them in its first row"
    )


def _columns(rows: Sequence[Sequence[str]]) -> tuple[int, int, int] | None:
    """Which row names the columns, and which ones they are."""
    for number, row in enumerate(rows[:5]):
        names = [cell.strip().lower() for cell in row]
        clip = next((names.index(one) for one in _CLIP_COLUMNS if one in names), None)
        label = next((names.index(one) for one in _LABEL_COLUMNS if one in names), None)
        if clip is not None and label is not None:
            return number, clip, label
    return None


def _label(row: Sequence[str], clip_at: int, label_at: int) -> Label | str:
    """A row's label, or why it has none."""
    clip = row[clip_at].strip() if clip_at < len(row) else ""
    said = row[label_at].strip().lower() if label_at < len(row) else ""
    if not clip:
        return "it names no video"
    if not said:
        return "it has no label"
    if said in _NOTHING:
        return Label(clip, "none")
    pieces = [piece.strip() for piece in _BETWEEN.split(said)]
    events = [_event(piece) for piece in pieces if piece]
    known = [one for one in events if one is not None]
    if not known or len(known) < len(events):
        return f"'{said}' is neither none nor an event such as 5s: ghost probing or 6s: cut-in"
    ghosts = [(time, what) for time, what in known if is_ghost(what)]
    category = (ghosts or known)[0][1]
    return Label(clip, category, tuple(time for time, _ in ghosts if time is not None))


def _event(piece: str) -> tuple[float | None, str] | None:
    """When, and what; None: a doubt, a negation, or a word that is not known. A guess would be scored."""
    found = _EVENT.fullmatch(piece)
    if not found or _plain(found["what"]) not in _GHOSTS | _OTHERS:
        return None
    return (float(found["time"]) if found["time"] else None), " ".join(found["what"].split())


def _plain(category: str) -> str:
    return " ".join(re.split(r"[\s_-]+", category.strip()))
