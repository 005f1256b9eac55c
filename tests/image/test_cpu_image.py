"""The CPU image, truly built by buildah, and worked in as a container engine would: the worker is process 1.

The base is a Debian with Python that is made here, under the name that the Dockerfile asks for. It takes
minutes, root, buildah and mmdebstrap, so it has a target of its own: `make test-image`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import missing
from tests.workers import eventually
from worker.launch.container import build
from worker.launch.order import Order, read_profile

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/python:3.11.14-slim-bookworm"
NAME = "localhost/gpu-batch-worker:cpu"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
LEFT_OUT = ("man", "doc", "locale")
"""of /usr/share, as Docker's own slim images do"""
BUILD_LIMIT_S = 1800


@dataclass(frozen=True)
class Image:
    root: Path
    config: dict[str, Any]
    bytes: int

    def container(self, folder: Path, *arguments: str, entry: Sequence[str] = (), user: int = 1000) -> Any:
        """Its own processes, its own root, /queue from here; signals reach it as `docker stop` sends them."""
        (folder / "queue").mkdir(exist_ok=True)
        os.chown(folder / "queue", user, user)
        ready = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --bind "$1" "$0/queue"'
        inside = f'cd /; exec chroot --userspec={user}:{user} "$0" /usr/bin/env -i --chdir=/queue "${{@:2}}"'
        command = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
            "-c",
            f"{ready} && {inside}",
        ]
        command += [str(self.root), str(folder / "queue"), *self.config["Env"]]
        command += [*(entry or self.config["Entrypoint"]), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(
        self, folder: Path, *arguments: str, entry: Sequence[str] = (), user: int = 1000
    ) -> tuple[int, str]:
        running = self.container(folder, *arguments, entry=entry, user=user)
        said, _ = running.communicate(timeout=240)
        return running.returncode, said


def unable() -> str:
    """Why; an empty text where it can be built."""
    absent = [name for name in ("buildah", "mmdebstrap", "unshare") if not shutil.which(name)]
    if absent:
        return f"no {', '.join(absent)}; apt-get install buildah mmdebstrap"
    if os.getuid():
        return "it takes root"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()  # a container that is not privileged


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if why := unable():
        missing(f"an image cannot be built here: {why}")
    place = tmp_path_factory.mktemp("image")
    settings = place / "containers.conf"
    trusted = f'volumes = ["{CERTIFICATES}:{CERTIFICATES}:ro"]' if Path(CERTIFICATES).exists() else ""
    settings.write_text(f"[containers]\n{trusted}\n")
    storage = place / "storage.conf"
    lines = ["[storage]", 'driver = "vfs"', f'graphroot = "{place}/graph"', f'runroot = "{place}/run"']
    storage.write_text("\n".join(lines))
    env = {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_CONF": str(settings),
        "CONTAINERS_STORAGE_CONF": str(storage),
    }

    def buildah(*words: str) -> str:
        command = ["buildah", *words]
        ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout.strip()

    _make_base(place / "base.tar")
    empty = buildah("from", "scratch")
    buildah("add", empty, str(place / "base.tar"), "/")
    buildah("commit", "--rm", empty, BASE)
    (place / "base.tar").unlink()
    buildah(*build(Order(read_profile(ROOT, "cpu", {})), "buildah", os.environ).command[1:])
    config = json.loads(buildah("inspect", "--type", "image", NAME))["Docker"]["config"]
    (about,) = json.loads(buildah("images", "--json", NAME))
    container = buildah("from", NAME)
    yield Image(Path(buildah("mount", container)), config, _bytes(about["size"]))
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


def _make_base(tar: Path) -> None:
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
    packages = "--include=python3,python3-venv,ca-certificates"
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", packages, *options, "bookworm", str(tar)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-3000:]


def _bytes(size: str) -> int:
    number, unit = size.split()
    return int(float(number) * {"MB": 1e6, "GB": 1e9}[unit])


pytestmark = pytest.mark.timeout(BUILD_LIMIT_S)


def test_it_is_small_and_says_what_it_is(image: Image) -> None:
    print(f"the CPU image has {image.bytes / 1e6:.0f} MB")  # noqa: T201
    assert image.bytes < 700e6
    assert image.config["User"] == "1000:1000"
    assert image.config["Entrypoint"] == ["worker"]
    assert set(image.config["Volumes"]) == {"/queue", "/cache"}
    assert image.config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "worker.health"]
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_knows_its_tasks_and_is_nobody_special(image: Image, tmp_path: Path) -> None:
    code, said = image.run(tmp_path, "tasks")
    assert code == 0, said
    assert "media-check" in said
    assert "ghost-probing" in said
    code, said = image.run(tmp_path, "import os, torch", entry=["python", "-c"])
    assert "No module named 'torch'" in said
    code, said = image.run(tmp_path, "import os; print(os.getuid(), os.getpid())", entry=["python", "-c"])
    assert said.split() == ["1000", "1"]


def test_whoever_runs_it_owns_the_answers(image: Image, tmp_path: Path) -> None:
    code, said = image.run(tmp_path, "/queue/demo", entry=["python", "-m", "worker.ghosts.demo"], user=4321)
    assert code == 0, said
    arguments = ("run", "/queue/q", "--task", "ghost-probing", "--out", "/queue/out", "/queue/demo")
    code, said = image.run(tmp_path, *arguments, user=4321)
    assert code == 1, said  # one file is cut off on purpose
    summary = tmp_path / "queue" / "out" / "summary.json"
    assert (json.loads(summary.read_text())["ok"], summary.stat().st_uid) == (4, 4321)


def test_a_stop_hands_the_work_back_and_a_dead_process_leaves_nothing(image: Image, tmp_path: Path) -> None:
    image.run(tmp_path, "/queue/demo", entry=["python", "-m", "worker.media.demo"])
    arguments = ("run", "/queue/q", "--task", "media-check", "--follow", "/queue/demo")
    running = image.container(tmp_path, *arguments)
    queue = tmp_path / "queue" / "q"
    eventually(lambda: list(queue.glob("done/*")), 120)
    (first,) = _children(running.pid)
    (nursery,) = _children(first)
    (working,) = _children(nursery)
    os.kill(working, signal.SIGKILL)
    eventually(lambda: any(one != working for one in _children(nursery)), 60)
    eventually(lambda: not [one for one in _below(first) if _state(one) == "Z"], 60)
    os.kill(first, signal.SIGTERM)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 75, said
    assert "SIGTERM: stopping" in said
    held = {claim.name for claim in queue.glob("claims/*/*.json")}
    assert held
    for shard in queue.glob("claims/*"):
        newest = max(shard.glob("*.json"))
        assert newest.with_suffix(".released").exists() or (queue / "done" / f"{shard.name}.json").exists()


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _below(pid: int) -> list[int]:
    try:
        found = _children(pid)
    except OSError:
        return []
    return [*found, *(deeper for one in found for deeper in _below(one))]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""
