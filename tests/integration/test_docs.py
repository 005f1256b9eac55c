"""What the documents say: their examples run, their commands exist, their links lead somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

from worker.cli import COMMANDS, group
from worker.errors import MachineError, UnfinishedError, WorkerError
from worker.ghosts import demo as drives
from worker.gpus.refusals import Reason
from worker.launch.here import ON_PURPOSE
from worker.media.demo import make
from worker.queue import layout
from worker.settings import Settings
from worker.tasks.media_check import MediaCheckParams

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH_IN_CODE = re.compile(r"`((?:worker|tests|docs|env|docker)/[\w./-]+)`")


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def commands(page: Path) -> Iterator[list[str]]:
    """Every `worker …` line of the page's shell blocks."""
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and Path(words[0]).name == "worker":
                yield words[1:]


# the example of docs/films.md


def test_the_example_of_reading_films_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "demo")
    monkeypatch.chdir(tmp_path / "demo" / "clips")
    (example,) = blocks(ROOT / "docs" / "films.md", "python")
    told: dict[str, Any] = {}
    exec(example, told)
    assert told["found"].frames.shape == (32, 224, 224, 3)
    assert told["few"].times == (0.0, 0.48, 1.0, 1.48, 2.0, 2.48, 3.0, 3.48)
    assert told["proof"][4:8] == b"ftyp"
    assert told["picture"].startswith(b"\xff\xd8")


# the examples of docs/tasks.md


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """The page's examples, each saved under its task's name."""
    folder = tmp_path / "my-tasks"
    folder.mkdir()
    for source in blocks(ROOT / "docs" / "tasks.md", "python"):
        found = re.search(r'^ +name = "([\w-]+)"$', source, re.MULTILINE)
        assert found, "an example without a name"
        (folder / f"{found[1].replace('-', '_')}.py").write_text(source)
    return folder


def worker(folder: Path, *arguments: str, tasks: Path | None = None) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=folder,
        env={**outside, "PYTHONPATH": str(ROOT), "WORKER_TASKS": str(tasks or "")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def results(out: Path) -> dict[str, Mapping[str, Any]]:
    return {line["input"]: line for line in json.loads((out / "final_results.json").read_text())["results"]}


def test_the_first_example_runs_as_the_page_says(tmp_path: Path, task_folder: Path) -> None:
    arguments = next(commands(ROOT / "docs" / "tasks.md"))
    ended = worker(tmp_path, *arguments, tasks=task_folder)
    assert ended.returncode == 1, ended.stderr
    shown = next(block for block in blocks(ROOT / "docs" / "tasks.md", "json"))
    assert (tmp_path / "run" / "words-results" / "final_results.json").read_text() == shown


def test_a_list_of_values_and_an_items_own_parameters_do_what_the_page_says(
    tmp_path: Path, task_folder: Path
) -> None:
    (tmp_path / "texts.txt").write_text("# three texts\none two three\n\n四 个 字\n")
    (tmp_path / "texts.jsonl").write_text('{"input": "to be or not", "params": {"shortest": 3}}\n')
    ended = worker(
        tmp_path, "run", "queue", "--task", "count-words", "texts.txt", "texts.jsonl", tasks=task_folder
    )
    assert ended.returncode == 0, ended.stderr
    words = {text: line["words"] for text, line in results(tmp_path / "queue-results").items()}
    assert words == {"one two three": 3, "四 个 字": 3, "to be or not": 1}


def test_the_long_job_goes_on_and_hands_its_file_over(tmp_path: Path, task_folder: Path) -> None:
    ended = worker(tmp_path, "run", "queue", "--task", "squares", "one", tasks=task_folder)
    assert ended.returncode == 0, ended.stderr
    answer = results(tmp_path / "queue-results")["one"]
    assert answer["total"] == 333833500
    proof = tmp_path / "queue-results" / answer["files"]["proof.txt"]
    assert proof.read_text() == "333833500\n"


def test_the_second_example_prepares_answers_and_sums_up(tmp_path: Path, task_folder: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, level in (("dark.png", 10), ("bright.jpg", 200)):
        Image.new("L", (80, 60), level).save(pictures / name)
    (pictures / "none.png").write_text("this is no picture")
    ended = worker(
        tmp_path, "run", "queue", "--task", "brightness", "--set", "grid=8", "pictures", tasks=task_folder
    )
    assert ended.returncode == 1, ended.stderr
    found = results(tmp_path / "queue-results")
    assert found["dark.png"]["brightness"] == 10.0
    assert found["none.png"]["failure"]["kind"] == "not-a-picture"
    summary = json.loads((tmp_path / "queue-results" / "summary.json").read_text())
    assert (summary["darkest"], summary["brightest"]) == (10.0, found["bright.jpg"]["brightness"])
    assert "10 of 255" in (tmp_path / "queue-results" / "report.html").read_text()


def test_the_parameters_of_media_check_are_those_of_its_page() -> None:
    text = (ROOT / "docs" / "media-check.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", text.partition("## Parameters")[2], re.MULTILINE)
    fields = MediaCheckParams.model_fields
    assert {name: json.loads(value) for name, value in rows} == {n: f.default for n, f in fields.items()}


# the first screen of the README


def test_the_demonstration_says_what_the_readme_shows(tmp_path: Path) -> None:
    demo, queue = "run/demo-ghost-probing", "run/ghost-probing-queue"
    drives.make(tmp_path / demo)
    arguments = ["run", queue, "--task", "ghost-probing", "--out", "run/ghost-probing-results", demo]
    ended = worker(tmp_path, *arguments)
    assert ended.returncode == 1, ended.stderr
    shown = untimed(blocks(READMES[0], "text")[0])
    last = shown.pop()
    assert last == ON_PURPOSE
    # children finish in any order
    assert sorted(shown) == sorted(untimed(ended.stderr) + untimed(ended.stdout))


def untimed(text: str) -> list[str]:
    """Without the line that a run which takes long says every 30 s."""
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]
    return [line for line in lines if "shards done; here" not in line]


def test_the_numbers_and_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    text, settings = prose(READMES[0]), Settings("queue")
    assert f"every {settings.flush_s:g} seconds" in text
    assert f"heard for {settings.ttl:g} s (`--ttl`)" in text
    table = text.partition("## What the exit code says")[2].partition("##")[0]
    errors = (WorkerError, MachineError, UnfinishedError)
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {
        0,
        1,
        *(error.exit_code for error in errors),
    }


def test_the_readme_lists_what_lies_in_a_queue() -> None:
    names = {value for name, value in vars(layout).items() if name.isupper()}
    table = prose(READMES[0]).partition("## What lies in a queue")[2].partition("##")[0]
    for page in (table, prose(ROOT / "docs" / "protocol.md")):
        assert not [name for name in names if f"`{name}" not in page]


# commands, links, translations


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    """Parsed by click, and not run."""
    context = click.Context(group, info_name="worker")
    for name, *arguments in commands(page):
        assert name in COMMANDS, f"worker {name}"
        command = group.get_command(context, name)
        assert command is not None
        try:
            command.make_context(name, list(arguments), parent=context)
        except click.ClickException as error:
            pytest.fail(f"worker {name} {' '.join(arguments)}: {error.format_message()}")


def downloads() -> list[str]:
    return sorted(
        {
            line.partition("#")[0].strip()
            for page in PAGES
            for _, block in FENCE.findall(page.read_text())
            for line in block.splitlines()
            if line.startswith("hf ")
        }
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("line", downloads())
def test_a_model_is_fetched_with_words_that_the_hubs_program_knows(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed, and not run: that needs a network."""
    cli = pytest.importorskip("huggingface_hub.cli.hf", reason="the extra vlm is not installed")
    _, *words = shlex.split(line)
    program: Any = cli.app
    if words[0] == "auth":
        assert program.get_command(None, "auth").get_command(None, *words[1:])
        return
    from huggingface_hub.cli import download

    def fetched(**how: Any) -> str:
        asked.append(how)
        return "somewhere"

    asked = list[Any]()
    monkeypatch.setattr(download, "snapshot_download", fetched)
    monkeypatch.setattr(download, "hf_hub_download", fetched)
    program.main(args=words, standalone_mode=False)
    (how,) = asked
    assert how["repo_id"] == words[1]
    for option, key in (("--include", "allow_patterns"), ("--exclude", "ignore_patterns")):
        if option in words:
            assert len(how[key]) == words.count(option)
    assert "*" not in how.get("filename", "")


def test_the_pages_of_engines_have_the_same_commands() -> None:
    pages = [ROOT / "docs" / name for name in ("engines.md", "engines.zh-CN.md")]
    blocks = [[text for _, text in FENCE.findall(page.read_text())] for page in pages]
    assert [uncommented(one) for one in blocks[0]] == [uncommented(one) for one in blocks[1]]


def test_the_refusals_on_the_chinese_page_of_gpus_are_those_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \|", (ROOT / "docs/gpu-manager.zh-CN.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 1
    for code, said in rows[1:]:  # the first is the heading
        _, chinese = Reason[code.upper()].value
        assert re.fullmatch(re.sub(r"\{\w+\}", ".+", chinese), said), code


def uncommented(block: str) -> list[str]:
    return [line.partition("#")[0].rstrip() for line in block.splitlines()]


def test_the_readme_shows_each_command() -> None:
    assert {name for name, *_ in commands(READMES[0])} >= {"run", "enqueue", "status", "collect", "retry"}


def test_both_readmes_have_the_same_code_and_the_same_headings() -> None:
    english, chinese = READMES
    assert FENCE.findall(english.read_text()) == FENCE.findall(chinese.read_text())
    levels = [re.findall(r"^(#+) ", prose(page), re.MULTILINE) for page in READMES]
    assert levels[0] == levels[1]
    assert LINK.findall(english.read_text()) == LINK.findall(chinese.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_every_file_that_is_named_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target
    for path in PATH_IN_CODE.findall(prose(page)):
        assert (ROOT / path).exists(), path


NAMED = re.compile(r"`(?:(\w+)\.)?(\w+)`")


def test_what_the_protocol_names_is_in_the_code() -> None:
    """Each `Class.method` or `function` between the asterisks of a rule."""
    sources = [ast.parse(file.read_text()) for file in (ROOT / "worker").rglob("*.py")]
    known: set[str] = set()
    for node in (node for tree in sources for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            known |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            known.add(node.name)
    text = (ROOT / "docs" / "protocol.md").read_text()
    notes = re.findall(r"^\*(`.*?)\*$", text, re.MULTILINE | re.DOTALL)
    assert len(notes) == 12
    for note in notes:
        for owner, name in NAMED.findall(note):
            assert (f"{owner}.{name}" if owner else name) in known, f"{owner}.{name}"
