"""What a Qwen-VL is given to read and to see: the same as transformers' own processors give it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import qwen_processor, tiny_models
from tests.qwen_processor import FPS, GOLDEN, PROMPT
from worker.engines.qwen_prompt import Reading, pairs, positions, read
from worker.engines.qwen_sight import CELLS, Sight
from worker.engines.resizing import PUBLISHED, Resizing
from worker.errors import UsageError

both = pytest.mark.parametrize("family", tiny_models.FAMILIES)


@pytest.fixture
def sights(tmp_path: Path) -> dict[str, Sight]:
    for family in tiny_models.FAMILIES:
        (tmp_path / family).mkdir()
        tiny_models.config(family).save_pretrained(tmp_path / family)
    return {family: Sight.of(tmp_path / family) for family in tiny_models.FAMILIES}


def read_a_clip(sight: Sight, times: list[float], prompt: str = PROMPT) -> Reading:
    grid = sight.grid(len(times), 5 * sight.side, 3 * sight.side)
    return read(tiny_models.tokenizer(), sight, prompt, times, grid)


def test_pixels_tokens_and_positions_are_those_that_were_kept_of_the_processor(
    sights: dict[str, Sight],
) -> None:
    for family, kept in json.loads(GOLDEN.read_text()).items():
        sight = sights[family]
        frames = qwen_processor.clip(5, sight.side)
        pixels = sight.patches(torch.from_numpy(np.stack(frames)))
        assert list(pixels.shape) == kept["shape"]
        assert pixels.flatten()[:: qwen_processor.EVERY].tolist() == kept["pixels"]
        reading = read_a_clip(sight, [n / FPS for n in range(5)])
        assert reading.ids == kept["ids"]
        assert reading.positions.tolist() == kept["positions"]
        assert kept["grid"] == [3, 6, 10]


@pytest.mark.skipif(not find_spec("torchvision"), reason="the processors of transformers need torchvision")
@both
@pytest.mark.parametrize("count", [2, 5, 6])
def test_pixels_tokens_and_positions_are_those_of_the_processor(
    sights: dict[str, Sight], family: str, count: int
) -> None:
    sight = sights[family]
    frames = qwen_processor.clip(count, sight.side)
    found: dict[str, Any] = qwen_processor.processed(family, frames)
    assert torch.equal(sight.patches(torch.from_numpy(np.stack(frames))), found["pixels"])
    reading = read_a_clip(sight, [n / FPS for n in range(count)])
    assert reading.ids == found["ids"]
    assert reading.positions.tolist() == found["positions"]
    assert list(sight.grid(count, 5 * sight.side, 3 * sight.side)) == found["grid"]


def test_qwen3_is_told_the_true_times_of_each_pair_of_frames(sights: dict[str, Sight]) -> None:
    reading = read_a_clip(sights["qwen3_vl"], [1.0, 1.1, 4.0, 9.0, 9.5])
    said = tiny_models.tokenizer().decode(reading.ids).replace(tiny_models.VIDEO, "")
    seconds = [part.split(">")[-1] for part in said.split(" seconds")[:-1]]
    assert [part.rpartition("<")[2] for part in seconds] == ["1.1", "6.5", "9.5"]


def test_qwen25_stands_at_the_true_times_of_its_frames(sights: dict[str, Sight]) -> None:
    sight = sights["qwen2_5_vl"]
    assert sight.tokens_per_second == 2
    reading = read_a_clip(sight, [1.0, 1.2, 4.0, 9.0, 9.5])
    in_time = reading.positions[0, reading.clip].reshape(3, -1)
    assert (in_time[:, 0] - in_time[0, 0]).tolist() == [0, 6, 17]
    assert all(len(set(row)) == 1 for row in in_time.tolist())


def test_a_second_that_arithmetic_made_shorter_is_a_second(sights: dict[str, Sight]) -> None:
    times = [0.1 * n for n in range(0, 60, 5)]  # 0.5, 1.0, 1.5000000000000002 …
    reading = read_a_clip(sights["qwen2_5_vl"], times)
    in_time = reading.positions[0, reading.clip].reshape(6, -1)[:, 0]
    assert (in_time - in_time[0]).tolist() == [0, 2, 4, 6, 8, 10]


def test_an_odd_number_of_frames_ends_with_its_last_one_twice() -> None:
    assert pairs([0.0, 1.0, 5.0], 2) == [(0.0, 1.0), (5.0, 5.0)]


@pytest.mark.parametrize(("step", "behind"), [(1, 4), (4, 6)])
def test_words_behind_a_clip_stand_behind_its_width_and_its_end(step: int, behind: int) -> None:
    found = positions([7, 9, 9, 9, 9, 9, 9, 7, 7], 9, [([0, step], 1, 3)])
    last = 1 + step
    assert found.tolist() == [
        [0, 1, 1, 1, last, last, last, behind, behind + 1],
        [0, 1, 1, 1, 1, 1, 1, behind, behind + 1],
        [0, 1, 2, 3, 1, 2, 3, behind, behind + 1],
    ]


@both
def test_a_prompt_that_holds_the_mark_of_a_clip_is_refused(sights: dict[str, Sight], family: str) -> None:
    with pytest.raises(ValueError, match="tokens of a clip"):
        read_a_clip(sights[family], [0.0, 1.0], prompt=f"look {tiny_models.VIDEO}")


@both
def test_times_that_are_not_those_of_the_frames_are_refused(sights: dict[str, Sight], family: str) -> None:
    sight = sights[family]
    with pytest.raises(ValueError, match="5 times"):
        read(tiny_models.tokenizer(), sight, PROMPT, range(5), sight.grid(4, sight.side, sight.side))


@both
@pytest.mark.parametrize(
    ("width", "height"),
    [(1920, 1080), (1280, 720), (640, 480), (480, 640), (720, 1280), (3840, 800), (500, 500)],
)
def test_frames_have_the_size_that_the_processor_would_give_them(
    sights: dict[str, Sight], family: str, width: int, height: int
) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    sight = sights[family]
    most = CELLS * sight.side**2
    theirs = smart_resize(height, width, factor=sight.side, min_pixels=1, max_pixels=most)
    assert sight.frame_size(width, height) == theirs[::-1]


@both
def test_32_frames_of_a_wide_film_are_2304_tokens(sights: dict[str, Sight], family: str) -> None:
    sight = sights[family]
    long, high, wide = sight.grid(32, *sight.frame_size(1920, 1080))
    assert long * high * wide / sight.merge**2 == 2304


@both
@pytest.mark.parametrize(("width", "height"), [(1, 1), (20000, 30), (30, 20000), (100, 40)])
def test_no_frame_has_more_tokens_than_there_may_be_or_none(
    sights: dict[str, Sight], family: str, width: int, height: int
) -> None:
    side = sights[family].side
    columns, rows = (pixels / side for pixels in sights[family].frame_size(width, height))
    assert 1 <= columns * rows <= CELLS
    assert columns == int(columns)
    assert rows == int(rows)


def test_another_family_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(UsageError, match="says 'llava'"):
        Sight.of(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        Sight.of(tmp_path)
    with pytest.raises(UsageError, match="says 'None'"):
        Sight.of(tmp_path / "nothing")


def test_what_lies_beside_the_weights_says_how_pixels_are_normalised(
    tmp_path: Path, sights: dict[str, Sight]
) -> None:
    tiny_models.config("qwen3_vl").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}')
    assert Sight.of(tmp_path).mean == (0.1, 0.2, 0.3)
    assert Sight.of(tmp_path).std == sights["qwen3_vl"].std == (0.5, 0.5, 0.5)
    (tmp_path / "processor_config.json").write_text('{"video_processor": {"image_mean": [0.4, 0.4, 0.4]}}')
    assert Sight.of(tmp_path).mean == (0.4, 0.4, 0.4)


@pytest.mark.parametrize(
    "said",
    [{"min_pixels": 784, "max_pixels": 99_000}, {"size": {"shortest_edge": 784, "longest_edge": 99_000}}],
)
def test_what_lies_beside_the_weights_says_how_pictures_are_resized(
    tmp_path: Path, sights: dict[str, Sight], said: dict[str, Any]
) -> None:
    tiny_models.config("qwen2_5_vl").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert Sight.of(tmp_path).resizing == Resizing(28, 784, 99_000)
    assert sights["qwen2_5_vl"].resizing == PUBLISHED["qwen2.5-vl"]
    assert sights["qwen3_vl"].resizing == PUBLISHED["qwen3-vl"]
