"""A real training, cut off at random: it ends with the same weights as the one that nobody disturbed."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.servers import Server
from tests.tasks.training import STEP_S
from tests.workers import Worker, answers, eventually, finish, run, worker
from worker.clock import Clock
from worker.items import Failure
from worker.queue import layout
from worker.queue.progress import Watcher
from worker.queue.store import open_store

OUTPUTS = ("final_results.json", "summary.json")
SETTINGS = ("--set", "steps=60", "--set", "every=3")
ITEMS = ("seed-1", "seed-2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, said = run(
        "run", folder / "queue", *ITEMS, "--task", "training", *SETTINGS, "--out", folder / "out"
    )
    assert code == 0, said
    return folder / "out"


def weights(out: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(out.glob("files/*/weights.bin"))]


@pytest.mark.parametrize(("kind", "most"), [("directory", 4), ("azurite", 2)])
def test_a_training_killed_and_stopped_at_random_ends_with_the_same_weights(
    kind: str, most: int, undisturbed: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    queue = str(tmp_path / "queue")
    if kind == "azurite":
        server: Server = request.getfixturevalue("azurite")
        queue = f"{server.fresh()}/queue"
    code, said = run("enqueue", queue, "--task", "training", *SETTINGS, *ITEMS)
    assert code == 0, said
    store = open_store(queue)
    chance = random.Random(11)

    def start() -> Worker:
        """Who will be cut off takes its time."""
        return worker("run", queue, "--ttl", "2s", env={STEP_S: "0.2" if ends < most else "0"})

    ends = 0
    one = start()
    while True:
        manifests = {e.name for e in store.list(layout.JOBS) if layout.checkpoint_of(e.name)}

        def moved(manifests: set[str] = manifests, one: Worker = one) -> bool:
            now = {e.name for e in store.list(layout.JOBS) if layout.checkpoint_of(e.name)}
            return one.poll() is not None or bool(now - manifests)

        eventually(moved)
        if one.poll() is not None:
            break
        time.sleep(chance.uniform(0.0, 0.4))
        if ends < most:
            ends += 1
            if ends % 2:
                one.signal_all(signal.SIGKILL)
                one.wait()
            else:
                one.send_signal(signal.SIGTERM)
                code, said = finish(one)
                assert code == 75, said
            one = start()
    assert ends == most, "the training was over before it had been cut off often enough"
    code, said = finish(one)
    assert code == 0, said
    assert "going on from step" in said

    out = tmp_path / "out"
    code, said = run("collect", queue, "--out", out)
    assert code == 0, said
    assert {n: (out / n).read_bytes() for n in OUTPUTS} == {
        n: (undisturbed / n).read_bytes() for n in OUTPUTS
    }
    assert weights(out) == weights(undisturbed)
    assert len(weights(out)) == len(ITEMS)


def test_a_job_that_is_stopped_makes_a_last_checkpoint_and_goes_on_there(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    settings = ("--set", "steps=40", "--set", "every=1000", "--set", "step_s=0.1")
    assert run("enqueue", queue, "job", "--task", "counting", *settings)[0] == 0
    store, watcher = open_store(str(queue)), Watcher(open_store(str(queue)), Clock())
    one = worker("run", queue, "--ttl", "2s")
    eventually(lambda: any(w["job"].get("step") for w in watcher.look().as_json()["workers"] if w["job"]))
    one.send_signal(signal.SIGTERM)
    code, said = finish(one)
    assert code == 75, said
    assert any(layout.checkpoint_of(entry.name) for entry in store.list(layout.JOBS))
    code, said = run("run", queue)
    assert code == 0, said
    assert "going on from step" in said
    assert answers(queue)["job"].outcome.keys["total"] == sum(range(41))  # type: ignore[union-attr]


def test_status_shows_step_loss_and_time_of_a_job(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    worker(
        "run",
        queue,
        "job",
        "--task",
        "counting",
        "--set",
        "steps=1000",
        "--set",
        "step_s=0.05",
        "--ttl",
        "2s",
    )

    def look() -> dict[str, object] | None:
        if not (queue / "run.json").exists():
            return None
        shown = Watcher(open_store(str(queue)), Clock()).look().as_json()
        jobs = [one["job"] for one in shown["workers"] if one["job"]]
        return jobs[0] if jobs and jobs[0].get("eta_s") else None

    job = eventually(look)
    assert job["steps"] == 1000
    assert job["figures"] == {"total": sum(range(int(str(job["step"])) + 1))}


def test_a_job_that_kills_its_worker_without_a_checkpoint_ends_as_crashed(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    settings = ("--set", "die_at=3", "--set", "checkpoints=false")
    code, said = run("run", queue, "bad", "--task", "counting", *settings, "--ttl", "2s")
    assert code == 1, said
    outcome = answers(queue)["bad"].outcome
    assert isinstance(outcome, Failure)
    assert outcome.kind == "crashed-worker"


def test_a_failed_job_is_retried_from_its_newest_checkpoint_or_from_the_beginning(tmp_path: Path) -> None:
    queue, broken = tmp_path / "queue", tmp_path / "broken"
    broken.touch()
    settings = ("--set", "error_at=5", "--set", f"broken={broken}")
    code, said = run("run", queue, "job", "--task", "counting", *settings)
    assert code == 1, said
    assert "trying again from step 4" in said
    assert run("retry", queue)[0] == 0
    code, said = run("run", queue)
    assert code == 1, said
    assert "going on from step 4, checkpoint 1-4 of the try before" in said
    assert run("retry", queue, "--fresh")[0] == 0
    broken.unlink()
    code, said = run("run", queue)
    assert code == 0, said
    assert "going on from step" not in said
    assert answers(queue)["job"].outcome.keys["total"] == sum(range(21))  # type: ignore[union-attr]


def test_a_device_that_fails_on_the_way_gets_a_fresh_process(tmp_path: Path) -> None:
    queue, broken = tmp_path / "queue", tmp_path / "broken"
    broken.touch()
    settings = ("--set", "error_at=5", "--set", f"broken={broken}", "--set", "device=true")
    code, said = run("run", queue, "job", "--task", "counting", *settings)
    assert code == 0, said
    assert "another one starts" in said
    assert "going on from step 4" in said
    assert answers(queue)["job"].outcome.keys["total"] == sum(range(21))  # type: ignore[union-attr]
