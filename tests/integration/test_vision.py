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
RIDER = {
    "start_time": "0.5s",
    "end_time": "1.0s",
    "object_type": "rider",
    "description": "from behind a bus",
    "risk_level": "high",
    "impact": "brake",
}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    end_all()


def test_clips_are_prepared_while_others_are_on_the_device(tmp_path: Path) -> None:
    """Two children need less for a batch than it takes on the device: after the first, none is waited for."""
    folder = tiny_models.outline(tmp_path / "model", tiny_models.config("qwen2_5_vl"))
    clips = tmp_path / "clips"
    clips.mkdir()
    film = media.film(clips / "00.mp4")
    for number in range(1, CLIPS):
        (clips / f"{number:02}.mp4").write_bytes(film.read_bytes())
    prepare_s, answer_s = 1.0, 0.8
    settings = [f"folder={folder}", "frames=4", "tokens=4", f"prepare_s={prepare_s}", f"answer_s={answer_s}"]
    queue = tmp_path / "queue"
    code, said = run(
        *("run", queue, "--task", "looking", "--batch", BATCH),
        *(part for one in settings for part in ("--set", one)),
        clips,
        timeout=110,
    )
    assert code == 0, said
    assert len([one for one in answers(queue).values() if isinstance(one.outcome, Answer)]) == CLIPS
    lines = [json.loads(line) for line in (folder / SAID).read_text().splitlines()]
    spent = lines.pop()["spent"]
    assert spent["requests"] == CLIPS
    assert spent["generated_tokens"] == 4 * CLIPS
    waits = sorted(after["begun"] - before["ended"] for before, after in pairwise(lines))
    assert len(waits) >= 2
    # were none prepared ahead, each batch would be waited for as long as a clip takes, or longer
    assert waits[len(waits) // 2] < prepare_s


def test_from_clips_to_a_report_with_a_model_that_sees(tmp_path: Path) -> None:
    says = json.dumps({"ghost_probing_detected": True, "incidents": [RIDER]})
    model = tiny_models.checkpoint(tmp_path / "model", "qwen3_vl", says=says)
    clips = tmp_path / "clips"
    clips.mkdir()
    media.film(clips / "whole.mp4")
    media.cut(media.film(clips / "cut.mp4"), 0.5)
    queue, out = tmp_path / "queue", tmp_path / "out"
    code, said = run(
        *("run", queue, "--task", "ghost-probing", "--engine", "qwen", "--model", model),
        *("--device", "cpu", "--set", "frames=8", "--out", out, clips),
        timeout=110,
    )
    assert code == 1, said
    cut, whole = json.loads((out / "final_results.json").read_text())["results"]
    assert cut["failure"]["kind"] in ("truncated", "damaged")
    assert whole["engine"] == "qwen"
    assert whole["incidents"] == [RIDER]
    assert whole["doubts"] == []
    assert [Path(one).name for one in sorted(whole["files"].values())] == ["1-1.jpg", "1-2.jpg", "1-3.jpg"]
    assert json.loads((out / "summary.json").read_text())["detected"] == 1
    went = json.loads((out / "performance.json").read_text())
    assert (went["requests"], went["generated_tokens"]) == (1, 1)
    assert went["prefill_s"] > 0
    assert "from behind a bus" in (out / "report.html").read_text()
    recipe = json.loads((queue / "run.json").read_text())["recipe"]
    assert recipe["revision"].startswith("tree:")
