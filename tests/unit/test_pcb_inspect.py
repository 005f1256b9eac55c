"""pcb-inspect with a model: what it is shown and asked, what of its words counts, and who else looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from PIL import Image

from tests import tiny_models
from tests.endpoint import says, serving
from worker.boards import asking, copper, demo, prompt
from worker.boards.coordinates import Coordinates
from worker.boards.deeppcb import read
from worker.boards.defect import TYPES, Box, Defect
from worker.boards.second_opinion import beside
from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request, VisionEngine
from worker.engines.latency import Latencies, figures
from worker.engines.resizing import Resizing
from worker.errors import ItemError
from worker.evaluation.boxes import Board, deeppcb
from worker.items import Answer, Failure, Item, Result
from worker.tasks.pcb_inspect import PcbInspect, PcbInspectParams, Shown

FIRST = "group00001/00001/00001000_test.jpg"
WHERE = Coordinates("qwen3-vl", 640, 640)


class Scripted(VisionEngine):
    """Says what it is told to, reply for reply, and keeps what it was asked."""

    about = "of this test"
    model = "folder"
    batch = 3
    family: str | None = None
    resizing: Resizing | None = None
    script: ClassVar[list[str | Reply | Failure]] = []
    asked: ClassVar[list[list[Request]]] = []

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply | Failure]:
        self.asked.append(list(requests))
        said = [self.script.pop(0) for _ in requests]
        return [Reply(one, 9) if isinstance(one, str) else one for one in said]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boards")
    demo.make(folder)
    return folder


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setitem(PcbInspect.engines, "scripted", f"{__name__}:Scripted")
    monkeypatch.setattr("worker.tasks.vision.engine_type", lambda _: Scripted)
    monkeypatch.setattr(Scripted, "script", [])
    monkeypatch.setattr(Scripted, "asked", [])
    return Scripted


def task_of(**params: Any) -> PcbInspect:
    task = PcbInspect(PcbInspectParams.model_validate(params), Choice("scripted", "folder"))
    task.open("cpu")
    return task


def shown(task: PcbInspect, file: Path) -> Shown:
    sample = task.prepare(Item("1", file.name, file=file))
    assert isinstance(sample, Shown)
    return sample


def inspected(file: Path, *script: str | Reply | Failure, **params: Any) -> Answer | Failure:
    task = task_of(**params)
    Scripted.script[:] = script
    (answer,) = task.answer([shown(task, file)])
    return answer


def keys(outcome: Answer | Failure) -> Mapping[str, Any]:
    assert isinstance(outcome, Answer), outcome
    return json.loads(json.dumps(outcome.keys))  # type: ignore[no-any-return]


def test_a_model_is_shown_the_picture_as_it_was_taken(folder: Path) -> None:
    (only,) = (shown(task_of(), folder / FIRST).question.request,)
    taken = cv2.imread(str(folder / FIRST))
    assert taken is not None
    (frame,) = only.frames
    assert frame.shape == (640, 640, 3)
    assert np.abs(frame[..., ::-1].astype(int) - taken).max() <= 2
    assert (list(only.times), only.max_tokens) == ([], 512)
    assert only.prompt == prompt.ask("en", "qwen3-vl")
    assert only.schema == prompt.schema(WHERE)


def test_a_pair_shows_the_template_first_and_needs_one(folder: Path, tmp_path: Path) -> None:
    request = shown(task_of(pair=True), folder / FIRST).question.request
    template = cv2.imread(str(folder / FIRST.replace("_test", "_temp")))
    assert template is not None
    assert np.abs(request.frames[0][..., ::-1].astype(int) - template).max() <= 2
    assert request.prompt == prompt.ask("en", "qwen3-vl", pair=True)
    alone = shutil.copy(folder / FIRST, tmp_path)
    with pytest.raises(Exception, match="there is no 00001000_temp"):
        task_of(pair=True).prepare(Item("1", "a", file=Path(alone)))
    assert shown(task_of(), Path(alone)).question.request.prompt == prompt.ask("en", "qwen3-vl")


@pytest.mark.parametrize("family", ["qwen3-vl", "qwen2.5-vl"])
def test_what_a_model_says_rightly_is_found(
    folder: Path, family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own coordinates: the size that its processor makes of the picture."""
    monkeypatch.setattr(Scripted, "family", family)
    monkeypatch.setattr(Scripted, "resizing", Resizing(28, 3136, 300_000))
    (pair,) = [one for one in read(folder)[0] if one.tested == folder / FIRST]
    where = Coordinates(family, 640, 640, Resizing(28, 3136, 300_000))
    answer = inspected(folder / FIRST, prompt.answer(pair.defects, where))
    told = keys(answer)
    assert {one["type"] for one in told["defects"]} == set(TYPES)
    found = [Defect(one["type"], Box(*one["box"])) for one in told["defects"]]
    assert deeppcb([Board("a", pair.defects, found)]).f1 == 1
    assert (told["repaired"], told["wrong"], told["role"]) == (False, [], "board")
    assert Scripted.asked[0][0].frames[0].shape == (532, 532, 3)
    assert isinstance(answer, Answer)
    marked = cv2.imdecode(np.frombuffer(answer.files["marked.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert marked is not None
    assert marked.shape == (532, 532, 3)


def test_one_repair_and_the_reason_for_it(folder: Path) -> None:
    told = keys(inspected(folder / FIRST, "I see an open.", '[["open",1,2,30,40]]'))
    assert (told["repaired"], len(told["defects"])) == (True, 1)
    assert "it is no JSON" in Scripted.asked[1][0].prompt
    assert Scripted.asked[1][0].prompt.startswith(prompt.ask("en", "qwen3-vl"))


def test_what_is_right_in_a_wrong_answer_is_kept_and_the_rest_told(folder: Path) -> None:
    wrong = '[["open",1,2,30,40],["spur",50,60,50,90]]'
    told = keys(inspected(folder / FIRST, wrong, wrong.replace("spur", "short")))
    assert [one["type"] for one in told["defects"]] == ["open"]
    assert told["wrong"] == ['entry 2 is an empty box: ["short", 50, 60, 50, 90]']
    assert told["said"] == wrong.replace("spur", "short")
    assert "entry 2 is an empty box" in Scripted.asked[1][0].prompt
    # a repair that cannot be read at all does not cost what could be read before
    assert keys(inspected(folder / FIRST, wrong, "Sorry."))["said"] == wrong
    cut = inspected(folder / FIRST, Reply(wrong[:20], 640, truncated=True), Reply(wrong[:9], 640, True))
    assert isinstance(cut, Failure)
    assert cut.kind == "unreadable"
    assert 'cut off after 640 tokens; it said: [["open",' in cut.message


def test_half_of_a_surrogate_pair_is_no_text_that_could_be_kept(folder: Path) -> None:
    said = '[["\\ud800",1,2,3,4]]'
    outcome = inspected(folder / FIRST, said, said)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "unreadable"
    assert outcome.message.encode().endswith(said.encode())


def test_pictures_of_every_kind_are_seen_alike_by_model_and_baseline(folder: Path, tmp_path: Path) -> None:
    """In the pixels of the file, whichever way EXIF says it was held; deep greys are no white."""
    board, template = (
        Image.open(folder / FIRST.replace("_test", end)).convert("L").crop((0, 0, 640, 600))
        for end in ("_test", "_temp")
    )
    held = Image.Exif()
    held[0x0112] = 6
    deep = [Image.fromarray(np.asarray(one, np.uint16) * 257) for one in (board, template)]
    board.save(tmp_path / "held_test.jpg", exif=held)
    template.save(tmp_path / "held_temp.jpg", exif=held)
    for end, one in zip(("_test", "_temp"), deep, strict=True):
        one.save(tmp_path / f"deep{end}.png")
    found = []
    for file in (tmp_path / "held_test.jpg", tmp_path / "deep_test.png"):
        by_model = shown(task_of(second="baseline"), file).question
        assert (by_model.where.width, by_model.where.height) == (640, 600)
        assert by_model.request.frames[0].mean() == pytest.approx(np.asarray(board).mean(), abs=1)
        assert copper.read(file).shape == (600, 640)
        assert by_model.second
        found.append([one.type for one in by_model.second])
    assert found[0] == found[1]


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff\xe0"])
@pytest.mark.parametrize("read", [asking.opened, copper.read])
def test_what_is_no_picture_is_told_in_one_line(
    content: bytes, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    (tmp_path / "a_test.jpg").write_bytes(content)
    with pytest.raises(ItemError, match=r"^a_test\.jpg is no picture that can be read") as told:
        read(tmp_path / "a_test.jpg")
    assert told.value.kind == "damaged"


def test_a_failure_of_the_engine_is_one_boards_own(folder: Path) -> None:
    assert inspected(folder / FIRST, Failure("refused", "no")) == Failure("refused", "no")


def test_a_second_opinion_is_told_beside_the_first(folder: Path, tmp_path: Path) -> None:
    (pair,) = [one for one in read(folder)[0] if one.tested == folder / FIRST]
    short, spur = (next(one for one in pair.defects if one.type == kind) for kind in ("short", "spur"))
    said = [short, Defect("open", spur.box), Defect("copper", Box(600, 600, 630, 630))]
    told = keys(inspected(folder / FIRST, prompt.answer(said, WHERE), second="baseline"))
    assert {one["type"]: one["second"] for one in told["defects"]} == {
        "short": "short",
        "open": "spur",
        "copper": None,
    }
    alone = told["second"]["alone"]
    assert {one["type"] for one in alone} == set(TYPES) - {"short", "spur"}
    result = Result("1", FIRST, Answer(told))
    assert task_of().summarise([result])["second"] == {
        "boards": 1,
        "agreed": 1,
        "other_type": 1,
        "not_seen": 1,
        "seen_alone": len(alone),
    }
    without = Path(shutil.copy(folder / FIRST, tmp_path))
    assert "second" not in keys(inspected(without, "[]", second="baseline"))


@pytest.mark.parametrize("name", ["line_tested_1.jpg", "at_temp25_board.jpg", "at_temp25_test.jpg"])
def test_names_tell_boards_from_templates_by_their_ends(folder: Path, name: str, tmp_path: Path) -> None:
    """All are boards; a model needs no template, and where there is none nobody else is asked."""
    board = tmp_path / name
    shutil.copy(folder / FIRST, board)
    assert keys(inspected(board, "[]", second="baseline"))["role"] == "board"
    assert "second" not in keys(inspected(board, "[]", second="baseline"))
    if name.endswith("_test.jpg"):
        shutil.copy(folder / FIRST.replace("_test", "_temp"), tmp_path / "at_temp25_temp.jpg")
        assert keys(inspected(board, "[]", second="baseline"))["second"]["alone"]


def test_a_template_comes_along_if_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for params in ({"pair": True}, {"second": "baseline"}):
        assert task_of(**params).beside("x/00_test.jpg") == ["x/00_temp.jpg"]
        assert task_of(**params).beside("x/00_temp.jpg") == task_of(**params).beside("a.jpg") == []
    assert task_of().beside("x/00_test.jpg") == []
    monkeypatch.undo()
    assert PcbInspect(PcbInspectParams()).beside("x/00_test.jpg") == ["x/00_temp.jpg"]


def test_two_boxes_that_share_most_are_one_defect() -> None:
    one, near, far = (Box(at, 0, at + 10, 10) for at in (0, 3, 50))
    there, alone = beside(
        [Defect("open", near), Defect("open", one)], [Defect("short", one), Defect("spur", far)]
    )
    assert there == [None, "short"]
    assert alone == [Defect("spur", far)]


def test_templates_are_negatives_if_wanted(folder: Path) -> None:
    template = folder / FIRST.replace("_test", "_temp")
    unseen = task_of().prepare(Item("1", "a", file=template))
    assert isinstance(unseen, Answer)
    assert (unseen.keys["role"], unseen.keys["inspected"]) == ("template", False)
    alarm = inspected(template, '[["open",1,2,30,40]]', templates=True)
    board = inspected(folder / FIRST, "[]", templates=True)
    results = [
        Result(str(n), name, one)
        for n, (name, one) in enumerate(
            [("t", alarm), ("b", board), ("x", Failure("unreadable", "")), ("u", unseen)]
        )
    ]
    summary = task_of().summarise(results)
    assert (summary["boards"], summary["templates"], summary["false_alarms"]) == (1, 2, 1)
    assert (summary["defective"], summary["repaired"], summary["partly_read"]) == (0, 0, 0)
    pictures = json.loads(task_of().exports(results)["coco.json"])["images"]
    assert [one["file_name"] for one in pictures] == ["t", "b"]


def test_the_baseline_finds_nothing_where_nothing_differs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    template = folder / FIRST.replace("_test", "_temp")
    answer = PcbInspect(PcbInspectParams(templates=True)).prepare(Item("1", "a", file=template))
    assert isinstance(answer, Answer)
    assert (answer.keys["inspected"], answer.keys["defects"]) == (True, [])


def test_an_item_may_have_parameters_of_its_own(folder: Path) -> None:
    task = task_of(lang="en", pictures=False)
    Scripted.script[:] = ['[["open",1,2,30,40]]']
    sample = task.prepare(Item("1", "a", file=folder / FIRST, params={"lang": "zh", "pictures": True}))
    assert isinstance(sample, Shown)
    (answer,) = task.answer([sample])
    assert keys(answer)["defects"][0]["name"] == "断路"
    assert isinstance(answer, Answer)
    assert list(answer.files) == ["marked.jpg"]


def test_latency_is_told_with_tokens_and_batch(folder: Path) -> None:
    task = task_of()
    Scripted.script[:] = ["[]", "[]", "[]"]
    task.answer([shown(task, folder / FIRST)] * 3)
    spent = {name: value for name, value in task.spent().items() if isinstance(value, int | float)}
    told = task.figures({**spent, "requests": 3, "generated_tokens": 12}, {})
    assert told["latency"]["batch"] == 3
    assert told["latency"]["tokens"] == 4
    assert 0 < told["latency"]["p50_s"] == told["latency"]["p95_s"] < 60
    assert not any(name.startswith("took_") for name in told)


def test_percentiles_survive_the_adding_up_of_workers() -> None:
    first, second = Latencies(), Latencies()
    for n in range(1, 91):
        first.add(0.010 * n, 1)
    for n in range(91, 101):
        second.add(0.010 * n, 1)
    together = {
        name: first.told().get(name, 0) + second.told().get(name, 0)
        for name in {**first.told(), **second.told()}
    }
    latency = figures(together)["latency"]
    assert latency["p50_s"] == pytest.approx(0.5, rel=0.06)
    assert latency["p95_s"] == pytest.approx(0.95, rel=0.06)
    assert figures({"batches": 0}) == {"batches": 0}


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_model_that_knows_nothing_is_counted_and_its_words_are_kept(
    folder: Path, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.undo()
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))
    model = tiny_models.checkpoint(tmp_path / "model", family)
    task = PcbInspect(PcbInspectParams(max_tokens=24), Choice("qwen", "tiny", "tree:1", model))
    task.open("cpu")
    try:
        sample = shown(task, folder / FIRST)
        units = "pixels" if family == "qwen2_5_vl" else "thousandths"
        assert units in sample.question.request.prompt
        (answer,) = task.answer([sample])
        assert task.spent()["requests"] == 2
    finally:
        task.close()
    assert isinstance(answer, Failure)
    assert answer.kind == "unreadable"
    assert "asked twice, " in answer.message
    assert "it said: " in answer.message


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_what_a_model_of_the_true_architecture_says_is_found(
    folder: Path, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.undo()
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))
    model = tiny_models.checkpoint(tmp_path / "model", family, says='[["open",100,200,300,400]]')
    task = PcbInspect(PcbInspectParams(pair=True), Choice("qwen", "tiny", "tree:1", model))
    task.open("cpu")
    try:
        (answer,) = task.answer([shown(task, folder / FIRST)])
    finally:
        task.close()
    scale = 640 / 644 if family == "qwen2_5_vl" else 640 / 1000
    assert keys(answer)["defects"][0]["box"] == [round(side * scale, 1) for side in (100, 200, 300, 400)]


def test_an_endpoint_answers_wrongly_then_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("httpx")
    monkeypatch.undo()
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-this-test")
        server.turns = [
            says("No idea."),
            says('```json\n[["open",100,200,300,400]]\n```'),
            says("?"),
            says("!"),
        ]
        task = PcbInspect(PcbInspectParams(), Choice("openai", "gpt"))
        task.open("cpu")
        try:
            sample = shown(task, folder / FIRST)
            (good,) = task.answer([sample])
            (bad,) = task.answer([sample])
            spent = task.spent()
        finally:
            task.close()
    assert keys(good)["defects"][0]["box"] == [64, 128, 192, 256]
    assert keys(good)["repaired"] is True
    assert isinstance(bad, Failure)
    assert bad.message.endswith("it said: !")
    assert (spent["calls"], spent["batches"]) == (5, 2)
    asked = server.asked[0]
    (picture,) = [part for part in asked.parts if part["type"] == "image_url"]
    assert picture["image_url"]["detail"] == "high"
    assert "response_format" not in asked.body
