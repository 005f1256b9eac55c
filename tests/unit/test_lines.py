"""A bad line is refused alone, in words that say what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

import pytest
from pydantic import Field

from worker.items import Item
from worker.queue.lines import Refused, Wish, parse, plain
from worker.queue.protocol import item_id
from worker.queue.text import dumps
from worker.tasks.task import MapTask, Params


class Knobs(Params):
    fps: float = 2.0
    frames: int = Field(default=8, ge=1)
    lang: Literal["zh", "en"] = "en"
    tree: object = None


class Watch(MapTask[Knobs, Item]):
    name = "watch"
    params_type = Knobs


def refusal(line: bytes | str) -> str:
    found = list(parse(line.encode() if isinstance(line, str) else line, Watch, {}))
    assert len(found) == 1
    assert isinstance(found[0], Refused), found
    assert "\n" not in found[0].why
    assert len(found[0].why) < 400
    return found[0].why


def wishes(found: Iterable[Wish | Refused]) -> list[str]:
    return [one.input for one in found if isinstance(one, Wish)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a.mp4", 'is not JSON (Expecting value: line 1 column 1 (char 0)); write {"input": "path"}'),
        ('{"input": "a.mp4"', "is not JSON"),
        ('{"input": "a.mp4"} x', "is not JSON"),
        (b'{"input": "\xff"}', "is not JSON"),
        ("[" * 50_000, "is not JSON"),
        ('{"input": ' * 20_000, "is not JSON"),
        ('{"params": {"fps": ' + "9" * 5000 + '}, "input": "a"}', "is not JSON"),
        ("[]", 'is not a JSON object but a list; write {"input": "path"}'),
        ('"a.mp4"', "but a text"),
        ("7", "but a number"),
        ("null", "but nothing"),
        ("true", "but true or false"),
        ("{}", "needs 'input' as a text, it has nothing"),
        ('{"input": ""}', "needs 'input' as a text"),
        ('{"input": 7}', "it has a number"),
        ('{"input": ["a"]}', "it has a list"),
        ('{"inptu": "a.mp4"}', "has an unknown key 'inptu'; did you mean 'input'?"),
        ('{"input": "a", "parms": {}}', "did you mean 'params'?"),
        ('{"input": "a", "zzz": 1}', "known are 'input' and 'params'"),
        ('{"input": "a", "params": [1]}', "has 'params' as a list"),
        ('{"input": "a", "params": null}', "has 'params' as nothing"),
        ('{"input": "a", "params": {"fsp": 1}}', "task watch has no parameter 'fsp'; did you mean fps?"),
        ('{"input": "a", "params": {"fps": "fast"}}', "cannot take fps=fast"),
        ('{"input": "a", "params": {"frames": 0}}', "cannot take frames=0"),
        ('{"input": "a", "params": {"lang": "fr"}}', "cannot take lang=fr"),
        ('{"input": "a\\ud800"}', "half of a surrogate pair"),
        ('{"input": "a", "params": {"tree": "\\udfff"}}', "half of a surrogate pair"),
        ('{"input": "a", "params": {"\\udfff": 1}}', "half of a surrogate pair"),
        ('{"input": "a", "params": {"fps": NaN}}', "NaN"),
        ('{"input": "a", "params": {"fps": -Infinity}}', "Infinity"),
        ('{"input": "a", "params": {"fps": 1e999}}', "finite"),
    ],
)
def test_a_line_that_says_nothing_we_know(line: bytes | str, says: str) -> None:
    assert says in refusal(line)


def test_a_line_of_ten_megabytes() -> None:
    why = refusal(json.dumps({"input": "x" * 10_000_000}))
    assert why.startswith("is 10.0 MB long, an item may be 256 KiB")


@pytest.mark.parametrize("depth", range(100, 3000, 97))
def test_nesting_of_any_depth_is_taken_or_refused(depth: int) -> None:
    line = '{"input": "a", "params": {"tree": ' + "[" * depth + "]" * depth + "}}"
    for found in parse(line.encode(), Watch, {}):
        if isinstance(found, Wish):
            assert item_id("", found.input, 0, "", found.params)


def test_the_lines_around_a_bad_one_are_taken() -> None:
    found = list(parse(b'{"input":"a"}\nnonsense\n\n{"input":"b"}\n{"input":3}', Watch, {}))
    assert [(one.line, type(one)) for one in found] == [(1, Wish), (2, Refused), (4, Wish), (5, Refused)]


def test_windows_lines_a_bom_and_no_last_newline() -> None:
    data = b'\xef\xbb\xbf{"input":"a"}\r\n\r\n \t\r\n{"input":"b"}\r\n{"input":"c"}'
    found = list(parse(data, Watch, {}))
    assert [(one.line, one.input) for one in found if isinstance(one, Wish)] == [(1, "a"), (4, "b"), (5, "c")]
    assert len(found) == 3


def test_odd_characters_are_only_characters() -> None:
    texts = ["a\u2028b", "c\x85d", 'e"f\\', "g\0h", "i\nj", "视频😀"]
    for ascii_only in (True, False):
        data = "\n".join(json.dumps({"input": text}, ensure_ascii=ascii_only) for text in texts)
        assert wishes(parse(data.encode(), Watch, {})) == texts


def test_an_empty_file_asks_for_nothing() -> None:
    assert [*parse(b"", Watch, {}), *parse(b"\n\n", Watch, {}), *plain(b""), *plain(b"\xef\xbb\xbf\n")] == []


def test_own_params_are_kept_and_checked_with_those_of_the_recipe() -> None:
    (found,) = parse(b'{"input":"a","params":{"frames":3}}', Watch, {"lang": "zh"})
    assert isinstance(found, Wish)
    assert found.params == {"frames": 3}


def test_a_plain_list() -> None:
    data = "\ufeffa.mp4\r\n# a remark\n\n  b c.mp4 \n视频.mp4\nlast".encode()
    assert wishes(plain(data)) == ["a.mp4", "b c.mp4", "视频.mp4", "last"]


def test_a_plain_line_that_is_not_utf_8_is_refused_alone() -> None:
    found = list(plain(b"a\n\xc4\xd6.mp4\nb"))
    assert wishes(found) == ["a", "b"]
    assert [one for one in found if isinstance(one, Refused)] == [
        Refused(2, "is not UTF-8: save the list as UTF-8")
    ]


def test_a_plain_line_of_ten_megabytes_is_refused() -> None:
    (found,) = plain(b"x" * 10_000_000)
    assert isinstance(found, Refused)
    assert "10.0 MB long" in found.why


def test_what_is_taken_can_be_written() -> None:
    data = json.dumps({"input": "\u2028\0", "params": {"tree": {"\0": [1e300, None, "\U0010ffff"]}}})
    (found,) = parse(data.encode(), Watch, {})
    assert isinstance(found, Wish)
    assert json.loads(dumps({"input": found.input, "params": found.params})) == json.loads(data)
