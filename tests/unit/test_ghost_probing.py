"""ghost-probing: from a clip to the answer that people read, with an engine that says what a test wants."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from PIL import Image

from tests import media
from worker.engines.choice import Choice
from worker.engines.engine import Finder
from worker.errors import ItemError, MachineError
from worker.ghosts.danger import risk
from worker.ghosts.incident import Box, Evidence, Incident, Sighting
from worker.ghosts.words import Lang, describe
from worker.items import Answer, Failure, Item, Result
from worker.media.rgb import Rgb
from worker.media.sampling import sample
from worker.tasks.ghost_probing import GhostProbing, GhostProbingParams

INCIDENT_KEYS = ["start_time", "end_time", "object_type", "description", "risk_level", "impact"]


def incident(ttc: float | None = 1.2, hidden_by: Box | None = None) -> Incident:
    track = tuple(Sighting(0.4 + n / 10, Box(10 + n, 20, 8 + n, 16)) for n in range(6))
    evidence = Evidence(track, "left", hidden_by, "car" if hidden_by else None, 0.8, ttc, 0.7)
    return Incident(0.4, 0.9, "rider", evidence)


class Told(Finder):
    """Finds what `found` says in every clip."""

    about = "of this test"
    fps = 10.0
    width = 80
    found: ClassVar[Sequence[Incident]] = ()
    saw: ClassVar[list[tuple[float, tuple[int, ...]]]] = []

    def find(
        self,
        frames: Iterable[tuple[float, Rgb]],
        recall: Literal["balanced", "high"],  # noqa: ARG002
    ) -> Sequence[Incident]:
        self.saw[:] = [(time, frame.shape) for time, frame in frames]
        return self.found


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    monkeypatch.setattr(GhostProbing, "engines", {"told": f"{__name__}:Told"})
    monkeypatch.setattr("worker.tasks.vision.engine_type", lambda _: Told)
    monkeypatch.setattr(Told, "found", [])
    return Told


def ask(file: Path, **params: object) -> Answer:
    task = GhostProbing(GhostProbingParams.model_validate(params), Choice("told"))
    return task.prepare(Item("1", file.name, file=file))


def test_an_incident_becomes_the_keys_that_people_know(tmp_path: Path, told: type[Told]) -> None:
    told.found = [incident(hidden_by=Box(0, 10, 9, 30))]
    answer = ask(media.film(tmp_path / "a.mp4"), lang="zh")
    assert answer.keys["ghost_probing_detected"] is True
    (one,) = answer.keys["incidents"]
    assert list(one) == [*INCIDENT_KEYS, "evidence"]
    assert (one["start_time"], one["end_time"], one["object_type"], one["risk_level"]) == (
        "0.4s",
        "0.9s",
        "骑车人",
        "高",
    )
    assert one["evidence"]["first_seen_s"] == 0.4
    # the engine saw frames of half the width; boxes are told in pixels of the clip
    assert one["evidence"]["track"][0] == [0.4, 20, 40, 16, 32]
    assert one["evidence"]["hidden_by_box"] == [0, 20, 18, 60]


def test_the_engine_sees_the_frames_it_asked_for(tmp_path: Path, told: type[Told]) -> None:
    answer = ask(media.film(tmp_path / "a.mp4"))
    assert [time for time, _ in told.saw] == pytest.approx([n / 10 for n in range(20)], abs=0.02)
    assert {shape for _, shape in told.saw} == {(48, 80, 3)}
    assert answer.keys["ghost_probing_detected"] is False
    assert answer.keys["incidents"] == []
    assert answer.files == {}
    assert answer.keys["duration_s"] == sample(tmp_path / "a.mp4", n=2).duration_s == 2.0


def test_each_incident_has_key_frames(tmp_path: Path, told: type[Told]) -> None:
    told.found = [incident(), incident()]
    answer = ask(media.film(tmp_path / "a.mp4"))
    assert sorted(answer.files) == [f"{n}-{k}.jpg" for n in (1, 2) for k in (1, 2, 3, 4)]
    for picture in answer.files.values():
        assert Image.open(io.BytesIO(picture)).size == (media.WIDTH, media.HEIGHT)
    assert ask(tmp_path / "a.mp4", pictures=False).files == {}


@pytest.mark.parametrize(("lang", "kind"), [("zh", "骑车人"), ("en", "rider")])
def test_texts_are_in_the_language_that_was_asked_for(
    tmp_path: Path, told: type[Told], lang: str, kind: str
) -> None:
    told.found = [incident(ttc=None)]
    (one,) = ask(media.film(tmp_path / "a.mp4"), lang=lang).keys["incidents"]
    assert one["object_type"] == kind
    assert kind in one["description"]
    assert one["description"].isascii() == one["impact"].isascii() == (lang == "en")


@pytest.mark.parametrize(("ttc", "level"), [(1.0, "high"), (2.0, "medium"), (5.0, "low"), (None, "low")])
def test_the_risk_follows_from_the_time_that_is_left(ttc: float | None, level: str) -> None:
    assert risk(incident(ttc)) == level


def test_a_truncated_clip_fails_unless_a_part_will_do(tmp_path: Path) -> None:
    clip = media.cut(media.film(tmp_path / "a.mp4", muxer=media.FASTSTART), 0.6)
    with pytest.raises(ItemError, match="of 60 frames readable") as failure:
        ask(clip)
    assert failure.value.kind == "truncated"
    answer = ask(clip, allow_partial=True)
    assert "of 60 frames readable" in answer.keys["partial"]


def test_a_run_is_summed_up(told: type[Told], tmp_path: Path) -> None:
    told.found = [incident()]
    yes = ask(media.film(tmp_path / "a.mp4"), lang="en")
    told.found = []
    no = ask(tmp_path / "a.mp4", lang="en")
    task = GhostProbing(GhostProbingParams(lang="en"))
    results = [Result(str(n), str(n), one) for n, one in enumerate((yes, no, no, Failure("truncated", "")))]
    summary = task.summarise(results)
    assert (summary["success_rate"], summary["detection_rate"]) == (0.75, 0.3333)
    assert (summary["detected"], summary["incidents"], summary["risk_levels"]) == (1, 1, {"high": 1})
    assert task.row(results[0])["When"] == "0.4s"
    (moment,) = task.moments(results[0])
    assert (moment.start_s, moment.end_s, moment.level, moment.title) == (0.4, 0.9, "high", "rider · high")
    assert task.moments(results[1]) == []
    assert task.summarise([])["success_rate"] is None


def test_an_engine_that_does_not_open_ends_the_worker_and_fails_no_clip(
    monkeypatch: pytest.MonkeyPatch, told: type[Told]
) -> None:
    def broken(_self: Told, _device: str) -> None:
        raise MachineError("engine told needs onnxruntime")

    monkeypatch.setattr(told, "open", broken)
    with pytest.raises(MachineError):
        GhostProbing(GhostProbingParams(), Choice("told")).open("cpu")


@pytest.mark.parametrize(
    ("lang", "kind", "said"),
    [
        ("zh", "truck", "此前被卡车遮挡"),
        ("zh", None, "此前被物体遮挡"),
        ("en", "truck", "hidden before by a truck"),
        ("en", None, "hidden before by an object"),
    ],
)
def test_what_hid_it_is_told_in_the_readers_language(lang: Lang, kind: str | None, said: str) -> None:
    one = incident(hidden_by=Box(0, 10, 9, 30))
    assert said in describe(replace(one, evidence=replace(one.evidence, hidden_by_kind=kind)), lang)
