"""NVIDIA cards that are not there: an `nvidia-smi` in a folder of its own, to be put into PATH."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAM = """#!{python}
import sys
from pathlib import Path

cards = {cards!r}
tenants = Path({tenants!r})
asked = sys.argv[1]
if asked == "-L":
    for card in cards:
        print("GPU {{index}}: {{name}} (UUID: {{uuid}})".format(**card))
elif asked.startswith("--query-gpu="):
    for card in cards:
        print(", ".join(str(card.get(name, "[N/A]")) for name in asked.partition("=")[2].split(",")))
elif asked.startswith("--query-compute-apps="):
    print(tenants.read_text() if tenants.exists() else "", end="")
else:
    sys.exit("Unable to determine the device handle")
"""


def machine(folder: Path, *names: str, mib: int = 81920) -> Path:
    """Cards called so; → what goes into PATH. A file `tenants` there has who computes: `UUID, PID`."""
    folder.mkdir(parents=True, exist_ok=True)
    cards: Sequence[Mapping[str, object]] = [
        {
            "index": index,
            "uuid": f"GPU-{index}{index}{index}{index}",
            "name": name,
            "memory.total": mib,
            "memory.used": 0,
            "utilization.gpu": 0,
        }
        for index, name in enumerate(names)
    ]
    file = folder / "nvidia-smi"
    file.write_text(PROGRAM.format(python=sys.executable, cards=cards, tenants=str(folder / "tenants")))
    file.chmod(0o755)
    return folder
