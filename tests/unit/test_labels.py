"""Labels as people keep them."""

from pathlib import Path

import pytest

from worker.errors import UsageError
from worker.evaluation.labels import Label, parse_labels, read_labels


def test_a_sloppy_file_is_read_and_what_cannot_be_used_is_told() -> None:
    text = (
        "video_id, Ground_Truth_Label ,note\n"
        "a.avi,none,没有遮挡物\n"
        "\n"
        "b.avi,5s: ghost probing\n"
        " c.avi , 6S：Cut-In ,x,y\n"
        "d.avi,3.5s: Ghost  Probing; 9s: cut-in,\n"
        "e.avi,???,\n"
        ",none,\n"
        "f.avi,,\n"
        "a.avi,none,\n"
        "b.avi,none,\n"
        "g.avi,鬼探头,\n"
        "h.avi,4秒: 鬼探头,\n"
    )
    read = parse_labels(text, "labels.csv")
    assert read.labels == [
        Label("a.avi", "none"),
        Label("b.avi", "ghost probing", (5.0,)),
        Label("c.avi", "cut-in"),
        Label("d.avi", "ghost probing", (3.5,)),
        Label("g.avi", "鬼探头"),
        Label("h.avi", "鬼探头", (4.0,)),
    ]
    assert [label.positive for label in read.labels] == [False, True, False, True, True, True]
    assert [(one.row, one.why) for one in read.unusable] == [
        (7, "'???' is neither none nor an event such as 5s: ghost probing or 6s: cut-in"),
        (8, "it names no video"),
        (9, "it has no label"),
        (11, "b.avi has another label above, which counts"),
    ]


@pytest.mark.parametrize(
    "said",
    [
        "no ghost probing",
        "not a ghost",
        "无鬼探头",
        "非鬼探头",
        "5s: no ghost probing",
        "5s: ghost probing?",
        "待定",
        "unsure",
        "3s: cut-in; unsure",
    ],
)
def test_a_negation_or_a_doubt_is_no_label(said: str) -> None:
    read = parse_labels(f"video_id,ground_truth_label\na.avi,{said}\n", "labels.csv")
    assert not read.labels
    assert [one.row for one in read.unusable] == [2]


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ("3s: cut-in, 6s: ghost probing", (6.0,)),
        ("3秒：加塞，6秒：鬼探头", (6.0,)),
        ("2s: ghost-probing, 6.5: Ghost_Probing", (2.0, 6.5)),
        ("3s: cut-in, 6s: lane change", ()),
    ],
)
def test_events_at_commas_have_each_their_time(said: str, times: tuple[float, ...]) -> None:
    (label,) = parse_labels(f'video_id,ground_truth_label\na.avi,"{said}"\n', "labels.csv").labels
    assert (label.times, label.positive) == (times, bool(times))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "gb18030"])
def test_common_encodings(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("video_id,ground_truth_label\n甲.mp4,5s: 鬼探头\n", encoding=encoding)
    assert read_labels(file).labels == [Label("甲.mp4", "鬼探头", (5.0,))]


def test_no_columns_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("a.avi,none\n")
    with pytest.raises(UsageError, match="no columns video_id and ground_truth_label"):
        read_labels(file)
    with pytest.raises(UsageError, match="name a CSV file"):
        read_labels(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "text",
    [
        "video_id;ground_truth_label\na.avi;5s: ghost probing\n",
        "video_id\tground_truth_label\na.avi\t5s: ghost probing\n",
        "video_id,ground_truth_label\ra.avi,5s: ghost probing\r",
    ],
)
def test_as_spreadsheets_write_it(text: str) -> None:
    assert parse_labels(text, "labels.csv").labels == [Label("a.avi", "ghost probing", (5.0,))]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("video_id,label\n" + "a" * 200_000, "is no CSV: field larger"),
        ('video_id,label\na.avi,"none\nb.avi,none\n', "none of its 1 rows can be used; row 2"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=why):
        read_labels(file)
