"""ghost-probing with a language model: what it is asked, asked again, kept from it, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from tests import media
from tests.unit.test_ghost_probing import Told, incident
from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request, VisionEngine
from worker.ghosts.asking import Question
from worker.items import Answer, Failure, Item
from worker.tasks.ghost_probing import GhostProbing, GhostProbingParams

NO = '{"ghost_probing_detected": false, "incidents": []}'


def yes(start: str = "0.5s", end: str = "1.0s") -> str:
    one = {"start_time": start, "end_time": end, "object_type": "rider", "description": "from the left"}
    return json.dumps(
        {"ghost_probing_detected": True, "incidents": [one | {"risk_level": "high", "impact": "brake"}]}
    )


class Scripted(VisionEngine):
    """Says what it is told to, reply for reply, and keeps what it was asked."""

    about = "of this test"
    model = "folder"
    batch = 3
    script: ClassVar[list[str | Reply | Failure]] = []
    asked: ClassVar[list[list[Request]]] = []

    def frame_size(self, width: int, height: int) -> tuple[int, int]:
        return width // 2, height // 2

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        self.asked.append(list(requests))
        said = [self.script.pop(0) for _ in requests]
        return [Reply(one, 9) if isinstance(one, str) else one for one in said]


ENGINES = {"motion": Told, "detector": Told, "scripted": Scripted}


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GhostProbing, "engines", {name: name for name in ENGINES})
    monkeypatch.setattr("worker.tasks.vision.engine_type", ENGINES.__getitem__)
    monkeypatch.setattr(Scripted, "script", [])
    monkeypatch.setattr(Scripted, "asked", [])
    monkeypatch.setattr(Told, "found", [])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.film(tmp_path / "clip.mp4")


def task_of(screen: Literal["motion", "detector"] | None = None, **params: Any) -> GhostProbing:
    choice = Choice("scripted", "folder", screen=Choice(screen) if screen else None)
    task = GhostProbing(GhostProbingParams.model_validate(params), choice)
    task.open("cpu")
    return task


def ask(clip: Path, *script: str | Reply | Failure, **options: Any) -> Sequence[Answer | Failure]:
    """As many clips as replies."""
    Scripted.script[:] = script
    task = task_of(**options)
    samples = [prepared(task, clip) for _ in script]
    return task.answer(samples)


def prepared(task: GhostProbing, clip: Path) -> Question:
    sample = task.prepare(Item("1", "clip.mp4", file=clip))
    assert isinstance(sample, Question)
    return sample


def keys(outcome: Answer | Failure) -> Mapping[str, Any]:
    assert isinstance(outcome, Answer)
    return outcome.keys


def test_what_a_model_is_shown_and_asked(clip: Path) -> None:
    task = task_of(frames=8, max_tokens=77, lang="zh")
    assert task.batch == 3
    request = prepared(task, clip).request
    assert [one.shape for one in request.frames] == [(media.HEIGHT // 2, media.WIDTH // 2, 3)] * 8
    assert len(request.times) == 8
    assert list(request.times) == sorted(request.times)
    assert "8 帧" in request.prompt
    assert request.max_tokens == 77
    assert request.schema["properties"]["ghost_probing_detected"] == {"type": "boolean"}


def test_from_a_reply_to_the_answer(clip: Path) -> None:
    answer, other = ask(clip, yes(), NO)
    assert isinstance(answer, Answer)
    assert answer.keys["ghost_probing_detected"] is True
    assert answer.keys["incidents"][0]["start_time"] == "0.5s"
    assert answer.keys["engine"] == "scripted"
    assert "screen" not in answer.keys
    assert sorted(answer.files) == ["1-1.jpg", "1-2.jpg", "1-3.jpg", "1-4.jpg"]
    assert keys(other)["incidents"] == []


def test_who_cannot_be_read_is_asked_once_more_with_the_reason(clip: Path) -> None:
    Scripted.script[:] = [NO, "No ghost here.", NO, yes()]
    task = task_of()
    answers = task.answer([prepared(task, clip) for _ in range(3)])
    assert [keys(one)["repaired"] for one in answers] == [False, True, False]
    assert keys(answers[1])["ghost_probing_detected"] is True
    ((again,),) = Scripted.asked[1:]
    assert "it is no JSON" in again.prompt


def test_who_cannot_be_read_twice_has_failed_and_its_words_are_kept(clip: Path) -> None:
    task = task_of()
    Scripted.script[:] = ["I see\na bus.", "Still a bus."]
    (failure,) = task.answer([prepared(task, clip)])
    assert isinstance(failure, Failure)
    assert failure.kind == "unreadable"
    assert "it said: Still a bus." in failure.message


def test_a_reply_that_was_cut_off_is_told_so(clip: Path) -> None:
    task = task_of()
    Scripted.script[:] = [Reply(yes()[:40], 512, truncated=True), NO]
    (answer,) = task.answer([prepared(task, clip)])
    assert keys(answer)["repaired"] is True
    assert "cut off after 512 tokens" in Scripted.asked[1][0].prompt


def test_a_failure_of_the_engine_is_one_clips_own(clip: Path) -> None:
    refused = Failure("refused", "the endpoint will not look at this")
    assert ask(clip, refused, NO)[0] == refused


def test_doubts_reach_the_table_and_the_summary(clip: Path) -> None:
    from worker.items import Result

    (answer,) = ask(clip, yes(end="99s"))
    task = task_of()
    result = Result("1", "clip.mp4", answer)
    assert "beyond the clip's" in task.row(result)["Notes"]
    assert task.moments(result)[0].end_s == 99.0
    assert task.summarise([result])["doubtful"] == 1


def test_the_screen_keeps_a_calm_clip_from_the_model(clip: Path) -> None:
    answer = task_of(screen="motion").prepare(Item("1", "clip.mp4", file=clip))
    assert isinstance(answer, Answer)
    assert answer.keys["ghost_probing_detected"] is False
    assert answer.keys["engine"] == "motion"
    assert answer.keys["screen"] == {"engine": "motion", "let_through": False}


@pytest.mark.parametrize(
    ("screen", "start", "told", "said"),
    [
        ("detector", "0.9s", "0.4s", "0.9s"),  # first seen at 0.4 s
        ("motion", "0.9s", "0.9s", None),
        ("detector", "2.9s", "2.9s", None),  # that is another event
    ],
)
def test_what_the_screen_lets_through_is_asked_and_a_detectors_time_refines(
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    screen: Literal["motion", "detector"],
    start: str,
    told: str,
    said: str | None,
) -> None:
    monkeypatch.setattr(Told, "found", [incident()])
    task = task_of(screen=screen)
    Scripted.script[:] = [yes(start, "3.0s")]
    (answer,) = task.answer([prepared(task, clip)])
    (found,) = keys(answer)["incidents"]
    assert (found["start_time"], found.get("start_time_said")) == (told, said)
    assert keys(answer)["screen"] == {"engine": screen, "let_through": True}


def test_what_a_screen_saved_is_told() -> None:
    spent = {
        "clips_asked": 10.0,
        "prefill_s": 12.0,
        "vision_s": 3.0,
        "decode_s": 5.0,
        "generated_tokens": 100.0,
    }
    told = task_of(screen="motion").figures(spent, {"screened_out": 30})
    assert told["screen_saved_s"] == 60.0
    assert told["generated_tokens_per_s"] == 20.0
    assert "screen_saved_s" not in task_of().figures(spent, {"screened_out": 0})
    assert (
        task_of().figures({"clips_asked": 2.0, "cost_usd": 0.1}, {"screened_out": 4})["screen_saved_usd"]
        == 0.2
    )


def test_a_repair_that_fails_takes_no_answer_from_the_others(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of()
    samples = [prepared(task, clip) for _ in range(2)]
    Scripted.script[:] = [NO, "what?"]
    first = Scripted.answer

    def answer(self: Scripted, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        if self.asked:
            raise RuntimeError("CUDA error: an illegal memory access")
        return first(self, requests)

    monkeypatch.setattr(Scripted, "answer", answer)
    fine, failed = task.answer(samples)
    assert keys(fine)["incidents"] == []
    assert isinstance(failed, Failure)
    assert failed.kind == "device"


def test_one_sighting_refines_one_incident_of_its_kind_and_never_beyond_its_end(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "found", [incident()])  # a rider, first seen at 0.4 s
    rider = json.loads(yes("1.0s", "3.0s"))["incidents"][0]
    told = [rider, rider | {"start_time": "1.2s"}, rider | {"object_type": "vehicle"}]
    for first, times in ((told, ["0.4s", "1.2s", "1.0s"]), ([rider | {"end_time": "0.3s"}], ["1.0s"])):
        Scripted.script[:] = [json.dumps({"ghost_probing_detected": True, "incidents": first})]
        task = task_of(screen="detector")
        (answer,) = task.answer([prepared(task, clip)])
        assert [one["start_time"] for one in keys(answer)["incidents"]] == times
