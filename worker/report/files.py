"""Writing into the output folder: whole or not at all, and never out of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from worker.errors import UsageError
from worker.items import Json, Result
from worker.redact import redact

FOLDER = "files"
SLUG_BYTES = 80


def write_whole(file: Path, chunks: Iterable[bytes]) -> None:
    """Under its final name there is only ever a whole file, also after a power cut."""
    temp = file.with_name(f".tmp-{uuid4().hex}")
    try:
        with temp.open("xb") as out:
            out.writelines(chunks)
            out.flush()
            os.fsync(out.fileno())
        temp.replace(file)
    finally:
        temp.unlink(missing_ok=True)


def write_json(file: Path, value: Json) -> None:
    write_whole(file, [json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False).encode(), b"\n"])


def refuse_other(out: Path, fingerprint: str) -> None:
    """Answers to two recipes in one folder would be taken for one."""
    if re.match(r"[a-z][a-z0-9+.-]*:/", str(out)):
        raise UsageError(f"--out {out}: answers go into a folder of this machine, and a queue may be a URL")
    try:
        found = json.loads((out / "summary.json").read_bytes())["fingerprint"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError):
        found = None
    if found != fingerprint:
        raise UsageError(f"{out} holds the results of another recipe: give another --out, or move it away")


def default_out(url: str) -> Path:
    """Beside a local queue; in this folder for one that lies elsewhere."""
    scheme, separator, place = url.partition("://")
    if not separator or scheme == "file":
        folder = Path(place if separator else url)
        folder = folder if folder.name not in ("", "..") else folder.resolve()
        return folder.with_name(f"{folder.name}-results")
    return Path(place.partition("?")[0].rstrip("/").rpartition("/")[2] + "-results")


def make_out(out: Path, fingerprint: str) -> None:
    """Before the work begins: hours later nobody wants to hear that the answers have no place."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be made ({error.strerror}): give another one") from None
    refuse_other(out, fingerprint)


def relative_paths(result: Result) -> dict[str, str]:
    """The answer's files: name → path below the output folder, the same on every machine."""
    folder = f"{FOLDER}/{slug(shown(result.input))}-{slug(result.item)[:12]}"
    return {name: f"{folder}/{_file_name(name)}" for name in sorted(result.files)}


def read_file(out: Path, result: Result, name: str) -> bytes:
    return (out / relative_paths(result)[name]).read_bytes()


def shown(input: str) -> str:
    """An input as people may see it: an address can be signed."""
    return redact(input) if "://" in input else input


def slug(text: str) -> str:
    """Readable, and a single safe name on every file system."""
    text = re.sub(r"[^\w.\-]+", "_", unicodedata.normalize("NFC", text)).strip("._-")
    short = text.encode()[-SLUG_BYTES:].decode(errors="ignore")  # the end of a path says most
    return short.lstrip("._-") or "item"


def _file_name(name: str) -> str:
    safe = slug(name)
    return safe if safe == name else f"{hashlib.sha256(name.encode()).hexdigest()[:12]}-{safe}"
