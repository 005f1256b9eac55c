"""python -m env.locks [NAME…|all] writes docs/compatibility.md and the locks' inputs; resolves those named.

With pip, on Linux x86-64 and Python 3.11. What they are written from stands in worker/hardware/stacks.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from env.locks import inputs, page, resolve

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "compatibility.md"


def main(names: list[str]) -> None:
    texts = inputs.texts()
    for name, text in texts.items():
        (HERE / f"{name}.in").write_text(text, "utf-8")
    PAGE.write_text(page.text(), "utf-8")
    for name in texts if names == ["all"] else names:
        if name not in texts:
            sys.exit(f"{name}: there are {', '.join(texts)}")
        sys.stderr.write(f"resolving {name}\n")
        (HERE / f"{name}.txt").write_text(resolve.lock(name, texts[name], HERE), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
