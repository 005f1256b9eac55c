"""What the owners of three machines hear: what will not work there, and what to type instead."""

from __future__ import annotations

import pytest

from tests import machines
from worker.doctor.examination import CHECKS, Examination, judge
from worker.doctor.facts import Facts


def heard(facts: Facts) -> dict[str, list[str]]:
    """check → its findings, as `level: found → remedy`; of those that are not ok alone."""
    found: dict[str, list[str]] = {}
    for one in judge(facts).findings:
        if one.level != "ok":
            found.setdefault(one.check, []).append(f"{one.level}: {one.found} → {one.remedy}")
    return found


def fine(facts: Facts, check: str) -> str:
    (one,) = [one for one in judge(facts).findings if one.check == check]
    assert one.level == "ok", one
    return one.found


def test_on_a_machine_without_a_card_all_is_well() -> None:
    told = judge(machines.quiet())
    assert told.fits
    assert {one.level for one in told.findings} == {"ok"}


def test_the_owner_of_an_a100_at_azure() -> None:
    facts = machines.azure_a100()
    told = heard(facts)
    assert told.keys() == {"packages", "signals", "shm", "weights", "race"}
    assert "torch 2.0.1+cu118 (needs 2.7), transformers 4.35.0 (needs 5.20)" in told["packages"][0]
    assert "64 MB" in told["shm"][0]
    assert "--shm-size 8g" in told["shm"][0]
    assert "exec worker run" in told["signals"][0]
    assert "is a fuse.blobfuse2 mount" in told["race"][0]
    assert "az://container/prefix" in told["race"][0]
    assert "→ hf download OpenGVLab/VideoChat2_HD_stage4_Mistral_7B_hf" in told["weights"][0]
    assert not judge(facts).fits
    assert fine(facts, "card") == "1 × NVIDIA A100 80GB PCIe, 80 GB, Ampere (sm_80)"
    assert fine(facts, "driver") == "535.161.08: runs wheels for CUDA 12.x and older; torch is for 11.8"
    assert fine(facts, "bf16") == "computed by the card itself"
    assert fine(facts, "profile") == "a100 is what is here"


def test_the_owner_of_a_rented_a800() -> None:
    facts = machines.autodl_a800()
    told = heard(facts)
    assert fine(facts, "card").endswith("Ampere (sm_80); an A100 with less NVLink, not Hopper")
    assert fine(facts, "wheel").startswith("torch 2.7.1+cu118 has code for this card")
    assert "GLIBC_2.32" in told["flash-attention"][0]
    assert "a newer glibc than 2.31" in told["flash-attention"][0]
    assert "knows no Qwen3-VL" in told["awq"][0]
    assert "112 are shown, and the container gets the time of 14 → --children 14" in told["cores"][0]
    assert fine(facts, "ram") == "107 GB, the container's limit: the machine's own 1082 do not count"
    cache, checkpoints = told["disk"]
    assert cache.startswith("blocker: cache: 24 GB free at /root/.cache/huggingface/hub, and 67 are needed")
    assert cache.endswith("export HF_HOME=/root/autodl-tmp/huggingface")
    assert checkpoints.endswith("make run QUEUE=/root/autodl-tmp/queue")
    assert "→ hf download Qwen/Qwen3-VL-32B-Instruct (a mirror: HF_ENDPOINT" in told["weights"][0]
    assert "task" not in told
    assert facts.need
    assert facts.need.disk.gigabytes < facts.need.at_last < 186, "if nothing is deleted between the steps"
    assert not judge(facts).fits


def test_the_owner_of_sixteen_rtx_2080() -> None:
    facts = machines.rtx2080()
    told = heard(facts)
    assert told.keys() == {"bf16", "flash-attention", "peer-to-peer", "interfaces", "other-processes"}
    assert "sm_75 has none: what torch shows is emulated" in told["bf16"][0]
    assert "fp16" in told["bf16"][0]
    assert "Turing (sm_75) cannot run it" in told["flash-attention"][0]
    assert "120 of 120 pairs" in told["peer-to-peer"][0]
    assert told["peer-to-peer"][0].endswith("export NCCL_P2P_DISABLE=1")
    assert told["interfaces"][0].endswith("export NCCL_SOCKET_IFNAME=eno1")
    assert "card 3: 6.1 of 8 GB are held by python (41877)" in told["other-processes"][0]
    assert "--gpus 0,1,2,4,5,6,7,8,9,10,11,12,13,14,15" in told["other-processes"][0]
    assert fine(facts, "card") == "16 × NVIDIA GeForce RTX 2080, 8 GB, Turing (sm_75)"
    assert fine(facts, "infiniband") == "none: several machines would talk over sockets"
    assert fine(facts, "ecc") == "these cards have none"
    assert judge(facts).fits, "with these words a detector can be trained on it"


@pytest.mark.parametrize(
    "facts", [machines.quiet(), machines.azure_a100(), machines.autodl_a800(), machines.rtx2080()]
)
def test_whatever_is_amiss_has_one_line_and_a_remedy_and_blockers_stand_first(facts: Facts) -> None:
    told: Examination = judge(facts)
    for one in told.findings:
        assert one.check in CHECKS
        assert one.found
        assert "\n" not in one.found + one.remedy
        assert one.level == "ok" or one.remedy, one
    levels = [one.level for one in told.findings]
    assert levels == sorted(levels, key=["blocker", "warning", "ok"].index)
    assert told.fits == ("blocker" not in levels)
    assert set(told.as_json()) == {"hw", "fits", "findings"}
    assert all(set(one) == {"check", "level", "found", "remedy"} for one in told.as_json()["findings"])
