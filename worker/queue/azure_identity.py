"""Who a job of Azure ML is for a storage account: its cluster's identity, or the person who submitted it.

obstore asks the machine's own metadata service, which knows neither; Azure ML names a service of its own."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import AzureBearerToken

RESOURCE = "https://storage.azure.com"
TIMEOUT_S = 30.0
HOURLY_S = 3600.0
"""how long a token holds that does not say so itself"""
GIVEN = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_CLIENT_SECRET",
)
"""a person's own choice counts more"""


def of_this_job(environment: Mapping[str, str]) -> Callable[[], AzureBearerToken] | None:
    """What gives tokens; None: this is no job of Azure ML, or it was given a key."""
    if any(environment.get(name) for name in GIVEN):
        return None
    asked = {"resource": RESOURCE}
    if address := environment.get("OBO_ENDPOINT"):
        return lambda: _token(address, asked, {})
    service, secret = environment.get("MSI_ENDPOINT"), environment.get("MSI_SECRET")
    if not service or not secret:
        return None
    asked |= {"api-version": "2017-09-01"}
    if client := environment.get("DEFAULT_IDENTITY_CLIENT_ID"):
        asked |= {"clientid": client}
    return lambda: _token(service, asked, {"secret": secret})


def _token(address: str, asked: Mapping[str, str], headers: Mapping[str, str]) -> AzureBearerToken:
    request = urllib.request.Request(f"{address}?{urllib.parse.urlencode(asked)}", headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            told = json.load(answer)
        return {"token": told["access_token"], "expires_at": _until(told.get("expires_on"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        # the address and what was sent may hold the secret
        raise RuntimeError(f"token request: Azure ML gave no token ({type(error).__name__})") from None


def _until(told: object) -> datetime:
    """Azure ML says seconds since 1970, as a number or a text."""
    try:
        seconds = float(str(told))
    except ValueError:
        seconds = time.time() + HOURLY_S
    return datetime.fromtimestamp(seconds, UTC)
