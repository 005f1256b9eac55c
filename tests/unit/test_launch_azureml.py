"""What a launch on Azure ML is made of: its files, its refusals, what its jobs' states mean."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from worker.cli.launch import command
from worker.errors import UsageError
from worker.launch import cost, template
from worker.launch.azureml import files
from worker.launch.azureml.launcher import AzureMl
from worker.launch.azureml.refusals import explain
from worker.launch.azureml.sizes import SIZES
from worker.launch.azureml.states import Job, judge
from worker.launch.here import CHECKOUT
from worker.launch.inputs import place
from worker.launch.launch import Launch
from worker.launch.order import read_profile
from worker.queue import azure_identity
from worker.queue.store import open_store

PROFILES = sorted(file.stem for file in (CHECKOUT / "env").glob("*.env"))
IMAGE = "example.azurecr.io/worker:ampere"


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)


def launch(hw: str = "a100", **said: Any) -> Launch:
    gpus = min(SIZES[hw]) if hw in SIZES else 1
    known = {"image": IMAGE, "task": "ghost-probing", "inputs": ["clips"], "gpus": gpus}
    return Launch("clips", read_profile(CHECKOUT, hw, {}), **{**known, **said})


def rendered(said: Launch) -> Mapping[str, Any]:
    return {name: yaml.safe_load(text) for name, text in files.render(said).items()}


# files


@pytest.mark.parametrize("hw", PROFILES)
def test_every_machine_that_azure_has_is_rendered_and_the_others_are_refused(hw: str) -> None:
    if hw not in SIZES:
        with pytest.raises(UsageError, match=f"--hw {hw}: Azure .*; there are a100, .* or --size names"):
            files.check(launch(hw))
        files.check(launch(hw, settings={"size": "Standard_X"}))
        return
    for gpus, size in SIZES[hw].items():
        said = launch(hw, gpus=gpus)
        files.check(said)
        told = rendered(said)
        assert told["compute.yml"]["size"] == size
        assert told["job.yml"]["environment_variables"]["WORKER_HW"] == hw
        assert told["job.yml"]["compute"] == f"azureml:{told['compute.yml']['name']}"
        named = told["environment.yml"]
        assert told["job.yml"]["environment"] == f"azureml:{named['name']}:{named['version']}"


def test_the_reference_job_is_as_it_was_asked_for() -> None:
    told = rendered(launch())
    compute = told["compute.yml"]
    assert (compute["type"], compute["tier"]) == ("amlcompute", "low_priority")
    assert (compute["min_instances"], compute["max_instances"]) == (0, 1)
    assert (compute["idle_time_before_scale_down"], compute["size"]) == (300, "Standard_NC24ads_A100_v4")
    job = told["job.yml"]
    assert (job["type"], job["limits"]["timeout"], job["resources"]["shm_size"]) == ("command", 43200, "8g")
    assert job["queue_settings"]["priority"] == "low"


@pytest.mark.parametrize("name", ["compute.yml", "environment.yml", "job.yml"])
def test_what_is_shipped_is_what_is_rendered_for_its_own_values(name: str) -> None:
    """So nothing in the files is read by nobody."""
    shipped = (files.FOLDER / name).read_text()
    said = launch(image="example.azurecr.io/gpu-batch-worker:ampere", settings={"account": "example"})
    told, ours = yaml.safe_load(shipped), rendered(said)[name]
    if name == "job.yml":
        assert told["tags"].items() <= ours["tags"].items()
        told["tags"] = ours["tags"]
        told["environment"] = ours["environment"]
    if name == "environment.yml":
        told["version"] = ours["version"]
    assert told == ours


def test_a_worker_stops_before_its_job_is_ended() -> None:
    for limit, told in ((60.0, "48s"), (3600.0, "3000s"), (0, "42600s")):
        job = rendered(launch(time_limit_s=limit))["job.yml"]
        assert (job["limits"]["timeout"], job["inputs"]["stop_after"]) == (limit or 43200, told)


def test_values_that_yaml_would_take_for_something_else_stay_texts() -> None:
    odd = {"A": "1", "B": "yes", "C": "1e3", "D": "a: b #c", "E": '"', "F": "中文", "G": "", "H": "\\1"}
    job = rendered(launch(environment=odd))["job.yml"]
    assert job["environment_variables"].items() >= odd.items()


def test_a_template_whose_line_is_gone_is_not_filled_in_silently() -> None:
    with pytest.raises(UsageError, match="0 lines that begin with size"):
        template.put("name: a\n", "size", {"size": "b"})


def test_a_misspelt_binding_is_found_here_and_not_on_paid_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = (files.FOLDER / "job.yml").read_text()
    monkeypatch.setattr(template, "read", lambda _: shipped.replace("{{inputs.queue}}", "{{inputs.qeue}}"))
    with pytest.raises(
        UsageError, match=r"\$\{\{inputs.qeue\}\} .* names nothing: there are inputs.queue, inputs"
    ):
        files.job(launch(), 1)


def test_the_workers_are_their_cluster_or_who_submits() -> None:
    assert rendered(launch())["job.yml"]["identity"] == {"type": "managed"}
    assert rendered(launch(settings={"identity": "user"}))["job.yml"]["identity"] == {"type": "user_identity"}


def test_clusters_of_other_machines_have_other_names() -> None:
    asked = [
        launch(),
        launch(gpus=2),
        launch(settings={"dedicated": True}),
        launch("h100", gpus=8, settings={"dedicated": True}),
    ]
    names = [files.compute_of(one) for one in asked]
    assert len({*names}) == 4
    assert all(files.COMPUTE.fullmatch(name) for name in names)
    assert names[0] == "gpu-batch-worker-a100"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"image": ""}, r"--image is missing: .* make push HW=a100 IMAGE="),
        ({"queue": "run/queue"}, r"--queue run/queue: write az://container/folder"),
        ({"queue": "az://c/q?sig=secret"}, "--queue az://c/q: write"),
        ({"queue": "az://films/$(x)"}, "write az://container/folder"),
        ({"gpus": 3}, "--gpus 3: Azure's machines with a100 have 1, 2, 4, 8"),
        ({"settings": {"compute": "a b"}}, "--compute a b: letters"),
        ({"settings": {"account": "A"}}, "--account A: lower case"),
    ],
)
def test_what_cannot_go_well_is_refused_in_one_line(said: Mapping[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        files.check(launch(**said))
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_name_with_hyphens_still_names_a_container() -> None:
    odd = replace(launch(), name="a--b")
    assert files.queue_of(odd) == "az://worker-a-b/queue"
    files.check(odd)


# inputs


def test_files_keep_the_names_that_they_have_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("clips/a.mp4", "more/b.mp4", "c.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    one = place(launch(inputs=["clips"]), "az://c/in")
    assert (one.named, one.root, one.uploads) == (["az://c/in"], "az://c/in", [(Path("clips"), "az://c/in")])
    several = place(launch(inputs=["clips", "*.mp4"]), "az://c/in")
    assert several.named == ["az://c/in/clips", "az://c/in/c.mp4"]
    assert several.uploads == [(Path("clips"), "az://c/in/clips"), (Path("c.mp4"), "az://c/in")]


def test_what_is_a_text_or_lies_in_a_store_already_is_not_sent(tmp_path: Path) -> None:
    assert place(launch(inputs=["az://films/a"]), "az://c/in").uploads == ()
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="is a list: the workers do not see this machine"):
        place(launch(inputs=[str(tmp_path / "a.txt")]), "az://c/in")
    with pytest.raises(UsageError, match="no common root"):
        place(launch(inputs=["az://films/a", str(tmp_path)]), "az://c/in")
    with pytest.raises(UsageError, match="is not there"):
        place(launch(inputs=[str(tmp_path / "b")]), "az://c/in")


# cost


def test_what_the_page_says_to_type_is_rendered_and_priced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").touch()
    page = (CHECKOUT / "docs/azureml.md").read_text()
    typed = re.findall(r"worker launch azureml (?:submit|render|cost) (.*?)(?:`|$)", page, re.MULTILINE)
    assert len(typed) == 3
    for line in typed:
        for verb, told in (("render", "type: amlcompute"), ("cost", "not counted: each machine while it")):
            ran = CliRunner().invoke(command, ["azureml", verb, *shlex.split(line)])
            assert told in ran.stdout, (line, ran)


def test_low_priority_costs_its_own_price() -> None:
    low, full = (AzureMl().cost(launch(settings={"dedicated": said})) for said in (False, True))
    assert low.price
    assert full.price
    assert (low.price.usd.low, low.price.usd.high) == (0.73, 0.73)
    assert full.price.usd.low == 3.673
    assert low.most_usd == pytest.approx(12 * 0.73)
    assert cost.lines(low)[1].startswith("most  $8.76, ")
    own = AzureMl().cost(launch(price=1.0)).price
    assert own
    assert own.usd.high == 1.0


# states

FAILED = "Execution failed. User process 'worker' exited with status code {}. Please check log file"


@pytest.mark.parametrize(
    ("jobs", "is_over", "state"),
    [
        ([("Queued", "")], None, "waiting"),
        ([("Preparing", "")], None, "waiting"),
        ([("Running", ""), ("Canceled", "")], None, "running"),
        ([("CancelRequested", "")], None, "running"),
        ([("Completed", "")], True, "done"),
        ([("Failed", FAILED.format(1))], True, "done"),
        ([("Failed", "")], True, "done"),
        # with work left: whatever an exit code of 1 was of, it is no preemption
        ([("Completed", "")], False, "done"),
        ([("Failed", FAILED.format(1))], False, "done"),
        ([("Canceled", "")], False, "again"),
        ([("Failed", FAILED.format(75))], False, "again"),
        ([("Failed", "The node was preempted")], False, "again"),
        ([("Failed", FAILED.format(3))], False, "failed"),
        ([("Failed", FAILED.format(2))], False, "failed"),
        ([("Failed", "")], False, "failed"),
        ([("Failed", FAILED.format(3)), ("Failed", FAILED.format(75))], False, "again"),
        ([], None, "gone"),
    ],
)
def test_states_of_jobs_say_what_to_do(jobs: list[tuple[str, str]], is_over: bool | None, state: str) -> None:
    told = [Job(f"clips-{number}", status, why) for number, (status, why) in enumerate(jobs, 1)]
    assert judge(told, is_over, asked_to_end=False).state == state


def test_a_job_that_somebody_cancelled_is_not_a_preempted_one() -> None:
    job = Job("clips-1", "Canceled")
    assert judge([job], False, asked_to_end=True).state == "cancelled"
    assert judge([job], False, asked_to_end=False).said == "clips-1 lost its machine"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "JobNodeCountExceedsCoreQuota, The specified subscription has a DSv2 family vCPU quota of 2",
            "no quota for this size",
        ),
        ("The requested VM size STANDARD_NC24ADS_A100_V4 is not available in the current region", "region"),
        ("Failed to pull image example.azurecr.io/worker:1: manifest unknown", "image cannot be pulled"),
    ],
)
def test_a_job_that_could_not_start_says_why_and_what_to_do(said: str, words: str) -> None:
    told = judge([Job("clips-1", "Failed", said)], False, asked_to_end=False)
    assert words in told.said
    assert told.remedy


def test_what_azure_says_is_quoted_without_its_secrets() -> None:
    words, _ = explain("no quota at https://x.blob/y?sv=1&sig=abcdef\nand more")
    assert "abcdef" not in words
    assert "\n" not in words


# who a worker is


@contextmanager
def answering(told: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            header = "secret" if self.path.startswith("/token") else "Authorization"
            asked.append((self.path, self.headers[header]))
            data = json.dumps(told).encode() if self.path.startswith("/token") else b"of a blob"
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_a_job_reads_blobs_as_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*azure_identity.GIVEN, "AZURITE_BLOB_STORAGE_URL", "AZURE_STORAGE_ENDPOINT", "OBO_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with answering({"access_token": "of-the-cluster", "expires_on": "4000000000"}) as (address, asked):
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "films")
        monkeypatch.setenv("AZURE_ENDPOINT", address)
        monkeypatch.setenv("MSI_ENDPOINT", f"{address}/token")
        monkeypatch.setenv("MSI_SECRET", "the-secret")
        monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", "client")
        assert open_store("az://clips/queue").get("x") == b"of a blob"
    (token, secret), *blobs = asked
    assert secret == "the-secret"
    assert "resource=https%3A%2F%2Fstorage.azure.com" in token
    assert "clientid=client" in token
    assert {said for _, said in blobs} == {"Bearer of-the-cluster"}


def test_a_key_counts_more_and_elsewhere_there_is_no_such_identity() -> None:
    job = {"MSI_ENDPOINT": "http://x", "MSI_SECRET": "y"}
    assert azure_identity.of_this_job(job)
    assert azure_identity.of_this_job({"OBO_ENDPOINT": "http://x"})
    assert azure_identity.of_this_job({**job, "AZURE_STORAGE_ACCOUNT_KEY": "z"}) is None
    assert azure_identity.of_this_job({}) is None
