"""`worker launch`: what every place shares, seen at one that is all in this process."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HandClock
from tests.place import NAME, Fake, open_place
from tests.queues import TASKS, QueueUnderTest
from tests.workers import ROOT
from worker import cli
from worker.errors import UnfinishedError, UsageError
from worker.items import Failure
from worker.launch.asked import assigned, name_of, profile_of
from worker.launch.launch import Launch, Receipt, Receipts
from worker.launch.launcher import LAUNCHERS, Standing
from worker.launch.order import read_profile
from worker.queue.shards import Shard

CPU = read_profile(ROOT, "cpu", {})
AGAIN = Standing("again", "preempted")
RECEIPT = Receipt(NAME, Launch("clips", CPU), "", ["job-1"], ["cluster"])
TOKEN = "sv=2024&sig=abc%2Fdef123456789"


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def line(self) -> str:
        """The one line that an error is."""
        assert self.err.count("\n") == 1, self.err
        return self.err


class Clock(HandClock):
    """Tells how long was slept, and lets something happen meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []
        self.then: dict[int, Callable[[], object]] = {}
        """after so many sleeps"""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.slept.append(seconds)
        self.then.get(len(self.slept), lambda: None)()
        assert len(self.slept) < 200, "nobody ends this"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("WORKER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    return open_place(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("worker.clock.Clock", lambda: clock)
    return clock


@pytest.fixture
def launch(capsys: pytest.CaptureFixture[str], place: type[Fake]) -> Any:  # noqa: ARG001
    def call(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as caught:
            cli.main(["launch", NAME, *arguments])
        code = caught.value.code
        assert isinstance(code, int) or code is None
        return Said(code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def queue() -> QueueUnderTest:
    return QueueUnderTest()


@pytest.fixture
def shard(queue: QueueUnderTest) -> Shard:
    """Launched already, and not done."""
    Receipts(NAME).keep(replace(RECEIPT, queue=queue.store.url))
    return queue.shard("a", "b")


# render and cost


def test_what_is_rendered_goes_to_stdout_or_into_a_folder(launch: Any) -> None:
    asked = ("--hw", "a100", "--task", "shout", "--workers", "3", "--queue", "az://films/Clips")
    assert launch("render", *asked).out == "clips a100 --task shout × 3\n"
    assert "# parts/shell.sh\nexec worker\n" in launch("render", *asked, "--two").out
    assert launch("render", *asked, "--two", "--to", "files").out == "files/job.yml\nfiles/parts/shell.sh\n"
    assert Path("files/parts/shell.sh").read_text() == "exec worker\n"
    assert not Path("run").exists()


def test_render_has_need_of_no_cloud_and_of_nothing_heavy(place: type[Fake]) -> None:  # noqa: ARG001
    """In a process of its own, of each place that is here."""
    code = """
import sys
from pytest import MonkeyPatch
from tests.place import open_place
open_place(MonkeyPatch())
from worker.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    heavy = {"torch", "numpy", "pydantic", "obstore", "av", "cv2", "azure", "kubernetes", "yaml", "tenacity"}
    print(ended.code, sorted(heavy & {one.partition(".")[0] for one in sys.modules}))
"""
    asked = ("--hw", "a100", "--task", "ghost-probing", "--queue", "az://films/q", "--image", "host/name:1")
    places = [name for name, (module, _, _) in LAUNCHERS.items() if find_spec(module)]
    assert NAME in places
    for name in places:
        done = subprocess.run(
            [sys.executable, "-c", code, "launch", name, "render", *asked],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.endswith("\nNone []\n") or done.stdout.endswith("\n0 []\n"), (name, done)


def test_cost_counts_what_will_be_enqueued_and_says_what_it_rests_on(launch: Any) -> None:
    Path("clips").mkdir()
    for number in range(7):
        Path(f"clips/{number}.mp4").touch()
    Path("clips/notes.txt").touch()
    asked = ("cost", "clips", "--task", "ghost-probing", "--engine", "qwen", "--hw", "a100")
    said = launch(*asked, "--time-limit", "12h", "--price", "3", "--workers", "2")
    assert "7 items" in said.out
    assert "most  $72.00, if every machine works to its time limit of 12.0 h" in said.out
    assert "on 2 cards" in said.out
    told = json.loads(launch(*asked, "--json").out)
    assert told["machines"] == told["cards"] == 1
    assert told["time_s"][0] <= told["time_s"][1]
    one, few, many = (
        json.loads(launch(*asked, "--price", "1", "--json", "--workers", workers).out)
        for workers in ("1", "7", "70")
    )
    assert one["time_s"][1] > few["time_s"][1]
    assert few["time_s"] == many["time_s"]  # no less than one item takes
    assert "63 machines find nothing to do" in many["rests_on"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--task", "shout", "--hw", "a100"), "there is no plan for shout"),
        (("--task", "shout", "--hw", "cpu"), "price is not known: --price USD says what a machine costs"),
        (("--task", "shout", "--hw", "cpu", "--price", "1", "--workers", "2"), "on 2 machines"),
        (("--hw", "a100"), "the queue's recipe says what the work is"),
        (("--task", "ghost-probing", "--hw", "a100", "az://c/clips"), "what lies elsewhere is not counted"),
        (("--task", "ghost-probing", "--engine", "qwen", "--hw", "cpu"), "it does not fit: it needs a GPU"),
        (
            ("--task", "ghost-probing", "--engine", "qwen", "--model", "no/body", "--hw", "a100"),
            "--model no/body: no such folder",
        ),
    ],
)
def test_a_cost_that_nobody_knows_is_said_to_be_so(launch: Any, asked: tuple[str, ...], told: str) -> None:
    said = launch("cost", "--queue", "q", *asked)
    assert said.code == 0
    assert told in said.out


# what is typed


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--hw", "b800"), "HW=b800 is unknown; choose one of: a10, a100"),
        (("--hw", "../env/a800"), "is unknown; choose one of"),
        (("--hw", "cpu", "--queue", "q", "--tier", "none"), "--tier none is no tier"),
        (("--hw", "cpu", "--name", "Clips"), "--name 'Clips': lower case"),
        (("--hw", "cpu", "--env", "HF_TOKEN=x"), "--env HF_TOKEN looks like a secret"),
        (("--hw", "cpu", "--env", "PROXY=http://me:pw@host"), "--env PROXY looks like a secret"),
        (("--hw", "cpu", "--env", "no"), "write NAME=VALUE"),
        (("--hw", "cpu"), "nothing to work on"),
        (("--hw", "cpu", "--task", "media-check", "-"), "reads no list from its standard input"),
        (("--hw", "cpu", "clips"), "--task is missing"),
        (("--hw", "cpu", "--queue", "q", "--time-limit", "5s"), "--time-limit: a worker needs 60 s at least"),
        (("--hw", "cpu", "--queue", f"az://c/q?{TOKEN}"), "holds a secret"),
        (("--hw", "cpu", f"az://c/clips?{TOKEN}"), "holds a secret"),
        (("--hw", "cpu", "--price", "1", "clips\udcff"), "clips? is not UTF-8"),
        (("--hw", "cpu", "--env", "A=\udcff"), "A=? is not UTF-8"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_made(
    launch: Any, asked: tuple[str, ...], told: str
) -> None:
    said = launch("submit", "--yes", *asked)
    assert said.code == 2
    assert told in said.line
    assert "def123456789" not in said.line
    assert "pw" not in said.line
    assert Fake.asked == []
    assert not Path("run").exists()


def test_what_only_sounds_like_a_secret_is_none() -> None:
    for said in ("TOKENIZERS_PARALLELISM=false", "WORKER_BATCH=4", "WORKER_PATIENCE=60", "PASSAGE=x"):
        assert assigned(said) == tuple(said.split("="))
    for name in ("AZURE_STORAGE_SAS_TOKEN", "API_KEY", "apikey", "DB_PASSWORD", "MY_SECRET", "SAS"):
        with pytest.raises(UsageError, match="looks like a secret"):
            assigned(f"{name}=1")


def test_a_launch_is_called_after_its_queue_or_its_first_input() -> None:
    names = {"az://films/My clips/": "my-clips", "2024 drives": "drives", "视频": "work", "": "work"}
    assert {path: name_of(path) for path in names} == names


def test_an_installed_package_says_where_the_profiles_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="clone of the repository") as told:
        profile_of(tmp_path, "a100")
    assert "\n" not in str(told.value)


# submit


def test_submit_without_a_terminal_wants_to_be_told_yes(launch: Any, tmp_path: Path) -> None:
    asked = ("submit", "hello", "--hw", "cpu", "--task", "shout", "--queue", str(tmp_path / "q"))
    said = launch(*asked)
    assert said.code == 2
    assert "nothing was made, nothing is spent: nobody is here to be asked, so say --yes" in said.err
    assert Fake.asked == []
    said = launch(*asked, "--yes")
    assert said.code == 0
    assert said.err.splitlines()[0] == "time  is not known on 1 machine"
    assert "1 new items" in said.err
    assert "q: submitted as job-1; see `worker launch fake watch q`" in said.err
    assert Receipts(NAME).need("q").made == ["cluster"]


@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("y", 0)])
def test_a_person_at_a_terminal_is_asked(
    place: type[Fake], monkeypatch: pytest.MonkeyPatch, launch: Any, tmp_path: Path, answer: str, code: int
) -> None:
    inside, outside = pty.openpty()
    os.write(inside, f"{answer}\n".encode())
    with os.fdopen(outside, "r") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        said = launch("submit", "hello", "--hw", "cpu", "--task", "shout", "--queue", str(tmp_path / "q"))
    os.close(inside)
    assert "Start q? [y/N]" in said.err
    assert said.code == code
    assert ("submit" in place.asked) is (code == 0)


def test_the_same_name_by_accident_is_no_second_submission(launch: Any, tmp_path: Path) -> None:
    asked = ("submit", "--yes", "--hw", "cpu", "--task", "shout", "--queue", str(tmp_path / "q"))
    assert launch(*asked, "hello").code == 0
    assert launch(*asked, "hello").code == 0
    said = launch(*asked, "other")
    assert said.code == 2
    assert "another launch is called q already (hello): --name this one" in said.err
    assert launch(*asked, "other", "--name", "q").code == 0


# watch


def test_watch_follows_until_all_is_done_and_fetches(
    launch: Any, queue: QueueUnderTest, shard: Shard, clock: Clock
) -> None:
    clock.then[3] = lambda: queue.commit(shard)
    said = launch("watch", "--fetch")
    assert said.code == 0, said.err
    assert "clips  1 running" in said.out
    assert "2 of 2 items  100%" in said.out
    assert len(json.loads(Path("run/clips-results/final_results.json").read_text())["results"]) == 2


@pytest.mark.usefixtures("clock")
def test_failed_items_are_exit_code_1(launch: Any, queue: QueueUnderTest, shard: Shard) -> None:
    queue.commit(shard, {"a": Failure("broken", "it does not open")})
    assert launch("watch").code == 1
    assert launch("fetch").code == 1
    assert json.loads(launch("watch", "--json").out)["items"]["failed"] == 1


def test_what_was_preempted_is_submitted_again_and_ever_later_where_nothing_comes_of_it(
    place: type[Fake], launch: Any, queue: QueueUnderTest, shard: Shard, clock: Clock
) -> None:
    place.standings = [AGAIN]

    def partly() -> None:
        if place.asked.count("again") == 4:
            queue.part(shard, [queue.result("a")])

    place.on_again = staticmethod(partly)
    said = launch("watch", "--tries", "6")
    assert place.asked.count("again") == 6
    assert [pause for pause in clock.slept if pause != 2] == [0, 10, 20, 40, 0, 10]
    assert said.code == 75
    assert "preempted, and work is left; the same `worker launch fake submit` goes on" in said.err
    assert Receipts(NAME).need().jobs == [f"job-{number}" for number in range(1, 8)]


@pytest.mark.usefixtures("shard", "clock")
def test_a_job_that_failed_is_not_submitted_again(place: type[Fake], launch: Any) -> None:
    place.standings = [Standing("failed", "exit code 3", "see its log")]
    said = launch("watch")
    assert said.code == 1
    assert "clips: exit code 3, and work is left; see its log" in said.line
    place.standings = [Standing("cancelled", "cancelled")]
    assert launch("watch").code == 75
    assert "again" not in place.asked


def test_what_a_person_has_to_do_is_said_while_it_waits(
    place: type[Fake], launch: Any, queue: QueueUnderTest, shard: Shard, clock: Clock
) -> None:
    place.standings = [Standing("waiting", "1 waiting (ImagePullBackOff)", "can the nodes pull it? --image")]
    clock.then[3] = lambda: queue.commit(shard)
    assert "can the nodes pull it? --image" in launch("watch").out
    assert json.loads(launch("watch", "--json").out)["scheduler"]["remedy"] == place.standings[0].remedy


def test_a_scheduler_and_a_store_that_are_away_are_waited_for(
    place: type[Fake], launch: Any, queue: QueueUnderTest, shard: Shard, clock: Clock
) -> None:
    place.standings = [*[UnfinishedError("no route to host")] * 3, Standing("running", "1 running")]
    clock.then[10] = lambda: setattr(place, "queue_away", 4)
    clock.then[30] = lambda: queue.commit(shard)
    said = launch("watch")
    assert said.code == 0
    assert said.err.splitlines() == [
        "the scheduler does not answer, the workers may well go on; trying again (no route to host)",
        "the queue does not answer, the workers may well go on; trying again (store away)",
        "the queue answers again",
        "the scheduler answers again",
    ]


@pytest.mark.usefixtures("clock")
def test_an_end_between_two_looks_is_no_failure(
    place: type[Fake], launch: Any, queue: QueueUnderTest, shard: Shard
) -> None:
    """The scheduler is asked first: what it calls over, the queue then shows."""
    heard = place.standing

    def ends(self: Fake, receipt: Receipt) -> Standing:
        queue.commit(shard)
        return heard(self, receipt)

    place.standings = [Standing("done", "all ended")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "standing", ends)
        assert launch("watch").code == 0


def test_a_scheduler_is_asked_less_often_than_a_queue(
    place: type[Fake], launch: Any, queue: QueueUnderTest, shard: Shard, clock: Clock
) -> None:
    clock.then[50] = lambda: queue.commit(shard)
    launch("watch")
    assert place.asked.count("standing") == 11


@pytest.mark.usefixtures("shard")
def test_ctrl_c_leaves_everything_running_and_says_how_to_look_again(
    place: type[Fake], launch: Any, clock: Clock
) -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    clock.then[2] = ctrl_c
    said = launch("watch")
    assert said.code == 75
    assert "the workers of clips go on; `worker launch fake watch clips` looks again" in said.line
    assert set(place.asked) == {"standing"}


@pytest.mark.usefixtures("shard", "clock")
def test_what_is_cancelled_elsewhere_while_it_is_submitted_again_ends_too(
    place: type[Fake], launch: Any
) -> None:
    place.standings = [AGAIN]

    def cancelled() -> None:
        with pytest.raises(SystemExit):
            cli.main(["launch", NAME, "cancel", "clips"])

    place.on_again = staticmethod(cancelled)
    said = launch("watch")
    assert said.code == 75
    assert (place.asked.count("again"), place.asked.count("cancel")) == (1, 2)
    assert "job-1, job-2 ended" in said.err
    assert Receipts(NAME).need().cancelled


@pytest.mark.usefixtures("shard")
@pytest.mark.parametrize(("verb", "sleeps"), [("cancel", 3), ("cancel", 5), ("delete", 3)])
def test_what_was_ended_elsewhere_is_not_submitted_again_by_who_watches(
    place: type[Fake], launch: Any, clock: Clock, verb: str, sleeps: int
) -> None:
    """A scheduler may tell a cancelled job like a preempted one. `sleeps`: 5 is in a pause before the next
    submission."""
    if sleeps == 5:
        place.standings = [AGAIN]

    def ended() -> None:
        place.standings = [AGAIN]
        place.asked.clear()
        with pytest.raises(SystemExit):
            cli.main(["launch", NAME, verb, "clips", *["--yes"] * (verb == "delete")])

    clock.then[sleeps] = ended
    said = launch("watch")
    assert clock.slept[sleeps - 1] == (20 if sleeps == 5 else 2)
    assert "again" not in place.asked
    assert said.code == (75 if verb == "cancel" else 2)
    told = "clips: cancelled, and preempted, and work is left" if verb == "cancel" else "no launch is called"
    assert told in said.err


# cancel, delete, receipts


@pytest.mark.usefixtures("shard")
def test_cancel_keeps_the_receipt_and_delete_removes_what_was_made(place: type[Fake], launch: Any) -> None:
    assert "job-1 ended" in launch("cancel", "clips").err
    assert "nothing was deleted (cluster would be)" in launch("delete", "clips").line
    assert launch("delete", "--yes").code == 0
    assert place.asked == ["cancel", "delete cluster"]
    assert Receipts(NAME).names() == []


def test_a_receipt_is_found_by_its_name_and_a_wrong_one_is_told(launch: Any) -> None:
    assert "nothing was launched from this folder" in launch("watch").line
    receipts = Receipts(NAME)
    receipts.keep(Receipt(NAME, Launch("one", CPU, price=1.5, settings={"tier": "low"}), "q", ["1"]))
    assert replace(receipts.need(), submitted="") == Receipt(
        NAME, Launch("one", CPU, price=1.5, inputs=[], params=[], settings={"tier": "low"}), "q", ["1"], []
    )
    receipts.keep(Receipt(NAME, Launch("two", CPU), "q"))
    assert "there are several launches, name one of: one, two" in launch("cancel").line
    assert "no launch is called 'three'" in launch("cancel", "three").line
    assert "names no launch" in launch("cancel", "../one").line
    (folder := Path("run/launches/fake")).joinpath("Notes.json").write_text("{}")
    assert receipts.names() == ["one", "two"]
    for bad in ('{"launcher": "fa', "[]", "{}", '{"launch": {"profile": {}}}', '{"launch": 1}'):
        (folder / "one.json").write_text(bad)
        assert "one.json is no receipt of ours" in launch("cancel", "one").line
    (folder / "one.json").write_bytes((folder / "two.json").read_bytes())
    assert "is the receipt of fake two" in launch("cancel", "one").line


# the pages


def examples() -> list[str]:
    pages = [
        (ROOT / page).read_text()
        for page in (
            "README.md",
            *(f"docs/{name}.md" for name in ("launch", "slurm", "azureml", "kubernetes")),
        )
    ]
    typed = re.findall(r"worker launch (\w+ (?:render|cost|submit) [^`\n]+)", "\n".join(pages))
    return sorted({one.partition("  #")[0] for one in typed if "…" not in one})


@pytest.mark.parametrize("typed", examples())
def test_what_a_page_says_to_type_can_be_rendered_and_priced(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("drives", "films", "clips"):
        Path(folder).mkdir()
        Path(folder, "one.mp4").touch()
    Path("food.yaml").touch()
    there = [*Path().iterdir()]
    place, _, *words = shlex.split(typed)
    for verb, told in (("render", words[words.index("--hw") + 1]), ("cost", "time")):
        with pytest.raises(SystemExit) as ended:
            cli.main(["launch", place, verb, *words])
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        assert told in out
    assert [*Path().iterdir()] == there


def test_every_page_says_what_to_type() -> None:
    assert {one.split()[0] for one in examples()} == {*LAUNCHERS}
    assert len(examples()) >= 10
