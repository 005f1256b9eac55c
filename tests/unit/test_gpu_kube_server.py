"""The way to an API server, and what its answers mean: the official client, at a server of a few lines."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from worker import cli
from worker.errors import MachineError, UsageError
from worker.gpus.kube import api as module
from worker.gpus.kube.api import Absent, ApiServer, Away, Conflict, Gone, connect


class Handler(BaseHTTPRequestHandler):
    """Answers the status that the path ends with, or a stream in pieces that end anywhere."""

    seen: ClassVar[list[tuple[str, str, str, Any]]] = []

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        self.seen.append((self.command, self.path, self.headers.get("Authorization", ""), body))
        if "watch=true" in self.path:
            return self._stream()
        status = int(self.path.partition("?")[0].rpartition("/")[2])
        self._answer(status, {"message": f"it is {status}", "metadata": {"resourceVersion": "7"}})
        return None

    do_PUT = do_GET  # noqa: N815

    def _answer(self, status: int, told: Any) -> None:
        data = json.dumps(told).encode() if status != 418 else b"no json"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        self.send_response(200)
        self.end_headers()
        for piece in (b'{"type":"ADDED","ob', b'ject":{"a":1}}\n{"type":"BOOK', b'MARK","object":{}}\n'):
            self.wfile.write(piece)
            self.wfile.flush()
        if "broken" in self.path:
            self.wfile.write(b'{"type":\n')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    pytest.importorskip("kubernetes", reason="the extra kubernetes is not installed")
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    write(tmp_path / "config", f"http://127.0.0.1:{listening.server_port}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    Handler.seen.clear()
    yield connect("", "")[0]
    listening.shutdown()
    listening.server_close()


def write(file: Path, url: str) -> None:
    told = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "a",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "hush"}}],
        "contexts": [
            {"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "mine"}},
            {"name": "b", "context": {"cluster": "c", "user": "u"}},
        ],
    }
    file.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (404, Absent, "it is 404"),
        (409, Conflict, "it is 409"),
        (410, Gone, "it is 410"),
        (403, MachineError, "the API server forbids it: it is 403; see env/kubernetes/gpus.yaml"),
        (401, MachineError, "the API server does not know who asks (it is 401): log in to it again"),
        (429, Away, "the API server answers 429: it is 429"),
        (503, Away, "the API server answers 503: it is 503"),
        (422, MachineError, "the API server refuses PUT /422: 422 it is 422"),
        (418, MachineError, "the API server refuses PUT /418: 418"),
    ],
)
def test_an_answer_means_what_it_says(
    server: ApiServer, status: int, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        server.put(f"/{status}", {"a": 1})
    assert said in str(raised.value)
    assert Handler.seen == [("PUT", f"/{status}", "Bearer hush", {"a": 1})]  # once: who retries knows why


def test_events_are_whole_however_they_come(server: ApiServer) -> None:
    events = server.watch("/pods", {"resourceVersion": "7"}, 30)
    assert list(events) == [{"type": "ADDED", "object": {"a": 1}}, {"type": "BOOKMARK", "object": {}}]
    assert Handler.seen[0][1] == "/pods?resourceVersion=7&watch=true"
    with pytest.raises(Away, match="fell silent"):
        list(server.watch("/broken", {}, 30))


def test_a_server_that_is_not_there_is_away(server: ApiServer, tmp_path: Path) -> None:
    assert server.get("/200")["metadata"] == {"resourceVersion": "7"}
    write(tmp_path / "config", "http://127.0.0.1:9")
    with pytest.raises(Away, match="the API server does not answer"):
        connect("", "")[0].get("/200")


def test_the_namespace_is_the_one_that_is_said_or_the_context_s(server: ApiServer) -> None:
    assert server
    assert [connect(*said)[1] for said in (("", ""), ("b", ""), ("a", "other"))] == [
        "mine",
        "default",
        "other",
    ]
    with pytest.raises(UsageError, match=r"no way to a Kubernetes cluster: .*see KUBECONFIG and --context"):
        connect("absent", "")


def test_a_context_that_is_said_needs_no_current_one(server: ApiServer, tmp_path: Path) -> None:
    assert server
    file = tmp_path / "config"
    file.write_text(file.read_text().replace('"current-context": "a", ', ""))
    assert connect("a", "")[1] == "mine"
    with pytest.raises(UsageError, match="current-context"):
        connect("", "")


@pytest.mark.parametrize("text", [b"a: [", b"\xff\xfe", b"[]", b"a: 1"])
def test_a_broken_kubeconfig_is_told_as_such(server: ApiServer, tmp_path: Path, text: bytes) -> None:
    assert server
    (tmp_path / "config").write_bytes(text)
    with pytest.raises(UsageError, match="no way to a Kubernetes cluster") as told:
        connect("", "")
    assert "\n" not in str(told.value)


def test_in_a_pod_its_account_shows_the_way(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server
    from kubernetes.config import incluster_config

    for name, text in {"token": "of the pod", "namespace": "around", "ca.crt": "-"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "ACCOUNT", tmp_path)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert connect("", "")[1] == "mine"  # KUBECONFIG is said, and counts
    monkeypatch.delenv("KUBECONFIG")
    assert connect("", "")[1] == "around"


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(MachineError, match=r"is not installed: pip install .*kubernetes\.txt"):
        connect("", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kubernetes", "--ledger", "l"], "leave out --cluster and --ledger"),
        (["--tolerate", "a"], "belong to --kubernetes"),
        (["--context", "a"], "belong to --kubernetes"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["gpus", "serve", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
