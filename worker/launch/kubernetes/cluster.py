"""The Jobs of one namespace that `worker launch` made, at the API server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from worker.errors import UnfinishedError, UsageError
from worker.gpus.kube.api import (
    ACCOUNT,
    Absent,
    ApiServer,
    Away,
    Conflict,
    Forbidden,
    chosen_context,
    connect,
)
from worker.launch.kubernetes.manifest import labels
from worker.launch.kubernetes.standing import CANCELLED

if TYPE_CHECKING:
    from worker.launch.kubernetes.manifest import Object

RIGHTS = "docs/kubernetes.md, what it may do"
KINDS = {
    "job": ("/apis/batch/v1", "jobs"),
    "serviceaccount": ("/api/v1", "serviceaccounts"),
    "secret": ("/api/v1", "secrets"),
    "persistentvolumeclaim": ("/api/v1", "persistentvolumeclaims"),
    "pod": ("/api/v1", "pods"),
    "event": ("/api/v1", "events"),
}


class Cluster:
    def __init__(self, api: ApiServer, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    def jobs(self, name: str) -> list[Object]:
        """Of the launch, the newest last."""
        return sorted(self._list("job", labels(name)), key=generation)

    def pods(self, job: Object) -> list[Object]:
        return self._list("pod", {"job-name": job["metadata"]["name"]})

    def events(self, job: Object) -> list[Object]:
        """What the cluster has to say of it; nothing where we may not ask."""
        name = job["metadata"]["name"]
        with self._asking():
            try:
                told = self._api.get(self._path("event"), {"fieldSelector": f"involvedObject.name={name}"})
            except Forbidden:
                return []
        found: list[Object] = told["items"]
        return sorted(found, key=lambda one: one.get("lastTimestamp") or "")

    def is_there(self, kind: str, name: str) -> bool:
        """Of a Secret nothing is read but that it is there. Who may not ask takes it for granted."""
        with self._asking():
            try:
                self._api.get(self._path(kind, name), metadata_only=True)
            except Absent:
                return False
            except Forbidden:
                return True
        return True

    def make(self, told: Object) -> Object | None:
        """None: ours was there already. Somebody else's of that name is left alone and refused."""
        kind, name = told["kind"].lower(), told["metadata"]["name"]
        with self._asking():
            try:
                return self._api.post(self._path(kind), told)
            except Absent:
                raise UsageError(
                    f"the namespace {self.namespace} is not there: kubectl create namespace {self.namespace}"
                ) from None
            except Conflict as error:
                found = self._find(kind, name)
                if found is None:
                    raise Away(str(error)) from None  # it is being deleted
                if not is_ours(found, told["metadata"]["labels"]["app.kubernetes.io/instance"]):
                    raise UsageError(
                        f"{kind} {name} is in {self.namespace} already, and not of this launch: "
                        "choose another --name"
                    ) from None
                if kind == "serviceaccount":  # of another identity perhaps
                    annotations = told["metadata"]["annotations"]
                    self._api.patch(self._path(kind, name), {"metadata": {"annotations": annotations}})
                return None

    def cancel(self, job: Object) -> None:
        """Its pods are told to end, and have their grace. A suspended Job is plain to see; one that knows no
        suspending (before 1.24) has no pods wanted."""
        annotations = {CANCELLED: "true"}
        change = {"metadata": {"annotations": annotations}, "spec": {"suspend": True, "parallelism": 0}}
        with self._asking():
            self._api.patch(self._path("job", job["metadata"]["name"]), change)

    def delete(self, kind: str, name: str, launch: str) -> bool:
        """With its pods; False: it is gone, or is not of this launch."""
        with self._asking():
            found = self._find(kind, name)
            if found is None or not is_ours(found, launch):
                return False
            body = {
                "propagationPolicy": "Background",
                "preconditions": {"uid": found["metadata"]["uid"]},
            }
            try:
                self._api.delete(self._path(kind, name), body)
            except (Absent, Conflict):
                return False
        return True

    def _find(self, kind: str, name: str) -> Object | None:
        try:
            return self._api.get(self._path(kind, name))
        except Absent:
            return None

    def _list(self, kind: str, wanted: dict[str, str]) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in wanted.items())
        with self._asking():
            found: list[Object] = self._api.get(self._path(kind), {"labelSelector": selector})["items"]
        return found

    def _path(self, kind: str, name: str = "") -> str:
        group, plural = KINDS[kind]
        path = f"{group}/namespaces/{quote(self.namespace)}/{plural}"
        return f"{path}/{quote(name)}" if name else path

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except Away as error:
            raise UnfinishedError(f"{error}; nothing is lost, run the same command again") from error


def open_cluster(context: str, namespace: str) -> Cluster:
    return Cluster(*connect(context, namespace, RIGHTS))


def context_meant(said: str) -> str:
    """By its name: another one may become the current one. Empty: the cluster around this pod."""
    if said or (not os.environ.get("KUBECONFIG") and (ACCOUNT / "token").exists()):
        return said
    name: str = chosen_context("")["name"]
    return name


def is_ours(told: Object, launch: str) -> bool:
    found = told["metadata"].get("labels") or {}
    return labels(launch).items() <= found.items()


def generation(job: Object) -> int:
    """films-3 is the third of films."""
    found = re.search(r"-(\d+)$", job["metadata"]["name"])
    return int(found[1]) if found else 0


def left_out(sent: Any, made: Any, at: str = "") -> Iterator[str]:
    """What was sent and is not there: the cluster is too old for it, or it is misspelt."""
    if isinstance(sent, dict) and isinstance(made, dict):
        for name, value in sent.items():
            here = f"{at}.{name}" if at else name
            if name in made:
                yield from left_out(value, made[name], here)
            elif value:  # what is empty may be left away
                yield here
    elif isinstance(sent, list) and isinstance(made, list) and len(sent) == len(made):
        for one, other in zip(sent, made, strict=True):  # else somebody has added to it
            yield from left_out(one, other, at)
