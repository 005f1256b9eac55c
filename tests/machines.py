"""Three machines as their owners have them: facts for the doctor, with nvidia-smi's own tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from worker.doctor import needs
from worker.doctor.facts import (
    Disk,
    Facts,
    Gpus,
    Interface,
    Libraries,
    Network,
    Port,
    Queue,
    Room,
    Signals,
    System,
    Torch,
    Trial,
    Wanted,
)
from worker.doctor.probes import lying, smi
from worker.errors import StoreDeniedError
from worker.hardware.command import Said
from worker.queue.directory import refuse_mount

MOUNTED = "/mnt/azureml/queue"
FOLDER = Path(__file__).with_name("data") / "machines"
CODECS = ("av1", "h264", "hevc", "libdav1d", "libx264", "mjpeg", "mpeg4", "vp9")


def transcript(name: str) -> dict[str, str]:
    """What was asked → what was answered."""
    found: dict[str, str] = {}
    for block in ("\n" + (FOLDER / f"{name}.txt").read_text()).split("\n$ nvidia-smi ")[1:]:
        question, _, answer = block.partition("\n")
        found[question] = answer + "\n"
    return found


def gpus(name: str, visible: str | None = None) -> Gpus:
    answers = transcript(name)

    def nvidia_smi(arguments: Sequence[str]) -> Said:
        return Said(0, answers[" ".join(arguments)])

    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return smi.look(nvidia_smi, environment=environment)


def refusal(folder: str, mounts: str) -> str:
    try:
        refuse_mount(Path(folder), mounts)
    except StoreDeniedError as error:
        return str(error)
    raise AssertionError(f"{folder} is not refused")


def meaning(task: str, facts: Facts) -> Facts:
    """The same machine, for such work."""
    wanted = replace(facts.wanted, task=task)
    return replace(facts, wanted=wanted, need=needs.of(wanted, facts.gpus, facts.room, facts.model))


def quiet() -> Facts:
    """A machine without a card on which nothing is amiss."""
    return Facts(
        Wanted(),
        Gpus(),
        Libraries(),
        Room(
            ram=64, cores=8, shm=32, disks=[Disk("cache", "/cache", 500, 1), Disk("scratch", "/tmp", 500, 1)]
        ),
        Network([Interface("eth0", True, True, "10.0.0.5", 25_000)]),
        System("2.36", "3.11.2", CODECS),
        Signals("/usr/bin/worker doctor", None, (), 0.08, 0.25),
    )


def azure_a100() -> Facts:
    """A low-priority Standard_NC24ads_A100_v4, in the environment that the reference asks for: the command of
    an Azure ML job in a container, its storage mounted by blobfuse."""
    torch = Torch("2.0.1+cu118", "11.8", ("sm_80", "sm_86", "sm_90"), 8700, "2.14.3", True, (True,))
    versions = {"torch": "2.0.1+cu118", "transformers": "4.35.0"}
    return meaning(
        "ghost-probing",
        replace(
            quiet(),
            wanted=Wanted("a100", MOUNTED, "OpenGVLab/VideoChat2_HD_stage4_Mistral_7B_hf"),
            queue=Queue(
                MOUNTED,
                MOUNTED,
                "fuse.blobfuse2",
                wrong=refusal(MOUNTED, "blobfuse2 /mnt/azureml fuse rw 0 0"),
            ),
            gpus=gpus("azure-a100"),
            libraries=Libraries(versions, torch, {}),
            room=Room(
                ram=236,
                limit=236,
                cores=24,
                shm=0.064,
                disks=[
                    Disk("cache", "/root/.cache/huggingface/hub", 60, 1, "overlay"),
                    Disk("scratch", "/tmp", 60, 1, "overlay"),
                ],
            ),
            network=Network(
                [Interface("eth0", True, True, "10.0.0.4", 50_000)], [Port("mlx5_0/1", True, "Ethernet")]
            ),
            signals=Signals("bash -c …", "bash -c worker doctor; true", (), 0.1, 0.4),
            model=lying.absent("OpenGVLab/VideoChat2_HD_stage4_Mistral_7B_hf"),
        ),
    )


def autodl_a800() -> Facts:
    """A rented A800: a container without Docker, 100 GB of the machine's 1 TB, a data disk of 200 GB."""
    versions = {
        "torch": "2.7.1+cu118",
        "transformers": "5.23.0",
        "accelerate": "1.15.0",
        "bitsandbytes": "0.50.2",
        "autoawq": "0.2.9",
        "flash-attn": "2.8.3",
    }
    archs = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
    wrong = "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found"
    return meaning(
        "pcb",
        replace(
            quiet(),
            wanted=Wanted(hw="a800", model="Qwen/Qwen3-VL-32B-Instruct"),
            gpus=gpus("autodl-a800"),
            libraries=Libraries(
                versions,
                Torch("2.7.1+cu118", "11.8", archs, 90100, "2.21.5", True, (True,)),
                {
                    "flash-attn": Trial("2.8.3", wrong),
                    "bitsandbytes": Trial("0.50.2", None),
                    "autoawq": Trial("0.2.9", None),
                },
            ),
            room=Room(
                ram=1082,
                limit=107,
                cores=112,
                quota=14.0,
                shm=53,
                disks=[
                    Disk("cache", "/root/.cache/huggingface/hub", 24, 1, "overlay"),
                    Disk("scratch", "/tmp", 24, 1, "overlay"),
                    Disk("checkpoints", "/root/work", 24, 1, "overlay"),
                    Disk("data", "/root/autodl-tmp", 186, 2, "xfs"),
                ],
            ),
            system=System("2.31", "3.11.9", CODECS),
            model=lying.absent("Qwen/Qwen3-VL-32B-Instruct"),
        ),
    )


def rtx2080() -> Facts:
    """16 × RTX 2080 in a plain server: no InfiniBand, Docker's bridge, somebody else's training on card 3."""
    versions = {"torch": "2.7.1", "transformers": "5.23.0", "bitsandbytes": "0.50.2"}
    archs = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
    return meaning(
        "detection",
        replace(
            quiet(),
            wanted=Wanted(hw="rtx2080"),
            gpus=gpus("rtx2080"),
            libraries=Libraries(
                versions,
                Torch("2.7.1", "12.6", archs, 90501, "2.26.2", True, (False,) * 16),
                {"bitsandbytes": Trial("0.50.2", None)},
            ),
            room=Room(
                ram=270, cores=64, shm=135, disks=[Disk("cache", "/home/user/.cache/huggingface/hub", 900, 1)]
            ),
            network=Network(
                [
                    Interface("eno1", True, True, "192.168.10.21", 10_000),
                    Interface("eno2", False, True),
                    Interface("docker0", True, False, "172.17.0.1"),
                    Interface("virbr0", True, False, "192.168.122.1"),
                ]
            ),
        ),
    )
