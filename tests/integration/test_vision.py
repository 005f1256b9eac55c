"""A real worker and a model that sees: clips are prepared while others are answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests import media, tiny_models
from tests.tasks.looking import SAID
from tests.workers import answers, end_all, run
from worker.items import Answer

CLIPS, BATCH = 12, 3


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    end_all()


def test_clips_are_prepared_while_others_are_on_the_device(tmp_path: Path) -> None:
    """One child needs less than a batch takes on the device: after the first, no batch is waited for."""
    folder = tiny_models.outline(tmp_path / "model", tiny_models.config("qwen2_5_vl"))
    clips = tmp_path / "clips"
    clips.mkdir()
    film = media.film(clips / "00.mp4")
    for number in range(1, CLIPS):
        (clips / f"{number:02}.mp4").write_bytes(film.read_bytes())
    prepare_s, answer_s = 0.5, 0.8
    settings = [f"folder={folder}", "frames=4", "tokens=4", f"prepare_s={prepare_s}", f"answer_s={answer_s}"]
    queue = tmp_path / "queue"
    code, said = run(
        *("run", queue, "--task", "looking", "--batch", BATCH),
        *(part for one in settings for part in ("--set", one)),
        clips,
        timeout=100,
    )
    assert code == 0, said
    assert len([one for one in answers(queue).values() if isinstance(one.outcome, Answer)]) == CLIPS
    lines = [json.loads(line) for line in (folder / SAID).read_text().splitlines()]
    spent = lines.pop()["spent"]
    assert spent["requests"] == CLIPS
    assert spent["generated_tokens"] == 4 * CLIPS
    waits = sorted(after["begun"] - before["ended"] for before, after in pairwise(lines))
    assert len(waits) >= 2
    # prepared one after the other, and never ahead, a batch would be waited for three times half a second
    assert waits[len(waits) // 2] < prepare_s
