"""`worker run --workers`, `--gpus` and `--metrics`, with real processes."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.servers import free_port
from tests.tasks.sayings import HASTE
from tests.workers import Worker, answers, counts, eventually, finish, processes_of, run, worker
from worker.items import Answer
from worker.queue import layout
from worker.queue.beat import Beat
from worker.queue.claims import newest_claims
from worker.queue.store import open_store
from worker.stop import GRACE_S

ITEMS = [f"item {number:02d}" for number in range(36)]


def queue_of(folder: Path, *task: object) -> Path:
    code, said = run("enqueue", folder / "queue", "--task", *task)
    assert code == 0, said
    return folder / "queue"


def working_processes(one: Worker) -> list[int]:
    """Those that the nursery forked and that say that they work: one a member."""
    found = []
    for pid in processes_of(one.mark):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "worker-loop\n":
                found.append(pid)
    return found


def at_work(queue: Path) -> list[str]:
    """The workers whose newest beat holds a claim."""
    store = open_store(str(queue))
    beats = [Beat.decode(store.get(entry.name) or b"") for entry in store.list(layout.WORKERS)]
    return [beat.worker for beat in beats if beat and beat.claims and beat.hand]


def test_three_workers_share_a_queue_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    queue, haste = queue_of(tmp_path, "sleepy", "--set", "seconds=1", *ITEMS), tmp_path / "haste"
    command = ("run", queue, "--workers", 3, "--ttl", "2s", "--out", tmp_path / "out")
    one = worker(*command, env={HASTE: str(haste)})
    eventually(lambda: len(at_work(queue)) == 3)
    os.kill(working_processes(one)[0], signal.SIGKILL)
    eventually(lambda: counts(queue)["workers"] == 4)
    haste.touch()
    code, said = finish(one)
    assert code == 0, said
    assert said.count("died (signal 9); another one starts") == 1
    assert "of 3 died" in said
    assert sorted(answers(queue)) == ITEMS
    assert (tmp_path / "out" / "final_results.json").exists()
    eventually(lambda: not processes_of(one.mark))


def test_one_ctrl_c_hands_back_the_work_of_all(tmp_path: Path) -> None:
    many = map(str, range(400))  # enough for shards of several items
    queue = queue_of(tmp_path, "sleepy", "--set", "seconds=1", *many)
    one = worker("run", queue, "--workers", 3, "--ttl", "2s")
    eventually(lambda: len(at_work(queue)) == 3)
    one.signal_group(signal.SIGINT)
    code, said = finish(one)
    assert code == 75, said
    assert said.count("Ctrl-C: stopping") == 1
    assert "Traceback" not in said
    store = open_store(str(queue))
    done = {layout.shard_of(entry.name) for entry in store.list(layout.DONE)}
    claims = newest_claims(entry.name for entry in store.list(layout.CLAIMS))
    assert set(claims) - done
    assert all(claim.released for shard, claim in claims.items() if shard not in done)
    eventually(lambda: not processes_of(one.mark))


def test_a_second_ctrl_c_ends_all_of_them_at_once(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, "sleepy", "--set", "seconds=60", *ITEMS)
    one = worker("run", queue, "--workers", 2, "--ttl", "2s")
    eventually(lambda: len(at_work(queue)) == 2)
    one.signal_group(signal.SIGINT)
    eventually(lambda: "Ctrl-C: stopping" in one.said)
    one.signal_group(signal.SIGINT)
    code, said = finish(one, timeout=GRACE_S - 1)
    assert code == 75, said
    claims = newest_claims(entry.name for entry in open_store(str(queue)).list(layout.CLAIMS))
    assert all(claim.released for claim in claims.values())


def test_each_worker_sees_one_of_the_cards_that_a_scheduler_left_visible(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, "seen", *ITEMS)
    code, said = run("run", queue, "--gpus", "all", env={"CUDA_VISIBLE_DEVICES": "4,7"})
    assert code == 0, said
    found = [result.outcome.keys for result in answers(queue).values() if isinstance(result.outcome, Answer)]
    assert len(found) == len(ITEMS)
    assert {one["card"] for one in found} == {"4", "7"}
    assert {one["device"] for one in found} == {"cuda"}
    assert len({one["process"] for one in found}) == 2
    store = open_store(str(queue))
    beats = [Beat.decode(store.get(entry.name) or b"") for entry in store.list(layout.WORKERS)]
    assert {beat.info["device"] for beat in beats if beat} == {"cuda:4", "cuda:7"}


def test_one_ill_card_takes_one_worker_with_it(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, "seen", *ITEMS[:6])
    code, said = run("run", queue, "--gpus", "all", env={"CUDA_VISIBLE_DEVICES": "4,ill"})
    assert code == 0, said
    assert "worker 2 of 2 (cuda:ill) ends for good: task seen cannot open cuda" in said
    assert sorted(answers(queue)) == ITEMS[:6]


def test_when_every_card_is_ill_so_is_the_machine(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, "seen", *ITEMS[:2])
    code, said = run("run", queue, "--gpus", "all", env={"CUDA_VISIBLE_DEVICES": "ill,ill"})
    assert code == 3, said
    assert said.splitlines()[-1].startswith("worker: task seen cannot open cuda")


def test_fewer_workers_than_gpus_are_refused(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    assert run("enqueue", queue, "--task", "shout", "a")[0] == 0
    env = {"CUDA_VISIBLE_DEVICES": "4,7"}
    code, said = run("run", queue, "--gpus", "all", "--workers", "1", env=env)
    assert code == 2
    assert "leaves 1 of 2 GPUs idle" in said


def test_a_machine_without_cards_says_so_in_one_line(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, "seen", "one")
    code, said = run("run", queue, "--gpus", "all", env={"CUDA_VISIBLE_DEVICES": ""})
    assert code == 3
    assert said.startswith("worker: --gpus all: this machine shows no GPU")
    assert len(said.splitlines()) == 1


def test_metrics_are_scraped_while_it_works(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, "sleepy", "--set", "seconds=1", *ITEMS)
    port = free_port()
    one = worker("run", queue, "--workers", 2, env={"WORKER_METRICS": str(port)})

    def scraped() -> str:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            return page.read().decode()
        return ""

    def answered() -> list[float]:
        lines = [line for line in scraped().splitlines() if line.startswith("worker_items_answered_total{")]
        return [float(line.split()[-1]) for line in lines]

    eventually(lambda: len(answered()) == 2 and all(answered()))
    assert 'device="cpu",member="2"' in scraped()
    other = tmp_path / "other"
    code, said = run("run", other, "--task", "shout", "--metrics", port, "word")
    assert code == 2
    assert said.startswith(f"worker: --metrics {port}: another program listens there")
    assert not other.exists()
    one.signal_group(signal.SIGTERM)
    assert finish(one)[0] == 75


def test_a_card_of_another_profile_is_told_and_provenance_says_the_profile(tmp_path: Path) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A800-SXM4-80GB (UUID: GPU-11111111-aaaa)'\n")
    smi.chmod(0o755)
    env = {"PATH": f"{smi.parent}:{os.environ['PATH']}", "WORKER_HW": "a100"}
    queue, out = queue_of(tmp_path, "sleepy", "--set", "seconds=0", "a"), tmp_path / "out"
    code, said = run("run", queue, "--out", out, env=env)
    assert code == 0, said
    assert said.count("--hw a100 means another card than NVIDIA A800-SXM4-80GB") == 1
    assert "--hw a800" in said
    workers = json.loads((out / "provenance.json").read_text())["workers"]
    assert [one["hw"] for one in workers] == ["a100"]


def test_an_unknown_profile_is_refused_in_one_line(tmp_path: Path) -> None:
    queue = queue_of(tmp_path, "sleepy", "--set", "seconds=0", "a")
    code, said = run("run", queue, env={"WORKER_HW": "h800"})
    assert code == 2
    assert said.count("\n") == 1
    assert said.startswith("worker: --hw h800: there are a10, a100")


def test_an_engine_that_leaves_the_gpu_idle_is_told(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no clip")
    queue, cards = tmp_path / "queue", {"CUDA_VISIBLE_DEVICES": "0"}
    words = ("run", queue, "--task", "ghost-probing", tmp_path / "clip.mp4", "--out", tmp_path / "out")
    code, said = run(*words, "--gpus", "all", env=cards)
    assert code == 1, said
    assert said.count("--gpus all: motion leaves the GPU idle; with --engine qwen, videochat2 it") == 1
    assert "leaves the GPU idle" not in run(*words, env=cards)[1]
