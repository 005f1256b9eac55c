"""Inputs and the queue in a blob container: nothing local but the answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.media import picture
from tests.servers import Server
from tests.workers import run
from worker.queue.store import open_store

NAMES = ("plain.jpg", "day 1/二号 机位.png", "day 1/🚗 50%.jpg", "deep/er/#3?.jpg")


@pytest.mark.parametrize("kind", ["azurite", "s3"])
def test_from_files_in_a_container_to_answers_in_one_command(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(kind)
    container = server.fresh()
    inputs = open_store(f"{container}/clips")
    for number, name in enumerate(NAMES):
        file = picture(tmp_path / f"{number}{Path(name).suffix}")
        inputs.upload(name, file)
    inputs.put("broken.jpg", b"\xff\xd8\xff\xe0 no picture")
    out = tmp_path / "out"
    command = ("run", f"{container}/queue", f"{container}/clips", "--task", "media-check", "--out", out)
    code, said = run(*command, "--set", "contact_sheet=true")
    assert code == 1, said
    results = json.loads((out / "final_results.json").read_text())["results"]
    assert [r["input"] for r in results] == sorted([*NAMES, "broken.jpg"])
    assert [r["input"] for r in results if r["status"] == "failed"] == ["broken.jpg"]
    for result in results:
        for file in result.get("files", {}).values():
            assert (out / file).read_bytes().startswith(b"\xff\xd8")

    code, said = run(*command, "--set", "contact_sheet=true")
    assert code == 1, said
    assert "0 new items" in said
