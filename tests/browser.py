"""A page in a real Chromium, without a driver: another page holds it in a frame, and says what it finds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from html import escape, unescape
from pathlib import Path
from typing import Any

from tests.servers import missing

_HARNESS = """<!DOCTYPE html><meta charset="utf-8"><style>body {{ margin: 0 }} iframe {{ border: 0 }}</style>
<iframe src="{page}" width="{width}" height="800"></iframe><pre id="found"></pre>
<script>
const began = performance.now();
window.onload = () => {{
  const view = document.querySelector("iframe").contentWindow, page = view.document, found = {{}};
  found.loaded_ms = performance.now() - began;
  const timed = (act) => {{
    const from = performance.now();
    act();
    page.body.getBoundingClientRect(); // laid out, not only moved about
    return performance.now() - from;
  }};
  try {{ {script} }} catch (error) {{ found.error = String(error); }}
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script>
"""
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run"),
    *("--allow-file-access-from-files", "--disable-web-security", "--disable-site-isolation-trials"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1400,1000"),
)


def look(page: Path, script: str, *, width: int = 1200, dark: bool = False) -> dict[str, Any]:
    """What the script put into `found`: it sees `page` and `view`, the document and its window, once all is
    loaded. It may wait for nothing."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        missing("Chromium is not here; run tests/servers.sh as root, or install it")
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as temp:
        harness = Path(temp, "harness.html")
        src = escape(page.resolve().as_uri())
        harness.write_text(_HARNESS.format(page=src, width=width, script=script), encoding="utf-8")
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        ended = subprocess.run(
            [
                str(chromium),
                *_FLAGS,
                scheme,
                f"--user-data-dir={temp}/profile",
                "--dump-dom",
                harness.as_uri(),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            check=False,
        )
    said = re.search(r'<pre id="found">(.+?)</pre>', ended.stdout.decode(), re.DOTALL)
    assert said, f"the page said nothing: {ended.stderr.decode(errors='replace')[-2000:]}"
    found: dict[str, Any] = json.loads(unescape(said[1]))
    assert "error" not in found, found["error"]
    return found
