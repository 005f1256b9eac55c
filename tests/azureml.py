"""Azure ML for tests: its management API over TLS on a port of this machine, with one workspace in it."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from worker.launch.azureml.workspace import MANNERS
from worker.queue.emulator import ACCOUNT

SUBSCRIPTION, GROUP, NAME = "00000000-0000-0000-0000-000000000001", "group", "workspace"
WORKSPACE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{NAME}"
)
PRINCIPAL = "00000000-0000-0000-0000-00000000000a"
NOT_FOUND = 404


class Stub:
    """`refuse` and `run` say how this Azure is: what it refuses, and what becomes of a job."""

    def __init__(self, folder: Path) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.why: dict[str, str] = {}
        """job → what the history of runs says of its failure"""
        self.refuse: Callable[[str, str], tuple[int, str, str] | None] = lambda *_: None
        """→ status, code, message"""
        self.says: Callable[[str, str], bytes | None] = lambda *_: None
        """what somebody on the way answers in its place; b"": nothing at all"""
        self.run: Callable[[str, dict[str, Any]], None] = lambda *_: None
        self.asked: list[tuple[str, str]] = []
        self.closing = threading.Event()
        self.certificate = folder / "stub.pem"
        _self_signed(self.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.resources[""] = {
            "location": "eastus",
            "properties": {
                "storageAccount": f"/subscriptions/x/storageAccounts/{ACCOUNT}",
                "discoveryUrl": f"{self.address}/discovery",
                "workspaceId": "1",
                "provisioningState": "Succeeded",
            },
        }
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def client(self, subscription: str, group: str, workspace: str) -> Any:
        from azure.ai.ml import MLClient
        from azure.core.credentials import AccessToken

        class Credential:
            def get_token(self, *_: str, **__: Any) -> AccessToken:
                return AccessToken("token", int(time.time()) + 3600)

        cloud = {
            "azure_portal": self.address,
            "resource_manager": f"{self.address}/",
            "active_directory": self.address,
            "aml_resource_id": self.address,
            "storage_endpoint": "core.windows.net",
            "registry_discovery_endpoint": self.address,
        }
        return MLClient(
            Credential(),  # type: ignore[arg-type]
            subscription,
            group,
            workspace,
            **MANNERS,
            cloud=self.address,  # a cloud of a known name stays as it was
            cloud_metadata=cloud,
        )

    def job(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = self.resources[f"/jobs/{name}"]["properties"]
        return told

    def names(self, kind: str) -> list[str]:
        found = [path.removeprefix(f"/{kind}/") for path in self.resources if path.startswith(f"/{kind}/")]
        return sorted(found)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/discovery":
            return 200, {"api": self.address, "history": self.address}
        if found := re.search(r"/runs/([^/]+)/details$", path):
            return 200, {"runId": found[1], "error": {"error": {"message": self.why.get(found[1], "")}}}
        self.asked.append((method, path.removeprefix(WORKSPACE)))
        if refused := self.refuse(method, path.removeprefix(WORKSPACE)):
            status, code, message = refused
            return status, {"error": {"code": code, "message": message}}
        if not path.startswith(WORKSPACE):
            return NOT_FOUND, {"error": {"code": "ResourceNotFound", "message": f"{path} was not found."}}
        return self._of_workspace(method, path.removeprefix(WORKSPACE), body)

    def _of_workspace(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "POST" and path.endswith("/cancel"):
            self.resources[path.removesuffix("/cancel")]["properties"]["status"] = "Canceled"
            return 200, {}
        if method in ("PUT", "PATCH"):
            return 200, self._put(path, body)
        if method == "DELETE":
            return (200 if self.resources.pop(path, None) else 204), {}
        if path == "/jobs":
            jobs = [self._told(one) for one in self.resources if one.startswith("/jobs/")]
            return 200, {"value": jobs}
        if path in self.resources:
            return 200, self._told(path)
        return NOT_FOUND, {"error": {"code": "NotFound", "message": f"Not found: {path}"}}

    def _put(self, path: str, body: Any) -> Any:
        is_new = path not in self.resources
        self.resources[path] = body
        kind, name = path.split("/")[1:3]
        properties = body["properties"]
        if kind == "computes":
            properties["provisioningState"] = "Succeeded"
            if "identity" in body:
                body["identity"] |= {"principalId": PRINCIPAL, "tenantId": SUBSCRIPTION}
        if kind == "jobs" and is_new:
            properties["status"] = "Queued"
            self.run(name, properties)
        return self._told(path)

    def _told(self, path: str) -> Any:
        system = {"createdAt": "2026-11-22T00:00:00Z", "lastModifiedAt": "2026-11-22T00:00:00Z"}
        name = path.rpartition("/")[2] or NAME
        return {"id": WORKSPACE + path, "name": name, "systemData": system, **self.resources[path]}


def command_of(job: dict[str, Any]) -> list[str]:
    """As Azure writes a job's command: its inputs in their places."""
    inputs = {name: told["value"] for name, told in job["inputs"].items()}
    told = re.sub(r"\$\{\{inputs\.(\w+)\}\}", lambda match: str(inputs[match[1]]), job["command"])
    assert "${{" not in told
    return str(told).split()


@contextmanager
def running(folder: Path) -> Iterator[Stub]:
    stub = Stub(folder)
    try:
        yield stub
    finally:
        stub.close()


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def _answer(self) -> None:
            if (said := stub.says(self.command, self.path)) is not None:
                if said:
                    self._send(200, "text/html", said)
                else:
                    stub.closing.wait()
                    self.close_connection = True
                return
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            try:
                status, told = stub.answer(self.command, self.path.partition("?")[0].rstrip("/"), body)
            except Exception as error:  # a fault of the stub is its caller's to see
                status, told = 418, {"error": {"code": "Stub", "message": repr(error)}}
            self._send(status, "application/json", json.dumps(told).encode())

        def _send(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815

    return Handler


def _self_signed(file: Path) -> None:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
