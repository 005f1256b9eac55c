"""What `make run`, `image` and `push` decide: in a container or without, and with which folders."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from worker.engines import hub
from worker.errors import MachineError, UsageError
from worker.launch import container, native
from worker.launch.machine import Engine, Machine, gives_gpus, kind_of, look
from worker.launch.order import Order, Profile, Work, check, doctor_words, read_profile, run_words, work_of

ROOT = Path(__file__).resolve().parents[2]
A800 = Profile("a800", "ampere", "cuda")
CPU = Profile("cpu", "cpu", "cpu")
DOCKER, PODMAN = Engine("docker", gives_gpus=True), Engine("podman", gives_gpus=True, kind="podman")
HOST = Machine(
    DOCKER,
    python="python3",
    driver=True,
    environment={"HOME": "/home/ann"},
    user=(1001, 100),
    folder="/home/ann/w",
)
RENTED = replace(HOST, engine=None, data_disk="/root/autodl-tmp", folder="/root/w", user=(0, 0))
WORK = Work("run/q", "run/out", "run/demo")


def words(command: tuple[str, ...], option: str) -> list[str]:
    return [command[n + 1] for n, word in enumerate(command) if word == option]


def run(order: Order, machine: Machine = HOST) -> tuple[str, ...]:
    engine = machine.engine
    assert engine
    whole = container.absolute(order, machine.folder, lambda _: False)
    made = (f"{machine.folder}/{path}" for path in (WORK.queue, WORK.out))
    mounted = container.mounts(made, whole.inputs, lambda path: path.endswith(".mp4"))
    return container.run(order, machine, engine, mounted, container.caches(machine.environment), "worker")


# files that are there before any environment


def test_what_starts_first_needs_nothing_but_an_old_python() -> None:
    rooms = ("here", "container", "native", "machine", "order", "__init__")
    files = [
        *(ROOT / "worker/launch" / f"{room}.py" for room in rooms),
        ROOT / "worker/errors.py",
        ROOT / "worker/__init__.py",
    ]
    for file in files:
        tree = ast.parse(file.read_text(), feature_version=(3, 8))
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        ours = {name for name in imported if name.startswith("worker")}
        assert ours <= {"worker.errors", "worker.launch", "worker.launch.machine", "worker.launch.order"}
        assert not imported & {"click", "yaml", "pydantic", "tomllib"}, file


# names


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ((), "media-check"),
        (("films/",), "films"),
        (("az://films/clips", "b"), "clips"),
        (("a b/c.mp4",), "c.mp4"),
        (("more/**/*.mp4",), "more"),
        (("*.mp4",), "media-check"),
    ],
)
def test_a_run_is_called_after_its_first_input(inputs: tuple[str, ...], name: str) -> None:
    work = work_of(Order(CPU, "media-check", inputs), "run")
    assert work == Work(f"run/{name}-queue", f"run/{name}-results", "run/demo-media-check")


def test_what_a_person_names_is_taken() -> None:
    work = work_of(Order(CPU, "media-check", ("films",), "az://films/queue", "/data/out"), "run")
    assert (work.queue, work.out) == ("az://films/queue", "/data/out")


def test_the_worker_is_told_who_answers_with_which_model() -> None:
    work = Work("q", "out", "demo")
    order = Order(A800, "ghost-probing", ("films",), engine="qwen", model="Qwen/x")
    told = ("run", "q", "--task", "ghost-probing", "--engine", "qwen", "--model", "Qwen/x", "--out", "out")
    assert run_words(order, work) == (*told, "films")
    assert run_words(Order(CPU, "media-check"), work)[-3:] == ("--out", "out", "demo")
    assert doctor_words(order) == ("doctor", "--hw", "a800", "--for", "ghost-probing", "--model", "Qwen/x")


def test_an_unknown_machine_is_refused_with_the_names_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "a800.env").write_text(
        "# a card\nWORKER_HW=a800\nWORKER_STACK=ampere\nWORKER_DEVICE=cuda\n"
    )
    assert read_profile(tmp_path, "a800", {}).stack == "ampere"
    with pytest.raises(UsageError, match="HW=b800 is unknown; choose one of: a800"):
        read_profile(tmp_path, "b800", {})


def test_what_a_person_says_counts_for_the_machine_that_it_was_said_of() -> None:
    profile = read_profile(ROOT, "h100", {"WORKER_STACK": "ampere", "WORKER_GPUS": "0,1", "OTHER": "x"})
    assert profile.stack == "ampere"
    assert profile.environment == {
        "WORKER_HW": "h100",
        "WORKER_STACK": "ampere",
        "WORKER_DEVICE": "cuda",
        "WORKER_GPUS": "0,1",
    }
    assert read_profile(ROOT, "h100", {}).stack == "hopper"
    assert read_profile(ROOT, "h100", {"WORKER_GPUS": ""}).environment["WORKER_GPUS"] == ""
    cpu = read_profile(ROOT, "cpu", {**profile.environment})
    assert (cpu.stack, cpu.environment["WORKER_DEVICE"]) == ("cpu", "cpu")


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (Order(replace(A800, stack="amper")), "WORKER_STACK=amper is unknown; choose one of: ampere, cpu"),
        (Order(CPU, target="quantise"), "TARGET=quantise with HW=cpu: env/locks/quantise-cpu.txt is not"),
        (Order(CPU, out="az://c/out"), "OUT=az://c/out: answers go into a folder"),
        (Order(CPU, inputs=("az://c/in", "no/**/*.mp4", "no")), "IN=no is not there"),
    ],
)
def test_what_is_known_to_be_wrong_is_said_before_anything_is_set_up(order: Order, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)) as refused:
        check(order, ROOT, lambda _: False)
    assert "\n" not in str(refused.value)
    check(Order(A800, inputs=("here",), target="quantise"), ROOT, lambda _: True)


def test_quantising_has_an_image_and_a_lock_of_its_own() -> None:
    order = Order(A800, target="quantise")
    assert (order.image_name, order.lock) == (
        "gpu-batch-worker:quantise-ampere",
        "env/locks/quantise-ampere.txt",
    )
    assert container.build(order, "docker", {}).command == (
        *("docker", "build", "--file", "docker/ampere.Dockerfile", "--target", "quantise"),
        *("--tag", "gpu-batch-worker:quantise-ampere", "."),
    )


# in a container


def test_a_container_has_the_gpus_the_callers_uid_and_paths_of_the_same_name() -> None:
    command = run(Order(A800, "media-check", ("/data/films", "more/a.mp4", "more/**/*.mp4")))
    assert command[:3] == ("docker", "run", "--rm")
    assert words(command, "--gpus") == ["all"]
    assert words(command, "--user") == ["1001:100"]
    assert words(command, "--volume") == [
        "/home/ann/w/run/out:/home/ann/w/run/out",
        "/home/ann/w/run/q:/home/ann/w/run/q",
        "/data/films:/data/films:ro",
        "/home/ann/w/more:/home/ann/w/more:ro",
        "/home/ann/.cache/gpu-batch-worker:/cache",
        "/home/ann/.cache/huggingface/hub:/cache/huggingface/hub",
        "/home/ann/.cache/worker:/cache/.cache/worker",
    ]
    assert command[-1] == "gpu-batch-worker:ampere"


def test_no_second_process_stands_between_a_stop_and_the_worker() -> None:
    command = run(Order(A800, "media-check"))
    assert words(command, "--entrypoint") == ["worker"]
    assert int(words(command, "--stop-timeout")[0]) > 25


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_podman_names_devices_and_keeps_the_callers_uid_without_root(name: str) -> None:
    command = run(Order(A800, "media-check"), replace(HOST, engine=replace(PODMAN, name=name)))
    assert command[0] == name
    assert words(command, "--device") == ["nvidia.com/gpu=all"]
    assert words(command, "--userns") == ["keep-id"]
    assert "--gpus" not in command
    assert "--workdir" not in command  # it refuses one that neither the image nor a mount has


def test_a_docker_without_root_has_its_caller_at_0() -> None:
    rootless = replace(DOCKER, kind="rootless docker")
    assert words(run(Order(A800, "media-check"), replace(HOST, engine=rootless)), "--user") == ["0:0"]
    root = replace(HOST, engine=PODMAN, user=(0, 0))
    assert words(run(Order(A800, "media-check"), root), "--user") == ["0:0"]


def test_an_engine_tells_what_it_is() -> None:
    assert kind_of('{"SecurityOptions": ["name=seccomp", "name=rootless"]}') == "rootless docker"
    assert kind_of('{"SecurityOptions": null}') == kind_of("nonsense") == "docker"
    assert kind_of('{"host": {"security": {}}}') == "podman"


@pytest.mark.parametrize(
    "environment",
    [{}, {"XDG_CACHE_HOME": "/x"}, {"HF_HOME": "/m"}, {"HF_HOME": "/m", "HF_HUB_CACHE": "~/hub"}],
)
def test_a_model_that_was_fetched_here_is_found_inside(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    mounted = container.caches({"HOME": "/home/ann", **environment})
    inside = {at: here for here, at in mounted.items()}
    hub_here = inside.get("/cache/huggingface/hub") or f"{inside['/cache/huggingface']}/hub"
    assert Path(hub_here) == hub.cache(environment)


def test_keys_reach_a_container_by_name_alone() -> None:
    environment = {
        "HOME": "/home/ann",
        "AZURE_STORAGE_ACCOUNT_KEY": "secret",
        "HF_ENDPOINT": "https://mirror",
        "HF_HOME": "/models",
        "WORKER_TTL": "30",
        "SSH_AUTH_SOCK": "/tmp/agent",
    }
    command = run(Order(A800, "media-check"), replace(HOST, environment=environment))
    assert words(command, "--env") == ["AZURE_STORAGE_ACCOUNT_KEY", "HF_ENDPOINT", "WORKER_TTL"]
    assert "/models:/cache/huggingface" in words(command, "--volume")
    assert not [word for word in command if "secret" in word]


@pytest.mark.parametrize(
    ("made", "wanted", "written", "read"),
    [
        (("az://films/queue", "/data/out"), ("az://films/clips",), ("/data/out",), ()),
        (("/q", "/data/out"), ("/data/films",), ("/data/out", "/q"), ("/data/films",)),
        (("/films/q", "/films/out"), ("/films",), ("/films/out", "/films/q"), ("/films",)),
        (("/run", "/run/o"), ("/run/in",), ("/run",), ("/run/in",)),
        (("/q", "/o"), ("/a/b.mp4", "/a/c.mp4", "/a/d/*.mp4"), ("/o", "/q"), ("/a",)),
    ],
)
def test_only_queue_and_answers_can_be_written(
    made: tuple[str, ...], wanted: tuple[str, ...], written: tuple[str, ...], read: tuple[str, ...]
) -> None:
    found = container.mounts(made, wanted, lambda path: path.endswith(".mp4") and "*" not in path)
    assert (found.written, found.read) == (written, read)


def test_a_docker_without_nvidia_is_told_in_one_line_with_the_remedy() -> None:
    blind = Engine("docker", gives_gpus=False)
    with pytest.raises(
        MachineError, match=r"nvidia-container-toolkit, then nvidia-ctk runtime configure"
    ) as told:
        container.refuse_without_gpu(Order(A800), blind)
    assert "\n" not in str(told.value)
    container.refuse_without_gpu(Order(CPU), blind)


def test_dockers_own_word_says_whether_it_gives_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.launch.machine.CDI", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gives_gpus("docker", '{"Runtimes": {"runc": {}, "nvidia": {}}}')
    assert not gives_gpus("docker", '{"Runtimes": {"runc": {}}}')
    assert not gives_gpus("podman", '{"host": {}}')


def test_a_named_image_is_pulled_and_another_one_built() -> None:
    named = Order(A800, image="registry/worker:3")
    assert container.fetch(named, HOST, DOCKER).command == ("docker", "pull", "registry/worker:3")
    assert container.fetch(Order(A800), HOST, DOCKER).command[:2] == ("docker", "build")


def test_mirrors_reach_the_build_by_name() -> None:
    environment = {"PIP_INDEX_URL": "https://user:secret@mirror", "TORCH_INDEX": "https://torch"}
    command = container.build(Order(A800), "podman", environment).command
    assert words(command, "--build-arg") == ["PIP_INDEX_URL", "TORCH_INDEX"]
    assert words(command, "--format") == ["docker"]
    assert not [word for word in command if "secret" in word]


def test_a_push_builds_under_the_name_and_pushes_it() -> None:
    steps = container.push(Order(A800, image="registry/worker:3"), replace(HOST, engine=None, buildah=True))
    assert [step.command[:2] for step in steps] == [("buildah", "build"), ("buildah", "push")]
    assert steps[1].command == ("buildah", "push", "registry/worker:3")
    with pytest.raises(UsageError, match="IMAGE=registry/name:tag"):
        container.push(Order(A800), HOST)
    with pytest.raises(MachineError, match="neither docker, podman nor buildah"):
        container.push(Order(A800, image="registry/worker:3"), replace(HOST, engine=None))


# without one


def test_on_a_rented_machine_all_that_grows_lies_on_the_data_disk() -> None:
    place = native.place(Order(A800), RENTED)
    assert place.venv == "/root/autodl-tmp/gpu-batch-worker/venv-ampere"
    assert place.room == "/root/autodl-tmp/gpu-batch-worker/run"
    assert place.environment == {"HF_HOME": "/root/autodl-tmp/huggingface"}


def test_a_checkout_on_the_data_disk_keeps_its_own_folders() -> None:
    place = native.place(Order(A800), replace(RENTED, folder="/root/autodl-tmp/w"))
    assert (place.venv, place.room) == (".venv-ampere", "run")
    assert place.environment == {"HF_HOME": "/root/autodl-tmp/huggingface"}


def test_a_place_for_models_that_a_person_named_is_kept() -> None:
    place = native.place(Order(A800), replace(RENTED, environment={"HF_HOME": "/models", "HF_ENDPOINT": "x"}))
    assert place.environment == {}


def test_without_a_data_disk_it_lies_in_the_checkout() -> None:
    assert native.place(Order(CPU), HOST) == native.Place(".venv", "run", {})


def test_the_lock_of_the_profile_is_what_is_installed() -> None:
    place = native.place(Order(A800), RENTED)
    steps = native.set_up(Order(A800), RENTED, place, "https://torch")
    assert steps[0].command == ("python3", "-m", "venv", place.venv)
    assert steps[1].command[-4:] == ("--extra-index-url", "https://torch", "-r", "env/locks/ampere.txt")
    assert steps[-1].command == ("touch", place.stamp)


def test_a_machine_that_cannot_is_refused_in_one_line() -> None:
    with pytest.raises(MachineError, match=r"older than 3\.11"):
        native.set_up(Order(CPU), replace(HOST, python=""), native.Place(".venv", "run", {}), "")
    with pytest.raises(MachineError, match="HW=a800 is a GPU, and NVIDIA's driver is not here"):
        native.refuse_without_gpu(Order(A800), replace(HOST, driver=False))
    native.refuse_without_gpu(Order(CPU), replace(HOST, driver=False))


# looking


def test_an_engine_that_does_not_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/bin/{name}" if name != "podman" else None)

    def ask(*command: str) -> tuple[int, str]:
        return (1, "first\nCannot connect\n") if command[0] == "docker" else (0, "Python 3.9.2")

    machine = look(ask)
    assert machine.engine is None
    assert machine.why_none == "docker does not answer (Cannot connect)"


def test_who_may_not_ask_docker_is_told_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **_: "/bin/docker" if name == "docker" else None)
    said = "permission denied while trying to connect to the Docker daemon socket"
    assert "sudo usermod -aG docker $USER" in look(lambda *_: (1, said)).why_none


def test_an_older_python_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "shutil.which", lambda name, **_: f"/bin/{name}" if name.startswith("python") else None
    )
    monkeypatch.setattr("sys.version_info", (3, 9, 2))
    said = {"python3": "Python 3.9.2", "python3.11": "Python 3.11.4"}
    assert look(lambda *command: (0, said.get(command[0], ""))).python == "python3.11"
    assert re.match("python3", look(lambda *_: (0, "Python 3.8.1")).python) is None
