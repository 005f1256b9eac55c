"""env/slurm/worker.sbatch on a real SLURM: whatever becomes of its jobs, the queue loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Event

import pytest

from tests import slurm as harness
from tests.slurm import Slurm
from tests.slurm_daemons import NODES
from tests.tasks.sayings import HASTE
from tests.workers import ROOT, answers, eventually, run
from worker.clock import Clock
from worker.items import Answer
from worker.queue import layout
from worker.queue.claims import newest_claims
from worker.queue.progress import Watcher
from worker.queue.store import open_store

SCRIPT = "env/slurm/worker.sbatch"
DELAY_S = 3
ITEMS = [f"item {number:02d}" for number in range(24)]
FIRST, SECOND = NODES


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Slurm, Path, str]]:
    """And a job that reaches its limit of a minute meanwhile: SLURM looks at that twice a minute."""
    with harness.cluster() as slurm:
        queue = tmp_path_factory.mktemp("limit") / "queue"
        enqueue(queue, "sleepy", "--set", "seconds=5")
        limited = submit(slurm, queue, "--time=1", "--signal=B:USR1@60", "-w", SECOND, env=hasty(queue))
        yield slurm, queue, limited


@pytest.fixture(scope="module")
def training(
    running: tuple[Slurm, Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Future[str]]]:
    """On both nodes, warned once: it takes half a minute, while others work beside it."""
    if not find_spec("torch"):
        pytest.skip("torch is not installed")
    slurm = running[0]
    queue = tmp_path_factory.mktemp("training") / "a queue 队列"
    words = ("--set", "steps=40", "--set", "step_s=0.1", "one")
    assert run("enqueue", queue, "--task", "together", *words)[0] == 0
    # of two nodes the end takes longer, and who is late waits for two minutes
    job = submit(slurm, queue, "--nodes=2", env={"WORKER_TTL": "3s", "WORKER_REQUEUE_DELAY": "10"})

    over = Event()

    def saved() -> int:
        store = open_store(str(queue))
        return sum(bool(layout.checkpoint_of(entry.name)) for entry in store.list(layout.JOBS))

    def warn() -> str:
        eventually(lambda: over.is_set() or saved(), 240)
        slurm.ask("scancel", "--signal=USR1", "--batch", job)
        return job

    with ThreadPoolExecutor(1) as beside:
        yield queue, beside.submit(warn)
        over.set()
    slurm.cancel([job])


@pytest.fixture
def slurm(running: tuple[Slurm, Path, str]) -> Iterator[Slurm]:
    slurm = running[0]
    before = len(slurm.submitted)
    yield slurm
    slurm.cancel(slurm.submitted[before:])


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "a queue 队列"


def enqueue(queue: Path, task: str, *words: object) -> None:
    code, said = run("enqueue", queue, "--task", task, *words, *ITEMS)
    assert code == 0, said


def hasty(queue: Path) -> dict[str, str]:
    """Once this file is there nothing takes long."""
    return {HASTE: str(queue.parent / "haste")}


def submit(slurm: Slurm, queue: Path, *words: object, env: Mapping[str, str] | None = None) -> str:
    own = {"WORKER_HW": "cpu", "WORKER_VENV": sys.prefix, "WORKER_REQUEUE_DELAY": str(DELAY_S)}
    told = {**own, "WORKER_QUEUE": str(queue), "OMP_NUM_THREADS": "1", **(env or {})}
    return slurm.sbatch("-o", queue.parent / "log-%a", *words, SCRIPT, env=told)


def log(queue: Path) -> str:
    return "".join(file.read_text() for file in queue.parent.glob("log-*"))


def claimed(queue: Path) -> int:
    return len(open_store(str(queue)).list(layout.CLAIMS))


def assert_answered_once(queue: Path) -> None:
    assert sorted(answers(queue)) == ITEMS, log(queue)


def test_an_array_drains_a_queue_and_each_task_works_on_the_gpus_that_it_was_given(
    slurm: Slurm, queue: Path, training: object
) -> None:
    assert training
    enqueue(queue, "sleepy", "--set", "seconds=600")
    env = {**hasty(queue), "WORKER_HW": "rtx2080"}
    job = submit(slurm, queue, "--array=1-2", "--gres=gpu:2", "-w", FIRST, env=env)
    look = Watcher(open_store(str(queue)), Clock()).look
    wanted = {f"cuda:{card}" for card in range(4)}
    eventually(lambda: {one.info.get("device") for one in look().workers} == wanted)
    eventually(lambda: claimed(queue) >= 4)
    (queue.parent / "haste").touch()
    assert slurm.ended(job) == {f"{job}_1": "COMPLETED", f"{job}_2": "COMPLETED"}, log(queue)
    assert_answered_once(queue)


def test_a_job_that_is_cancelled_hands_its_work_back_and_stays_away(slurm: Slurm, queue: Path) -> None:
    enqueue(queue, "sleepy", "--set", "seconds=1")
    job = submit(slurm, queue, "-w", FIRST)
    eventually(lambda: open_store(str(queue)).list(layout.DONE))
    slurm.ask("scancel", job)
    assert slurm.ended(job) == {job: "CANCELLED"}
    store = open_store(str(queue))
    done = {layout.shard_of(entry.name) for entry in store.list(layout.DONE)}
    claims = newest_claims(entry.name for entry in store.list(layout.CLAIMS))
    assert all(claim.released for shard, claim in claims.items() if shard not in done)
    assert slurm.job(job).restarts == 0


def test_failed_items_and_a_machine_that_does_not_fit_end_a_job_for_good(
    slurm: Slurm, tmp_path: Path
) -> None:
    failing, fine = tmp_path / "failing" / "queue", tmp_path / "fine" / "queue"
    for one, inputs in ((failing, ("bad one", "quick")), (fine, ("quick",))):
        one.parent.mkdir()
        assert run("enqueue", one, "--task", "chaotic", *inputs)[0] == 0
    jobs = [submit(slurm, failing), submit(slurm, fine, env={"WORKER_HW": "rtx2080"})]
    assert [slurm.ended(job)[job] for job in jobs] == ["FAILED", "FAILED"]
    assert [slurm.exit_code(job) for job in jobs] == [1, 3], log(failing) + log(fine)
    assert [slurm.job(job).restarts for job in jobs] == [0, 0]


def test_who_ends_at_once_with_work_left_waits_and_not_for_ever(slurm: Slurm, queue: Path) -> None:
    """As where the queue's store is away."""
    program = queue.parent / "venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 75\n")
    program.chmod(0o755)
    env = {"WORKER_VENV": str(program.parents[1])}
    job = submit(slurm, queue, env=env)
    eventually(lambda: slurm.job(job).reason == "BeginTime" and slurm.job(job).restarts)
    about = slurm.ask("scontrol", "--oneliner", "show", "job", job)
    begins = datetime.fromisoformat(about.partition(" StartTime=")[2].split()[0])
    assert (begins - datetime.now()).total_seconds() > 60  # noqa: DTZ005  SLURM has the machine's own
    last = submit(slurm, queue, env={**env, "WORKER_REQUEUES": "0"})
    assert slurm.ended(last) == {last: "FAILED"}
    assert slurm.exit_code(last) == 75
    assert "submit it again" in log(queue)


def test_one_task_of_an_array_comes_back_and_the_others_hear_nothing_of_it(slurm: Slurm, queue: Path) -> None:
    """The last one has the number of the whole array."""
    enqueue(queue, "sleepy", "--set", "seconds=600")
    job = submit(slurm, queue, "--array=1-2", "-w", FIRST, env=hasty(queue))
    eventually(lambda: claimed(queue) >= 2)
    last = f"{job}_2"
    slurm.ask("scancel", "--signal=TERM", "--batch", last)
    eventually(lambda: slurm.job(last).restarts == 1 and slurm.job(last).state == "RUNNING")
    assert slurm.job(f"{job}_1").restarts == 0
    (queue.parent / "haste").touch()
    assert set(slurm.ended(job).values()) == {"COMPLETED"}
    assert_answered_once(queue)


def test_two_nodes_train_together_and_go_on_after_a_warning(
    slurm: Slurm, training: tuple[Path, Future[str]]
) -> None:
    """Before the tests that take a node away."""
    queue, warned = training
    job = warned.result()
    assert slurm.ended(job, 240) == {job: "COMPLETED"}, log(queue)
    assert slurm.job(job).restarts == 1
    assert "going on from step" in log(queue)
    (one,) = answers(queue).values()
    assert isinstance(one.outcome, Answer)
    assert one.outcome.keys["total"] == sum(range(41))


def test_what_is_preempted_in_the_middle_comes_back_soon_and_goes_on(slurm: Slurm, queue: Path) -> None:
    enqueue(queue, "sleepy", "--set", "seconds=1")
    job = submit(slurm, queue, "--array=1-2", "--gres=gpu:2", "-w", FIRST, env=hasty(queue))
    store = open_store(str(queue))
    eventually(lambda: len(store.list(layout.WORKERS)) == 2 and len(store.list(layout.DONE)) >= 2)
    slurm.preempt(FIRST)
    back = slurm.running(job, 2)
    assert {one.restarts for one in back} == {1}
    (queue.parent / "haste").touch()
    assert set(slurm.ended(job).values()) == {"COMPLETED"}
    assert log(queue).count("SIGTERM: stopping") == 2
    assert_answered_once(queue)


def test_what_was_done_on_a_node_that_dies_is_taken_over_by_another(slurm: Slurm, queue: Path) -> None:
    enqueue(queue, "sleepy", "--set", "seconds=600")
    env = {**hasty(queue), "WORKER_TTL": "3s"}
    lost = submit(slurm, queue, "-w", FIRST, env=env)
    eventually(lambda: claimed(queue))
    other = submit(slurm, queue, "-w", SECOND, env=env)
    eventually(lambda: len(open_store(str(queue)).list(layout.WORKERS)) == 2)
    slurm.kill(FIRST)
    (queue.parent / "haste").touch()
    assert slurm.ended(other) == {other: "COMPLETED"}
    assert_answered_once(queue)
    # SLURM itself sees it after half a minute
    slurm.ask("scontrol", "update", f"NodeName={FIRST}", "State=DOWN", "Reason=power")
    eventually(lambda: slurm.job(lost).restarts == 1)
    slurm.start(FIRST)


def test_at_its_time_limit_a_job_goes_into_the_line_again(running: tuple[Slurm, Path, str]) -> None:
    slurm, queue, job = running
    eventually(lambda: slurm.job(job).restarts, 120)
    assert "SIGUSR1: stopping" in log(queue)
    Path(hasty(queue)[HASTE]).touch()
    assert slurm.ended(job) == {job: "COMPLETED"}
    assert_answered_once(queue)


def test_nothing_is_left_of_it_when_who_started_it_is_killed() -> None:
    if why := harness.why_not():
        pytest.skip(why)
    text = (
        "from tests import slurm\n"
        "with slurm.cluster() as one:\n"
        "    job = one.sbatch('-o', '/dev/null', '--wrap', 'sleep 600')\n"
        "    one.running(job)\n"
        "    print(one.folder, flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, "-c", text]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout
        folder = one.stdout.readline().decode().strip()
        assert folder
        assert len(processes_with(folder)) >= 4
        one.kill()
    eventually(lambda: not processes_with(folder), 30)
    assert not Path(folder).exists()


def processes_with(text: str) -> list[str]:
    """Daemons and jobs: their arguments or their environment name the folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in told:
                found.append(process.name)
    return found
