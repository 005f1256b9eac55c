"""The API server, in the four questions that we ask. The official client finds the way to it, and signs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from worker.errors import MachineError, UsageError

Object = dict[str, Any]
"""as the API server writes it"""

CONNECT_S, ANSWER_S = 5.0, 10.0
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RIGHTS = "env/kubernetes/gpus.yaml"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Conflict(Exception):
    """Somebody else has written it meanwhile, or made it first."""


class Absent(Exception):
    """There is none of that name."""


class Gone(Exception):
    """What happened since is no longer kept: list anew."""


class Forbidden(MachineError):
    """The account lacks a right."""


class Away(Exception):
    """No answer, or one that leaves open what has happened."""


class Api(Protocol):
    def get(
        self, path: str, query: Mapping[str, object] | None = None, metadata_only: bool = False
    ) -> Object: ...

    def post(self, path: str, body: Object) -> Object: ...

    def put(self, path: str, body: Object) -> Object: ...

    def watch(self, path: str, query: Mapping[str, object], silence_s: float) -> Iterator[Object]:
        """Events, once it has answered. It ends when the server ends it."""
        ...


class ApiServer:
    def __init__(self, client: Any, rights: str = RIGHTS) -> None:
        """`rights`: where it stands which ones are needed."""
        self._client = client
        self._rights = rights

    def get(
        self, path: str, query: Mapping[str, object] | None = None, metadata_only: bool = False
    ) -> Object:
        return self._answer(
            "GET", path, query=query, accept=METADATA if metadata_only else "application/json"
        )

    def post(self, path: str, body: Object) -> Object:
        return self._answer("POST", path, body=body)

    def put(self, path: str, body: Object) -> Object:
        return self._answer("PUT", path, body=body)

    def patch(self, path: str, body: Object) -> Object:
        """Only what BODY names."""
        return self._answer("PATCH", path, body=body, kind="application/merge-patch+json")

    def delete(self, path: str, body: Object) -> Object:
        return self._answer("DELETE", path, body=body)

    def watch(self, path: str, query: Mapping[str, object], silence_s: float) -> Iterator[Object]:
        answer = self._ask("GET", path, query={**query, "watch": "true"}, answer_s=silence_s)
        return _lines(answer)

    def _answer(self, method: str, path: str, **more: Any) -> Object:
        import urllib3

        try:
            told: Object = json.loads(self._ask(method, path, **more).data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise Away(f"the API server: {error}") from error
        return told

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Object | None = None,
        accept: str = "application/json",
        kind: str = "application/json",
        answer_s: float = ANSWER_S,
    ) -> Any:
        import urllib3

        official = import_module("kubernetes.client")
        headers = {"Accept": accept, "Content-Type": kind}
        asked = self._client.param_serialize(
            method, path, {}, list((query or {}).items()), headers, body, auth_settings=["BearerToken"]
        )
        try:
            answer = self._client.call_api(*asked, _request_timeout=(CONNECT_S, answer_s)).response
            if answer.status >= 300:
                raise _refused(method, path, answer.status, answer.data, self._rights)
        except urllib3.exceptions.HTTPError as error:
            raise Away(f"the API server does not answer: {_root(error)}") from error
        except official.ApiException as error:  # no secure connection
            raise MachineError(f"the API server cannot be trusted: {error.reason}") from error
        return answer


def connect(context: str, namespace: str, rights: str = RIGHTS) -> tuple[ApiServer, str]:
    """The cluster that kubeconfig names, or else the one around this pod; and the namespace."""
    try:
        client, config = import_module("kubernetes.client"), import_module("kubernetes.config")
    except ImportError as error:
        raise MachineError(
            f"{error.name} is not installed: pip install --no-deps -r env/locks/kubernetes.txt"
        ) from error
    file = os.environ.get("KUBECONFIG") or None
    settings: Any = client.Configuration()
    settings.retries = False
    try:
        if not context and not file and (ACCOUNT / "token").exists():
            config.load_incluster_config(client_configuration=settings)
            here = (ACCOUNT / "namespace").read_text().strip()
        else:
            config.load_kube_config(file, context or None, settings)
            here = chosen_context(context)["context"].get("namespace", "")
    except config.ConfigException as error:
        raise UsageError(f"no way to a Kubernetes cluster: {error}; see KUBECONFIG and --context") from error
    except (ValueError, TypeError, KeyError, import_module("yaml").YAMLError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"no way to a Kubernetes cluster: kubeconfig cannot be read ({why})") from error
    return ApiServer(client.ApiClient(settings), rights), namespace or here or "default"


def chosen_context(said: str) -> Object:
    """Of kubeconfig; without a name the current one, of which there may be none."""
    found = import_module("kubernetes.config.kube_config")
    merged = found.KubeConfigMerger(os.environ.get("KUBECONFIG") or found.KUBE_CONFIG_DEFAULT_LOCATION)
    context: Object = found.KubeConfigLoader(merged.config, active_context=said or None).current_context
    return context


def _lines(answer: Any) -> Iterator[Object]:
    import urllib3

    rest = b""
    try:
        for chunk in answer.stream(amt=None, decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise Away(f"the API server fell silent: {_root(error)}") from error
    finally:
        answer.close()


def _refused(method: str, path: str, status: int, data: bytes, rights: str) -> Exception:
    try:
        said = str(json.loads(data).get("message", ""))
    except ValueError:
        said = ""
    plain = {404: Absent, 409: Conflict, 410: Gone}
    if status in plain:
        return plain[status](said)
    if status == 401:
        return Forbidden(f"the API server does not know who asks ({said or status}): log in to it again")
    if status == 403:
        return Forbidden(f"the API server forbids it: {said or status}; see {rights}")
    if status in (408, 429) or status >= 500:
        return Away(f"the API server answers {status}: {said}")
    return MachineError(f"the API server refuses {method} {path}: {status} {said}")


def _root(error: BaseException) -> BaseException:
    return getattr(error, "reason", None) or error
