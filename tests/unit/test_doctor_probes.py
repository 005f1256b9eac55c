"""What the doctor asks the machine, and how it reads the answers."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import pytest

from tests import checkpoints, machines
from worker.doctor.facts import Tenant
from worker.doctor.probes import libraries, lying, network, racing, room, smi, stopping, system
from worker.doctor.probes.stopping import Ancestor, deaf
from worker.hardware.command import Said, ask
from worker.queue import directory
from worker.queue.store import Store, open_store


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


# nvidia-smi


def test_nvidia_smi_s_tables_are_read() -> None:
    gpus = machines.gpus("rtx2080")
    assert len(gpus.cards) == 16
    third = gpus.cards[3]
    assert (third.name, third.driver, third.gigabytes) == ("NVIDIA GeForce RTX 2080", "535.54.03", 8.0)
    assert (third.capability, third.sm, third.ecc, third.uncorrected) == ((7, 5), "sm_75", None, None)
    assert third.tenants == [Tenant(41877, "/opt/conda/bin/python", 6.1)]
    assert third.held == 6.1
    assert (gpus.links[0, 1], gpus.links[0, 2], gpus.links[0, 15]) == ("PIX", "PXB", "SYS")
    assert len(gpus.peers) == 16 * 15
    assert set(gpus.peers.values()) == {"NS"}
    (a100,) = machines.gpus("azure-a100").cards
    assert (a100.ecc, a100.uncorrected, a100.mig, a100.gigabytes) == (True, 0, False, 80.0)
    assert machines.gpus("azure-a100").links == {}, "a network adapter is no card"


def test_a_terminal_s_underlines_and_spaces_in_place_of_tabs_are_no_matter() -> None:
    assert smi.matrix(
        "\t\x1b[4mGPU0\tGPU1\tCPU Affinity\x1b[0m\nGPU0\t X \tNV12\t0-47\nGPU1\tNV12\t X \t0-47\n"
    ) == {
        (0, 1): "NV12",
        (1, 0): "NV12",
    }
    assert smi.matrix("        GPU0    GPU1\n GPU0   X       CNS\n GPU1   CNS     X\n\nLegend:\n") == {
        (0, 1): "CNS",
        (1, 0): "CNS",
    }
    assert smi.matrix("") == {}


@pytest.mark.parametrize(
    ("visible", "ours"),
    [
        (None, 16),
        ("3,5", 2),
        ("GPU-20800003,GPU-2080000f", 2),
        ("", 16),
        ("-1", 16),
        ("MIG-1", 16),
        ("40", 16),
    ],
)
def test_cards_that_a_scheduler_gave_to_others_are_not_judged(visible: str | None, ours: int) -> None:
    answers = machines.transcript("rtx2080")
    said = {name: answers[" ".join(question)] for name, question in smi.QUESTIONS.items() if name != "old"}
    assert len(smi.read(said["gpus"], said, visible=visible).cards) == ours


def test_slices_are_counted_below_their_card() -> None:
    answers = machines.transcript("azure-a100")
    uuid = answers["-L"].partition("UUID: ")[2].partition(")")[0]
    listed = answers["-L"] + "  MIG 3g.40gb     Device  0: (UUID: MIG-33333333-cccc)\n" * 2
    (card,) = smi.read(answers[" ".join(smi.QUESTIONS["gpus"])], {"list": listed}).cards
    assert (card.uuid, card.slices) == (uuid, 2)


def test_a_driver_that_knows_no_slices_is_asked_again_without() -> None:
    asked: list[str] = []

    def old(arguments: Sequence[str]) -> Said:
        asked.append(arguments[0])
        if "mig.mode" in arguments[0] or "compute_cap" in arguments[0]:
            return Said(2, 'Field "mig.mode.current" is not a valid field to query.\n')
        answer = "0, Tesla V100-SXM2-16GB, GPU-1, 440.33.01, 16160, 0, Enabled, 0\n"
        return Said(0, answer if "uuid,driver" in arguments[0] else "")

    (card,) = smi.look(old).cards
    assert (card.name, card.mig, card.sm) == ("Tesla V100-SXM2-16GB", False, "sm_70")
    assert f"--query-gpu={smi.OLD_FIELDS}" in asked


def test_what_a_driver_that_is_ill_says_is_kept(tmp_path: Path) -> None:
    put(tmp_path / "nvidia0", "")
    put(tmp_path / "nvidiactl", "")
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.161\n"
    gpus = smi.look(lambda _: Said(18, said.splitlines()[0]), tmp_path)
    assert gpus.silence == "Failed to initialize NVML: Driver/library version mismatch"
    assert gpus.nodes == 1
    assert smi.look(lambda _: None, tmp_path).silence is None


def test_a_program_that_hangs_is_not_waited_for() -> None:
    said = ask([sys.executable, "-c", "import time; time.sleep(60)"], 0.3)
    assert said == Said(124, "", "no answer in 0.3 s")
    assert ask(["no-such-program-anywhere"], 1.0) is None
    failed = ask([sys.executable, "-c", "raise SystemExit('first\\nlast words')"], 30.0)
    assert failed is not None
    assert (failed.code, failed.last) == (1, "last words")


# libraries


def test_without_a_card_no_library_is_tried() -> None:
    found = libraries.look([])
    assert found.torch is None
    assert found.trials == {}
    assert "av" in found.versions


def test_with_a_card_each_library_is_tried_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.7.1+cu118", "bitsandbytes": "0.50.2", "flash-attn": "2.8.3"}
    monkeypatch.setattr(libraries, "_version", lambda name: versions.get(name, ""))
    told = {
        "cuda": "11.8",
        "archs": ["sm_80"],
        "cudnn": 90100,
        "nccl": "2.21.5",
        "available": True,
        "bf16": [True],
    }

    def answer(command: Sequence[str], limit: float) -> Said:
        assert limit > 0
        if command[-1] == "torch":
            return Said(0, f"a warning\n{json.dumps(told)}\n")
        return Said(-11, "") if command[-1] == "flash_attn" else Said(0, "")

    monkeypatch.setattr(libraries, "ask", answer)
    found = libraries.look(machines.gpus("azure-a100").cards)
    assert found.torch is not None
    assert (found.torch.cuda, found.torch.archs, found.torch.bf16) == ("11.8", ("sm_80",), (True,))
    assert found.trials["bitsandbytes"].wrong is None
    assert found.trials["flash-attn"].wrong == "it ended with -11"


def test_a_torch_that_does_not_load_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_version", lambda name: "2.7.1" if name == "torch" else "")
    monkeypatch.setattr(libraries, "ask", lambda *_: Said(1, "", "Traceback\nOSError: libcudart.so.11.0\n"))
    found = libraries.look(machines.gpus("azure-a100").cards)
    assert found.torch is not None
    assert found.torch.error == "OSError: libcudart.so.11.0"


# room


@pytest.mark.parametrize(
    ("files", "limit", "quota"),
    [
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "8000000000\n",
                "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
            },
            8.0,
            1.5,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9000000000\n"}, 9.0, None),
        (
            {
                # in a container the path is that of the host, and not there
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "107374182400\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "1400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            107.374182400,
            14.0,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n3:cpu:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            },
            None,
            None,
        ),
        ({}, None, None),
    ],
)
def test_limits_of_both_kinds_of_control_groups_are_read(
    tmp_path: Path, files: dict[str, str], limit: float | None, quota: float | None
) -> None:
    for name, text in files.items():
        put(tmp_path / name, text)
    put(tmp_path / "proc/meminfo", "MemTotal:       65536000 kB\n")
    found = room.look({}, tmp_path)
    assert (found.limit, found.quota) == (limit, quota)
    assert found.ram == pytest.approx(67.1, abs=0.1)
    assert found.shm is None


def test_the_room_of_a_folder_that_is_not_there_yet_is_that_of_the_one_above(tmp_path: Path) -> None:
    (disk,) = room.look({"cache": tmp_path / "hub" / "models"}).disks
    assert disk.path.endswith("hub/models")
    assert disk.device == os.stat(tmp_path).st_dev  # noqa: PTH116
    assert disk.free > 0
    assert disk.writable
    assert not (tmp_path / "hub").exists()


# network


def test_interfaces_and_infiniband_are_read_from_the_kernel(tmp_path: Path) -> None:
    for name, state, speed in (("eno1", "up", "10000"), ("docker0", "down", "-1"), ("lo", "unknown", "")):
        put(tmp_path / f"class/net/{name}/operstate", f"{state}\n")
        put(tmp_path / f"class/net/{name}/speed", f"{speed}\n")
    port = tmp_path / "class/infiniband/mlx5_0/ports/1"
    put(port / "state", "4: ACTIVE\n")
    put(port / "link_layer", "InfiniBand\n")
    put(tmp_path / "class/infiniband/mlx5_1/ports/1/state", "1: DOWN\n")
    found = network.look(tmp_path, {"NCCL_DEBUG": "INFO", "HOME": "/"})
    by_name = {one.name: (one.up, one.physical, one.speed) for one in found.interfaces}
    assert by_name == {"docker0": (False, False, None), "eno1": (True, True, 10_000)}
    assert [(one.name, one.active) for one in found.ports] == [("mlx5_0/1", True), ("mlx5_1/1", False)]
    assert found.environment == {"NCCL_DEBUG": "INFO"}


# system and signals


def test_this_system_reads_films() -> None:
    found = system.look()
    assert found.codecs is not None
    assert "h264" in found.codecs


def test_a_shell_that_is_stopped_in_our_stead_is_known() -> None:
    us = Ancestor(50, "python", "python -m worker run")
    shell = Ancestor(1, "sh", "sh -c 'worker run q; true'")
    assert deaf([us, shell]) == "sh -c 'worker run q; true'"
    assert deaf([Ancestor(7, "make", "make run"), Ancestor(1, "systemd", "/sbin/init")]) is None
    batch = Ancestor(9, "bash", "/bin/bash /var/spool/slurmd/job7/slurm_script")
    over = [Ancestor(8, "slurmstepd", "slurmstepd: [7.batch]"), Ancestor(1, "systemd", "/sbin/init")]
    assert deaf([batch, *over]) == "/bin/bash /var/spool/slurmd/job7/slurm_script"
    # somebody's terminal
    assert deaf([Ancestor(9, "bash", "-bash"), Ancestor(8, "sshd", "sshd"), over[-1]]) is None
    assert deaf([]) is None


def test_our_own_ancestors_are_found() -> None:
    found = stopping.ancestors()
    assert found[0].pid == os.getppid()


def test_a_worker_that_cannot_start_is_told_with_its_last_words() -> None:
    found = stopping.look([sys.executable, "-c", "raise SystemExit('no module named so')"])
    assert found.stopped_after is None
    assert found.trial_wrong == "it claimed nothing and ended with 1: no module named so"


# the store


def test_a_race_on_a_real_store_has_one_winner_and_leaves_nothing(any_store_url: str) -> None:
    found = racing.look(any_store_url)
    assert found.wrong is None
    assert found.winners == [1] * racing.RACES
    assert found.slowest > 0
    assert open_store(any_store_url).list() == []


def test_a_queue_that_is_not_there_yet_is_tried_above_it(tmp_path: Path) -> None:
    found = racing.look(str(tmp_path / "run" / "films"))
    assert found.tried == str(tmp_path)
    assert found.winners == [1] * racing.RACES
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_lets_two_win_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(self: Store, name: str, data: bytes) -> bool:
        self.put(name, data)
        return True

    monkeypatch.setattr(Store, "create", overwrite)
    assert min(racing.look(str(tmp_path)).winners) > 1


def test_a_store_that_keeps_the_loser_s_bytes_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, lock = set[str](), Lock()

    def overwrite(self: Store, name: str, data: bytes) -> bool:
        with lock:
            self.put(name, data)
            first = name not in there
            there.add(name)
        return first

    monkeypatch.setattr(Store, "create", overwrite)
    assert min(racing.look(str(tmp_path)).winners) > 1


def test_a_file_is_no_queue(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/queue"):
        assert "is a file; name a folder" in (racing.look(str(tmp_path / place)).wrong or "")


def test_a_mounted_blob_and_a_store_that_is_none_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nblobfuse2 {tmp_path} fuse rw 0 0\n")
    for module in (directory, racing):
        monkeypatch.setattr(module, "MOUNTS", mounts)
    found = racing.look(str(tmp_path))
    assert found.mount == "fuse.blobfuse2"
    assert found.wrong is not None
    assert "az://" in found.wrong
    assert "is no store" in (racing.look("ftp://x").wrong or "")


# models


def test_a_model_is_here_if_it_is_whole(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    found = lying.look(str(folder))
    assert (found.there, found.kind) == (True, "mistral")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    cut = lying.look(str(folder))
    assert not cut.there
    assert "cut short" in (cut.wrong or "")


def test_videochat2_is_three_downloads_in_one_folder_and_brings_code(tmp_path: Path) -> None:
    name = "OpenGVLab/VideoChat2_HD_stage4_Mistral_7B_hf"
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    assert [command for command in lying.VIDEOCHAT2 if command not in page] == []
    absent = lying.absent(name)
    assert absent.gigabytes == pytest.approx(15, abs=1)
    assert " && ".join(lying.VIDEOCHAT2) in absent.remedy
    folder = checkpoints.write(tmp_path / "videochat2-hd", auto_map={"AutoModel": "modeling_videochat2.V"})
    (folder / "mistral").mkdir()
    assert "bert-base-uncased" in (lying.look(str(folder)).wrong or "")
    (folder / "bert-base-uncased").mkdir()
    found = lying.look(str(folder))
    assert (found.there, found.code) == (True, True)


def test_how_much_of_a_card_a_model_takes_is_counted_from_its_tensors(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    header = {"w.weight": {"dtype": "BF16", "shape": [1000, 1000], "data_offsets": [0, 2_000_000]}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(2_000_000))
    found = lying.look(str(folder))
    assert found.gigabytes == pytest.approx(0.002)
    assert found.nf4 == pytest.approx(0.00052, rel=0.02)


def test_a_name_of_the_hub_that_was_not_fetched_is_what_plans_know_or_guessed_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = lying.look("Qwen/Qwen2.5-VL-7B-Instruct")
    assert (found.there, found.gigabytes, found.nf4) == (
        False,
        pytest.approx(16.6, 0.01),
        pytest.approx(6.9, 0.02),
    )
    assert found.remedy.startswith("hf download Qwen/Qwen2.5-VL-7B-Instruct")
    in_four_bits = lying.look("Qwen/Qwen2.5-VL-7B-Instruct-AWQ").gigabytes
    assert in_four_bits == pytest.approx(found.nf4, rel=0.02)
    assert lying.look("owner/some-7B-Chat").gigabytes == 14.0
    assert lying.look("owner/some-chat").gigabytes is None
    assert "owner/name" in lying.look("no such thing").remedy
