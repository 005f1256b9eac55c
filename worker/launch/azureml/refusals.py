"""What Azure says, in plain words with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.errors import UnfinishedError, UsageError, WorkerError
from worker.redact import redact

LENGTH = 240
"""of Azure's own words"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """That people meet."""

    known_by: str
    """in what Azure says"""
    words: str
    remedy: str


TROUBLES = (
    Trouble(
        r"quota",
        "the subscription has no quota for this size in this region",
        "ask for vCPUs of its family at ml.azure.com under Quota (low priority has its own, --dedicated "
        "another), or take other machines with --hw or --size",
    ),
    Trouble(
        r"SkuNotAvailable|InvalidVmSize|SupportedVMSizes|not a supported VM size|"
        r"(?:size|sku)\b.{0,80}\bnot (?:available|supported|found)",
        "the workspace's region does not have this size",
        "take other machines with --hw or --size, or a workspace in a region that has them",
    ),
    Trouble(
        r"AuthorizationFailed|AuthorizationPermissionMismatch|does not have authorization|\bForbidden\b",
        "this login may not do that",
        "ask the workspace's owner for the roles AzureML Data Scientist and AzureML Compute Operator, and "
        "for Storage Blob Data Contributor on the storage account",
    ),
    Trouble(
        r"CredentialUnavailable|AADSTS|az login|InvalidAuthenticationToken|failed to retrieve a token",
        "Azure does not know who asks",
        "run `az login`, or set AZURE_CLIENT_ID and what belongs to it",
    ),
    Trouble(
        r"SubscriptionNotFound|InvalidSubscriptionId|ResourceGroupNotFound|InvalidResourceGroup|"
        r"workspaces/\S+ .*not found",
        "Azure knows no such workspace for this login",
        "check AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP and AZURE_WORKSPACE_NAME, and `az account show`",
    ),
    Trouble(
        r"pull (?:the )?(?:docker )?image|manifest unknown|unauthorized: authentication required",
        "the image cannot be pulled",
        "check --image, and that the workspace's registry or identity may read it",
    ),
)


def explain(said: str) -> tuple[str, str]:
    """→ what it means, and what to do; the words themselves and nothing where we do not know better."""
    for one in TROUBLES:
        if re.search(one.known_by, said, re.IGNORECASE):
            return f"{one.words} (Azure: {brief(said)})", one.remedy
    return brief(said), ""


def brief(said: str) -> str:
    line = redact(" ".join(said.split()))
    return line if len(line) <= LENGTH else f"{line[:LENGTH]} …"


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Whatever Azure's libraries raise becomes one line."""
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        raise _refusal(doing, _said(error), error.status_code or 0) from None
    except AzureError as error:
        # no answer, or none that can be read
        raise _refusal(doing, f"{type(error).__name__}: {error.message}", 0) from None
    except ValueError as error:
        # a page of a proxy on the way
        raise _refusal(doing, f"Service: no answer of Azure's ({error})", 0) from None


def _said(error: object) -> str:
    code = getattr(getattr(error, "error", None), "code", "") or ""
    return f"{type(error).__name__} {code}: {getattr(error, 'message', error)}"


def _refusal(doing: str, said: str, status: int) -> WorkerError:
    words, remedy = explain(said)
    if not remedy and (status in (408, 429) or status >= 500 or said.startswith("Service")):
        return UnfinishedError(
            f"{doing}: Azure does not answer as it should ({words}); nothing is lost, run it again"
        )
    return UsageError(f"{doing}: {words}" + (f"; {remedy}" if remedy else ""))
