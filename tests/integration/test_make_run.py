"""`make run` where there is a Docker, and where there is none: the same command, the same answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workers import eventually
from worker.media.demo import make

ROOT = Path(__file__).resolve().parents[2]

DOCKER = f"""#!{sys.executable}
# a Docker whose containers are this machine: it notes what it is told, and runs what an image would
import json, os, sys
words = sys.argv[1:]
with open(os.environ["FAKE_DOCKER"] + "/told.jsonl", "a") as told:
    print(json.dumps(words), file=told)
if words[0] == "info":
    if os.path.exists(os.environ["FAKE_DOCKER"] + "/away"):
        sys.exit("Cannot connect to the Docker daemon")
    print(json.dumps({{"Runtimes": {{"nvidia": {{}}}}}}))
if words[:2] == ["image", "inspect"]:
    sys.exit(not os.path.exists(os.environ["FAKE_DOCKER"] + "/built"))
if words[0] in ("pull", "build"):
    open(os.environ["FAKE_DOCKER"] + "/built", "w").close()
if words[0] == "run":
    entry = words[words.index("--entrypoint") + 1]
    last = next(n for n, word in enumerate(words) if word.startswith(("gpu-batch-worker:", "registry/")))
    module = [] if entry == "python" else ["-m", "worker"]
    os.execv(sys.executable, [sys.executable, *module, *words[last + 1 :]])
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, and a Docker for it."""
    for name in ("Makefile", "env", "docker", "worker", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DOCKER", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    return tmp_path


def told(place: Path) -> list[list[str]]:
    return [json.loads(line) for line in (place / "told.jsonl").read_text().splitlines()]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "run", "TASK=media-check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_image_is_built_once_and_the_answers_lie_where_they_were_asked_for(place: Path) -> None:
    make(place / "films")
    # a card's profile asks for a card, which the worker in our image does not find
    ended = run("HW=a800", "IN=films", "OUT=answers", "WORKER_GPUS=", "WORKER_DEVICE=cpu")
    assert ended.returncode == 2, ended.stderr  # what make itself ends with; the worker's is in its words
    assert "Error 1" in ended.stderr
    summary = json.loads((place / "answers" / "summary.json").read_text())
    assert summary["failed"] == 3
    assert [words[0] for words in told(place)] == ["info", "image", "build", "run"]
    assert f"{place}/films:{place}/films:ro" in told(place)[-1]
    assert f"{place}/answers:{place}/answers" in told(place)[-1]
    assert f"{place}:{place}" not in told(place)[-1]
    run("HW=a800", "IN=films", "OUT=answers", "WORKER_GPUS=", "WORKER_DEVICE=cpu")
    assert [words[0] for words in told(place)][4:] == ["info", "image", "run"]


def test_what_stands_in_front_of_make_counts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(place / "it's")
    for name, value in {"WORKER_STACK": "turing", "WORKER_GPUS": "", "WORKER_DEVICE": "cpu"}.items():
        monkeypatch.setenv(name, value)
    ended = run("HW=h100", "IN=it's", "OUT=answers")
    assert "Error 1" in ended.stderr, ended.stderr
    assert (place / "answers" / "summary.json").exists()
    assert told(place)[-1][-1] == f"{place}/it's"
    assert "gpu-batch-worker:turing" in told(place)[-1]


def test_an_engine_and_a_model_reach_the_worker(place: Path) -> None:
    make(place / "films")
    ended = run("HW=a800", "IN=films", "ENGINE=qwen", "MODEL=films", "WORKER_GPUS=")
    assert "media-check" in ended.stderr  # which has no engines
    command = told(place)[-1]
    assert command[command.index("--engine") :][:4] == ["--engine", "qwen", "--model", f"{place}/films"]


def test_the_doctor_looks_from_inside_of_the_image(place: Path) -> None:
    command = ["make", "--no-print-directory", "doctor", "HW=a800", "FOR=media-check", "QUEUE=q"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "none, and the profile is a800" in ended.stdout, ended.stderr
    assert told(place)[-1][-7:] == ["doctor", "--hw", "a800", "--for", "media-check", "--queue", f"{place}/q"]


@pytest.mark.parametrize(
    ("words", "told_"),
    [
        (["IN=nowhere"], "IN=nowhere is not there"),
        (["IN=env", "OUT=env/cpu.env/out"], "cannot be made (Not a directory)"),
        (["IN=env", "OUT=az://c/out"], "OUT=az://c/out: answers go into a folder"),
        (["IN=env", "WORKER_STACK=nonsense"], "WORKER_STACK=nonsense is unknown"),
        (["IN='env"], "IN='env: No closing quotation"),
    ],
)
def test_what_is_wrong_is_one_line_before_an_image_is_made(place: Path, words: list[str], told_: str) -> None:
    ended = run("HW=a800", *words)
    assert ended.returncode == 2
    assert told_ in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (place / "built").exists()


def test_an_image_of_a_registry_is_pulled_and_shows_the_demonstration(place: Path) -> None:
    ended = run("IMAGE=registry/worker:3")
    assert ended.returncode == 0, ended.stderr
    assert "failed items are as they should be" in ended.stdout
    assert "Makefile" not in ended.stderr  # make itself has nothing to say
    assert (place / "run" / "media-check-results" / "final_results.json").exists()
    assert [words[0] for words in told(place)] == ["info", "image", "pull", "run", "run"]


def test_a_stop_reaches_the_container_and_its_word_comes_back(place: Path) -> None:
    make(place / "films")
    command = [
        sys.executable,
        "-m",
        "worker.launch.here",
        "run",
        "--hw",
        "cpu",
        "--image",
        "registry/worker:3",
    ]
    command += ["--task", "media-check", "--", "films"]
    running = subprocess.Popen(
        command, env={**os.environ, "WORKER_FOLLOW": "1"}, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr
    eventually(lambda: list(place.glob("run/films-queue/done/*")))
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 75, said
    assert "SIGTERM: stopping" in said


def test_a_docker_that_does_not_answer_is_said_and_a_machine_without_a_driver_refused(place: Path) -> None:
    (place / "away").touch()
    make(place / "films")
    ended = run("HW=a800", "IN=films")
    assert "docker does not answer (Cannot connect to the Docker daemon)" in ended.stderr
    if not Path("/proc/driver/nvidia/version").exists():
        assert "HW=a800 is a GPU, and NVIDIA's driver is not here" in ended.stderr
        assert "Error 3" in ended.stderr


def test_an_unknown_machine_is_told_the_others(place: Path) -> None:  # noqa: ARG001
    ended = run("HW=b800")
    assert ended.returncode == 2
    assert "HW=b800 is unknown; choose one of:" in ended.stderr
    assert "a800" in ended.stderr
