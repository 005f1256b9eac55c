"""A model's file from an address that the user names, kept only if it is what the user said."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit

from worker.clock import Clock
from worker.errors import UsageError
from worker.jobs.checkpoints import hash_file
from worker.redact import redact
from worker.report.files import slug, write_whole

_SCHEMES = ("https", "file")
_SILENCE_S = 30.0
_MOST_GB = 20.0
_LEAST_PACE, _PATIENCE_S = 20_000, 60.0
"""bytes a second, once so long has passed: slower is as good as silent"""
_CHUNK = 1 << 20
_MAY_STAND = "%:/?#[]@!$&'()*+,;="
"""in an address as it is; other letters than ASCII's are quoted"""


def fetch(url: str, sha256: str, folder: Path, clock: Clock | None = None, most_gb: float = _MOST_GB) -> Path:
    """Whole and checked, or not there."""
    address = _split(url)
    if address.scheme not in _SCHEMES:
        raise UsageError(
            f"'{redact(url)}' is no address to fetch from: name one that begins with https:// "
            "(make weights URL=https://… SHA256=…)"
        )
    wanted = sha256.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", wanted):
        raise UsageError(f"'{sha256}' is no sha256: give the 64 digits that the file's publisher tells")
    file = folder / _name(address)
    try:
        if file.exists():
            if hash_file(file).sha256 != wanted:
                raise UsageError(f"{file} is there, and another file: move it away")
            return file
        folder.mkdir(parents=True, exist_ok=True)
        opener = urllib.request.build_opener(_NeverInTheOpen)
        with opener.open(quote(url, safe=_MAY_STAND), timeout=_SILENCE_S) as source:
            chunks = _paced(_whole(source, most_gb), clock or Clock())
            write_whole(file, _checked(chunks, wanted))
    except _Refused as error:
        raise UsageError(f"{redact(url)} {error}: nothing is kept") from None
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if isinstance(error, URLError) else error
        said = getattr(why, "strerror", None) or why
        raise UsageError(f"{redact(url)} was not fetched ({said}): nothing is kept, try again") from None
    return file


class _Refused(Exception):
    """What came is not what was named."""


def _whole(source: HTTPResponse, most_gb: float) -> Iterator[bytes]:
    said = int(source.headers.get("Content-Length") or -1)
    if said > most_gb * 1e9:
        raise _Refused(f"is larger than {most_gb:g} GB")
    came = 0
    # read1: what is there, and not all of a chunk that drips
    while chunk := source.read1(_CHUNK):
        came += len(chunk)
        if came > most_gb * 1e9:
            raise _Refused(f"is larger than {most_gb:g} GB")
        yield chunk
    if came < said:
        raise _Refused(f"was cut off, {came:,} of {said:,} bytes came")


def _paced(chunks: Iterator[bytes], clock: Clock) -> Iterator[bytes]:
    began, came = clock.now(), 0
    for chunk in chunks:
        came += len(chunk)
        passed = clock.now() - began
        if passed > _PATIENCE_S and came < passed * _LEAST_PACE:
            raise _Refused(f"came too slowly, {came:,} bytes in {passed:.0f} s")
        yield chunk


def _checked(chunks: Iterator[bytes], wanted: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if (found := digest.hexdigest()) != wanted:
        raise _Refused(f"has another sha256, {found}")


def _split(url: str) -> SplitResult:
    try:
        address = urlsplit(url)
        address.port  # noqa: B018  a number, or no address
    except ValueError as error:
        raise UsageError(f"'{redact(url)}' is no address: {error}") from None
    if "@" in address.netloc:
        raise UsageError(f"{redact(url)}: a name and password in an address are not used; leave them out")
    return address


def _name(address: SplitResult) -> str:
    name = unquote(address.path).rpartition("/")[2]
    if not name:
        raise UsageError(f"{redact(address.geturl())} names no file")
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
        if _split(newurl).scheme != "https":
            raise UsageError(f"{redact(req.full_url)} leads to {redact(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
