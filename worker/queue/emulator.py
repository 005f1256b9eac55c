"""A container in Azure's emulator, for a queue to lie in: `python -m worker.queue.emulator NAME`.

In a cloud containers are made by who pays for them; in an emulator nobody has, and obstore makes none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.request
from email.utils import formatdate

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""the account of every emulator; Microsoft's documentation has its key"""
THERE_ALREADY = 409


def make_container(address: str, name: str) -> None:
    """One request, signed with the account's shared key."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "\n".join(
        [
            "PUT",
            *[""] * 11,  # the standard headers, all empty
            *[f"{key}:{value}" for key, value in headers.items()],
            f"/{ACCOUNT}/{ACCOUNT}/{name}",
            "restype:container",
        ]
    )
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
    headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    url = f"{address.rstrip('/')}/{ACCOUNT}/{name}?restype=container"
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=60).close()
    except urllib.error.HTTPError as error:
        if error.code != THERE_ALREADY:
            raise


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: AZURITE_BLOB_STORAGE_URL=http://… python -m worker.queue.emulator NAME")
    make_container(os.environ["AZURITE_BLOB_STORAGE_URL"], sys.argv[1])
