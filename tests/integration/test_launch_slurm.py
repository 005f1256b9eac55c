"""`worker launch slurm` against a real SSH server and a real SLURM on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import slurm, sshd
from tests.servers import missing
from tests.workers import ROOT, TASKS, eventually
from worker.errors import UnfinishedError
from worker.launch.here import CHECKOUT
from worker.launch.slurm.host import Host

PROFILES = sorted(file.stem for file in (CHECKOUT / "env").glob("*.env"))
ITEMS = [f'word {n} 词\'s "{n}"' for n in range(24)]


@dataclass(frozen=True)
class Desk:
    """Where a person sits: a folder, and an environment."""

    folder: Path
    environment: dict[str, str]
    place: tuple[str, ...]
    """options that say where to"""

    def launch(self, *words: str, code: int = 0) -> str:
        """What it says, to stdout and stderr."""
        ended = subprocess.run(
            self._command(*words),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert ended.returncode == code, ended.stdout
        return ended.stdout

    @property
    def slow(self) -> tuple[str, ...]:
        """Work that is not done before `hurry`."""
        said = ("WORKER_TTL=3", "WORKER_GRACE=2s", f"SLEEPY_HASTE={self.folder}/haste")
        return (
            "--task",
            "steady",
            "--set",
            "seconds=600",
            *(word for one in said for word in ("--env", one)),
        )

    def dies_in_submit(self, sign: Path, *words: str) -> None:
        """As soon as SIGN is there: the command, and what it started here."""
        asked = ("submit", "--yes", "--hw", "cpu", "--venv", sys.prefix, *self.place, *words)
        with subprocess.Popen(
            self._command(*asked),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as one:
            eventually(lambda: sign.exists() or one.poll() is not None)
            os.killpg(one.pid, signal.SIGKILL)

    def hurry(self) -> None:
        (self.folder / "haste").touch()

    def submit(self, *words: str, code: int = 0) -> str:
        """The list of words, called as its folder says."""
        asked = ("--yes", "--hw", "cpu", "--venv", sys.prefix, *self.place, *words)
        return self.launch("submit", *asked, code=code)

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "worker", "launch", "slurm", *words]

    def receipt(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"run/launches/slurm/{name}.json").read_bytes())
        return found

    def answers(self, name: str) -> list[str]:
        told = json.loads((self.folder / f"run/{name}-results/final_results.json").read_bytes())
        return sorted(one["input"] for one in told["results"])


def a_desk(folder: Path, environment: dict[str, str], *place: str) -> Desk:
    folder.mkdir()
    (folder / "my words.txt").write_text("".join(f"{item}\n" for item in ITEMS))
    own = {"PYTHONPATH": str(ROOT), "WORKER_TASKS": str(TASKS), "PYTHONDONTWRITEBYTECODE": "1"}
    clean = {name: value for name, value in environment.items() if not name.startswith("WORKER_")}
    return Desk(folder, {**clean, **own}, place)


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssh-") as name:
        yield Path(name)


@pytest.fixture
def server(short: Path) -> Iterator[sshd.Sshd]:
    """Without a SLURM."""
    yield from _server(short, {})


@pytest.fixture
def desk(server: sshd.Sshd, tmp_path: Path) -> Desk:
    server.lacks("sbatch")
    return a_desk(tmp_path / "a desk", server.environment, "--host", sshd.NAME)


def _server(short: Path, environment: dict[str, str]) -> Iterator[sshd.Sshd]:
    if why := sshd.missing():
        missing(why)
    state = {"WORKER_TASKS": str(TASKS), "XDG_STATE_HOME": str(short / "state")}
    with sshd.sshd(short, {**state, **environment}) as started:
        yield started
    for room in (short / "home/gpu-batch-worker").glob("*/"):
        for pid in _processes(room):  # of a test that failed in the middle
            os.killpg(pid, signal.SIGKILL)


def _processes(room: Path) -> list[int]:
    """Of a launch on a server without a SLURM."""
    found = []
    for file in room.glob("worker-*.pid"):
        pid = next(iter(file.read_text().split()), "")  # "none yet", for a moment
        about = Path(f"/proc/{pid}/stat")
        if about.exists() and about.read_text().rpartition(")")[2].split()[0] != "Z":
            found.append(int(pid))
    return found


# a server without a SLURM


def test_from_a_desk_to_the_answers_and_nothing_is_left_there(desk: Desk, server: sshd.Sshd) -> None:
    made = server.home / "gpu-batch-worker/checkout/.venv"  # as by an earlier set-up
    (made / "bin").mkdir(parents=True)
    server.program(made / "bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (made / "core.stamp").touch()
    os.utime(made / "core.stamp", (2**32, 2**32))
    (made.parents[1] / ".made-by-worker-launch").write_text("all\n")
    (made.parent / ".made-by-worker-launch").write_text("worker\n")
    asked = ("--yes", "--hw", "cpu", *desk.place, "--task", "shout", "--name", "words")
    for n, half in enumerate((ITEMS[::2], ITEMS[1::2])):
        (desk.folder / f"#it's {n}.txt").write_text("".join(f"{item}\n" for item in half))
    (desk.folder / "linked.txt").symlink_to("#it's 1.txt")
    desk.launch("submit", *asked, "#it's 0.txt", "linked.txt")
    said = desk.launch("watch", "words", "--fetch")
    assert "24 of 24 items" in said
    assert desk.answers("words") == sorted(ITEMS)
    (server.home / "gpu-batch-worker/theirs").mkdir()
    assert "gpu-batch-worker/words: deleted" in desk.launch("delete", "words", "--yes")
    assert sorted(one.name for one in (server.home / "gpu-batch-worker").iterdir()) == [
        ".made-by-worker-launch",
        "theirs",
    ]


def test_submitted_twice_it_runs_once_and_goes_on_after_a_cancel(desk: Desk, server: sshd.Sshd) -> None:
    asked = (*desk.slow, "--name", "words", "my words.txt")
    desk.submit(*asked)
    room = server.home / "gpu-batch-worker/words"
    before = _processes(room)
    assert len(before) == 1
    assert "runs already, nothing is started twice" in desk.submit(*asked)
    assert _processes(room) == before
    assert "still run" in desk.launch("delete", "words", "--yes", code=2)
    assert "worker-1 ended" in desk.launch("cancel", "words")
    assert not _processes(room)
    assert "cancelled" in desk.launch("watch", "words", code=75)
    desk.hurry()
    desk.submit(*asked)
    assert "24 of 24 items" in desk.launch("watch", "words", "--fetch")
    assert desk.answers("words") == sorted(ITEMS)


def test_a_killed_worker_is_started_again_by_watch(desk: Desk, server: sshd.Sshd) -> None:
    desk.submit(*desk.slow, "--name", "words", "my words.txt")
    room = server.home / "gpu-batch-worker/words"
    assert eventually(lambda: any((room / "queue/claims").glob("*/*.json")))
    for pid in _processes(room):
        os.killpg(pid, signal.SIGKILL)
    desk.hurry()
    said = desk.launch("watch", "words", "--fetch")
    assert "submitting it again" in said
    assert desk.answers("words") == sorted(ITEMS)


@pytest.mark.parametrize(("program", "runs"), [("rsync", False), ("flock", True)])
def test_a_connection_that_breaks_is_told_and_the_same_submit_goes_on(
    desk: Desk, server: sshd.Sshd, program: str, runs: bool
) -> None:
    asked = ("--task", "shout", "--name", "words", "my words.txt")
    server.breaks_at(program, runs=runs)
    said = desk.submit(*asked, code=75)
    assert "the connection broke; nothing is lost: the same command goes on" in said
    assert not (server.folder / f"break-{program}").exists()
    desk.submit(*asked)
    assert "24 of 24 items" in desk.launch("watch", "words", "--fetch")
    assert desk.answers("words") == sorted(ITEMS)


def test_a_submit_that_is_killed_anywhere_goes_on_and_all_of_it_can_be_deleted(
    desk: Desk, server: sshd.Sshd
) -> None:
    asked = (*desk.slow, "--name", "words", "my words.txt")
    room = server.home / "gpu-batch-worker/words"
    receipt = desk.folder / "run/launches/slurm/words.json"
    for sign in (receipt, room / "inputs/my words.txt", room / "worker-1.pid"):
        desk.dies_in_submit(sign, *asked)
    eventually(lambda: _processes(room))
    desk.submit(*asked)
    assert desk.receipt("words")["jobs"] == ["worker-1"]
    (before,) = _processes(room)
    desk.hurry()
    assert "24 of 24 items" in desk.launch("watch", "words", "--fetch")
    assert desk.answers("words") == sorted(ITEMS)
    assert str(before) in (room / "worker-1.pid").read_text()
    desk.launch("delete", "words", "--yes")
    assert not (server.home / "gpu-batch-worker").exists()


def test_answers_of_a_fetch_that_breaks_are_the_old_ones_or_the_new_ones(
    desk: Desk, server: sshd.Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in desk.environment.items():
        monkeypatch.setenv(name, value)
    there, here = server.home / "results", desk.folder / "out"
    for folder, text in ((there, "new" * 1_000_000), (here, "old")):
        folder.mkdir()
        (folder / "final_results.json").write_text(text)
    server.breaks_at("rsync", said=1_000_000)
    with pytest.raises(UnfinishedError, match="connection broke"):
        Host(sshd.NAME).fetch(str(there), here)
    assert (here / "final_results.json").read_text() == "old"
    Host(sshd.NAME).fetch(str(there), here)
    assert (here / "final_results.json").read_text() == "new" * 1_000_000
    assert [one.name for one in here.iterdir()] == ["final_results.json"]


@pytest.mark.parametrize("name", ["words", "checkout"])
def test_a_folder_that_nobody_of_us_made_is_left_alone(desk: Desk, server: sshd.Sshd, name: str) -> None:
    theirs = server.home / f"gpu-batch-worker/{name}/worker"
    theirs.mkdir(parents=True)
    (theirs / "thesis.tex").touch()
    said = desk.submit("--task", "shout", "--name", "words", "my words.txt", code=3)
    assert "no launch made it: another --name or --dir" in said
    desk.launch("cancel", "words")
    desk.launch("delete", "words", "--yes")
    assert [one.name for one in (server.home / "gpu-batch-worker").iterdir()] == [name]
    assert (theirs / "thesis.tex").exists()


def test_a_queue_and_inputs_that_lie_there_are_used_and_never_deleted(desk: Desk, server: sshd.Sshd) -> None:
    clips = server.home / "their clips"
    clips.mkdir()
    (clips / "list of it's.txt").write_text("one\ntwo\n")
    queue = server.home / "a queue"
    there = f"host:{clips}/list of it's.txt"
    desk.submit("--task", "shout", "--name", "words", "--queue", str(queue), there)
    assert "2 of 2 items" in desk.launch("watch", "words")
    desk.launch("delete", "words", "--yes")
    assert queue.exists()
    assert clips.exists()
    assert not (server.home / "gpu-batch-worker").exists()


def test_what_another_machine_refuses_is_one_line(desk: Desk) -> None:
    def refused(*words: str, code: int = 3) -> str:
        said = desk.submit(*words, "--task", "shout", "--name", "words", "my words.txt", code=code)
        lines = [line for line in said.splitlines() if line.startswith("worker: ")]
        assert len(lines) == 1
        return lines[0]

    assert "is it on, and is the port right" in refused("--host", "127.0.0.1:1", code=75)
    assert "no such server" in refused("--host", "nobody@no-such-host.invalid", code=75)
    assert "--nodes needs one" in refused("--nodes", "2", code=2)
    assert "--venv" in refused("--venv", "/no/where")


def test_a_key_that_is_refused_asks_for_no_password(desk: Desk, server: sshd.Sshd) -> None:
    (server.folder / "client.pub").write_text("")
    said = desk.submit("--task", "shout", "--name", "words", "my words.txt", code=3)
    assert "Permission denied" in said
    assert "ssh-copy-id over-there" in said


def test_without_rsync_or_python_the_remedy_is_told(desk: Desk, server: sshd.Sshd) -> None:
    server.lacks("python3")
    asked = ("--yes", "--hw", "cpu", *desk.place, "--task", "shout", "--name", "words", "my words.txt")
    assert "python 3.11 or newer" in desk.launch("submit", *asked, code=3)
    server.lacks("rsync")
    assert "rsync is not installed" in desk.launch("submit", *asked, code=3)


def test_here_without_a_scheduler(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\nexit 127\n")
    (programs / "sbatch").chmod(0o755)
    desk = a_desk(tmp_path / "a desk", {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    desk.submit("--task", "shout", "--workers", "2", "--name", "words", "my words.txt")
    assert "24 of 24 items" in desk.launch("watch", "words", "--fetch")
    assert desk.answers("words") == sorted(ITEMS)
    desk.launch("delete", "words", "--yes")
    assert not (desk.folder / "run/slurm").exists()
    assert (desk.folder / "my words.txt").exists()


# a real SLURM


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm.Slurm]:
    with slurm.cluster() as started:
        yield started


@pytest.fixture
def login(cluster: slurm.Slurm, tmp_path: Path) -> Desk:
    """Of the cluster itself."""
    return a_desk(tmp_path / "a desk", cluster.env)


@pytest.mark.parametrize("hw", PROFILES)
def test_slurm_takes_the_script_of_every_profile(cluster: slurm.Slurm, tmp_path: Path, hw: str) -> None:
    desk = a_desk(tmp_path / "a desk", cluster.env)
    asked = ("--hw", hw, "--queue", "/q", "--name", "words", "--workers", "4", "--time-limit", "12h")
    script = tmp_path / "a b.sbatch"
    script.write_text(desk.launch("render", *asked, "--partition", "low", "--cpus", "2"))
    cluster.ask("sbatch", "--test-only", script)


def test_a_queue_is_drained_by_an_array(cluster: slurm.Slurm, login: Desk) -> None:
    login.submit("--task", "shout", "--workers", "3", "--gpus", "1", "--name", "words", "my words.txt")
    assert "24 of 24 items" in login.launch("watch", "words", "--fetch")
    assert login.answers("words") == sorted(ITEMS)
    cluster.ended(login.receipt("words")["jobs"][0])
    login.launch("delete", "words", "--yes")
    assert not (login.folder / "run/slurm").exists()


def test_a_job_is_never_started_twice_and_a_cancelled_one_goes_on(cluster: slurm.Slurm, login: Desk) -> None:
    asked = (*login.slow, "--name", "words")
    login.submit(*asked, "my words.txt")
    job = login.receipt("words")["jobs"][0]
    cluster.running(job)
    (login.folder / "run/launches/slurm/words.json").unlink()  # as from another desk
    assert "runs already, nothing is started twice" in login.submit(*asked, "my words.txt")
    assert login.receipt("words")["jobs"] == [job]
    assert "still run" in login.launch("delete", "words", "--yes", code=2)
    login.launch("cancel", "words")
    assert set(cluster.ended(job).values()) == {"CANCELLED"}
    assert "1 cancelled" in login.launch("watch", "words", code=75)
    login.hurry()
    login.submit(*asked, "my words.txt")
    assert len(login.receipt("words")["jobs"]) == 2
    login.launch("watch", "words", "--fetch")
    assert login.answers("words") == sorted(ITEMS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--partition", "none"], "`sinfo` lists the partitions: --partition"),
        (["--gpus", "100"], "less of --gpus"),
        (["--gpus", "1", "--gpu-type", "none"], "such cards"),
    ],
)
def test_what_slurm_refuses_is_one_line(login: Desk, words: list[str], said: str) -> None:
    asked = ("--task", "shout", "--name", "words", "my words.txt")
    assert said in login.submit(*words, *asked, code=3)


def test_by_ssh_an_answer_that_is_lost_starts_no_second_job(
    cluster: slurm.Slurm, short: Path, tmp_path: Path
) -> None:
    for server in _server(short, {"SLURM_CONF": cluster.env["SLURM_CONF"]}):
        desk = a_desk(tmp_path / "a desk", server.environment, "--host", sshd.NAME)
        asked = (*desk.slow, "--name", "lost", "my words.txt")
        (server.home / ".profile").write_text(f'PATH={server.bin}:"$PATH"\n')
        server.breaks_at("flock")
        desk.submit(*asked, code=75)
        desk.submit(*asked)
        known = cluster.ask("squeue", "--noheader", "--states=all", "--name=lost", "--format=%F").split()
        assert desk.receipt("lost")["jobs"] == known
        desk.hurry()
        assert "24 of 24 items" in desk.launch("watch", "lost", "--fetch")
        assert desk.answers("lost") == sorted(ITEMS)
        cluster.ended(known[0])
        desk.launch("delete", "lost", "--yes")
        assert not (server.home / "gpu-batch-worker").exists()
