"""The adapter beside what its makers' code does (tests/data/README.md), with a stand-in for the weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.standin_videochat2.asking import CLIPS, PUBLIC, loaded, request, stood_in
from tests.standin_videochat2.build import BERT_NAME
from worker.engines import checkpoint, shims, trust
from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request
from worker.engines.tiles import grid
from worker.engines.videochat2 import VideoChat2, without_stray
from worker.engines.videochat2_sight import prompt, together
from worker.errors import MachineError
from worker.items import UNANSWERED, Failure
from worker.media.choice import midpoints

pytest.importorskip("transformers", reason="needs the packages of gpu-batch-worker[vlm]")


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with stood_in(tmp_path_factory.mktemp("videochat2")) as folder:
        yield folder


@pytest.fixture(scope="module")
def model(standin: Path) -> Any:
    return loaded(standin)


@pytest.fixture
def engine(model: Any) -> VideoChat2:
    found = VideoChat2(Choice("videochat2"))
    found.use(model, {})
    return found


@pytest.mark.parametrize(("count", "wanted", "chosen"), PUBLIC["frames"])
def test_frames_are_those_that_the_makers_choose(count: int, wanted: int, chosen: list[int]) -> None:
    assert midpoints(count, wanted) == chosen


@pytest.mark.parametrize(("width", "height", "six", "twelve"), PUBLIC["grids"])
def test_tiles_are_those_that_the_makers_cut(
    width: int, height: int, six: list[int], twelve: list[int]
) -> None:
    assert list(grid(width, height, 224, 6)) == six
    assert list(grid(width, height, 224, 12)) == twelve
    assert VideoChat2(Choice("videochat2")).frame_size(width, height) == (224 * six[0], 224 * six[1])


@pytest.mark.parametrize("frames", [1, 4, 8, 32])
def test_positions_are_drawn_out_from_four_frames(frames: int) -> None:
    from worker.engines.positions import drawn_out

    public = PUBLIC["positions"][str(frames)]
    table = drawn_out(frames, 4, 196, 32)[0]
    assert len(table) == public["rows"]
    assert float(table.double().abs().sum()) == pytest.approx(public["sum"], abs=1e-3)
    for row, column, value in public["at"]:
        assert float(table[row, column]) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: f"{clip['width']}x{clip['height']}")
def test_the_language_model_is_given_what_the_makers_give_it(
    engine: VideoChat2, clip: dict[str, Any]
) -> None:
    """The same numbers in the makers' model and in the stand-in: frames, tiles, tokens, order and place."""
    (row,) = engine._sight.rows([request(clip)])

    words = [len(tokens) for tokens in clip["tokens"]]
    assert len(row) == clip["rows"] == words[0] + clip["vectors"] + words[1]
    assert clip["vectors"] == 96 * (clip["width"] * clip["height"] // 224**2 + 1)
    assert row.mean(1).tolist() == pytest.approx(clip["means"], abs=2e-5)
    for number, values in clip["some"].items():
        assert row[int(number), :8].tolist() == pytest.approx(values, abs=2e-5)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: f"{clip['width']}x{clip['height']}")
def test_prompt_tokens_and_pixels_are_the_makers(engine: VideoChat2, clip: dict[str, Any]) -> None:
    pieces = prompt(request(clip), "Video")
    assert "<VideoHere>".join(pieces) == clip["prompt"]

    tokenizer = engine._model.mistral_tokenizer
    tokens = [tokenizer(one, add_special_tokens=not n).input_ids for n, one in enumerate(pieces)]
    assert tokens == clip["tokens"]
    assert [one.count(tokenizer.bos_token_id) for one in tokens] == [1, 0]

    pixels = engine._sight.pixels(request(clip).frames)
    for frame, channel, row, column, value in clip["pixels"]:
        assert float(pixels[frame, channel, row, column]) == pytest.approx(value, abs=1e-6)


def test_each_tile_gives_96_vectors_row_by_row_and_the_whole_comes_last(engine: VideoChat2) -> None:
    """One tile is changed, and one group of vectors with it; the whole sees every change."""
    clip = CLIPS[1]
    before = engine._sight.rows([request(clip)])[0]
    head = len(clip["tokens"][0])
    for column, row, tile in [(0, 0, 0), (1, 0, 1), (0, 1, 2), (1, 2, 5)]:
        changed = request(clip)
        for frame in changed.frames:
            frame[224 * row : 224 * (row + 1), 224 * column : 224 * (column + 1)] //= 4
        after = engine._sight.rows([changed])[0]
        moved = ((after - before).abs().amax(1) > 1e-4)[head : head + 7 * 96].view(7, 96).any(1)
        assert moved.nonzero().flatten().tolist() == [tile, 6]


def test_questions_together_get_the_answers_they_get_alone(engine: VideoChat2) -> None:
    """Other tiles, other numbers of frames, other lengths: nothing of it changes an answer."""
    wider = {**CLIPS[2], "width": 448, "times": [0.4, 1.4, 2.5], "question": "and now?"}
    asked = [request(clip, max_tokens=12) for clip in (CLIPS[2], wider, {**CLIPS[2], "seed": 7})]
    together = engine.answer(asked)
    assert together == [engine.answer([one])[0] for one in asked]
    assert len({one.text for one in together if isinstance(one, Reply)}) == len(asked)


def test_neighbours_with_as_many_frames_are_looked_at_together_but_not_too_many() -> None:
    def clip(frames: int, tiles: int) -> Request:
        return Request([np.zeros((224, 224 * tiles, 3), np.uint8)] * frames, [0.0] * frames, "?")

    def sizes(*clips: tuple[int, int]) -> list[int]:
        return [len(some) for some in together([clip(*one) for one in clips])]

    assert sizes() == []
    assert sizes((32, 2), (32, 2), (32, 2), (32, 2)) == [2, 2]
    assert sizes((32, 2), (32, 6), (32, 2), (8, 2), (8, 1), (32, 2)) == [1, 1, 1, 2, 1]
    assert sizes((500, 6), (32, 1)) == [1, 1]


def test_it_is_opened_where_its_code_was_allowed_and_nowhere_else(
    standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Choice("videochat2", "standin", checkpoint.tree(standin), standin)
    monkeypatch.delenv(trust.VARIABLE, raising=False)
    with pytest.raises(MachineError, match=r"\(configuration_standin.py, modeling_standin.py\)"):
        VideoChat2(named).open("cpu")

    monkeypatch.setenv(trust.VARIABLE, f"standin@{named.revision}")
    engine = VideoChat2(named)
    engine.open("cpu")
    (row,) = engine._sight.rows([request(CLIPS[2])])
    assert row.mean(1).tolist() == pytest.approx(CLIPS[2]["means"], abs=2e-5)
    engine.close()


def allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> VideoChat2:
    named = Choice("videochat2", folder.name, checkpoint.tree(folder), folder)
    monkeypatch.setenv(trust.VARIABLE, f"{folder.name}@{named.revision}")
    return VideoChat2(named)


@pytest.fixture
def copy(standin: Path, tmp_path: Path) -> Path:
    return shutil.copytree(standin, tmp_path / "lacking")


MISSES = r"^lacking misses what docs/videochat2\.md fetches: "


def test_a_package_that_its_code_misses_is_told_in_a_line(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = copy / "modeling_standin.py"
    code.write_text(code.read_text().replace("import torch\n", "import not_to_be_had\n"))
    with pytest.raises(MachineError, match=rf"{MISSES}.*not_to_be_had.*$"):
        allowed(copy, monkeypatch).open("cpu")


@pytest.mark.parametrize(("part", "asked"), [(BERT_NAME, BERT_NAME), ("mistral", "nowhere/Mistral")])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["nowhere", "in the hub's cache"])
def test_what_its_code_asks_for_by_name_comes_from_its_folder_or_not_at_all(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, asked: str, elsewhere: bool
) -> None:
    """The hub's cache may hold any version of it, and nobody pinned which."""
    from huggingface_hub import constants

    cache = tmp_path / "hub" / f"models--{asked.replace('/', '--')}"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    shutil.move(copy / part, cache / "snapshots" / ("a" * 40) if elsewhere else tmp_path / "away")
    told = rf"its code asks for {asked}, which is not in its folder, .*hf download {asked} --include "
    with pytest.raises(MachineError, match=f"{MISSES}{told}.*$"):
        allowed(copy, monkeypatch).open("cpu")


def test_another_folder_is_not_read_though_its_configuration_names_it(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(copy / BERT_NAME, tmp_path / "bert")
    config = copy / "config.json"
    config.write_text(config.read_text().replace(BERT_NAME, str(tmp_path / "bert")))
    told = rf"asks for {tmp_path}/bert, .*: copy it to {copy}/bert$"
    with pytest.raises(MachineError, match=f"{MISSES}.*{told}"):
        allowed(copy, monkeypatch).open("cpu")


def test_four_bits_leave_what_sees_whole(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded, and not asked: on a CPU four bits are multiplied in widths of 64 alone."""
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    engine = allowed(standin, monkeypatch)
    engine.choice = replace(engine.choice, quantise="nf4")
    engine.open("cpu")
    small = {name for name, one in engine._model.named_modules() if isinstance(one, bnb.nn.Linear4bit)}
    assert len(small) == 2 * 7 + 1
    assert all(name.startswith(("mistral_model.model.layers.", "mistral_proj")) for name in small)
    assert engine.spent()["quantisation"] == "nf4"


def test_who_prepares_frames_for_it_needs_nothing_heavy() -> None:
    code = """
import sys
from worker.engines.choice import Choice
from worker.engines.videochat2 import VideoChat2
print(VideoChat2(Choice("videochat2")).frame_size(1280, 720), {"torch", "transformers"} & {*sys.modules})
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "(448, 224) set()\n"


def test_a_single_frame_is_a_picture_to_it(engine: VideoChat2) -> None:
    one = Request([np.zeros((224, 224, 3), np.uint8)], [0.0], "what?", max_tokens=4)
    assert prompt(one, "Image") == ("[INST] <Image>", "</Image> [/INST] [INST] what? [/INST]")
    (reply,) = engine.answer([one])
    assert isinstance(reply, Reply)


def test_an_answer_ends_at_its_limit_and_says_so(engine: VideoChat2) -> None:
    short, long = engine.answer([request(CLIPS[2], max_tokens=3), request(CLIPS[2], max_tokens=9)])
    assert isinstance(short, Reply)
    assert isinstance(long, Reply)
    assert (short.tokens, short.truncated) == (3, True)
    assert (long.tokens, long.truncated) == (9, True)
    assert long.text.startswith(short.text)


def test_numbers_that_became_too_large_are_no_answer(
    engine: VideoChat2, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = engine._sight.rows

    def overflowing(requests: Sequence[Request], _: object) -> list[Any]:
        good, bad = usual(requests)
        return [good, bad * float("inf")]

    asked = [request(CLIPS[2], max_tokens=3)] * 2
    expected = engine.answer(asked)[0]
    monkeypatch.setattr(engine._sight, "rows", overflowing)
    good, bad = engine.answer(asked)
    assert good == expected
    assert isinstance(bad, Failure)
    assert "too large for" in bad.message


def test_an_answer_ends_at_either_stop(engine: VideoChat2, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes third is taken for </s>, and what comes second for the space that may stand before it."""
    import worker.engines.videochat2 as module

    asked = request(CLIPS[2], max_tokens=9)
    (row,) = engine._sight.rows([asked])
    first, space, stop = engine._decoder.generate([engine._prompt(row, asked.max_tokens)])[0].tokens[:3]
    assert len({first, space, stop}) == 3
    for stops, tokens in [(((stop,),), [first, space]), (((space, stop), (stop,)), [first])]:
        monkeypatch.setattr(module, "_STOPS", stops)
        engine.use(engine._model, {})
        assert engine.answer([asked]) == [Reply(engine._text(tokens), len(tokens))]


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ([0, 7, 8], [7, 8]),
        ([1, 7], [7]),
        ([0, 1, 7], [7]),
        ([1, 0, 7], [0, 7]),
        ([7, 0, 1], [7, 0, 1]),
        ([], []),
    ],
)
def test_strays_are_dropped_from_the_beginning_only(tokens: list[int], kept: list[int]) -> None:
    assert without_stray(tokens) == kept


def test_a_text_is_cut_where_the_model_wrote_its_stop_out(engine: VideoChat2) -> None:
    tokens = engine._model.mistral_tokenizer("yes", add_special_tokens=False).input_ids
    assert engine._text([1, *tokens]) == "yes"
    assert engine._text([*tokens, 2, *tokens]) == "yes"
    assert engine._text([]) == ""


def test_less_is_asked_at_once_where_memory_runs_out(
    engine: VideoChat2, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    usual, sizes = engine._sight.rows, []

    def narrow(requests: Sequence[Request], _: object) -> list[torch.Tensor]:
        sizes.append(len(requests))
        if len(requests) > 2:
            raise torch.OutOfMemoryError
        return usual(requests)

    monkeypatch.setattr(engine._sight, "rows", narrow)
    replies = engine.answer([request(CLIPS[2], max_tokens=1)] * 12)
    assert [one.tokens for one in replies if isinstance(one, Reply)] == [1] * 12
    assert (sizes, engine.batch) == ([4, *[2] * 6], 2)


def test_what_is_tried_is_the_longest_that_is_expected(
    engine: VideoChat2, monkeypatch: pytest.MonkeyPatch
) -> None:
    import worker.engines.videochat2 as module
    from worker.engines.decoding import Prompt

    tried = list[Sequence[Prompt]]()
    monkeypatch.setattr(module, "FRAMES", 2)
    monkeypatch.setattr(engine._decoder, "generate", tried.append)
    engine._try(2)
    (prompts,) = tried
    assert len(prompts) == 2
    assert all(one.length > 7 * 96 + module.WORDS and one.room == module.MOST_TOKENS for one in prompts)
    row = engine._sight.rows([request(CLIPS[1])])[0]
    assert module._is_expected(Request([np.zeros(1)] * 2, [], "?"), row)
    assert not module._is_expected(Request([np.zeros(1)] * 3, [], "?"), row)


def test_seconds_are_those_of_its_own_card(engine: VideoChat2, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    waited = list[object]()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *device: waited.extend(device))
    monkeypatch.setattr(engine, "_device", card := torch.device("cuda:1"))
    engine._now()
    assert waited == [card]


def test_what_it_spent_adds_up(engine: VideoChat2) -> None:
    engine.answer([request(CLIPS[2], max_tokens=3)])
    engine.answer([request(CLIPS[2], max_tokens=2)])
    spent = engine.spent()
    assert (spent["requests"], spent["generated_tokens"]) == (2, 5)
    assert spent["prompt_tokens"] == 2 * CLIPS[2]["rows"]


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: f"{clip['width']}x{clip['height']}")
def test_what_it_takes_to_see_is_what_torch_counts(engine: VideoChat2, clip: dict[str, Any]) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # torch does not count in its kernels for CPUs
        engine._sight.rows([request(clip)])
    assert engine._sight.flops(request(clip)) == pytest.approx(counter.get_total_flops(), rel=0.002)


def test_what_it_computes_before_the_first_words_adds_up(engine: VideoChat2) -> None:
    from worker.engines import flops

    engine.answer([request(CLIPS[2], max_tokens=1)])
    before = engine.spent()["prefill_flops"]
    engine.answer([request(clip, max_tokens=1) for clip in (CLIPS[2], CLIPS[1])])
    read = flops.language(engine._config, CLIPS[1]["rows"])
    assert engine.spent()["prefill_flops"] == pytest.approx(
        2 * before + engine._sight.flops(request(CLIPS[1])) + read
    )


def test_a_stop_ends_it_within_a_few_steps_and_what_is_not_whole_is_not_answered(
    engine: VideoChat2, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs = iter(range(1000))

    def give() -> None:
        if next(signs) == 8:
            engine.stop()

    monkeypatch.setattr("worker.signs.give", give)
    short, long = engine.answer([request(CLIPS[2], max_tokens=2), request(CLIPS[2], max_tokens=500)])
    assert isinstance(short, Reply)
    assert long == UNANSWERED
    assert next(signs) < 12, "it was not asked to go on for long"
    monkeypatch.setattr(engine._sight, "pixels", None)
    assert engine.answer([request(CLIPS[2])]) == [UNANSWERED], "and nothing is begun any more"


def test_seeing_gives_signs_of_life_and_ends_with_a_stop(
    engine: VideoChat2, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()
    monkeypatch.setattr("worker.signs.give", lambda: seen.append(1) or (len(seen) == 2 and engine.stop()))
    different = [{**CLIPS[2], "times": CLIPS[2]["times"][:n]} for n in (1, 2, 3)]
    assert engine.answer([request(one) for one in different]) == [UNANSWERED] * 3
    assert len(seen) == 2


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_answers_too(standin: Path, kind: str) -> None:
    import torch

    engine = VideoChat2(Choice("videochat2"))
    engine.use(loaded(standin, dtype=getattr(torch, kind)), {})
    (row,) = engine._sight.rows([request(CLIPS[2])])
    assert row.dtype == getattr(torch, kind)
    assert row.float().mean(1).tolist() == pytest.approx(CLIPS[2]["means"], abs=0.05)
    assert engine.answer([request(CLIPS[2], max_tokens=3)])[0] != Reply("", 0)


def test_the_old_names_are_there_while_it_loads_and_then_no_more() -> None:
    from transformers import AutoModelForCausalLM, PreTrainedModel, modeling_utils

    def names() -> dict[str, object]:
        return {
            "resize": PreTrainedModel.resize_token_embeddings,
            "from_pretrained": vars(AutoModelForCausalLM).get("from_pretrained"),
            **{name: getattr(PreTrainedModel, name, None) for name in lent},
            **{name: getattr(modeling_utils, name, None) for name in taken},
        }

    lent = "get_head_mask", "invert_attention_mask", "all_tied_weights_keys"
    taken = "apply_chunking_to_forward", "prune_linear_layer", "find_pruneable_heads_and_indices"
    before = names()
    with shims.lent():
        assert None not in names().values()
    assert names() == before
    with pytest.raises(KeyError), shims.lent():
        raise KeyError
    assert names() == before


def test_without_the_old_names_it_does_not_load(standin: Path) -> None:
    """If it does, the shims can go."""
    with pytest.raises((ImportError, AttributeError, RuntimeError)):
        loaded(standin, shimmed=False)


def test_the_language_models_own_weights_are_not_asked_for(standin: Path) -> None:
    """They are in the outer checkpoint: a folder with its shape and tokenizer is enough."""
    assert not list((standin / "mistral").glob("*.safetensors"))
    assert loaded(standin).mistral_model.lm_head.weight.device.type == "cpu"
