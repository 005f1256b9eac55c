"""Parameters as people write them."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, model_validator

from worker.errors import UsageError
from worker.tasks.params import parse_settings, validate
from worker.tasks.task import MapTask, Params


class Knobs(Params):
    contact_sheet: bool = True
    frames: int = Field(default=8, ge=1)
    prompt: str = ""
    labels: list[str] = []  # noqa: RUF012 — pydantic copies it
    lang: Literal["zh", "en"] = "en"
    ratio: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Knobs:
        if self.frames == 13:
            raise ValueError("Thirteen is unlucky")
        return self


class Probe(MapTask[Knobs, str]):
    name = "probe"
    params_type = Knobs


class Needy(Params):
    model: str


class NeedyTask(MapTask[Needy, str]):
    name = "needy"
    params_type = Needy


class Plain(MapTask[Params, str]):
    name = "plain"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("contact_sheet=false", Knobs(contact_sheet=False)),
        ("frames=16", Knobs(frames=16)),
        ("ratio=null", Knobs(ratio=None)),
        ("ratio=1.5", Knobs(ratio=1.5)),
        ('labels=["a", "b"]', Knobs(labels=["a", "b"])),
        ("prompt=what do you see?", Knobs(prompt="what do you see?")),
        ("prompt=a=b", Knobs(prompt="a=b")),
        ("prompt=7", Knobs(prompt="7")),
        ("prompt=true", Knobs(prompt="true")),
        ('prompt="quoted"', Knobs(prompt="quoted")),
        ("prompt=", Knobs(prompt="")),
        ("lang=zh", Knobs(lang="zh")),
    ],
)
def test_values_are_json_or_else_plain_text(setting: str, expected: Knobs) -> None:
    assert parse_settings(Probe, [setting]) == expected


def test_settings_come_together() -> None:
    assert parse_settings(Probe, ["frames=2", "prompt=12"]) == Knobs(frames=2, prompt="12")
    assert parse_settings(Probe, []) == Knobs()


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("contact_shet=true", "task probe has no parameter 'contact_shet'; did you mean contact_sheet?"),
        (
            "xyz=1",
            "task probe has no parameter 'xyz'; it has contact_sheet, frames, prompt, labels, lang, ratio",
        ),
        ("frames=0", "task probe cannot take frames=0: input should be greater than or equal to 1"),
        ("lang=fr", "task probe cannot take lang=fr: input should be 'zh' or 'en'"),
        ("frames=13", "task probe cannot take these parameters: value error, Thirteen is unlucky"),
        ("frames", "'frames' is not a setting; write key=value"),
        ("=3", "'=3' is not a setting; write key=value"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings(Probe, [setting])
    assert str(caught.value) == line


def test_several_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings(Probe, ["frame=3", "ratio=big"])
    assert "did you mean frames?" in str(caught.value)
    assert "cannot take ratio=big" in str(caught.value)


def test_a_mapping_is_taken_as_it_is() -> None:
    assert validate(Probe, {"frames": 3, "labels": ["x"]}) == Knobs(frames=3, labels=["x"])
    with pytest.raises(UsageError, match=r"cannot take prompt=7: input should be a valid string"):
        validate(Probe, {"prompt": 7})


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(UsageError, match="task needy needs the parameter 'model'"):
        parse_settings(NeedyTask, [])


def test_a_task_without_parameters_says_so() -> None:
    with pytest.raises(UsageError, match="task plain has no parameter 'x'; it has none"):
        parse_settings(Plain, ["x=1"])
