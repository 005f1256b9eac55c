"""Each check by itself: a fact is changed, and the doctor says something else."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import machines
from worker import cli
from worker.doctor.checks import cards, libraries
from worker.doctor.examination import CHECKS
from worker.doctor.facts import (
    Disk,
    Facts,
    Gpus,
    Interface,
    Model,
    Port,
    Queue,
    Signals,
    Tenant,
    Torch,
    Trial,
    Wanted,
)
from worker.doctor.finding import Finding
from worker.doctor.probes import lying
from worker.planning import kinds

AMPERE = ("sm_80", "sm_86", "sm_90")


def one(check: str, facts: Facts) -> Finding:
    (found,) = CHECKS[check](facts)
    return found


def a100(**changes: Any) -> Facts:
    """One card, with libraries that work on it."""
    facts = replace(
        machines.azure_a100(),
        wanted=Wanted(),
        model=None,
        need=None,
        room=machines.quiet().room,
        signals=machines.quiet().signals,
    )
    torch = Torch("2.7.1+cu118", "11.8", AMPERE, 90100, "2.21.5", True, (True,))
    versions = {"torch": "2.7.1+cu118", "transformers": "5.23.0"}
    return replace(facts, libraries=replace(facts.libraries, torch=torch, versions=versions), **changes)


def with_card(**changes: Any) -> Facts:
    facts = a100()
    return replace(facts, gpus=replace(facts.gpus, cards=[replace(facts.gpus.cards[0], **changes)]))


def with_torch(**changes: Any) -> Facts:
    facts = a100()
    torch = facts.libraries.torch
    assert torch
    changed = replace(torch, **changes)
    versions = {**facts.libraries.versions, "torch": changed.version}
    return replace(facts, libraries=replace(facts.libraries, torch=changed, versions=versions))


def with_trials(**trials: str | None) -> Facts:
    facts = a100()
    tried = {name.replace("_", "-"): Trial("1.0", wrong) for name, wrong in trials.items()}
    versions = {**facts.libraries.versions, **dict.fromkeys(tried, "1.0")}
    return replace(facts, libraries=replace(facts.libraries, trials=tried, versions=versions))


# cards


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "restart the machine"),
        ("Failed to initialize NVML: Unknown Error", "start it again"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "modprobe nvidia"),
        ("No devices were found", "dmesg"),
        ("something new", "install the driver again"),
    ],
)
def test_a_driver_that_is_ill_blocks_with_its_own_remedy(said: str, remedy: str) -> None:
    found = one("card", replace(machines.quiet(), gpus=Gpus(silence=said)))
    assert found.level == "blocker"
    assert said in found.found
    assert remedy in found.remedy


def test_a_profile_with_a_card_blocks_where_there_is_none() -> None:
    facts = replace(machines.quiet(), wanted=Wanted(hw="a100"))
    assert "--gpus all" in one("card", facts).remedy
    assert one("card", replace(facts, wanted=Wanted(hw="cpu"))).level == "ok"
    assert one("card", replace(facts, gpus=Gpus(nodes=2))).level == "warning"
    assert "npu:0" in one("card", replace(facts, gpus=Gpus(other=("npu:0",)))).found


def test_cards_that_a_variable_hides_block() -> None:
    facts = a100(gpus=machines.gpus("azure-a100", visible=""))
    assert [found.level for found in cards.card(facts)] == ["ok", "blocker"]


def test_a_profile_and_another_card_disagree() -> None:
    found = one("profile", a100(wanted=Wanted(hw="a800")))
    assert found.found == "the profile is a800, and the card NVIDIA A100 80GB PCIe"
    assert found.remedy == "its own: --hw a100, or HW=a100 with make"
    assert one("profile", a100(wanted=Wanted(hw="cpu"))).level == "warning"
    assert one("profile", a100(wanted=Wanted(hw="a100"))).level == "ok"


@pytest.mark.parametrize(
    ("driver", "cuda", "level"),
    [
        ("450.80.02", "11.8", "ok"),
        ("450.51.06", "11.8", "blocker"),
        ("520.61.05", "12.6", "blocker"),
        ("525.60.13", "12.6", "ok"),
        ("525.60.13", "13.0", "blocker"),
        ("580.65.06", "13.0", "ok"),
        ("580.65.06", "11.8", "ok"),
    ],
)
def test_a_driver_carries_wheels_up_to_its_own_major_version(driver: str, cuda: str, level: str) -> None:
    facts = with_torch(cuda=cuda)
    card = replace(facts.gpus.cards[0], driver=driver)
    assert one("driver", replace(facts, gpus=replace(facts.gpus, cards=[card]))).level == level


def test_an_old_driver_is_offered_the_stack_that_it_runs() -> None:
    hopper = with_card(name="NVIDIA H100 80GB HBM3", capability=(9, 0), driver="535.161.08")
    facts = replace(hopper, libraries=with_torch(cuda="13.0").libraries)
    assert one("driver", facts).remedy == (
        "the stack ampere, torch 2.7.1+cu118 (make setup HW=h100 WORKER_STACK=ampere; docs/compatibility.md)"
        "; or driver 580.65.06 and newer"
    )


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        (("sm_80",), (8, 6), True),
        (("sm_86",), (8, 0), False),
        (("sm_70",), (7, 5), True),
        (("sm_75",), (7, 0), False),
        (("sm_80",), (9, 0), False),
        (("sm_80", "sm_90"), (7, 5), False),
        (("sm_80", "compute_80"), (9, 0), True),
        (("sm_90a",), (9, 0), True),
        (("sm_120",), (12, 0), True),
        ((), (8, 0), False),
    ],
)
def test_a_wheel_has_code_for_a_card(archs: tuple[str, ...], capability: tuple[int, int], runs: bool) -> None:
    assert cards.has_code(archs, capability) == runs


def test_a_wheel_that_does_not_fit_blocks_and_the_card_s_own_is_named() -> None:
    facts = replace(machines.rtx2080(), libraries=with_torch(archs=("sm_80", "sm_90")).libraries)
    found = one("wheel", facts)
    assert found.level == "blocker"
    assert "has code for sm_80 sm_90, none of it for sm_75" in found.found
    assert found.remedy.startswith("the stack turing, torch 2.7.1 ")
    assert "for CPUs alone" in one("wheel", with_torch(cuda=None, version="2.13.0+cpu")).found
    assert "OSError: libcudart" in one("wheel", with_torch(error="OSError: libcudart")).found
    assert "sees no card" in one("wheel", with_torch(available=False)).found


def test_bf16_is_what_the_card_does_and_not_what_is_emulated() -> None:
    assert one("bf16", with_torch(bf16=(True,))).level == "ok"
    assert one("bf16", with_torch(bf16=(False,))).level == "warning"
    # torch was not asked: the capability tells
    assert (
        one("bf16", replace(with_card(capability=(7, 5)), libraries=machines.quiet().libraries)).level
        == "warning"
    )


def test_mig_without_slices_blocks() -> None:
    found = one("mig", with_card(mig=True))
    assert found.level == "blocker"
    assert "-mig 0" in found.remedy
    assert one("mig", with_card(mig=True, slices=2)).found.startswith("2 slices")
    assert one("mig", with_card()).found == "off"


def test_memory_errors_are_told() -> None:
    assert one("ecc", with_card(uncorrected=3)).level == "warning"
    assert one("ecc", with_card()).found == "on, no errors"
    assert one("ecc", with_card(ecc=False)).level == "ok"


def test_who_else_is_on_a_card_is_named_also_when_it_cannot_be_seen() -> None:
    seen = one("other-processes", with_card(used=20.0, tenants=[Tenant(7, "/usr/bin/python3", 19.5)]))
    assert "20.0 of 80 GB are held by python3 (7)" in seen.found
    unseen = one("other-processes", with_card(used=20.0))
    assert "outside of this container" in unseen.found
    assert one("other-processes", with_card(used=0.3)).level == "ok", "a screen"


# libraries


def test_the_least_versions_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = dict(line.split(">=") for line in project["optional-dependencies"]["vlm"])
    assert {name: named[name] for name in libraries.LEAST} == libraries.LEAST


def test_packages_that_are_missing_or_old_are_named() -> None:
    assert one("packages", a100()).level == "ok"
    assert "torch 2.0.1+cu118 (needs 2.7)" in one("packages", machines.azure_a100()).found
    without = replace(a100().libraries, versions={})
    assert (
        "no torch and no transformers" in one("packages", a100() and replace(a100(), libraries=without)).found
    )


def test_flash_attention_is_tried_and_not_believed() -> None:
    assert one("flash-attention", a100()).found == "not installed: SDPA is taken"
    assert one("flash-attention", with_trials(flash_attn=None)).found == "1.0 works"
    broken = one("flash-attention", with_trials(flash_attn="ImportError: undefined symbol"))
    assert broken.level == "warning"
    assert "glibc" not in broken.remedy
    on_turing = replace(with_trials(flash_attn=None), gpus=machines.gpus("rtx2080"))
    assert "uninstall" in one("flash-attention", on_turing).remedy


def test_bitsandbytes_that_does_not_work_blocks_only_work_in_four_bits() -> None:
    broken = with_trials(bitsandbytes="CUDA Setup failed")
    assert one("bitsandbytes", broken).level == "warning"
    assert one("bitsandbytes", machines.meaning("pcb", broken)).level == "blocker"
    assert one("bitsandbytes", a100()).level == "ok"
    assert one("bitsandbytes", machines.meaning("pcb", a100())).level == "blocker"


def test_libraries_of_awq_that_do_not_load_are_named() -> None:
    assert "llmcompressor 1.0 does not load" in one("awq", with_trials(llmcompressor="ImportError: x")).found
    assert one("awq", with_trials(llmcompressor=None)).level == "ok"
    assert "no longer developed" in one("awq", with_trials(autoawq=None)).found


@pytest.mark.parametrize(
    ("version", "cudnn", "level"),
    [
        ("2.8.0+cu128", 91002, "ok"),
        ("2.9.0+cu128", 91002, "warning"),
        ("2.9.0+cu128", 91501, "warning"),
        ("2.9.1+cu128", 91002, "warning"),
        ("2.9.1+cu128", 91501, "ok"),
        ("2.10.0", 91002, "ok"),
        ("2.13.0", 92000, "ok"),
    ],
)
def test_the_slow_conv3d_of_torch_2_9(version: str, cudnn: int, level: str) -> None:
    assert one("conv3d", with_torch(version=version, cudnn=cudnn)).level == level


@pytest.mark.parametrize(
    ("glibc", "level"), [("2.36", "ok"), ("2.28", "ok"), ("2.17", "blocker"), (None, "blocker")]
)
def test_wheels_want_a_glibc(glibc: str | None, level: str) -> None:
    assert one("glibc", a100(system=replace(a100().system, glibc=glibc))).level == level


# network


def many(**environment: str) -> Facts:
    facts = machines.rtx2080()
    return replace(facts, network=replace(facts.network, environment=environment))


def test_a_torch_without_nccl_is_told_of_gloo() -> None:
    facts = many()
    torch = replace(facts.libraries.torch or Torch(""), nccl=None)
    without = replace(facts, libraries=replace(facts.libraries, torch=torch))
    assert one("nccl", without).remedy.startswith("TORCH_DISTRIBUTED_BACKEND=gloo")
    assert one("nccl", facts).found == "2.26.2"


def test_peer_to_peer_that_works_is_not_to_be_forbidden() -> None:
    facts = many(NCCL_P2P_DISABLE="1")
    assert one("peer-to-peer", facts).level == "ok"
    all_ok = replace(facts.gpus, peers=dict.fromkeys(facts.gpus.peers, "OK"))
    assert one("peer-to-peer", replace(facts, gpus=all_ok)).remedy == "unset NCCL_P2P_DISABLE"
    assert one("peer-to-peer", replace(many(), gpus=all_ok)).level == "ok"
    assert one("peer-to-peer", replace(many(), gpus=replace(all_ok, peers={}))).level == "ok"


def test_infiniband_that_is_down_is_switched_off_and_one_that_is_up_is_not() -> None:
    def ports(*active: bool, **environment: str) -> Finding:
        facts = many(**environment)
        found = [Port(f"mlx5_{number}/1", up) for number, up in enumerate(active)]
        return one("infiniband", replace(facts, network=replace(facts.network, ports=found)))

    assert ports(False).remedy == "export NCCL_IB_DISABLE=1"
    assert ports(False, NCCL_IB_DISABLE="1").level == "ok"
    assert ports(True, False).found == "mlx5_0/1 (InfiniBand)"
    assert ports(True, NCCL_IB_DISABLE="1").remedy == "unset NCCL_IB_DISABLE"
    assert ports().remedy == "on several machines: export NCCL_IB_DISABLE=1"


def test_of_several_interfaces_the_fastest_real_one_is_named() -> None:
    facts = many()
    assert one("interfaces", facts).remedy == "export NCCL_SOCKET_IFNAME=eno1"
    assert one("interfaces", many(NCCL_SOCKET_IFNAME="eno1")).level == "ok"
    assert "names none" in one("interfaces", many(NCCL_SOCKET_IFNAME="ib0")).found
    alone = replace(facts.network, interfaces=[Interface("eth0", True, True, "10.0.0.1")])
    assert one("interfaces", replace(facts, network=alone)).level == "ok"
    none = replace(facts.network, interfaces=[])
    assert one("interfaces", replace(facts, network=none)).remedy == "export NCCL_SOCKET_IFNAME=lo"


# room


def in_room(**changes: Any) -> Facts:
    facts = a100()
    return replace(facts, room=replace(facts.room, **changes))


def test_memory_is_what_the_container_may_have() -> None:
    assert one("ram", in_room(ram=512, limit=3, cores=32)).remedy == "--children 10"
    assert one("ram", in_room(ram=512, limit=3, cores=32, quota=4.0)).level == "ok"
    assert one("ram", machines.meaning("pcb", in_room(ram=512, limit=64))).level == "blocker"
    assert one("ram", machines.meaning("pcb-train", in_room(ram=512, limit=64))).level == "ok"


def test_a_quota_of_time_gives_the_number_of_children() -> None:
    assert one("cores", in_room(cores=64, quota=7.5)).remedy == "--children 7 (WORKER_CHILDREN=7)"
    assert one("cores", in_room(cores=8, quota=8.0)).level == "ok"


def test_disks_that_are_full_or_closed_are_told() -> None:
    def disk(**changes: Any) -> Finding:
        return one("disk", in_room(disks=[replace(Disk("checkpoints", "/queue", 500), **changes)]))

    assert disk().level == "ok"
    assert disk(free=1).level == "warning"
    assert "cannot be written" in disk(writable=False).found


def test_too_little_shared_memory_is_told_with_the_option_of_each_launcher() -> None:
    assert "docker run --shm-size 8g" in one("shm", in_room(shm=0.064)).remedy
    assert one("shm", in_room(shm=None)).level == "warning"
    assert one("shm", replace(machines.quiet(), room=in_room(shm=0.064).room)).level == "ok", "no card"


@pytest.mark.parametrize("task", kinds.KINDS)
def test_what_work_takes_is_what_its_plan_says(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    need = machines.meaning(task, in_room(cores=16)).need
    line = ["plan", task, "--hw", "a100", "--cores", "16", "--json"]
    with pytest.raises(SystemExit):
        cli.main([*line, "--engine", "motion"] if task == "ghost-probing" else line)
    plan = json.loads(capsys.readouterr().out)
    assert need
    assert need.gpu.gigabytes == pytest.approx(plan["gpu_memory_gb"]["total"], abs=0.01)
    assert need.ram.gigabytes == pytest.approx(plan["ram_gb"], abs=0.01)
    assert need.disk.gigabytes == pytest.approx(plan["disk_gb"], abs=0.01)


def levels(check: str, facts: Facts) -> list[str]:
    return [found.level for found in CHECKS[check](facts)]


def test_of_all_steps_together_the_one_that_takes_most_counts_and_what_is_here_already_does_not() -> None:
    def pcb(free: float, model: Model | None = None, task: str = "pcb") -> list[str]:
        facts = replace(in_room(disks=[Disk("cache", "/", free)]), model=model)
        return levels("task", machines.meaning(task, facts))

    assert pcb(500) == ["ok", "ok"]
    assert pcb(160) == ["ok", "warning"], "until the base is deleted after the merge"
    assert pcb(100) == ["ok", "blocker"]
    assert pcb(100, task="pcb-train") == ["ok", "ok"]
    here = Model("Qwen/Qwen3-VL-32B-Instruct", True, 66.7)
    assert pcb(120, here) == ["ok", "ok"]
    assert pcb(115, here) == ["ok", "warning"]
    assert pcb(100, here) == ["ok", "blocker"], "at quantising, where the base may be gone"


def test_a_card_that_is_too_small_is_told_with_the_plan_that_says_what_would_fit() -> None:
    found = next(CHECKS["task"](machines.meaning("pcb", machines.rtx2080())))
    assert found.level == "blocker"
    assert found.remedy == "what would fit: worker plan pcb-train --hw rtx2080 --gpus 16"
    nowhere = next(CHECKS["task"](machines.meaning("mlp-train", a100(gpus=Gpus()))))
    assert nowhere.level == "ok", "a small net learns on a CPU"


def test_a_model_decides_what_ghost_probing_takes() -> None:
    def card(model: str | None) -> float:
        need = machines.meaning("ghost-probing", a100(wanted=Wanted(model=model))).need
        return need.gpu.gigabytes if need else -1

    assert card(None) == 0
    assert 0 < card("Qwen/Qwen3-VL-2B-Instruct") < card("OpenGVLab/VideoChat2_HD_stage4_Mistral_7B_hf") < 25
    assert card("owner/unheard-of") == -1
    strange = machines.meaning("ghost-probing", a100(wanted=Wanted(model="owner/unheard-of")))
    assert one("task", strange).found == (
        "ghost-probing: what it takes with owner/unheard-of is not known here"
    )
    assert one("task", a100(wanted=Wanted(task="shout"))).found == "shout: what it takes is not known here"


# system


def test_films_that_cannot_be_read_are_told() -> None:
    facts = a100()
    assert one("codecs", replace(facts, system=replace(facts.system, codecs=("h264",)))).level == "warning"
    broken = replace(facts.system, codecs=None, codecs_wrong="ImportError: libavcodec")
    assert one("codecs", replace(facts, system=broken)).level == "blocker"


def test_signals_that_do_not_arrive_are_told() -> None:
    facts = a100(signals=Signals("bash -c x", "bash -c x", ("SIGTERM",), 0.1, 0.2))
    shell, blocked = CHECKS["signals"](facts)
    assert 'ENTRYPOINT ["worker"]' in shell.remedy
    assert "SIGTERM" in blocked.found


def test_a_slow_stop_is_told_with_the_time_that_it_wants() -> None:
    assert one("stopping", a100(signals=Signals("x", None, (), 8.0, 10.0))).remedy.startswith("give it 20 s")
    failed = one("stopping", a100(signals=Signals("x", trial_wrong="it claimed nothing")))
    assert failed.level == "blocker"
    assert "it claimed nothing" in failed.found


# queue


def test_a_mounted_blob_blocks_and_the_blob_itself_is_named() -> None:
    wrong = (
        "/mnt/blob is a fuse.blobfuse2 mount, where claims are not safe; point the queue at the blob itself"
    )
    facts = a100(queue=Queue("/mnt/blob", "/mnt/blob", "fuse.blobfuse2", wrong=wrong))
    assert one("race", facts).remedy == "point the queue at the blob itself"
    assert list(CHECKS["queue"](facts)) == []


@pytest.mark.parametrize(("kind", "level"), [("tmpfs", "warning"), ("overlay", "warning"), ("nfs4", "ok")])
def test_a_queue_that_dies_with_its_container_is_told(kind: str, level: str) -> None:
    assert one("queue", a100(queue=Queue("q", "q", kind, (1,)))).level == level


def test_a_store_on_which_two_win_blocks() -> None:
    assert "2 won, in 1 of 3 races" in one("race", a100(queue=Queue("q", "q", "", (1, 2, 1)))).found
    assert one("race", a100(queue=Queue("q", "q", "", (1, 0, 1)))).level == "blocker"
    assert one("race", a100(queue=Queue("q", "q", "", (1, 1), 3.0))).level == "warning"
    assert one("race", a100(queue=Queue("q", "q", "", (1, 1), 0.01))).level == "ok"


# model


def test_weights_that_are_not_here_block_with_the_command_that_fetches_them() -> None:
    absent = one("weights", a100(model=lying.absent("Qwen/Qwen2.5-VL-7B-Instruct")))
    assert absent.level == "blocker"
    assert absent.remedy.startswith("hf download Qwen/Qwen2.5-VL-7B-Instruct")
    assert one("weights", a100(model=Model("/models/x", True, 15.2))).level == "ok"
    assert "--allow-code" in one("weights", a100(model=Model("/models/x", True, 15.2, code=True))).found


@pytest.mark.parametrize(
    ("machine", "gigabytes", "level", "remedy"),
    [
        ("azure-a100", 16.6, "ok", ""),
        ("azure-a100", 145.0, "warning", "--set quantise=nf4"),
        ("rtx2080", 3.5, "warning", "--set quantise=nf4"),
        ("rtx2080", 66.7, "warning", "WORKER_GPUS= "),
        ("rtx2080", 145.0, "blocker", "larger card"),
    ],
)
def test_a_model_fits_a_card_or_four_bits_do_or_all_cards_together(
    machine: str, gigabytes: float, level: str, remedy: str
) -> None:
    found = one("memory", a100(gpus=machines.gpus(machine), model=Model("m", True, gigabytes)))
    assert found.level == level
    assert remedy in found.remedy


@pytest.mark.parametrize(("used", "level"), [(0.4, "ok"), (0.6, "warning")])
def test_a_screen_is_no_tenant(used: float, level: str) -> None:
    card = replace(a100().gpus.cards[0], used=used, tenants=())
    assert one("other-processes", a100(gpus=replace(a100().gpus, cards=[card]))).level == level


def test_a_slice_of_a_card_is_not_taken_for_the_whole_card() -> None:
    facts = a100(model=Model("m", True, 16.6))
    (card,) = facts.gpus.cards
    sliced = replace(facts, gpus=replace(facts.gpus, cards=[replace(card, mig=True, slices=7)]))
    assert one("memory", facts).level == "ok"
    assert one("memory", sliced).level == "warning"
    found = {finding.level for finding in CHECKS["task"](machines.meaning("pcb-inspect", sliced))}
    assert "warning" in found
