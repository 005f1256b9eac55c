"""What `worker launch slurm` decides, and the script that it hands over."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.queues import QueueUnderTest
from tests.workers import eventually
from worker.cli.launch import command
from worker.cli.screen import lines
from worker.clock import Clock
from worker.errors import MachineError, UnfinishedError, UsageError
from worker.items import Failure
from worker.launch import template
from worker.launch.here import CHECKOUT
from worker.launch.launch import Launch, Receipt
from worker.launch.order import read_profile
from worker.launch.slurm import place, script, server, states
from worker.launch.slurm.cluster import Cluster
from worker.launch.slurm.host import Address, Host, Said, quoted
from worker.launch.slurm.inputs import Brought, batches, brought, check
from worker.launch.slurm.launcher import Slurm, refuse_other_host
from worker.launch.slurm.refusals import refusal, refused
from worker.queue.progress import Watcher
from worker.queue.told import progress_of

PROFILES = sorted(file.stem for file in (CHECKOUT / "env").glob("*.env"))
CPU = read_profile(CHECKOUT, "cpu", {})
A100 = read_profile(CHECKOUT, "a100", {})
FAR = Launch("films", A100, inputs=["host:/data/films"], task="media-check", settings={"host": "ann@hpc"})
FACTS = {"home": "/home/ann", "slurm": "yes"}
SBATCH_WORDS = re.compile(r"\\(.)")


def rendered(launch: Launch, facts: dict[str, str] | None = None) -> str:
    return script.render(launch, place.place(launch, facts), template.read(CHECKOUT / script.TEMPLATE))


def options(text: str) -> dict[str, str]:
    found = re.findall(r"(?m)^#SBATCH (--[a-z-]+)(?:=(.*))?$", text)
    return {name: SBATCH_WORDS.sub(r"\1", value) for name, value in found}


def told(text: str, *names: str) -> list[str]:
    """What the script's own shell makes of its settings."""
    head = text.partition("\nset -")[0]
    said = subprocess.run(
        ["bash", "-c", head + "\n" + "\n".join(f'printf "%s\\0" "${name}"' for name in names)],
        capture_output=True,
        check=True,
        env={"HOME": "/home/it's me", "PATH": os.environ["PATH"]},
        timeout=30,
    )
    return said.stdout.decode().split("\0")[:-1]


# the script


@pytest.mark.parametrize("hw", PROFILES)
def test_every_profile_has_a_script_that_bash_can_read(hw: str) -> None:
    profile = read_profile(CHECKOUT, hw, {})
    launch = Launch("films", profile, queue="/shared/q", workers=4, gpus=2, time_limit_s=7200)
    text = Slurm().render(launch)["worker.sbatch"]
    subprocess.run(["bash", "-n"], input=text.encode(), check=True, timeout=30)
    assert text.startswith("#!/")
    assert told(text, "WORKER_HW", "WORKER_STACK", "WORKER_QUEUE") == [hw, profile.stack, "/shared/q"]
    said = options(text)
    assert (said["--array"], said["--gres"], said["--job-name"], said["--time"]) == (
        *("1-4", "gpu:2", "films"),
        "120",
    )
    assert "--requeue" in said


def test_what_a_person_says_stands_in_it_once() -> None:
    settings = {"partition": "gpu", "account": "a1", "qos": "q", "nodes": 2, "cpus": 8, "memory": "64G"}
    launch = replace(FAR, gpus=8, settings={**FAR.settings, **settings, "gpu_type": "a100"})
    text = rendered(launch, FACTS)
    said = options(text)
    assert {name: said[f"--{name}"] for name in ("partition", "account", "qos", "nodes", "mem")} == {
        **{name: str(settings[name]) for name in ("partition", "account", "qos", "nodes")},
        "mem": "64G",
    }
    assert (said["--gres"], said["--cpus-per-task"]) == ("gpu:a100:8", "8")
    assert text.count("#SBATCH --job-name") == 1
    assert not {"--array", "--time"} & set(said)


@pytest.mark.parametrize("name", ["a b", "it's", '"; touch /tmp/x; "', "$(reboot)", "鬼探头", "a#b", "`id`"])
def test_no_name_becomes_a_command(name: str) -> None:
    settings = {"host": "ann@hpc", "dir": f"/data/{name}", "partition": name, "account": name}
    launch = replace(FAR, settings=settings, environment={"WORKER_NOTE": name}, image=name)
    text = rendered(launch, FACTS)
    assert told(text, "WORKER_NOTE", "WORKER_IMAGE", "WORKER_QUEUE") == [
        name,
        name,
        f"/data/{name}/films/queue",
    ]
    said = options(text)
    assert (said["--partition"], said["--account"]) == (name, name)


def test_an_image_sees_the_folders_of_the_inputs(tmp_path: Path) -> None:
    text = rendered(replace(FAR, image="registry/worker:3"), FACTS)
    assert told(text, "WORKER_BINDS") == ["/home/ann/gpu-batch-worker/films/inputs,/data/films"]
    here = replace(FAR, settings={}, inputs=[str(tmp_path), "az://c/x"], image="i")
    assert told(rendered(here), "WORKER_BINDS") == [str(tmp_path)]
    assert told(rendered(FAR, FACTS), "WORKER_BINDS") == [""]


def test_nothing_below_the_templates_first_command_is_changed() -> None:
    template = "#!/bin/sh\n# why\n#SBATCH --job-name=x\n#SBATCH --requeue\n\nset -u\n#SBATCH --mem=1\nrun\n"
    text = script.render(FAR, place.place(FAR, FACTS), template)
    assert text.endswith("\n\nset -u\n#SBATCH --mem=1\nrun\n")
    assert "\n#SBATCH --requeue\n" in text
    assert "--job-name=x" not in text


def test_a_worker_hands_its_work_back_before_its_time_is_up() -> None:
    assert told(rendered(replace(FAR, time_limit_s=43200)), "WORKER_STOP_AFTER") == ["42900s"]
    assert told(rendered(replace(FAR, time_limit_s=60)), "WORKER_STOP_AFTER") == ["48s"]
    assert told(rendered(FAR), "WORKER_STOP_AFTER") == [""]


@pytest.mark.parametrize(("limit_s", "warned"), [(43200, "120"), (120, "8"), (0, "120")])
def test_slurm_warns_later_than_the_worker_s_own_clock_and_never_at_the_start(
    limit_s: float, warned: str
) -> None:
    text = rendered(replace(FAR, time_limit_s=limit_s))
    assert options(text)["--signal"] == f"B:USR1@{warned}"


def test_render_asks_nobody() -> None:
    assert told(rendered(FAR), "WORKER_QUEUE") == ["/home/it's me/gpu-batch-worker/films/queue"]


def test_nodes_that_train_together_are_all_paid_for_and_none_waits(tmp_path: Path) -> None:
    (tmp_path / "food.yaml").touch()
    train = replace(FAR, task="classify-train", inputs=[f"{tmp_path}/food.yaml"], gpus=8, price=3)
    one, two = (Slurm().cost(replace(train, settings={"nodes": nodes})) for nodes in (1, 2))
    assert (one.cards, two.cards, two.machines) == (8, 16, 2)
    assert not [line for line in two.rests_on if "wait" in line]
    assert "the time is one machine's: the 2 of a worker need less together" in two.rests_on
    assert "1 of 2 workers has a job" in " ".join(Slurm().cost(replace(train, workers=2)).rests_on)


# places


def test_a_rented_machine_keeps_it_all_on_its_data_disk() -> None:
    rented = {"home": "/root", "disk": "/root/autodl-tmp"}
    where = place.place(FAR, rented)
    assert where.room == "/root/autodl-tmp/gpu-batch-worker/films"
    assert (where.venv, where.environment) == (".venv-ampere", {"HF_HOME": "/root/autodl-tmp/huggingface"})
    assert place.place(FAR, {**rented, "hub": "yes"}).environment == {}
    elsewhere = replace(FAR, settings={**FAR.settings, "dir": "~/w"})
    assert place.place(elsewhere, rented).venv == "/root/autodl-tmp/gpu-batch-worker/venv-ampere"


def test_on_this_machine_the_checkout_is_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    where = place.place(replace(FAR, settings={}, queue="q"))
    assert (where.room, where.queue) == (f"{tmp_path}/run/slurm/films", f"{tmp_path}/q")
    assert where.checkout == str(CHECKOUT)


@pytest.mark.parametrize(
    ("settings", "inputs", "queue", "said"),
    [
        ({"host": "-oProxyCommand=x"}, ["host:/d"], "", "write user@server"),
        ({"host": "a b"}, ["host:/d"], "", "write user@server"),
        ({}, ["host:/d"], "", "the machine that --host names"),
        ({}, ["not there"], "", "not there is not there"),
        ({"host": "h"}, ["-"], "", "reads no list"),
        ({"host": "h"}, ["host:/d"], "q", "its full path, or a URL"),
        ({"host": "h", "dir": "/a\nb"}, ["host:/d"], "", "--dir"),
        ({"host": "h", "partition": "--wrap=x"}, ["host:/d"], "", "--partition"),
        ({"host": "h", "memory": "lots"}, ["host:/d"], "", "--memory 'lots': write it like 64G"),
    ],
)
def test_what_cannot_go_well_is_refused_first(
    settings: dict[str, str], inputs: list[str], queue: str, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        Slurm().check(replace(FAR, settings=settings, inputs=inputs, queue=queue))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("said", "host", "port"),
    [
        ("ann@hpc", "ann@hpc", ""),
        ("root@connect.example:12345", "root@connect.example", "12345"),
        ("[::1]:22", "[::1]", "22"),
        ("my-cluster", "my-cluster", ""),
    ],
)
def test_an_address_may_have_a_port(said: str, host: str, port: str) -> None:
    assert Address.of(said) == Address(host, port)


def test_a_path_below_home_is_the_home_of_whom_the_shell_belongs_to() -> None:
    assert quoted("~/a b", "c'd") == "\"$HOME\"/'a b' " + shlex.quote("c'd")


# inputs


def test_names_begin_below_the_common_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("films/a.mp4", "films/b/c.mp4", "more/d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert brought(["films"]) == Brought(tmp_path / "films", ["."], [])
    assert brought(["films/a.mp4"]) == Brought(tmp_path / "films", ["a.mp4"], [])
    assert brought(["films", "more", "az://c/x", "host:/d"]) == Brought(
        tmp_path, ["films", "more"], ["az://c/x", "/d"]
    )
    assert brought(["films/**/*.mp4"]).files == ["a.mp4", "b/c.mp4"]
    with pytest.raises(UsageError, match=r"\*\.avi is not there"):
        check(["*.avi"], "")


def test_many_files_are_enqueued_in_commands_that_a_kernel_takes() -> None:
    names = [f"/data/it's {n} 鬼探头.mp4" for n in range(9000)]
    found = batches(names)
    assert [name for batch in found for name in batch] == names
    assert 1 < len(found) < 30
    assert max(len(quoted("bash", "-lc", quoted(*batch)).encode()) for batch in found) < 128 * 1024


# what SLURM says


def job(state: str, reason: str = "None", code: str = "0:0", task: int = 1) -> str:
    return (
        f"JobId={9 + task} ArrayJobId=9 ArrayTaskId={task} JobName=x UserId=a(1) "
        f"JobState={state} Reason={reason} Dependency=(null) Requeue=1 ExitCode={code} WorkDir=/x\n"
    )


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        (
            job("RUNNING") + job("PENDING", "Priority", task=2),
            "running",
            "1 running, 1 waiting (Priority: oth",
        ),
        (job("PENDING", "ReqNodeNotAvail, UnavailableNodes:n1"), "waiting", "down, drained or reserved"),
        (
            job("PENDING", "launch failed requeued held"),
            "waiting",
            "it is held after it could not be started",
        ),
        (job("PENDING", "QOSMaxGRESPerUser"), "waiting", "your share, or your group's, is in use"),
        (job("PENDING", "AssocGrpGRES"), "waiting", "your share, or your group's, is in use"),
        (job("PENDING", "InvalidQOS"), "waiting", "its QOS is not allowed"),
        (job("PENDING", "SomethingNew"), "waiting", "1 waiting (SomethingNew)"),
        (job("COMPLETED") + job("FAILED", "NonZeroExitCode", "1:0", 2), "done", "1 ended, 1 ended with 1"),
        (job("FAILED", "NonZeroExitCode", "75:0") + job("COMPLETED", task=2), "again", "1 ended with 75"),
        (job("TIMEOUT", "TimeLimit", "0:15"), "again", "1 timeout"),
        (job("NODE_FAIL"), "again", "1 node fail"),
        (job("PREEMPTED"), "again", "1 preempted"),
        (job("FAILED", "NonZeroExitCode", "3:0"), "failed", "1 ended with 3"),
        (job("FAILED", "RaisedSignal:9", "0:9"), "failed", "1 ended by signal 9"),
        (job("OUT_OF_MEMORY", "OutOfMemory", "0:125"), "failed", "1 out of memory"),
        (job("CANCELLED", "None", "0:15"), "cancelled", "1 cancelled"),
        ("", "gone", "SLURM knows its job no longer"),
    ],
)
def test_what_slurm_says_becomes_plain(said: str, state: str, words: str) -> None:
    seen = states.standing(states.read_scontrol(said))
    assert seen.state == state
    assert words in seen.said


def test_a_held_job_is_released_by_its_own_name() -> None:
    seen = states.standing(states.read_scontrol(job("PENDING", "launch_failed_requeued_held", task=3)))
    assert "scontrol release 9_3" in seen.remedy


def test_the_books_know_what_the_controller_has_forgotten() -> None:
    seen = states.standing(states.read_sacct("9_1|COMPLETED|0:0\n9_2|CANCELLED by 0|0:15\n"))
    assert (seen.state, seen.said) == ("cancelled", "1 ended, 1 cancelled")


class Controller(Host):
    """Runs job 12 of films."""

    def run(self, script: str, *, stdin: str = "", limit_s: float | None = None) -> Said:  # noqa: ARG002
        return Said(
            0, "12\n" if "squeue" in script else "JobId=12 JobName=films JobState=RUNNING Reason=None\n"
        )


def test_a_job_whose_number_nobody_heard_is_no_job_that_is_gone() -> None:
    assert Cluster(Controller()).standing([], place.place(FAR, FACTS)).state == "running"


# what is made, and deleted


@pytest.fixture
def where(tmp_path: Path) -> place.Place:
    return place.place(replace(FAR, settings={**FAR.settings, "dir": str(tmp_path / "it's/our folder")}))


def test_what_was_made_while_nobody_listened_is_known_to_the_next_try(where: place.Place) -> None:
    first, again = (Host().need(place.make(where, "films 1")).splitlines() for _ in range(2))
    assert {where.folder, where.room, where.checkout} == set(first)
    assert again == [where.room]
    assert Host().need(place.delete(where, "films 1")).splitlines() == [where.room, where.folder]


def test_of_another_desk_nothing_is_deleted(where: place.Place) -> None:
    Host().need(place.make(where, "films 1"))
    assert Host().need(place.make(where, "films 2")) == ""
    assert Host().need(place.delete(where, "films 2")) == ""
    assert Path(where.checkout).exists()
    assert Path(where.room).exists()


def test_in_a_folder_that_was_there_the_worker_goes_with_the_last_launch(where: place.Place) -> None:
    Path(where.folder).mkdir(parents=True)
    other = replace(where, name="others")
    for one in (where, other):
        Host().need(place.make(one, one.name))
    Host().need(place.delete(where, where.name))
    assert Path(where.checkout).exists()
    Host().need(place.delete(other, other.name))
    assert list(Path(where.folder).iterdir()) == []


def test_on_a_full_disk_nothing_is_left_that_nobody_knows(where: place.Place) -> None:
    full = f'printf() {{ command printf "$@" >/dev/full; }}; {place.make(where, "films 1")}'
    with pytest.raises(MachineError, match="another --dir"):
        Host().need(full)
    assert not Path(where.folder).exists()


def test_one_name_on_two_machines_that_are_alike_is_refused(where: place.Place) -> None:
    there = replace(FAR, settings={**FAR.settings, "host": "root@first"})
    known = Receipt("slurm", there, where.queue, jobs=["worker-1"], notes={"mark": "films 1"})
    with pytest.raises(UsageError, match="submitted to root@first, and this machine is another one"):
        refuse_other_host(Host(), known, where)
    Host().need(place.make(where, "films 1"))
    refuse_other_host(Host(), known, where)


# what a machine says


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("ann@hpc: Permission denied (publickey,password).", "ssh-copy-id ann@hpc"),
        ("Host key verification failed.", "`ssh ann@hpc` once by hand"),
        ("ssh: connect to host hpc port 22: Connection refused", "is it on, and is the port right"),
        ("ssh: Could not resolve hostname hpc: Name or service not known", "no such server"),
        ("client_loop: send disconnect: Broken pipe", "the same command goes on"),
        ("bash: line 1: rsync: command not found\nrsync error: code 127", "rsync is not installed"),
        ("sbatch: error: invalid partition specified: gpux\nsbatch: error: Batch job submission", "`sinfo`"),
        ("sbatch: error: Invalid account or account/partition combination specified", "--account"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "--qos"),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid", "--time-limit"),
        ("sbatch: error: Batch job submission failed: Invalid generic resource (gres) spec", "--gpu-type"),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "less of",
        ),
        ("rsync: write failed on x: No space left on device (28)", "another --dir"),
        ('symlink has no referent: "/films/a.mp4"\nrsync error: some files/attrs (code 23)', "mend this one"),
        ('rsync: [sender] send_files failed to open "/a": Permission denied (13)', "mend this one"),
        (
            'rsync: [Receiver] mkdir "/a" failed: Permission denied (13)',
            "cannot be written: name another --dir",
        ),
        ("mkdir: cannot create directory '/a': Permission denied", "cannot be written: name another --dir"),
        ("make setup: python3 is missing or older than 3.11; put a newer one first", "--venv"),
        ("bash: line 1: python3: command not found", "python 3.11"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "try again later"),
    ],
)
def test_a_refusal_is_one_line_with_the_remedy(said: str, remedy: str) -> None:
    line = refusal(f"Warning: Permanently added 'hpc'\n{said}\n", "ann@hpc")
    assert remedy in line
    assert "\n" not in line
    assert line.startswith("ann@hpc: ")


def test_who_is_away_is_waited_for() -> None:
    assert isinstance(refused("ssh: connect to host h port 22: Connection timed out", "h"), UnfinishedError)
    assert isinstance(refused("Unable to contact slurm controller", "h"), UnfinishedError)
    assert isinstance(refused("sbatch: error: Invalid qos specification", "h"), MachineError)


def test_what_nobody_knew_is_told_as_it_was_said() -> None:
    assert refusal("first\nlast?sig=abc\x1b[2J\n", "h").startswith("h: last?sig=***")
    assert refusal("", "h") == "h: it ended without a word"


def test_progress_elsewhere_is_shown_as_it_is_here() -> None:
    queue = QueueUnderTest()
    queue.commit(queue.shard("a", "b"), {"b": Failure("bad-media", "no frames")})
    queue.claim(queue.shard("c"))
    progress = Watcher(queue.store, Clock()).look()
    again = progress_of(json.loads(json.dumps(progress.as_json())))
    assert lines(again) == lines(progress)
    assert again.as_json() == progress.as_json()
    assert (again.is_over, again.failed) == (False, 1)


# a server without a scheduler


def test_each_worker_sees_cards_of_its_own() -> None:
    launch = replace(FAR, workers=2, gpus=2)
    assert server.cards(launch, 4, "h") == ["0,1", "2,3"]
    chosen = replace(launch, workers=1, environment={"CUDA_VISIBLE_DEVICES": "5,7"})
    assert server.cards(chosen, 8, "h") == ["5,7"]
    assert server.cards(replace(launch, gpus=0), 0, "h") == ["-", "-"]
    with pytest.raises(MachineError, match="h has 3 cards, and --workers 2 with --gpus 2 need 4"):
        server.cards(launch, 3, "h")


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("1 running 77\n2 ended 75\n", "running", "1 running, 1 ended with 75"),
        ("1 ended 0\n2 ended 1\n", "done", "1 ended, 1 ended with 1"),
        ("1 ended 75\n2 ended 0\n", "again", "1 ended, 1 ended with 75"),
        ("1 lost\n", "again", "1 ended without a word"),
        ("1 cancelled\n", "cancelled", "1 cancelled"),
        ("1 ended 3\n2 lost\n", "failed", "1 ended with 3, 1 ended without a word"),
    ],
)
def test_what_a_server_says_becomes_plain(said: str, state: str, words: str) -> None:
    seen = server.standing(said)
    assert (seen.state, seen.said) == (state, words)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    folder = tmp_path / "a room"
    folder.mkdir()
    return folder


def detached(verb: str, room: Path, *words: str, **environment: str) -> list[str]:
    said = subprocess.run(
        ["bash", str(CHECKOUT / server.SCRIPT), verb, str(room), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return said.stdout.splitlines()


def test_a_worker_that_has_work_left_is_started_again(room: Path) -> None:
    (room / "worker.sbatch").write_text(
        "echo $CUDA_VISIBLE_DEVICES >> starts; [ $(wc -l < starts) -gt 1 ] || exit 75\n"
    )
    assert detached("start", room, "2,3")[0].startswith("1 running ")
    assert eventually(lambda: detached("look", room) == ["1 ended 0"])
    assert (room / "starts").read_text() == "2,3\n2,3\n"


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_one_that_ended_for_good_is_not(room: Path, code: int) -> None:
    (room / "worker.sbatch").write_text(f"echo >> starts; exit {code}\n")
    detached("start", room, "-")
    assert eventually(lambda: detached("look", room) == [f"1 ended {code}"])
    assert (room / "starts").read_text() == "\n"


def test_it_is_started_again_only_so_often(room: Path) -> None:
    (room / "worker.sbatch").write_text("echo >> starts; exit 75\n")
    detached("start", room, "-", WORKER_REQUEUES="1")
    assert eventually(lambda: detached("look", room) == ["1 ended 75"])
    assert (room / "starts").read_text() == "\n\n"


def test_a_worker_that_is_told_to_stop_has_its_time(room: Path) -> None:
    (room / "worker.sbatch").write_text(
        "trap 'sleep 0.5; echo back > handed; exit 75' TERM\ntouch up; while :; do sleep 0.05; done\n"
    )
    detached("start", room, "-")
    assert eventually((room / "up").exists)
    assert detached("start", room, "-")[0].startswith("1 running")
    assert detached("stop", room, "30") == ["1 cancelled"]
    assert (room / "handed").read_text() == "back\n"
    assert (room / "log/worker-1.log").read_text() == ""


def test_at_its_time_limit_it_hands_its_work_back(room: Path) -> None:
    (room / "worker.sbatch").write_text("trap 'exit 75' TERM\nwhile :; do sleep 0.05; done\n")
    detached("start", room, "-", WORKER_LAUNCH_LIMIT="1")
    assert eventually(lambda: detached("look", room) == ["1 ended 75"])


def test_another_process_of_the_same_number_is_not_taken_for_a_worker(room: Path) -> None:
    (room / "worker.sbatch").write_text("touch up; exec sleep 60\n")
    number = int(detached("start", room, "-")[0].split()[2])
    assert eventually((room / "up").exists)
    pid, born = (room / "worker-1.pid").read_text().split()
    assert int(pid) == number
    try:
        (room / "worker-1.pid").write_text(f"{os.getpid()} {born}\n")
        assert detached("look", room) == ["1 lost"]
        assert detached("stop", room, "1") == ["1 cancelled"]
    finally:
        os.killpg(number, signal.SIGKILL)


def test_a_killed_one_is_missed(room: Path) -> None:
    (room / "worker.sbatch").write_text("touch up; exec sleep 60\n")
    number = int(detached("start", room, "-")[0].split()[2])
    assert eventually((room / "up").exists)
    os.killpg(number, signal.SIGKILL)
    assert eventually(lambda: detached("look", room) == ["1 lost"])


# the command line


def test_the_launcher_has_its_own_options() -> None:
    slurm = command.get_command(None, "slurm")  # type: ignore[arg-type]
    names = {one.name for one in slurm.commands["submit"].params}  # type: ignore[union-attr]
    assert {"host", "dir", "partition", "account", "qos", "gpu_type", "memory", "nodes"} <= names


def test_times_are_whole_minutes_and_never_shorter_than_was_said() -> None:
    assert options(rendered(replace(FAR, time_limit_s=61), FACTS))["--time"] == "2"
