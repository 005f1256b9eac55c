"""A real API server and its scheduler, with nodes and pods. There is no kubelet: tests say what it would."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.servers import free_port, running

ADMIN = "admin-of-tests"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Cluster:
    host: str
    folder: Path
    api: Any
    """the official client's ApiClient, as an administrator"""

    def kubeconfig(self, token: str = ADMIN, namespace: str = "default") -> Path:
        authority = base64.b64encode((self.folder / "certs" / "apiserver.crt").read_bytes()).decode()
        told = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [
                {"name": "here", "cluster": {"server": self.host, "certificate-authority-data": authority}}
            ],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}
            ],
        }
        file = self.folder / f"{uuid4().hex}.kubeconfig"
        file.write_text(json.dumps(told))
        return file

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        headers = {"Accept": "application/json", "Content-Type": kind}
        asked = self.api.param_serialize(method, path, {}, [], headers, body, auth_settings=["BearerToken"])
        answer = self.api.call_api(*asked, _request_timeout=60).response
        told = json.loads(answer.data)
        if answer.status >= 300 and answer.status != 404:
            raise AssertionError(f"{method} {path}: {answer.status} {told.get('message')}")
        return told

    def node(self, name: str, resources: Mapping[str, int], **labels: str) -> None:
        """Ready, and without the taint that new nodes get."""
        told = node(name, resources, labels)
        self.ask("POST", "/api/v1/nodes", {**told, "status": {}})
        self.ask("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}}, MERGE)
        self.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": told["status"]}, MERGE)

    def start(self, told: Any, namespace: str = "default") -> None:
        self.ask("POST", f"/api/v1/namespaces/{namespace}/pods", told | {"kind": "Pod", "apiVersion": "v1"})

    def bound(self, name: str, namespace: str = "default", seconds: float = 60) -> str:
        """The node that the scheduler chose; else why it chose none."""

        def look() -> str:
            pod = self.ask("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
            return str(pod["spec"].get("nodeName") or "")

        if found := until(look, seconds, must=False):
            return found
        pod = self.ask("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        return f"pending: {pod['status'].get('conditions')}"

    def delete(self, name: str, namespace: str = "default") -> None:
        at_once = {"gracePeriodSeconds": 0}
        self.ask("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", at_once)


def node(name: str, resources: Mapping[str, int], labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    amounts = {one: str(count) for one, count in resources.items()}
    there = {"cpu": "64", "memory": "256Gi", "pods": "110", **amounts}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {},
        "status": {
            "capacity": there,
            "allocatable": there,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def pod(
    name: str, resource: str = "", count: int = 0, on: str = "", labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": "none"}
    if count:
        container["resources"] = {"limits": {resource: str(count)}}
    spec: dict[str, Any] = {"containers": [container]}
    if on:
        spec["nodeName"] = on
    return {"metadata": {"name": name, "namespace": "default", "labels": dict(labels or {})}, "spec": spec}


def filled(name: str, fragment: Mapping[str, Any]) -> dict[str, Any]:
    """A manager's fragment, with what a user adds."""
    told: dict[str, Any] = json.loads(json.dumps(fragment))
    told["metadata"]["name"] = name
    told["spec"]["containers"][0]["image"] = "none"
    return told


def until(look: Callable[[], Any], seconds: float = 60, must: bool = True) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            assert not must, "it did not happen"
            return found
        time.sleep(0.05)
    return found


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    etcd, assets = shutil.which("etcd"), Path(os.environ.get("KUBEBUILDER_ASSETS", "nowhere"))
    server, scheduler = assets / "kube-apiserver", assets / "kube-scheduler"
    etcd = str(assets / "etcd") if (assets / "etcd").exists() else etcd
    if not (etcd and server.exists() and scheduler.exists()):
        pytest.skip(
            "no Kubernetes here: name a folder with kube-apiserver and kube-scheduler in KUBEBUILDER_ASSETS"
        )
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"], check=True, capture_output=True
    )
    (folder / "tokens.csv").write_text(f"{ADMIN},admin,admin,system:masters\n")
    client, peer, port = free_port(), free_port(), free_port()
    store, host = f"http://127.0.0.1:{client}", f"https://127.0.0.1:{port}"
    with ExitStack() as started:

        def at_once(process: AbstractContextManager[subprocess.Popen[bytes]]) -> None:
            """Ended without the patience that a server has for its clients."""
            started.callback(started.enter_context(process).kill)

        command = [str(etcd), "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"]
        command += ["--listen-client-urls", store, "--advertise-client-urls", store]
        at_once(running([*command, "--listen-peer-urls", f"http://127.0.0.1:{peer}"], client))
        command = [str(server), f"--etcd-servers={store}", "--bind-address=127.0.0.1"]
        command += ["--advertise-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={folder}/certs"]
        command += ["--service-account-issuer=https://k8s", "--service-cluster-ip-range=10.0.0.0/24"]
        command += [f"--service-account-{what}={folder}/sa.key" for what in ("key-file", "signing-key-file")]
        command += [f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC"]
        at_once(running([*command, "--disable-admission-plugins=ServiceAccount"], port))
        from kubernetes import client as official

        settings = official.Configuration(host=host, api_key={"authorization": f"Bearer {ADMIN}"})
        settings.ssl_ca_cert = str(folder / "certs" / "apiserver.crt")
        found = Cluster(host, folder, official.ApiClient(settings))
        until(lambda: "default" in str(_quietly(found, "/api/v1/namespaces")), 60)
        config = str(found.kubeconfig())
        command = [str(scheduler), f"--kubeconfig={config}", "--leader-elect=false"]
        seen = free_port()
        command += [f"--secure-port={seen}", "--port=0", f"--cert-dir={folder}/scheduler"]
        at_once(running(command, seen))
        yield found


def _quietly(found: Cluster, path: str) -> Any:
    try:
        return found.ask("GET", path)
    except Exception:
        return None
