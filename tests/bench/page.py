"""The page of figures: prose by people, and between two marks what a measurement printed last."""

from __future__ import annotations

import re
from pathlib import Path

MARKS = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->\n", re.DOTALL)


def sections(page: Path) -> list[str]:
    return [found[1] for found in MARKS.finditer(page.read_text(encoding="utf-8"))]


def write(page: Path, name: str, text: str) -> None:
    """Replace one section. Beside a table nothing else counts, for libraries print what they like; what has
    none is shown as it was printed."""
    if name not in sections(page):
        raise ValueError(f"{page.name} has no place for {name}; add <!-- {name} --> and <!-- /{name} -->")
    text = text.strip()
    if table := [line for line in text.splitlines() if line.startswith("|")]:
        text = "\n".join(table)
    elif "\n" in text:
        text = f"```\n{text}\n```"
    old = page.read_text(encoding="utf-8")
    new = MARKS.sub(lambda m: f"<!-- {name} -->\n{text}\n<!-- /{name} -->\n" if m[1] == name else m[0], old)
    page.write_text(new, encoding="utf-8")
