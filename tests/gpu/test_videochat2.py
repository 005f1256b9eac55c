"""The adapter on a GPU in fp16: pinned copies, autocast, captured steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.standin_videochat2.asking import CLIPS, loaded, request, stood_in
from worker.engines.choice import Choice
from worker.engines.videochat2 import VideoChat2

torch = pytest.importorskip("torch", reason="needs the packages of gpu-batch-worker[vlm]")
pytest.importorskip("transformers", reason="needs the packages of gpu-batch-worker[vlm]")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and torch sees none")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VideoChat2]:
    folder = tmp_path_factory.mktemp("videochat2")
    with pytest.MonkeyPatch.context() as patch, stood_in(folder) as folder:
        patch.setenv("WORKER_CACHE", str(folder / "cache"))
        found = VideoChat2(Choice("videochat2"))
        found.use(loaded(folder, dtype=torch.float16).to("cuda"), {})
        yield found


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: f"{clip['width']}x{clip['height']}")
def test_fp16_gives_the_language_model_nearly_what_the_makers_give_it(
    engine: VideoChat2, clip: dict[str, Any]
) -> None:
    (row,) = engine._sight.rows([request(clip)])
    assert row.dtype == torch.float16
    assert row.float().mean(1).tolist() == pytest.approx(clip["means"], abs=0.02)


def test_questions_together_get_the_answers_they_get_alone(engine: VideoChat2) -> None:
    asked = [request(clip, max_tokens=8) for clip in CLIPS]
    assert engine.answer(asked) == [engine.answer([one])[0] for one in asked]


def test_its_memory_was_measured_and_its_card_is_known(engine: VideoChat2) -> None:
    from worker.engines.batching import Remembered

    remembered = Remembered().get(engine._memory_key)
    assert remembered
    assert engine.batch == remembered.batch > 1
    engine.answer([request(CLIPS[2], max_tokens=2)])
    spent = engine.spent()
    assert spent["prefill_flops"] > 0
    assert str(spent["peak_memory"]).endswith(" GB")
