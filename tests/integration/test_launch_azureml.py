"""`worker launch azureml` as a whole: a stub of Azure's API whose jobs are real workers, and a blob store."""

from __future__ import annotations

import io
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("azure.ai.ml", reason="azure-ai-ml is not installed: make test-azureml")

from tests import azureml, workers
from tests.azureml import Stub, command_of
from tests.servers import Server
from tests.workers import TASKS, Worker, counts, eventually
from worker.cli import main
from worker.queue.store import open_store

QUEUE = "az://worker-clips/queue"
CLUSTER = "gpu-batch-worker-cpu"
GPU = "gpu-batch-worker-a100"
IMAGE = ("--image", "example.azurecr.io/worker:1")


@pytest.fixture
def azure(tmp_path: Path, azurite: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    assert azurite
    with azureml.running(tmp_path) as stub:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stub.certificate))
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", azureml.SUBSCRIPTION)
        monkeypatch.setenv("AZURE_RESOURCE_GROUP", azureml.GROUP)
        monkeypatch.setenv("AZURE_WORKSPACE_NAME", azureml.NAME)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azureml.ACCOUNT)
        monkeypatch.setenv("AZUREML_GIT_REPOSITORY_URI", "of the test")
        monkeypatch.setenv("WORKER_TASKS", str(TASKS))
        monkeypatch.setattr("worker.launch.azureml.workspace._client", stub.client)
        for name in ("ASK_EVERY_S", "LOOK_EVERY_S"):
            monkeypatch.setattr(f"worker.launch.watching.{name}", 0.1)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield stub
        _remove("worker-clips")


def _remove(container: str) -> None:
    """The next test has the same server."""
    from azure.core.exceptions import ResourceNotFoundError

    from worker.launch.azureml import containers

    with containers._client(azureml.ACCOUNT, container) as client:
        try:
            client.delete_container()
        except ResourceNotFoundError:
            return


def launch(verb: str, *words: str, code: int = 0) -> str:
    """→ all that it said"""
    said = io.StringIO()
    with pytest.raises(SystemExit) as ended, redirect_stdout(said), redirect_stderr(said):
        main(["launch", "azureml", verb, *words])
    assert (ended.value.code or 0) == code, said.getvalue()
    return said.getvalue()


def submit(*words: str, code: int = 0) -> str:
    return launch("submit", "--hw", "cpu", "--name", "clips", *IMAGE, "--yes", *words, code=code)


def clips() -> None:
    Path("clips").mkdir()
    for number in range(5):
        Path(f"clips/clip {number}.text").write_text(f"of clip {number}")


def works(stub: Stub, then: Callable[[Worker], None] = lambda _: None, **environment: str) -> None:
    """Jobs run as they would there: Azure's command line, with the job's own environment."""

    def run(name: str, job: dict[str, Any]) -> None:
        program, *words = command_of(job)
        assert program == "worker"
        told = {"WORKER_POLL": "0.1", **job["environmentVariables"], **environment}
        process = workers.worker(*words, env=told)
        job["status"] = "Running"

        def follow() -> None:
            then(process)
            code = process.wait(60)
            if code == -signal.SIGKILL:
                job["status"] = "Canceled"
            elif code == 0:
                job["status"] = "Completed"
            else:
                said = f"Execution failed. User process 'worker' exited with status code {code}."
                stub.why[name] = f"{said} Please check log file 'user_logs/std_log.txt' for error details."
                job["status"] = "Failed"

        threading.Thread(target=follow, daemon=True).start()

    stub.run = run


def results(folder: str = "run/clips-results") -> dict[str, Any]:
    told = json.loads(Path(folder, "final_results.json").read_bytes())
    return {one["input"]: one for one in told["results"]}


def test_a_folder_goes_in_and_a_folder_of_answers_comes_back(azure: Stub) -> None:
    clips()
    works(azure)
    said = submit("--task", "read-text", "clips")
    assert "5 new items" in said
    assert f"--assignee-object-id {azureml.PRINCIPAL}" in said
    launch("watch", "--fetch")
    assert {name: one["text"] for name, one in results().items()} == {
        f"clip {number}.text": f"of clip {number}" for number in range(5)
    }
    receipt = Path("run/launches/azureml/clips.json").read_text()
    assert "key" not in receipt.lower()
    assert azure.names("jobs") == ["clips-1"]


def test_what_is_submitted_twice_is_there_once(azure: Stub) -> None:
    clips()
    submit("--task", "read-text", "clips")
    again = submit("--task", "read-text", "clips")
    assert "clips-1 is queued already" in again
    assert "5 were there already" in again.partition("queue-inputs:")[2]
    assert "0 new" in again
    assert ": made" not in again
    Path("run/launches/azureml/clips.json").unlink()  # from another machine
    assert "clips-1 is queued already" in submit("--task", "read-text", "clips")
    assert azure.names("jobs") == ["clips-1"]
    assert azure.names("computes") == [CLUSTER]


def test_as_many_jobs_as_workers_each_on_the_same_queue(azure: Stub) -> None:
    submit("--task", "shout", "--workers", "2", "a", "b")
    assert azure.names("jobs") == ["clips-1", "clips-2"]
    azure.job("clips-1")["status"] = "Canceled"
    submit("--task", "shout", "--workers", "2", "a", "b")
    assert azure.names("jobs") == ["clips-1", "clips-2", "clips-3"]
    assert azure.resources[f"/computes/{CLUSTER}"]["properties"]["properties"]["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": 2,
        "nodeIdleTimeBeforeScaleDown": "PT5M",
    }


def test_a_cluster_that_was_taken_away_as_a_whole_is_asked_for_again(azure: Stub, tmp_path: Path) -> None:
    haste = tmp_path / "haste"

    def taken(process: Worker) -> None:
        if haste.exists():
            return
        eventually(lambda: counts(QUEUE).get("claims"))
        haste.touch()
        process.signal_all(signal.SIGKILL)

    works(azure, taken, SLEEPY_HASTE=str(haste))
    inputs = [f"nap {number}" for number in range(6)]
    submit("--task", "sleepy", "--set", "seconds=60", "--env", "WORKER_TTL=2", *inputs)
    done = launch("watch", "--fetch", "--tries", "2")
    assert "clips-1 lost its machine: submitting it again" in done
    assert sorted(results()) == inputs
    assert azure.names("jobs") == ["clips-1", "clips-2"]


def test_who_hands_work_back_is_asked_again_up_to_a_limit(azure: Stub) -> None:
    def stopped(process: Worker) -> None:
        before = counts(QUEUE).get("claims", 0)
        eventually(lambda: counts(QUEUE).get("claims", 0) > before)  # it works
        process.send_signal(signal.SIGTERM)

    works(azure, stopped)
    submit("--task", "sleepy", "--set", "seconds=60", "--env", "WORKER_GRACE=1", "a nap")
    done = launch("watch", "--tries", "1", code=75)
    assert "clips-1 handed its work back: submitting it again" in done
    assert "clips-2 handed its work back, and work is left" in done
    assert azure.names("jobs") == ["clips-1", "clips-2"]


def test_a_wrong_launch_fails_once_and_says_where_to_look(azure: Stub) -> None:
    works(azure)
    submit("--task", "shout", "--env", "WORKER_TASKS=nowhere", "a")
    done = launch("watch", code=1)
    assert "clips-1 was told something wrong (exit code 2)" in done
    assert "az ml job stream --name clips-1" in done
    assert azure.names("jobs") == ["clips-1"]


def test_what_was_cancelled_is_not_asked_for_again(azure: Stub) -> None:
    submit("--task", "shout", "a")
    assert "clips-1: cancelled" in launch("cancel")
    done = launch("watch", code=75)
    assert "clips-1 was cancelled, and work is left" in done
    assert azure.names("jobs") == ["clips-1"]
    submit("--task", "shout", "a")  # and goes on when it is asked for
    assert azure.names("jobs") == ["clips-1", "clips-2"]


def test_delete_removes_what_the_launch_made(azure: Stub) -> None:
    azure.resources["/computes/theirs"] = {"properties": {"computeType": "AmlCompute", "properties": {}}}
    submit("--task", "shout", "a")
    said = launch("delete", "--yes")
    assert azure.names("computes") == ["theirs"]
    assert "container worker-clips: removed" in said
    assert azure.job("clips-1")["status"] == "Canceled"
    assert not Path("run/launches/azureml/clips.json").exists()
    with pytest.raises(Exception, match="container"):
        open_store(QUEUE).list()


def test_delete_leaves_what_others_made_or_use(azure: Stub) -> None:
    submit("--task", "shout", "a")
    open_store("az://worker-clips/theirs").create("film.mp4", b"precious")
    azure.resources["/jobs/theirs"] = json.loads(json.dumps(azure.resources["/jobs/clips-1"]))
    said = launch("delete", "--yes", code=2)
    assert f"cluster {CLUSTER} stays, for theirs works on it" in said
    assert "container worker-clips stays, for it holds theirs/film.mp4" in said
    assert azure.names("computes") == [CLUSTER]
    assert open_store("az://worker-clips/theirs").get("film.mp4") == b"precious"
    azure.job("theirs")["status"] = "Completed"
    open_store("az://worker-clips/theirs").discard("film.mp4")
    launch("delete", "--yes")
    assert azure.names("computes") == []


def test_a_cluster_that_is_there_is_never_changed(azure: Stub) -> None:
    submit("--task", "shout", "a")
    there = json.dumps(azure.resources[f"/computes/{CLUSTER}"])
    said = submit("--task", "shout", "--workers", "3", "a")
    assert "stays as it is: max_instances 1 instead of 3" in said
    other = submit("--task", "shout", "--size", "Standard_D2s_v3", "a", code=2)
    assert "is there already with size Standard_D8s_v3" in other
    assert json.dumps(azure.resources[f"/computes/{CLUSTER}"]) == there
    launch("delete", "--yes")


QUOTA = (
    "The specified subscription has a Low Priority vCPU quota of 0 and cannot accomodate for at least 1 "
    "requested managed compute node which maps to 24 vCPUs. Talk to your Subscription Admin."
)


@pytest.mark.parametrize(
    ("at", "refusal", "told"),
    [
        (("PUT", "/computes"), (400, "BadRequest", QUOTA), "has no quota for this size .* under Quota"),
        (
            ("PUT", "/computes"),
            (
                400,
                "BadRequest",
                "The specified value for property Cluster.Properties.VMSize is not a supported VM size.",
            ),
            "the workspace's region does not have this size",
        ),
        (
            ("PUT", "/computes"),
            (403, "AuthorizationFailed", "The client does not have authorization to perform action"),
            "this login may not do that .* AzureML Compute Operator",
        ),
        (
            ("GET", ""),
            (404, "ResourceGroupNotFound", "Resource group 'group' could not be found."),
            "Azure knows no such workspace .* check AZURE_SUBSCRIPTION_ID",
        ),
        (("GET", ""), (401, "InvalidAuthenticationToken", "The access token is invalid."), "run `az login`"),
    ],
    ids=["quota", "region", "role", "names", "login"],
)
def test_what_azure_refuses_is_said_in_one_line_before_anything_is_sent(
    azure: Stub, at: tuple[str, str], refusal: tuple[int, str, str], told: str
) -> None:
    clips()

    def refuse(method: str, path: str) -> tuple[int, str, str] | None:
        return refusal if method == at[0] and (path.startswith(at[1]) if at[1] else path == "") else None

    azure.refuse = refuse
    done = submit("--task", "read-text", "clips", code=2)
    line = done.strip().splitlines()[-1]
    assert re.search(told, line), done
    assert azure.names("jobs") == []
    with pytest.raises(Exception, match="container"):
        open_store(QUEUE).list()


@pytest.mark.parametrize("said", [b"<html>a proxy's page</html>", b""], ids=["page", "silence"])
def test_an_azure_that_does_not_answer_is_asked_again_later(
    azure: Stub, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    submit("--task", "shout", "a")
    monkeypatch.setitem(azureml.MANNERS, "read_timeout", 0.5)
    monkeypatch.setitem(azureml.MANNERS, "retry_total", 0)
    azure.says = lambda method, path: said if method == "PUT" and "/jobs/" in path else None
    azure.job("clips-1")["status"] = "Canceled"
    told = submit("--task", "shout", "a", code=75)
    assert "job clips-2: Azure does not answer as it should" in told
    azure.says = lambda *_: None
    submit("--task", "shout", "a")
    assert azure.names("jobs") == ["clips-1", "clips-2"]


def test_a_submission_whose_answers_are_lost_at_any_moment_goes_on_and_forgets_nothing(
    azure: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(azureml.MANNERS, "retry_total", 0)
    left, plain = 0, azure.answer

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        nonlocal left
        left -= 1
        told = plain(method, path, body)
        return (503, {"error": {"code": "ServiceUnavailable", "message": "away"}}) if left == 0 else told

    monkeypatch.setattr(azure, "answer", answer)
    for moment in range(1, 40):
        left = moment
        if "submitted as" in launch_of_any_end("--task", "shout", "a"):
            break
        left = 0
        submit("--task", "shout", "a")
        made = json.loads(Path("run/launches/azureml/clips.json").read_text())["made"]
        assert [one.split(" ")[0] for one in made] == ["cluster", "environment", "container"], moment
        assert azure.names("jobs") == ["clips-1"], moment
        launch("delete", "--yes")
        assert azure.names("computes") == [], moment
        for path in [one for one in azure.resources if one.startswith(("/jobs/", "/environments/"))]:
            del azure.resources[path]
    assert moment > 6


def launch_of_any_end(*words: str) -> str:
    said = io.StringIO()
    with pytest.raises(SystemExit) as ended, redirect_stdout(said), redirect_stderr(said):
        main(["launch", "azureml", "submit", "--hw", "cpu", "--name", "clips", *IMAGE, "--yes", *words])
    assert (ended.value.code or 0) in (0, 75), said.getvalue()
    return said.getvalue()


def test_a_job_that_cannot_be_cancelled_does_not_keep_the_others_running(azure: Stub) -> None:
    submit("--task", "shout", "--workers", "2", "a")
    azure.refuse = lambda _, path: (409, "Conflict", "not now") if path == "/jobs/clips-1/cancel" else None
    assert "not now" in launch("cancel", code=2)
    assert azure.job("clips-2")["status"] == "Canceled"


def test_a_queue_without_items_needs_inputs(azure: Stub, azurite: Server) -> None:
    launch("submit", "--hw", "cpu", *IMAGE, "--yes", "--queue", f"{azurite.fresh()}/q", code=2)
    assert azure.names("computes") == azure.names("jobs") == []


def test_a_queue_that_holds_its_items_is_worked_on_where_it_is(azure: Stub, azurite: Server) -> None:
    queue = f"{azurite.fresh()}/here/q"
    works(azure)
    submit("--task", "shout", "--queue", queue, "a")
    launch("watch")
    submit("--queue", queue)
    assert "container" not in launch("delete", "--yes")  # it was there before
    assert [*workers.answers(queue)] == ["a"]


def test_settings_that_lack_are_named(azure: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_RESOURCE_GROUP")
    monkeypatch.setenv("AZURE_WORKSPACE_NAME", "")
    said = submit("--task", "shout", "a", code=2)
    assert "AZURE_RESOURCE_GROUP, AZURE_WORKSPACE_NAME are not set" in said
    assert azure.asked == []
