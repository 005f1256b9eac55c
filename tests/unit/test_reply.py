"""What a model says, read: the exact form, and everything that models make of it."""

from __future__ import annotations

import hashlib
import json

import pytest

from worker.engines.reply import UnreadableError
from worker.ghosts import prompt
from worker.ghosts.reply import Said, read_reply
from worker.ghosts.words import Lang
from worker.items import Json
from worker.tasks.ghost_probing import GhostProbing

RIDER = {
    "start_time": "12.4s",
    "end_time": "16.0s",
    "object_type": "rider",
    "description": "from the right",
    "risk_level": "high",
    "impact": "brake",
}


def yes(**changed: Json) -> str:
    return json.dumps({"ghost_probing_detected": True, "incidents": [{**RIDER, **changed}]})


def read(text: str, lang: Lang = "en") -> Said:
    return read_reply(text, 20.0, lang)


def test_the_form_that_was_asked_for() -> None:
    assert read(yes()) == Said(True, [RIDER], [])
    assert read('{"ghost_probing_detected": false, "incidents": []}') == Said(False, [], [])


@pytest.mark.parametrize(
    "around",
    ["{}", "\n {} \n", "```json\n{}\n```", "```\n{}\n```", "<think>a bus {{ \n</think>\n{}"],
)
def test_a_fence_and_thoughts_around_it_are_no_matter(around: str) -> None:
    assert read(around.replace("{}", yes()).replace("{{", "{")) == Said(True, [RIDER], [])


@pytest.mark.parametrize("said", ["12.4s", "12.4", 12.4, "0:12.4", "12.4 s", "12.4秒", "00:12.4"])
def test_times_as_people_write_them(said: Json) -> None:
    assert read(yes(start_time=said)).incidents[0]["start_time"] == "12.4s"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("Yes, there is a ghost.", "no JSON"),
        (f"Here it is: {yes()}", "no JSON"),
        (yes()[:-4], "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "no JSON object"),
        ('{"incidents": []}', "ghost_probing_detected is not true or false"),
        (
            '{"ghost_probing_detected": "true", "incidents": []}',
            "ghost_probing_detected is not true or false",
        ),
        ('{"ghost_probing_detected": true}', "incidents is not a list"),
        ('{"ghost_probing_detected": true, "incidents": ["a rider"]}', "incident 1 is no object"),
        ('{"ghost_probing_detected": true, "ghost_probing_detected": false, "incidents": []}', "twice"),
        ('{"ghost_probing_detected": NaN, "incidents": []}', "NaN"),
        (yes(impact=None), "incident 1 lacks impact"),
        (yes(description=["a"], risk_level=True), "incident 1 lacks description, risk_level"),
        (yes(start_time="soon"), "incident 1: start_time 'soon' is no time in seconds"),
        (yes(end_time="-3s"), "incident 1: end_time '-3s' is no time in seconds"),
        (yes(end_time="1e9"), "no time in seconds"),
        (yes(end_time="9" * 400 + ":00"), "no time in seconds"),
        (yes(end_time="9" * 5000), "no time in seconds"),
        (yes(end_time="١٢"), "no time in seconds"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        read(text)


@pytest.mark.parametrize(
    ("changed", "doubt"),
    [
        ({"end_time": "21.0s"}, "incident 1: end_time 21.0s is beyond the clip's 20.0s"),
        ({"end_time": "3s"}, "incident 1: it ends at 3.0s, before it starts at 12.4s"),
        ({"risk_level": "extreme"}, "incident 1: risk_level 'extreme' is unknown"),
    ],
)
def test_what_cannot_be_right_is_kept_and_said(changed: dict[str, str], doubt: str) -> None:
    said = read(yes(**changed))
    assert said.doubts == [doubt]
    (incident,) = said.incidents
    assert changed.items() <= {**incident, "end_time": changed.get("end_time")}.items() | changed.items()
    assert incident["risk_level"] == changed.get("risk_level", "high")


def test_a_verdict_that_its_incidents_do_not_bear_out() -> None:
    assert read('{"ghost_probing_detected": true, "incidents": []}').doubts == [
        "ghost_probing_detected is true with 0 incidents"
    ]
    said = read(yes().replace("true", "false"))
    assert (said.detected, said.doubts) == (False, ["ghost_probing_detected is false with 1 incidents"])


@pytest.mark.parametrize(
    ("said", "zh", "en"), [("高", "高", "high"), ("Medium", "中", "medium"), ("低", "低", "low")]
)
def test_a_risk_level_comes_in_the_language_that_was_asked_for(said: str, zh: str, en: str) -> None:
    assert read(yes(risk_level=said), "zh").incidents[0]["risk_level"] == zh
    assert read(yes(risk_level=said), "en").incidents[0]["risk_level"] == en


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_schema_and_the_prompt_name_the_same_keys(lang: Lang) -> None:
    asked = prompt.ask(lang, 32, 15.04)
    keys = prompt.schema(lang)["properties"]["incidents"]["items"]["required"]
    assert list(RIDER) == keys
    assert [key for key in (*keys, "ghost_probing_detected", "32", "15.0") if key not in asked] == []
    assert [word for word in ("{frames}", "{{") if word in asked] == []
    again = prompt.ask_again(lang, asked, "it is no {JSON}")
    assert again.startswith(asked)
    assert "it is no {JSON}" in again


def test_other_prompts_are_another_version_of_the_task() -> None:
    """The version is part of a run's fingerprint: answers to other prompts must not mix with these."""
    asked = [prompt.ask(lang, 32, 15.0) for lang in ("en", "zh")]
    asked += [prompt.ask_again(lang, "", "why") for lang in ("en", "zh")]
    known = {"1": "93ccef78f8db"}
    assert known[GhostProbing.version] == hashlib.sha256("".join(asked).encode()).hexdigest()[:12]
