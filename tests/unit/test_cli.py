"""The command line: what it says, and what it exits with."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.queues import TASKS, QueueUnderTest
from worker import cli
from worker.cli.outcome import findings
from worker.cli.screen import Screen
from worker.cli.table import bar, cut, table, width
from worker.errors import MachineError
from worker.items import Failure
from worker.queue import layout
from worker.tasks.ghost_probing import GhostProbing

BROKEN = Failure("broken", "it does not open")


@pytest.fixture(autouse=True)
def _tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("WORKER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))


@pytest.fixture
def queue(tmp_path: Path) -> QueueUnderTest:
    return QueueUnderTest(str(tmp_path / "queue"))


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def line(self) -> str:
        """The one line that an error is."""
        assert self.err.count("\n") == 1, self.err
        return self.err


@pytest.fixture
def worker(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        code = caught.value.code
        assert isinstance(code, int) or code is None
        return Said(code or 0, *capsys.readouterr())

    return call


def test_help_imports_no_command_and_answers_at_once() -> None:
    def seconds(*arguments: str) -> float:
        """Of a core: others may be at work beside."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    times = [(seconds("-c", "import click"), seconds("-m", "worker", "--help")) for _ in range(5)]
    assert min(t[1] for t in times) < 3 * min(t[0] for t in times)
    heavy = "{'torch', 'obstore', 'pydantic', 'av', 'numpy', 'logging'}"
    code = f"import sys, worker.cli; print({heavy} & {{*sys.modules}})"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "set()\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_is_there_and_explains_itself(worker: Any, name: str) -> None:
    said = worker(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: worker {name} ")


def test_an_unknown_command_suggests_the_nearest(worker: Any) -> None:
    said = worker("statsu", "queue")
    assert said.code == 2
    assert "did you mean status?" in said.line


@pytest.mark.parametrize("arguments", [("status",), ("status", "q", "--bogus"), ("--log", "xml", "tasks")])
def test_wrong_usage_is_one_line_and_2(worker: Any, arguments: tuple[str, ...]) -> None:
    said = worker(*arguments)
    assert said.code == 2
    assert said.line.startswith("worker: ")
    assert "--help" in said.line


def test_an_error_is_one_line_with_its_exit_code(worker: Any, tmp_path: Path) -> None:
    said = worker("status", str(tmp_path / "absent"))
    assert said.code == 2
    assert "no such folder" in said.line


@pytest.mark.parametrize("merge", [(), ("--merge", "any", "--out", "both")])
@pytest.mark.parametrize("option", ["--weight", "--threshold"])
def test_a_weight_without_a_weighted_merge_is_refused(
    worker: Any, tmp_path: Path, option: str, merge: tuple[str, ...]
) -> None:
    said = worker("compare", str(tmp_path / "a"), str(tmp_path / "b"), option, "0.5", *merge)
    assert said.code == 2
    assert f"{option} is for a weighted merge alone: add --merge weighted" in said.line
    said = worker("compare", "a", "b", option, "0.5", "--merge", "weighted", "--out", "both")
    assert "No such file" in said.line, "as for any two runs that are not there"


class TestTrouble:
    """Whatever a command raises."""

    @pytest.fixture
    def raising(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def make(error: BaseException) -> None:
            @click.command()
            def command() -> None:
                raise error

            monkeypatch.setattr(cli.group, "get_command", lambda _ctx, _name: command)

        return make

    def test_an_error_of_ours_keeps_its_exit_code(self, worker: Any, raising: Any) -> None:
        raising(MachineError("the disk is full: make room"))
        said = worker("tasks")
        assert (said.code, said.line) == (3, "worker: the disk is full: make room\n")

    def test_an_unexpected_error_says_where_and_what_to_do(self, worker: Any, raising: Any) -> None:
        raising(ZeroDivisionError("so\nit goes, sig=TOPSECRET"))
        said = worker("tasks")
        assert said.code == 2
        assert "ZeroDivisionError in " in said.line
        assert "test_cli.py:" in said.line
        assert "run again with --debug" in said.line
        assert "TOPSECRET" not in said.line

    def test_a_name_in_an_error_moves_no_cursor(self, worker: Any, raising: Any) -> None:
        raising(MachineError("a\x1b[2J\u202e.mp4 is odd"))
        assert worker("tasks").line == "worker: a\ufffd[2J\ufffd.mp4 is odd\n"
        assert "\x1b" not in worker("--debug", "tasks").err

    def test_debug_shows_the_traceback_without_secrets(self, worker: Any, raising: Any) -> None:
        raising(MachineError("https://u:TOPSECRET@h"))
        said = worker("--debug", "tasks")
        assert said.code == 3
        assert "Traceback" in said.err
        assert "TOPSECRET" not in said.err

    def test_a_key_press_stops_with_75(self, worker: Any, raising: Any) -> None:
        raising(KeyboardInterrupt())
        said = worker("tasks")
        assert said.code == 75
        assert "nothing is lost" in said.line


def test_every_option_has_a_variable_without_the_commands_name(
    worker: Any, queue: QueueUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.commit(queue.shard("a"))
    monkeypatch.setenv("WORKER_OUT", str(tmp_path / "elsewhere"))
    assert worker("collect", queue.store.url).code == 0
    assert (tmp_path / "elsewhere" / "summary.json").exists()
    monkeypatch.setenv("WORKER_JSON", "1")
    assert json.loads(worker("status", queue.store.url).out)["items"]["total"] == 1


def test_collect_exits_1_when_items_failed_and_75_when_work_is_left(
    worker: Any, queue: QueueUnderTest
) -> None:
    queue.commit(queue.shard("a", "b"), {"b": BROKEN})
    said = worker("collect", queue.store.url)
    assert said.code == 1
    assert "broken" in said.out
    assert f"{queue.store.url}-results/report.html" in said.out
    queue.shard("c")
    said = worker("collect", queue.store.url)
    assert said.code == 75
    assert "1 of 2 shards" in said.line


def test_status_is_a_text_for_people_and_json_for_machines(worker: Any, queue: QueueUnderTest) -> None:
    queue.commit(queue.shard("a", "b"), {"b": Failure("broken", "GET ?sig=TOPSECRET")})
    shard = queue.shard("c")
    item = "海滩.mp4"
    queue.beat("w1", claims=[queue.claim(shard)], at=time.time(), device="A100", item=item, rate_per_s=0.5)
    said = worker("status", queue.store.url)
    assert "2 of 3 items  67%" in said.out
    assert "1 done, 1 claimed, 0 free; 0.5 items/s, 1 s to 4 s left" in said.out
    assert "A100" in said.out
    assert "broken" in said.out
    assert "TOPSECRET" not in said.out
    said = worker("status", queue.store.url, "--json")
    assert json.loads(said.out)["workers"][0]["item"] == item
    assert "TOPSECRET" not in said.out


def test_watching_ends_when_all_is_done_and_is_plain_in_a_file(worker: Any, queue: QueueUnderTest) -> None:
    queue.commit(queue.shard("a"))
    said = worker("status", "--watch", queue.store.url)
    assert said.code == 0
    assert "\x1b" not in said.out


def test_a_terminal_is_drawn_over_in_place() -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    screen = Screen(out, in_place=True)
    screen.show(["one", "x" * 500])
    screen.show(["two"])
    first, _, second = out.getvalue().partition("\x1b[2A\x1b[J")
    assert max(map(len, first.splitlines())) < 500
    assert second == "two\n"
    screen.leave()
    screen.show(["three"])  # below what somebody else wrote
    assert out.getvalue().endswith("two\nthree\n")


def test_retry_asks_again_for_what_failed(worker: Any, queue: QueueUnderTest) -> None:
    queue.commit(queue.shard("a", "b"), {"b": BROKEN})
    assert "1 items asked for again" in worker("retry", queue.store.url).out
    said = worker("retry", queue.store.url)
    assert (said.code, said.out) == (0, "nothing to retry\n")
    assert worker("retry", queue.store.url, "--failed", "a").code == 2
    said = worker("retry", queue.store.url, "A")
    assert said.code == 2
    assert "did you mean" in worker("retry", queue.store.url, "aa").line


def test_a_retry_of_a_job_says_that_it_goes_on_and_can_be_told_to_begin_anew(
    worker: Any, queue: QueueUnderTest
) -> None:
    for name in ("a", "b"):
        shard = queue.shard(name)
        queue.store.create(layout.manifest(shard.name, 1, 1), b"{}")
        queue.commit(shard, {name: Failure("error", "no such column")})
    said = worker("retry", queue.store.url, "a").out
    assert "1 items asked for again, 1 of them from their checkpoints" in said
    assert "checkpoints" not in worker("retry", queue.store.url, "--fresh", "b").out


def test_tasks_lists_tasks_and_describes_one(worker: Any) -> None:
    said = worker("tasks")
    assert "shout" in said.out
    assert "says it louder" in said.out
    said = worker("tasks", "sleepy")
    assert "seconds  number  default 0.1" in said.out
    assert "no parameters" in worker("tasks", "shout").out
    assert worker("tasks", "shoot").code == 2


class TestTable:
    def test_columns_stay_straight_with_wide_letters(self) -> None:
        lines = table([["name", "n"], ["海滩", "1"], ["🏖", "2"], ["abc", "3"]])
        assert {width(line) for line in lines} == {7}

    def test_names_cannot_move_the_cursor(self) -> None:
        assert table([["a\x1b[2J\nb\u202ec"]]) == ["a\ufffd[2J\ufffdb\ufffdc"]
        assert table([["👩\u200d🚀"]]) == ["👩\u200d🚀"]

    def test_what_is_too_long_is_cut_at_its_width(self) -> None:
        assert cut("海滩海滩", 5) == "海滩…"
        assert cut("short", 5) == "short"

    def test_a_bar_is_full_only_at_the_end(self) -> None:
        assert bar(999, 1000, 10).count("█") == 9
        assert bar(1000, 1000, 10) == "█" * 10


def test_the_end_of_a_run_tells_what_the_task_counted() -> None:
    own = {
        "kinds": {"picture": 2, "video": 1200},
        "sizes": {},
        "duration_s": 61.5,
        "with_black": 3,
        "rotated": 0,
    }
    assert findings(own) == ["duration 61.5 s, with black 3", "kinds: picture 2, video 1,200"]
    assert findings({"sizes": dict.fromkeys("abcde", 1)}) == ["sizes: a 1, b 1, c 1, 2 more"]
    assert findings({}) == []


def test_of_a_headline_zero_is_told() -> None:
    own = {"success_rate": 1.0, "detected": 0, "detection_rate": 0.0, "screened_out": 0, "unknown": None}
    told = findings(own, GhostProbing.headlines)
    assert told == ["success rate 1.0, detected 0, detection rate 0.0"]


def test_files_that_are_not_taken_are_told_with_their_endings(worker: Any, tmp_path: Path) -> None:
    for name in ("a.text", "b.md", "c.md", "d.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("words")
    said = worker("enqueue", str(tmp_path / "queue"), "--task", "read-text", str(tmp_path / "in"))
    assert said.code == 0
    assert said.line.endswith("1 new items in 1 shards; 3 files skipped (.md, .txt)\n")


def test_an_engine_is_refused_where_the_task_has_none(worker: Any, tmp_path: Path) -> None:
    said = worker("enqueue", str(tmp_path / "queue"), "--task", "shout", "--model", "some/model", "a")
    assert said.code == 2
    assert "task shout uses no model: leave --engine, --model and --revision out" in said.line
    assert not (tmp_path / "queue" / "run.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["collect"]])
def test_a_terminal_without_our_letters_gets_others(
    tmp_path: Path, encoding: str, command: list[str]
) -> None:
    queue = QueueUnderTest(str(tmp_path / "队列"))
    queue.commit(queue.shard("海滩 😀.mp4"), {"海滩 😀.mp4": BROKEN})
    said = subprocess.run(
        [sys.executable, "-m", "worker", *command, queue.store.url],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert said.returncode == (1 if command == ["collect"] else 0), said.stderr.decode()
    assert b"UnicodeEncodeError" not in said.stderr
    assert b"broken" in said.stdout
    if "--json" in command:
        assert json.loads(said.stdout)["failures"]["examples"][0]["input"] == "海滩 😀.mp4"


def test_a_tasks_engines_are_told_and_what_each_needs() -> None:
    said = CliRunner().invoke(cli.group, ["tasks", "ghost-probing"])
    assert said.exit_code == 0, said.output
    lines = [line.split() for line in said.output.splitlines() if "--engine" in line]
    assert [line[1] for line in lines] == ["motion", "detector", "qwen", "videochat2", "openai"]
    needs = [line[3] if "--model" in line else "" for line in lines]
    assert needs == ["", "FILE", "FOLDER|OWNER/NAME", "FOLDER|OWNER/NAME", "NAME"]
