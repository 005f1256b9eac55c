"""`worker plan`: what a piece of work needs on a machine, whether it fits, and what would fit instead."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from worker import cli
from worker.hardware import gpus
from worker.planning import kinds
from worker.planning.seconds import ASSUMED, Efficiency
from worker.planning.span import Span

DESIGNED = {"task", "hw", "fits", "gpu_memory_gb", "ram_gb", "disk_gb", "time_s", "cost_usd"}
"""keys that others read"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("WORKER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))  # nothing was learnt yet


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main(["plan", *shlex.split(line)])
        code = caught.value.code
        assert isinstance(code, int) or code is None
        return code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def told(plan: Any) -> Any:
    def call(line: str) -> dict[str, Any]:
        code, out, err = plan(f"{line} --json")
        found: dict[str, Any] = json.loads(out)
        assert code == (0 if found["fits"] else 3), err
        return found

    return call


@pytest.mark.parametrize("task", kinds.KINDS)
@pytest.mark.parametrize("hw", gpus.HARDWARE)
def test_every_kind_of_work_is_planned_for_every_machine(told: Any, task: str, hw: str) -> None:
    found = told(f"{task} --hw {hw} --gpus 2")
    assert found.keys() >= DESIGNED
    low, high = found["time_s"]
    assert 0 <= low <= high
    assert found["gpu_memory_gb"]["total"] == pytest.approx(
        sum(found["gpu_memory_gb"]["items"].values()), abs=0.1
    )


@pytest.mark.parametrize("hw", sorted({*gpus.HARDWARE} - {gpus.NO_GPU}))
def test_what_is_advised_fits_when_it_is_asked_for(told: Any, hw: str) -> None:
    for asked in (
        "pcb-train",
        "ghost-probing --model qwen2.5-vl-32b --batch 1",
        "classify-train --gpus 2",
    ):
        line = f"{asked} --hw {hw}"
        for other in told(line)["instead"]:
            again = told(f"{line} {other['change']}")
            assert again["fits"], other
            assert again["gpu_memory_gb"]["total"] == pytest.approx(other["gpu_memory_gb"], abs=0.01)


def test_the_largest_batch_fits_and_one_more_does_not(told: Any) -> None:
    line = "ghost-probing --hw rtx4090 --model qwen3-vl-8b"
    best = told(line)["best_batch"]
    assert told(line)["batch"] == best
    assert 1 < best < 64
    assert told(f"{line} --batch {best}")["fits"]
    assert not told(f"{line} --batch {best + 1}")["fits"]


def test_the_job_of_1019_clips_has_a_range_of_time_and_money(told: Any) -> None:
    """The reference, one clip at a time, is said to take two to six hours and 2 to 12 dollars."""
    found = told("ghost-probing --engine videochat2 --hw a100 --items 1019 --batch 1")
    low, high = found["time_s"]
    assert low < high < 6 * 3600
    assert found["cost_usd"][0] < found["cost_usd"][1] < 12
    together = told("ghost-probing --engine videochat2 --hw a100 --items 1019")
    assert together["time_s"][1] < high / 2


def test_money_is_time_by_price_by_cards(told: Any, tmp_path: Path) -> None:
    found = told("pcb-train --hw a800 --gpus 2 --price 1.5")
    assert found["cost_usd"] == pytest.approx([s / 3600 * 1.5 * 2 for s in found["time_s"]], abs=0.01)
    table = tmp_path / "prices.json"
    table.write_text('{"prices": {"a800": {"low": 1, "high": 2, "source": "ours"}}}')
    by_table = told(f"pcb-train --hw a800 --gpus 2 --price {table}")
    assert by_table["price_source"] == "ours"
    assert by_table["cost_usd"][1] == pytest.approx(found["cost_usd"][1] * 2 / 1.5, rel=0.01)


def test_each_price_has_a_cost_of_its_own(plan: Any, tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"prices": {"a800": {"low": 1, "high": 2}}}')
    _, out, _ = plan(f"pcb-train --hw a800 --price {table}")
    low, high = re.findall(r"^cost, at \$(\d)\.00 an hour: \$([\d.]+) to \$([\d.]+)$", out, re.MULTILINE)
    assert (low[0], high[0]) == ("1", "2")
    assert float(high[1]) == pytest.approx(2 * float(low[1]), abs=0.02)
    assert float(high[2]) == pytest.approx(2 * float(low[2]), abs=0.02)


def test_a_card_that_is_not_used_costs_nothing(told: Any) -> None:
    assert told("ghost-probing --engine openai --hw a100")["cost_usd"] is None


@pytest.mark.parametrize("usd", ["-1", "NaN", "true", '{"low": 5, "high": 1}'])
def test_a_table_of_prices_is_checked(plan: Any, usd: str, tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text(f'{{"prices": {{"a800": {usd}}}}}')
    code, _, err = plan(f"pcb-train --hw a800 --price {table}")
    assert code == 2
    assert "write" in err


@pytest.mark.parametrize("price", ["-1", "nan", "absent.json"])
def test_a_price_that_is_none_is_refused(plan: Any, price: str) -> None:
    code, _, err = plan(f"pcb-train --hw a800 --price {price}")
    assert code == 2
    assert "--price" in err


def test_a_card_without_a_price_says_so(plan: Any) -> None:
    _, out, _ = plan("detect-train --hw rtx2080 --gpus 16")
    assert "nobody knows a price for rtx2080" in out


def test_a_disk_of_200_gb_is_enough_as_long_as_the_base_goes_after_merging(told: Any) -> None:
    merge = told("merge --hw a800 --ram 100 --disk 200")
    assert merge["fits"]
    steps, items = merge["disk_by_step_gb"], merge["disk_items_gb"]
    assert items["base, in the hub's cache"] == pytest.approx(66.7, abs=0.1)
    assert items["merged weights"] == items["base, in the hub's cache"]
    assert steps["merge"] == max(steps.values())
    assert steps["quantise"] < steps["merge"] - 40
    assert not told("merge --hw a800 --disk 120")["fits"]


def test_a_disk_on_which_a_later_step_will_fail_is_noted(told: Any) -> None:
    assert "merge will lack 33 GB of disk: it takes 153" in told("pcb-train --hw a800 --disk 120")["notes"]
    assert not [one for one in told("pcb-train --hw a800 --disk 200")["notes"] if "lack" in one]


def test_the_card_s_size_and_the_cores_are_told_and_may_be_said(plan: Any, told: Any) -> None:
    _, out, _ = plan("pcb-inspect --hw a100 --set quantise=none")
    assert "on 1 × a100 (80 GB, 2039 GB/s), 8 cores assumed: it fits" in out.splitlines()[0]
    code, out, _ = plan("pcb-inspect --hw a100 --set quantise=none --gpu-memory 40 --cores 24")
    assert code == 3
    assert "(40 GB, 1555 GB/s), 24 cores: it does not fit" in out.splitlines()[0]
    assert told("pcb-inspect --hw a100 --gpu-memory 10")["gpu_room_gb"] == pytest.approx(9.2, abs=0.01)


def test_all_the_cards_of_this_machine_are_as_they_are(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    listed = [f"GPU {n}: NVIDIA A100-SXM4-40GB (UUID: GPU-{n}{n})" for n in range(2)]
    rows = [f"{n}, GPU-{n}{n}, NVIDIA A100-SXM4-40GB, 40960" for n in range(2)]
    lines = {"-L": listed, "*": rows}
    cases = "".join(f"{case}) printf '%s\\n' {shlex.join(said)};;\n" for case, said in lines.items())
    program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name in os.environ:
        if name.endswith("VISIBLE_DEVICES"):
            monkeypatch.delenv(name)
    found = told("pcb-inspect --hw a100 --gpus all --set quantise=none")
    assert (found["gpus"], found["fits"]) == (2, False)
    assert found["gpu_room_gb"] == pytest.approx(gpus.room(40960) / 1e9, abs=0.01)


def test_all_steps_of_a_kind_are_planned_by_its_first_name(plan: Any) -> None:
    code, out, _ = plan("pcb --hw a800 --json")
    assert code == 0
    assert [json.loads(line)["task"] for line in out.splitlines()] == kinds.of("pcb")


def test_work_that_the_worker_cannot_do_yet_says_so(plan: Any) -> None:
    said = "planned, not yet run by this worker"
    assert said in plan("mlp-train --hw a800")[1]
    assert said not in plan("ghost-probing --hw a800")[1]
    rows = plan("")[1].splitlines()
    can = ("classify-train", "ghost-probing", "merge", "pcb-inspect", "pcb-train", "quantise")
    assert [row for row in rows if said not in row] == [row for row in rows if row.startswith(can)]


def test_no_span_runs_backwards_and_the_total_is_that_of_who_takes_longer(told: Any) -> None:
    line = "ghost-probing --hw a100 --cores 1 --seconds-per-clip 30 --engine videochat2 --batch 1"
    found = told(line)
    assert [name for name, (low, high) in found["time_items_s"].items() if low > high] == []
    loads = found["time_items_s"]["start and loading"]
    assert found["time_s"][0] - loads[0] == pytest.approx(0.025 * 1019 * 30, abs=2)


def test_one_option_is_not_advised_twice(told: Any) -> None:
    changes = [one["change"] for one in told("pcb-train --hw rtx2080 --gpus 16")["instead"]]
    assert not [one for one in changes if one.count("--model") > 1]


def test_a_small_net_takes_the_card_s_pace_in_fp32(told: Any) -> None:
    count = 785 * 512 + 513 * 256 + 257 * 10
    seconds = 6 * count * 60_000 * 1000 / 19.5e12
    line = "mlp-train --hw a100 --set epochs=1000"
    assert told(line)["time_s"] == pytest.approx([seconds / 0.2, seconds / 0.01], abs=1)


def test_cards_that_share_nothing_hold_buckets_beside_their_gradients(told: Any) -> None:
    line = "classify-train --hw a100 --gpus 2 --model qwen2.5-vl-3b --set sharding=none"
    items = told(line)["gpu_memory_gb"]["items"]
    assert items["buckets"] == items["gradients"] > 6


def test_zero_gathers_in_buckets_and_an_optimiser_that_is_offloaded_lies_in_ram(told: Any) -> None:
    line = "classify-train --hw a100 --gpus 2 --model qwen2.5-vl-3b"
    assert told(line)["gpu_memory_gb"]["items"]["buckets"] == 2.0
    optimiser = told(f"{line} --set offload=true")["ram_items_gb"]["optimiser"]
    assert optimiser == pytest.approx(3.75 * 12, rel=0.1)
    assert "optimiser" not in told(line)["ram_items_gb"]


def test_a_detector_keeps_as_much_as_pictures_have_pixels(told: Any) -> None:
    small, large = (
        told(f"detect-train --hw a100 --batch 8 --set imgsz={size}")["gpu_memory_gb"]["items"]
        for size in (320, 640)
    )
    assert large["activations"] == pytest.approx(4 * small["activations"], rel=0.02)


def test_quantising_has_an_environment_of_its_own_and_says_what_is_wrong_with_it(told: Any) -> None:
    ampere, hopper = told("quantise --hw a800"), told("quantise --hw h100")
    assert ampere["disk_items_gb"]["environment that quantises"] == 10
    assert "damages" in " ".join(ampere["notes"])
    assert "damages" not in " ".join(hopper["notes"])


def test_ram_that_is_missing_is_said(told: Any) -> None:
    (lack,) = told("quantise --hw a800 --ram 60")["lacks"]
    assert "GB of RAM, and there are 60" in lack
    assert told("quantise --hw a800 --ram 100")["fits"]


def test_a_detectors_batch_follows_the_size_of_pictures(told: Any) -> None:
    by_size = {size: told(f"detect-train --hw rtx2080 --set imgsz={size}") for size in (320, 480, 640, 800)}
    assert {size: found["batch"] for size, found in by_size.items()} == {320: 32, 480: 24, 640: 16, 800: 8}
    assert all(found["fits"] for found in by_size.values())
    measured = told("detect-train --hw rtx2080 --gpus 16 --cores 256 --set step_ms=200 --set scaling=0.85")
    steps = 4 * 100  # of 256 pictures, in 100 epochs
    assert measured["time_items_s"]["training"][0] == pytest.approx(steps * 0.2 / 0.85 + 100, rel=0.01)


def test_fees_of_an_endpoint_are_tokens_by_price(told: Any) -> None:
    line = "ghost-probing --engine openai --hw cpu --items 1000 --set words=280 --set frames=32"
    assert told(line)["cost_usd"] is None
    low, high = told(f"{line} --set usd_in=2 --set usd_out=8")["cost_usd"]
    assert low == pytest.approx(1000 * (3000 * 2 + 40 * 8) / 1e6, abs=0.01)
    assert high == pytest.approx(1000 * (3000 * 2 + 250 * 8) / 1e6, abs=0.01)


def test_a_page_for_people_says_what_would_fit(plan: Any) -> None:
    code, out, _ = plan("pcb-train --hw rtx4090")
    assert code == 3
    assert "it does not fit" in out
    assert "--hw a100" in out
    assert "█" in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pcb-trian --hw a800", "did you mean pcb-train?"),
        ("pcb-train", "--hw says for which machine"),
        ("kitchen", "for 'kitchen'. There are"),
        ("pcb-train --hw a800 --ram nan", "--ram"),
        ("ghost-probing --hw a100 --seconds-per-clip inf", "seconds-per-clip"),
        ("ghost-probing --hw a100 --set seconds_per_clip=inf", "seconds_per_clip"),
        ("pcb-train --hw a900", "--hw a900: there are a10, a100"),
        ("pcb-train --hw a800 --set rnak=8", "did you mean rank?"),
        ("pcb-train --hw a800 --gpus 0", "is no number of GPUs"),
        ("detect-train --hw t4 --model qwen3-vl-8b", "takes no --model"),
        ("ghost-probing --hw a100 --engine qwen --model videochat2-hd", "does not take videochat2-hd"),
    ],
)
def test_what_is_wrong_is_one_line(plan: Any, line: str, said: str) -> None:
    code, _, err = plan(line)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_a_known_model_is_planned_in_a_second_without_torch() -> None:
    code = (
        "import sys; from worker import cli\n"
        "try: cli.main(['plan', 'pcb-train', '--hw', 'a800'])\n"
        "finally: print({'torch', 'transformers'} & {*sys.modules})"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert said.stdout.endswith("set()\n")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_a_recipes_parameters_are_taken_and_a_name_may_say_awq(told: Any) -> None:
    found = told(
        "ghost-probing --hw a10 --set lang=zh --set recall=high --model Qwen/Qwen2.5-VL-7B-Instruct-AWQ"
    )
    assert found["gpu_memory_gb"]["items"]["weights: language"] == pytest.approx(6.53 * 0.52, abs=0.02)


def test_the_hub_s_name_of_videochat2_is_known(told: Any) -> None:
    line = "ghost-probing --engine videochat2 --hw a100 --model OpenGVLab/VideoChat2_HD_stage4_Mistral_7B_hf"
    assert told(line)["model"] == "videochat2-hd"


def test_the_page_says_what_the_code_assumes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (?:peak|bandwidth) \| ([\d.]+) to ([\d.]+) \|$", page, re.MULTILINE)
    said = {name: Span(float(low), float(high)) for name, low, high in rows}
    assert said == asdict_of(ASSUMED)


def test_the_page_names_every_key(told: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text()
    assert not [key for key in told("pcb-train --hw rtx4090") if f"`{key}`" not in page]


def asdict_of(efficiency: Efficiency) -> dict[str, Span]:
    return {one.name: getattr(efficiency, one.name) for one in fields(efficiency)}
