"""The engine qwen, with small models of both families: what it says, and when a batch is too large."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import plain_loop, tiny_models
from worker.engines.choice import Choice
from worker.engines.decoding import Decoder, Prompt, Said
from worker.engines.engine import Reply, Request
from worker.engines.qwen import Qwen
from worker.errors import UsageError
from worker.items import UNANSWERED, Failure, Json

both = pytest.mark.parametrize("family", tiny_models.FAMILIES)
MOST = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {
        family: tiny_models.checkpoint(tmp_path_factory.mktemp(family), family)
        for family in tiny_models.FAMILIES
    }


@pytest.fixture(autouse=True, scope="module")
def _apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What was found out about this machine is found out once for all tests, and forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def engine(folder: Path) -> Qwen:
    opened = Qwen(Choice("qwen", "tiny", "tree:1", folder))
    opened.open("cpu")
    return opened


def requests(qwen: Qwen) -> list[Request]:
    """Clips of several lengths and shapes."""
    shapes = [
        (4, "What comes from the left?", (200, 90)),
        (7, "?", (90, 200)),
        (2, "谁突然冲出来", (120, 120)),
        (32, "who", (200, 100)),
    ]
    return plain_loop.requests(qwen, shapes, MOST)


@both
def test_every_clip_is_answered_as_generate_answers_it_alone(
    folders: Mapping[str, Path], family: str
) -> None:
    qwen = engine(folders[family])
    asked = requests(qwen)
    model = tiny_models.vision_language(family)
    expected = [plain_loop.said(qwen, one, model) for one in asked]
    assert len({tuple(one) for one in expected}) == len(asked)
    for size in (1, 3, 4):
        qwen._batches.size = size
        replies = qwen.answer(asked)
        assert replies == [
            Reply(qwen._tokenizer.decode(one, skip_special_tokens=True), len(one), len(one) == MOST)
            for one in expected
        ]


@both
def test_pictures_are_answered_as_generate_answers_them_alone(
    folders: Mapping[str, Path], family: str
) -> None:
    """One, two of different sizes, and a clip beside them."""
    qwen = engine(folders[family])
    draw = np.random.default_rng(1)
    shown: list[Any] = []
    for width, height in ((300, 250), (260, 420), (300, 250)):
        wide, high = qwen.resizing.of(width, height)
        shown.append(draw.integers(0, 256, (high, wide, 3), dtype=np.uint8))
    asked = [
        Request(shown[:1], (), "What is wrong?", max_tokens=MOST),
        Request(shown[:2], (), "What is wrong with the second?", max_tokens=MOST),
        requests(qwen)[0],
        Request(shown[2:], (), "What is wrong?", max_tokens=MOST),
    ]
    model = tiny_models.vision_language(family)
    expected = [plain_loop.said(qwen, one, model) for one in asked]
    assert len({tuple(one) for one in expected}) == len(asked)
    said = [one for one in qwen.answer(asked) if isinstance(one, Reply)]
    assert [one.text for one in said] == [
        qwen._tokenizer.decode(one, skip_special_tokens=True) for one in expected
    ]
    spoiled = Request(shown[:1], (), "<|image_pad|>")
    assert "2 tokens of pictures where 1 belong" in str(qwen.answer([spoiled])[0])


@both
@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_half_the_numbers_are_enough(
    folders: Mapping[str, Path], family: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_PRECISION", kind)
    qwen = engine(folders[family])
    asked = requests(qwen)[:3]
    together = [one for one in qwen.answer(asked) if isinstance(one, Reply)]
    alone = [qwen.answer([one])[0] for one in asked]
    assert [one.tokens > 0 for one in together] == [True] * 3
    same = sum(map(Reply.__eq__, together, alone))
    assert same >= 1  # the others may part where two words are as likely


@both
def test_the_answer_depends_on_what_is_seen_and_when(folders: Mapping[str, Path], family: str) -> None:
    qwen = engine(folders[family])
    one = requests(qwen)[0]
    dark = Request([frame // 8 for frame in one.frames], one.times, one.prompt, max_tokens=MOST)
    late = Request(one.frames, [5 * time for time in one.times], one.prompt, max_tokens=MOST)
    assert len({str(reply) for reply in qwen.answer([one, dark, late])}) == 3


def test_a_request_that_cannot_be_asked_fails_alone(folders: Mapping[str, Path]) -> None:
    qwen = engine(folders["qwen2_5_vl"])
    good = requests(qwen)[0]
    replies = qwen.answer(
        [
            Request([], [], "nothing"),
            good,
            Request([np.zeros((10, 10, 3), np.uint8)], [0.0], "small"),
            Request(good.frames, good.times, f"mark {tiny_models.VIDEO}"),
        ]
    )
    assert [type(one) for one in replies] == [Failure, Reply, Failure, Failure]
    assert replies[1] == qwen.answer([good])[0]
    assert "10x10" in str(replies[2])


@pytest.mark.parametrize("missing", ["tokenizer*", "chat_template*"])
def test_a_folder_that_misses_its_words_fails_once_and_no_clip(
    folders: Mapping[str, Path], tmp_path: Path, missing: str
) -> None:
    whole = folders["qwen2_5_vl"]
    folder = shutil.copytree(whole, tmp_path / "model", ignore=shutil.ignore_patterns(missing))
    assert len(list(folder.iterdir())) < len(list(whole.iterdir()))
    with pytest.raises(UsageError, match="fetch the model again"):
        engine(folder)


def test_numbers_that_became_too_large_are_no_answer(folders: Mapping[str, Path]) -> None:
    qwen = engine(folders["qwen2_5_vl"])
    good, bad = requests(qwen)[:2]
    expected = qwen.answer([good])
    real = qwen._tower.see
    there = qwen._read(bad)
    qwen._tower.see = lambda patches, grid: (  # type: ignore[method-assign]
        (real(patches, grid)[0] * float("inf"), []) if grid in there.grids else real(patches, grid)  # type: ignore[union-attr]
    )
    replies = qwen.answer([bad, good, bad])
    assert [type(one) for one in replies] == [Failure, Reply, Failure]
    assert "too large for" in str(replies[0])
    assert replies[1:2] == expected


class Small:
    """Stands for a device that holds no more than so many requests."""

    def __init__(self, holds: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tried: list[int] = []
        real = Decoder.generate

        def generate(decoder: Decoder, prompts: Sequence[Prompt]) -> list[Said]:
            self.tried.append(len(prompts))
            if len(prompts) > holds:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return real(decoder, prompts)

        monkeypatch.setattr(Decoder, "generate", generate)


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    qwen = engine(folders["qwen2_5_vl"])
    asked = requests(qwen)
    expected = qwen.answer(asked)
    small = Small(1, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert qwen.answer(asked) == expected
    assert small.tried == [4, 4, 2, 1, 1, 1, 1]  # once more without what the first ones left
    assert qwen.batch == 1
    assert "do not fit" in caplog.text


@pytest.mark.parametrize("larger", [{"max_tokens": 513}, {"prompt": "? " * 1100}, {"frames": 33}])
def test_what_larger_requests_need_says_nothing_of_others(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, larger: dict[str, Any]
) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path))
    qwen = engine(folders["qwen2_5_vl"])
    usual = requests(qwen)[0]
    if "frames" in larger:
        larger = {"frames": [usual.frames[0]] * 33, "times": range(33)}
    Small(3, monkeypatch)
    monkeypatch.setattr(Decoder, "_decode", lambda *_: None)  # nothing is said
    qwen.answer([usual, usual, usual, replace(usual, **larger)])
    assert qwen.batch == 4


@pytest.mark.parametrize(("name", "other"), [("WORKER_PRECISION", "bf16"), ("WORKER_ATTENTION", "eager")])
def test_what_fits_is_remembered_for_the_numbers_and_the_attention_it_was_found_with(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, other: str
) -> None:
    monkeypatch.delenv(name, raising=False)
    before = engine(folders["qwen2_5_vl"])._memory_key
    monkeypatch.setenv(name, other)
    assert engine(folders["qwen2_5_vl"])._memory_key != before


@both
def test_a_stop_in_a_long_answer_ends_it_within_a_few_steps(
    folders: Mapping[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    qwen = engine(folders[family])
    short, *others = requests(qwen)[:3]
    expected = qwen.answer([replace(short, max_tokens=2)])
    qwen._decoder._stops = []  # they would go on for ever
    long = [replace(one, max_tokens=100_000) for one in others]
    step, steps = Decoder._step, 0

    def counted(decoder: Decoder, room: Any, rows: int) -> None:
        nonlocal steps
        step(decoder, room, rows)
        steps += 1
        if steps == 20:
            qwen.stop()

    monkeypatch.setattr(Decoder, "_step", counted)
    monkeypatch.setattr(qwen._decoder, "_stride", 8)
    replies = qwen.answer([*long, replace(short, max_tokens=2), *long])
    assert replies == [UNANSWERED, UNANSWERED, *expected, UNANSWERED, UNANSWERED]
    assert steps <= 20 + 8
    assert qwen.answer(long) == [UNANSWERED] * 2
    assert steps <= 20 + 8


def test_a_stop_before_it_is_open_is_heeded(folders: Mapping[str, Path]) -> None:
    qwen = Qwen(Choice("qwen", "tiny", "tree:1", folders["qwen3_vl"]))
    qwen.stop()
    qwen.open("cpu")
    assert qwen.answer(requests(qwen)) == [UNANSWERED] * 4


def test_so_many_as_a_person_wants_are_asked_at_once(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    qwen = Qwen(Choice("qwen", "tiny", "tree:1", folders["qwen2_5_vl"]))
    qwen.wanted_batch = 3
    small = Small(3, monkeypatch)
    qwen.open("cpu")
    qwen.answer(requests(qwen))
    assert (qwen.batch, small.tried) == (3, [3, 1])


def test_what_does_not_fit_alone_is_the_callers(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    qwen = engine(folders["qwen2_5_vl"])
    Small(0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        qwen.answer(requests(qwen)[:2])


def test_what_was_spent_adds_up(folders: Mapping[str, Path]) -> None:
    qwen = engine(folders["qwen3_vl"])
    asked = requests(qwen)
    replies = [one for one in qwen.answer(asked) if isinstance(one, Reply)]
    once = dict(qwen.spent())
    qwen.answer(asked)
    twice = qwen.spent()
    assert once["requests"] == 4
    assert once["generated_tokens"] == sum(one.tokens for one in replies)
    assert once["prefill_s"] > 0
    for name in ("requests", "generated_tokens", "prompt_tokens", "prefill_flops", "decode_steps"):
        number: Json = once[name]
        assert twice[name] == 2 * number
    assert twice["precision"] == "fp32"


def test_frame_size_needs_the_folder_alone(folders: Mapping[str, Path]) -> None:
    closed = Qwen(Choice("qwen", "tiny", None, folders["qwen2_5_vl"]))
    assert closed.frame_size(1920, 1080) == (448, 252)
    with pytest.raises(UsageError, match="--model"):
        Qwen(Choice("qwen")).frame_size(1, 1)
