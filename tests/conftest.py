"""Stores for every test; a process that a test starts inherits the way to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests import servers
from tests.servers import Server


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The ledger of GPUs in the developer's home is none of the tests' business."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def azurite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    with servers.s3() as server:
        yield server


@pytest.fixture
def azurite(azurite_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    return _reachable(azurite_server, "AZURE_", monkeypatch)


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    return _reachable(s3_server, "AWS_", monkeypatch)


@pytest.fixture(params=["directory", "memory", "azurite", "s3"])
def any_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    match request.param:
        case "directory":
            folder = tmp_path / "store"
            folder.mkdir()
            return str(folder)
        case "memory":
            return f"memory://{uuid4().hex}"
        case kind:
            server: Server = request.getfixturevalue(kind)
            return f"{server.fresh()}/some/where"


def _reachable(server: Server, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Only this server: whatever the developer's own environment says of a cloud is put aside."""
    for name in os.environ:
        if name.startswith(prefix):
            monkeypatch.delenv(name)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return server
