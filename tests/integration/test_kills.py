"""300 pictures, four workers, killed at random: 300 answers, the same bytes as one worker gives."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from PIL import Image

from tests.servers import Server
from tests.workers import Worker, counts, eventually, finish, run, worker

PICTURES = 300
KILLS = 8
KILLED_UNTIL = 0.6
"""of the work is done"""
OUTPUTS = ("final_results.json", "summary.json")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES):
        colour = (number * 7 % 256, number * 13 % 256, number % 256)
        Image.effect_noise((320, 240), 20 + number % 60).convert("RGB").point(
            lambda value, c=colour: (value + c[0]) % 256
        ).save(folder / f"{number % 7}_{number:03d}.jpg", quality=60)
    return folder


@pytest.fixture(scope="module")
def undisturbed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one worker gives that nobody disturbs."""
    folder = tmp_path_factory.mktemp("one")
    code, said = run("run", folder / "queue", pictures, "--task", "media-check", "--out", folder / "out")
    assert code == 0, said
    return {name: (folder / "out" / name).read_bytes() for name in OUTPUTS}


@pytest.mark.parametrize("kind", ["directory", "azurite"])
def test_four_workers_killed_at_random_give_what_one_gives(
    kind: str, pictures: Path, undisturbed: dict[str, bytes], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    queue = str(tmp_path / "queue")
    if kind == "azurite":
        server: Server = request.getfixturevalue("azurite")
        queue = f"{server.fresh()}/queue"
    code, said = run("enqueue", queue, "--task", "media-check", pictures)
    assert code == 0, said

    chance = random.Random(4)

    def start() -> Worker:
        return worker("run", queue, "--ttl", "2s", "--children", "1")

    shards = counts(queue)["items"]
    workers = [start() for _ in range(4)]
    for moment in sorted(chance.uniform(0, KILLED_UNTIL * shards) for _ in range(KILLS)):
        eventually(lambda moment=moment: counts(queue).get("done", 0) >= moment)
        victim = workers.pop(chance.randrange(4))
        victim.signal_all(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        workers.append(start())
    for one in workers:
        code, said = finish(one)
        assert code == 0, said

    out = tmp_path / "out"
    code, said = run("collect", queue, "--out", out)
    assert code == 0, said
    assert {name: (out / name).read_bytes() for name in OUTPUTS} == undisturbed
