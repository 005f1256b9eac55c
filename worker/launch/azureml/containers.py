"""The blob container that a launch makes where there is none, and may remove again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from worker.errors import UnfinishedError, UsageError
from worker.launch.azureml.refusals import explained
from worker.launch.order import NAME

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

MADE_BY = "made_by"
"""a name of metadata has no hyphens"""
KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY", "AZURE_CLIENT_ID")


def let_in(account: str) -> None:
    """This process may read and write the blobs: by the keys in its environment, else as who is logged in."""
    said = os.environ.setdefault("AZURE_STORAGE_ACCOUNT_NAME", account)
    if said != account:
        raise UsageError(
            f"AZURE_STORAGE_ACCOUNT_NAME is {said}, and the launch's queue lies in {account}: unset it"
        )
    if not any(os.environ.get(name) for name in (*KEYS, "AZURITE_BLOB_STORAGE_URL")):
        os.environ.setdefault("AZURE_USE_AZURE_CLI", "true")


def make(account: str, name: str, launch: str) -> bool:
    """Whether this launch has made it."""
    from azure.core.exceptions import ResourceExistsError

    with explained(f"container {name} in {account}"), _client(account, name) as client:
        try:
            client.create_container(metadata={MADE_BY: NAME, "launch": launch})
        except ResourceExistsError as error:
            if getattr(error, "error_code", "") == "ContainerBeingDeleted":
                raise UnfinishedError(f"container {name} is still being deleted: run it again soon") from None
            return _is_made(client.get_container_properties().metadata, launch)
        return True


def remove(account: str, name: str, launch: str, prefixes: Sequence[str]) -> str:
    """Empty, or why it stays: somebody else's, or somebody else's blobs are in it."""
    from azure.core.exceptions import ResourceNotFoundError

    with explained(f"container {name} in {account}"), _client(account, name) as client:
        try:
            told = client.get_container_properties().metadata
        except ResourceNotFoundError:
            return ""
        if not _is_made(told, launch):
            return "it was not made by this launch"
        for blob in client.list_blob_names():
            if not blob.startswith(tuple(prefixes)):
                return f"it holds {blob}, which is not of this launch"
        client.delete_container()
    return ""


def _is_made(metadata: Mapping[str, str] | None, launch: str) -> bool:
    return {MADE_BY: NAME, "launch": launch}.items() <= (metadata or {}).items()


def _client(account: str, name: str) -> ContainerClient:
    from azure.storage.blob import ContainerClient

    return ContainerClient(_address(account), name, credential=_credential(account))


def _address(account: str) -> str:
    if emulator := os.environ.get("AZURITE_BLOB_STORAGE_URL"):
        return f"{emulator.rstrip('/')}/{account}"
    said = os.environ.get("AZURE_STORAGE_ENDPOINT") or os.environ.get("AZURE_ENDPOINT")
    return said or f"https://{account}.blob.core.windows.net"


def _credential(account: str) -> Any:
    if os.environ.get("AZURITE_BLOB_STORAGE_URL"):
        from worker.queue.emulator import KEY

        return {"account_name": account, "account_key": KEY}
    if key := os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"):
        return {"account_name": account, "account_key": key}
    if sas := os.environ.get("AZURE_STORAGE_SAS_TOKEN") or os.environ.get("AZURE_STORAGE_SAS_KEY"):
        return sas
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()
