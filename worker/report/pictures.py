"""The answers' files in the report: small pictures inside it, large ones as links to files/."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from worker.items import Result
from worker.report.files import relative_paths

EMBED_MOST = 1 << 20
"""bytes of all pictures together, up to which the report holds them itself"""
KINDS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".gif": "gif"}


class Pictures:
    def __init__(self, out: Path, results: Sequence[Result], embed_most: int = EMBED_MOST) -> None:
        self._out = out
        paths = [path for result in results for path in relative_paths(result).values()]
        self.any = bool(paths)
        self.linked = sum((out / path).stat().st_size for path in paths if _kind(path)) > embed_most
        """they stay where they are, and the report is nothing without them"""

    def gallery(self, result: Result, names: Sequence[str] | None = None) -> str:
        """`names`: only these; None: all."""
        paths = relative_paths(result)
        links = (
            self._link(name, paths[name]) for name in (paths if names is None else names) if name in paths
        )
        return f'<div class="gallery">{"".join(links)}</div>'

    def captioned(self, result: Result, captions: Mapping[str, str]) -> str:
        """Name → what stands below, HTML already."""
        paths = relative_paths(result)
        each = (
            f"<figure>{self._link(name, paths[name])}<figcaption>{said}</figcaption></figure>"
            for name, said in captions.items()
            if name in paths
        )
        return f'<div class="gallery">{"".join(each)}</div>'

    def others(self, result: Result) -> str:
        """The way to those files that are none."""
        return self.gallery(
            result, [name for name, path in relative_paths(result).items() if not _kind(path)]
        )

    def _link(self, name: str, path: str) -> str:
        inside = f'<img loading="lazy" src="{self._source(path)}" alt="{escape(name)}">'
        return f'<a href="{quote(path)}" title="{escape(name)}">{inside if _kind(path) else escape(name)}</a>'

    def _source(self, path: str) -> str:
        if self.linked:
            return quote(path)
        return f"data:image/{_kind(path)};base64,{base64.b64encode((self._out / path).read_bytes()).decode()}"


def _kind(path: str) -> str | None:
    return KINDS.get(PurePosixPath(path).suffix.lower())
