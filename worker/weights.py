"""A model's file from an address that the user names, kept only if it is what the user said."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit

from worker.errors import UsageError
from worker.jobs.checkpoints import hash_file
from worker.redact import redact
from worker.report.files import slug, write_whole

_SCHEMES = ("https", "file")
_SILENCE_S = 30.0
_CHUNK = 1 << 20
_MAY_STAND = "%:/?#[]@!$&'()*+,;="
"""in an address as it is; other letters than ASCII's are quoted"""


def fetch(url: str, sha256: str, folder: Path) -> Path:
    """Whole and checked, or not there."""
    if urlsplit(url).scheme not in _SCHEMES:
        raise UsageError(
            f"'{redact(url)}' is no address to fetch from: name one that begins with https:// "
            "(make weights URL=https://… SHA256=…)"
        )
    wanted = sha256.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise UsageError(f"'{sha256}' is no sha256: give the 64 digits that the file's publisher tells")
    file = folder / _name(url)
    try:
        if file.exists():
            if hash_file(file).sha256 != wanted:
                raise UsageError(f"{file} is there, and another file: move it away")
            return file
        folder.mkdir(parents=True, exist_ok=True)
        opener = urllib.request.build_opener(_NeverInTheOpen)
        with opener.open(quote(url, safe=_MAY_STAND), timeout=_SILENCE_S) as source:
            write_whole(file, _checked(source, wanted, url))
    except (OSError, HTTPException) as error:
        why = error.reason if isinstance(error, URLError) else error
        said = getattr(why, "strerror", None) or why
        raise UsageError(f"{redact(url)} was not fetched ({said}): nothing is kept, try again") from None
    return file


def _checked(source: IO[bytes], wanted: str, url: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        yield chunk
    if (found := digest.hexdigest()) != wanted:
        raise UsageError(f"{redact(url)} has another sha256, {found}: nothing is kept")


def _name(url: str) -> str:
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    if not name:
        raise UsageError(f"{redact(url)} names no file")
    return slug(name)


class _NeverInTheOpen(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            raise UsageError(f"{redact(req.full_url)} leads to {redact(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
