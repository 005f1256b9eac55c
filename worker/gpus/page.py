"""The page that shows the cards: one file with all in it, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PART = Path(__file__).with_name("web")
SCRIPTS = ("words.js", "model.js", "feed.js", "charts.js", "view.js", "main.js")


@dataclass(frozen=True, slots=True)
class Page:
    html: str
    headers: Mapping[str, str]


def rendered(accept_language: str) -> Page:
    return _rendered("zh" if accept_language.casefold().startswith("zh") else "en")


@lru_cache(maxsize=2)
def _rendered(lang: str) -> Page:
    style = (PART / "page.css").read_text("utf-8")
    parts = "\n".join((PART / name).read_text("utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{parts}}})();'  # names of its own: a window has many
    html = (PART / "page.html").read_text("utf-8").replace('lang="en"', f'lang="{lang}"', 1)
    return sealed(html.replace("/*style*/", style).replace("/*script*/", script), style, script)


def sealed(html: str, style: str, script: str = "") -> Page:
    """Nothing runs but this script, and it talks to nobody but this server."""
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; "
        f"script-src {_quoted(script)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return Page(
        html,
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
            "Vary": "Accept-Language",
        },
    )


def _quoted(script: str) -> str:
    return f"'{_digest(script)}'" if script else "'none'"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
