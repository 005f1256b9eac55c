"""Bad input and bad days: one clear line, the right exit code, nothing lost, and the other items done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.battle import working_process
from tests.servers import Door, Server
from tests.workers import (
    ROOT,
    answers,
    counts,
    end_all,
    eventually,
    finish,
    processes_of,
    run,
    worker,
)
from worker.items import Failure

TTL = ("--ttl", "2s")
SLEEPY = ("--task", "sleepy", "--set", "seconds=0.1")


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of four texts."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.text").write_text(f"this is {name}")
    return folder


def refusal(*arguments: object, code: int = 2, env: dict[str, str] | None = None) -> str:
    """What a command says that refuses: it is one line."""
    found, said = run(*arguments, env=env)
    assert found == code, said
    assert said.startswith("worker: ")
    assert said.count("\n") == 1, said
    return said


def assert_calm(said: str) -> None:
    assert "Traceback" not in said, said
    assert "Exception" not in said, said


def kinds(queue: str | Path) -> dict[str, str]:
    """Per input: ok, or the failure's kind."""
    return {
        name: result.outcome.kind if isinstance(result.outcome, Failure) else "ok"
        for name, result in answers(queue).items()
    }


def done(queue: str | Path) -> int:
    return counts(queue).get("done", 0)


# what people type


def test_an_unknown_task(queue: Path) -> None:
    assert "no task is called 'shuot'; did you mean shout?" in refusal("run", queue, "--task", "shuot", "a")


def test_an_unknown_parameter(queue: Path, texts: Path) -> None:
    said = refusal("run", queue, "--task", "read-text", "--set", "lod=true", texts)
    assert "task read-text has no parameter 'lod'; did you mean loud?" in said


def test_a_parameter_of_the_wrong_type(queue: Path, texts: Path) -> None:
    said = refusal("run", queue, "--task", "read-text", "--set", "loud=very", texts)
    assert "cannot take loud=very" in said


def test_an_absent_path(queue: Path, texts: Path) -> None:
    said = refusal("run", queue, "--task", "read-text", texts, texts / "absent.text")
    assert f"no such file or folder: {texts}/absent.text" in said
    assert counts(queue).get("items", 0) == 0


def test_a_queue_that_is_not_there(queue: Path) -> None:
    assert f"{queue}: no such folder" in refusal("run", queue)


def test_a_queue_without_a_recipe(queue: Path) -> None:
    (queue / "inbox").mkdir(parents=True)
    (queue / "inbox" / "a.jsonl").write_text('{"input": "a"}\n')
    assert "has no recipe yet: enqueue first" in refusal("run", queue)


def test_two_recipes_on_one_queue(queue: Path, texts: Path) -> None:
    assert run("enqueue", queue, "--task", "read-text", texts)[0] == 0
    said = refusal("run", queue, "--task", "read-text", "--set", "loud=true", texts)
    assert "loud is False there, True here" in said
    said = refusal("enqueue", queue, "--task", "shout", "a")
    assert "task is 'read-text' there, 'shout' here" in said
    assert run("run", queue)[0] == 0
    assert kinds(queue) == {f"{name}.text": "ok" for name in "abcd"}


# what stands in lists and folders


def test_lines_that_are_not_json(queue: Path, texts: Path) -> None:
    (texts / "list.jsonl").write_text(
        '{"input": "a.text"}\nnonsense\n{"inptu": "b.text"}\n[]\n'
        '{"input": "b.text", "params": {"lod": true}}\n{"input": "c.text", "params": {"loud": true}}\n'
    )
    code, said = run("run", queue, "--task", "read-text", texts / "list.jsonl")
    assert code == 1
    assert_calm(said)
    assert "line 2 is not JSON" in said
    assert "line 3 has an unknown key 'inptu'; did you mean 'input'?" in said
    assert "line 4 is not a JSON object but a list" in said
    assert "did you mean loud?" in said
    assert kinds(queue) == {"a.text": "ok", "c.text": "ok"}


def test_an_absent_an_empty_and_a_binary_file(queue: Path, texts: Path) -> None:
    (texts / "empty.text").touch()
    (texts / "binary.text").write_bytes(b"\xff\xfe\0")
    (texts / "list.txt").write_text("a.text\nempty.text\nabsent.text\nbinary.text\nb.text\n")
    code, said = run("run", queue, "--task", "read-text", texts / "list.txt")
    assert code == 1
    assert_calm(said)
    assert kinds(queue) == {
        "a.text": "ok",
        "b.text": "ok",
        "empty.text": "empty",
        "absent.text": "absent",
        "binary.text": "error",
    }


def test_paths_that_leave_their_root(queue: Path, texts: Path) -> None:
    (texts.parent / "secret.text").write_text("secret")
    (texts / "link.text").symlink_to("../secret.text")
    (texts / "list.txt").write_text("../secret.text\n/etc/passwd\nlink.text\na.text\n")
    code, said = run("run", queue, "--task", "read-text", "--root", texts, texts / "list.txt")
    assert code == 1
    assert_calm(said)
    assert [f"line {n} names" in said for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert kinds(queue) == {"a.text": "ok"}


def test_files_that_change_or_vanish_after_they_were_enqueued(queue: Path, texts: Path) -> None:
    assert run("enqueue", queue, "--task", "read-text", texts)[0] == 0
    (texts / "a.text").write_text("something else")
    (texts / "b.text").unlink()
    code, said = run("run", queue)
    assert code == 1
    assert_calm(said)
    assert kinds(queue) == {"a.text": "changed", "b.text": "absent", "c.text": "ok", "d.text": "ok"}


def test_a_root_that_is_not_on_this_machine(queue: Path, texts: Path) -> None:
    assert run("enqueue", queue, "--task", "read-text", texts)[0] == 0
    elsewhere = texts.rename(texts.with_name("elsewhere"))
    assert "say where they are with --root DIR" in refusal("run", queue)
    assert run("run", queue, "--root", elsewhere)[0] == 0
    assert set(kinds(queue).values()) == {"ok"}


def test_a_file_that_is_still_copied_into_the_inbox(queue: Path, texts: Path) -> None:
    """The run waits until it stands still, and then takes it whole."""
    assert run("enqueue", queue, "--task", "read-text", texts / "a.text", "--root", texts)[0] == 0
    (queue / "inbox").mkdir()
    slow = queue / "inbox" / "slow.jsonl"
    slow.write_text('{"input": "b.text"}\n{"inp')
    process = worker("run", queue, *TTL)
    eventually(lambda: done(queue))
    with slow.open("a") as file:
        file.write('ut": "c.text"}\n{"input": "d.text"}')
    code, said = finish(process)
    assert code == 0, said
    assert kinds(queue) == {f"{name}.text": "ok" for name in "abcd"}


def test_answers_that_are_no_json_fail_alone(queue: Path) -> None:
    odd = ["nan", "half", "bytes", "path", "dict", "half a failure"]
    code, said = run("run", queue, "--task", "odd", "fine", *odd)
    assert code == 1
    assert_calm(said)
    expected = {**dict.fromkeys(odd, "error"), "half a failure": "odd", "fine": "ok"}
    assert kinds(queue) == expected


# children


def test_an_item_that_hangs_and_one_that_eats_all_memory(queue: Path) -> None:
    options = ("--task", "prepared", "--item-limit", "1s", "--item-memory", "0.5")
    code, said = run("run", queue, *options, "one", "hang", "two", "hungry", "three")
    assert code == 1
    assert_calm(said)
    assert kinds(queue) == {"one": "ok", "two": "ok", "three": "ok", "hang": "timeout", "hungry": "memory"}


# the store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 128 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a file system here")
    yield disk
    end_all()
    subprocess.run(["umount", "-l", str(disk)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def test_a_queue_that_may_only_be_read(small_disk: Path) -> None:
    queue = small_disk / "queue"
    assert run("enqueue", queue, "--task", "shout", "a", "b")[0] == 0
    remount(small_disk, "ro")
    said = refusal("run", queue, *TTL)
    assert "store refuses us (Read-only file system)" in said
    assert "check that the folder is there, and that you may write to it" in said
    assert "Read-only" in refusal("enqueue", queue, "c")
    remount(small_disk, "rw")
    assert run("run", queue)[0] == 0
    assert kinds(queue) == {"a": "ok", "b": "ok"}


def test_a_disk_that_is_full_in_the_middle(small_disk: Path) -> None:
    queue, inputs = small_disk / "queue", [f"{n:02d}" for n in range(20)]
    command = ("run", queue, "--task", "bulky", *inputs, *TTL, "--out", small_disk.with_name("out"))
    code, said = run(*command, "--patience", "0.3s")
    assert code == 3, said
    assert_calm(said)
    assert said.count("worker: ") == 1, said
    assert "store full (No space left on device)" in said
    assert "make room and run the same command again" in said
    assert 0 < done(queue) < 5
    remount(small_disk, "size=4m")
    code, said = run(*command)
    assert code == 0, said
    assert kinds(queue) == dict.fromkeys(inputs, "ok")
    assert not list(queue.rglob(".tmp-*"))


def test_wrong_credentials(azurite: Server) -> None:
    queue = f"{azurite.fresh()}/queue?sv=2021-08-06&sr=c&sp=rwl&se=2099-01-01&sig=TOPSECRET%3D"
    for command in ("run", "enqueue"):
        said = refusal(command, queue, "--task", "shout", "a")
        assert "refuses us (403" in said
        assert "AZURE_STORAGE_SAS_TOKEN" in said
        assert "TOPSECRET" not in said


def test_a_server_that_is_away_for_a_while(azurite: Server) -> None:
    """Connections break in mid-request, and new ones are refused for longer than the TTL."""
    queue, inputs = f"{azurite.fresh()}/queue", [f"{n:02d}" for n in range(18)]
    assert run("enqueue", queue, *SLEEPY, *inputs)[0] == 0
    variable, url = next(iter(azurite.env.items()))
    door = Door(int(url.rpartition(":")[2]))
    process = worker("run", queue, "--ttl", "1s", env={variable: f"http://127.0.0.1:{door.port}"})
    eventually(lambda: done(queue))
    door.shut()
    eventually(lambda: "trying again" in process.said)
    time.sleep(1.5)
    assert process.poll() is None
    door.open()
    code, said = finish(process)
    door.shut()
    assert code == 0, said
    assert_calm(said)
    assert kinds(queue) == dict.fromkeys(inputs, "ok")


def test_a_server_that_holds_its_breath_for_longer_than_the_ttl(azurite: Server) -> None:
    queue, inputs = f"{azurite.fresh()}/queue", [f"{n:02d}" for n in range(18)]
    assert run("enqueue", queue, *SLEEPY, *inputs)[0] == 0
    process = worker("run", queue, "--ttl", "1s")
    eventually(lambda: done(queue))
    azurite.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(2.0)
    finally:
        azurite.process.send_signal(signal.SIGCONT)
    code, said = finish(process)
    assert code == 0, said
    assert_calm(said)
    assert kinds(queue) == dict.fromkeys(inputs, "ok")


@pytest.mark.parametrize("dies", [False, True])
def test_a_folder_that_is_away_for_a_while(queue: Path, dies: bool) -> None:
    """As one on a disk that is mounted again; and the working process may die meanwhile."""
    inputs, away = [f"{n:02d}" for n in range(18)], queue.with_name("away")
    assert run("enqueue", queue, *SLEEPY, *inputs)[0] == 0
    process = worker("run", queue, *TTL)
    eventually(lambda: done(queue))
    pid = eventually(lambda: working_process(process))
    queue.rename(away)
    if dies:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: "another one starts" in process.said)
    time.sleep(2.0)
    assert process.poll() is None
    assert not queue.exists()
    away.rename(queue)
    code, said = finish(process)
    assert code == 0, said
    assert_calm(said)
    assert kinds(queue) == dict.fromkeys(inputs, "ok")


# time, and other workers


def test_a_clock_that_is_set_back_an_hour(queue: Path, tmp_path: Path) -> None:
    """In mid-run, in all processes."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(
        "import os, time\n"
        "right = time.time\n"
        f"time.time = lambda: right() - 3600 * os.path.exists({str(tmp_path / 'back')!r})\n"
    )
    inputs = [f"{n:02d}" for n in range(12)]
    assert run("enqueue", queue, *SLEEPY, *inputs)[0] == 0
    env = {"PYTHONPATH": f"{tmp_path / 'path'}:{ROOT}"}
    process = worker("run", queue, *TTL, env=env)
    eventually(lambda: done(queue))
    (tmp_path / "back").touch()
    code, said = finish(process)
    assert code == 0, said
    assert_calm(said)
    assert kinds(queue) == dict.fromkeys(inputs, "ok")
    assert counts(queue)["claims"] == counts(queue)["items"], "a shard was claimed twice"


def test_a_worker_that_sleeps_for_longer_than_the_ttl(queue: Path) -> None:
    """Another one finishes meanwhile; the sleeper wakes up, sees that, and does nothing twice."""
    inputs = [f"{n:02d}" for n in range(12)]
    assert run("enqueue", queue, *SLEEPY, *inputs)[0] == 0
    sleeper = worker("run", queue, "--ttl", "1s")
    eventually(lambda: done(queue))
    sleeper.signal_all(signal.SIGSTOP)
    code, said = run("run", queue, "--ttl", "1s")
    assert code == 0, said
    finished = answers(queue)
    sleeper.signal_all(signal.SIGCONT)
    code, said = finish(sleeper)
    assert code == 0, said
    assert_calm(said)
    assert answers(queue) == finished
    assert sorted(finished) == inputs


def test_the_same_command_twice_at_once(queue: Path, texts: Path) -> None:
    command = ("run", queue, "--task", "read-text", texts, *TTL)
    twins = [worker(*command), worker(*command)]
    for twin in twins:
        code, said = finish(twin)
        assert code == 0, said
        assert_calm(said)
    assert kinds(queue) == {f"{name}.text": "ok" for name in "abcd"}
    assert counts(queue)["items"] == 4, "each shard once"
    assert sorted(file.name for file in queue.with_name("queue-results").iterdir()) == [
        "final_results.json",
        "performance.json",
        "provenance.json",
        "read-text.log",
        "report.html",
        "summary.json",
    ]


def test_a_parent_that_is_killed_leaves_no_process_behind(queue: Path) -> None:
    inputs = [f"{n:02d}" for n in range(8)]
    assert run("enqueue", queue, "--task", "prepared", "--set", "seconds=0.2", *inputs)[0] == 0
    process = worker("run", queue, *TTL, "--children", "2")
    eventually(lambda: len(processes_of(process.mark)) >= 5)
    process.kill()
    process.wait()
    eventually(lambda: not processes_of(process.mark), timeout=5)
    assert process.left_behind() == []
    assert_calm(process.said)
    code, said = run("run", queue, *TTL)
    assert code == 0, said
    assert kinds(queue) == dict.fromkeys(inputs, "ok")


@pytest.mark.parametrize("seed", [1, 2])
def test_ctrl_c_at_any_moment(queue: Path, seed: int) -> None:
    """From the first moment to the last: to the whole group, as a terminal sends it."""
    inputs = [f"{n:02d}" for n in range(24)]
    chance = random.Random(seed)
    command = ("run", queue, *SLEEPY, *inputs, *TTL, "--out", queue.with_name("out"))
    for moment in [0.12, *(chance.uniform(0.12, 1.8) for _ in range(4))]:
        process = worker(*command)
        time.sleep(moment)
        process.signal_group(signal.SIGINT)
        code, said = finish(process, timeout=10)
        assert code in (0, 75), (moment, code, said)
        assert_calm(said)
        eventually(lambda one=process: not processes_of(one.mark), timeout=5)
    code, said = run(*command)
    assert code == 0, said
    assert kinds(queue) == dict.fromkeys(inputs, "ok")
