"""docs/detection.md: its first command from a folder to a report, and its table beside the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.unit.detect_data import draw, yolo
from worker.detection.findings import CHECKS
from worker.tasks.detect_check import DetectCheckParams

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "detection.md").read_text()


def test_a_data_set_becomes_a_report_and_cleaned_data(tmp_path: Path) -> None:
    yolo(tmp_path / "data")
    draw(tmp_path / "data/images/train/cut.jpg").write_bytes(b"\xff\xd8\xff")
    line = re.search(r"^worker (run run/check .*?)\s+#", PAGE, re.MULTILINE)
    assert line
    ended = subprocess.run(
        [sys.executable, "-m", "worker", *line[1].split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    out = tmp_path / "run/checked"
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["verdict"], summary["pictures"]) == ("warning", 7)
    (result,) = json.loads((out / "final_results.json").read_text())["results"]
    assert result["faults"] == {"broken-picture": 1}
    assert set(result["files"]) == {
        "faults.csv", "train.jpg", "train-coco.json", "val.jpg", "val-coco.json", "yolo.zip",
    }  # fmt: skip
    report = (out / "report.html").read_text()
    for said in ("Evenly chosen pictures", "Side of the boxes", "images/train/cut.jpg", "yolo.zip"):
        assert said in report


def test_the_page_names_each_check_with_its_level_and_each_parameter() -> None:
    told = dict(re.findall(r"^\| `([\w-]+)` \|[^|]*\| (\w+) \|", PAGE, re.MULTILINE))
    assert {name: told.get(name) for name in CHECKS} == {name: one.level for name, one in CHECKS.items()}
    assert not [name for name in DetectCheckParams.model_fields if f"`{name}`" not in PAGE]
