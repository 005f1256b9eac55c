"""Every name that a Python program may import, from one place, and what its page lets it type."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("yaml", reason="the extra gpus is not installed")

import worker.gpus
from tests import gpu_lessons
from worker.errors import MachineError
from worker.gpus import (
    AlgorithmTrainingEngine,
    TrainingGPUConfig,
    allocate_gpu_resources,
    cleanup_gpu_resources,
    close_gpu_resource_manager,
    create_pytorch_model_with_gpu,
    create_tensorflow_model_with_gpu,
    get_available_gpu_nodes,
    get_gpu_monitoring_data,
    get_gpu_resource_manager,
    get_pytorch_gpu_integration,
    get_tensorflow_gpu_integration,
    setup_pytorch_gpu,
    setup_tensorflow_gpu,
    validate_gpu_requirements,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gpu-manager.md").read_text()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[None]:
    """Two cards, as if this machine had them."""
    (tmp_path / "cluster.yaml").write_text(f"nodes: [{{name: {socket.gethostname()}, gpus: 2xA100-80GB}}]")
    get_gpu_resource_manager(tmp_path / "cluster.yaml", tmp_path / "ledger")
    yield
    close_gpu_resource_manager()


@pytest.mark.usefixtures("here")
def test_each_name_does_its_part_of_a_training() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    asked = TrainingGPUConfig(gpu_count=1, memory_gb=40)
    assert get_gpu_resource_manager() is get_gpu_resource_manager()
    assert validate_gpu_requirements(asked).available_now
    made = allocate_gpu_resources(asked)
    assert get_available_gpu_nodes("A100")[0].available_gpus == 1
    assert [one.allocation_id for one in get_gpu_monitoring_data().cards] == [made.allocation_id, ""]

    shape = {"input_dim": 3, "hidden_units": 4, "output_dim": 2}
    for name, setup, create, integration in (
        ("torch", setup_pytorch_gpu, create_pytorch_model_with_gpu, get_pytorch_gpu_integration()),
        (
            "tensorflow",
            setup_tensorflow_gpu,
            create_tensorflow_model_with_gpu,
            get_tensorflow_gpu_integration(),
        ),
    ):
        try:
            __import__(name)
        except ImportError:
            with pytest.raises(MachineError, match="tensorflow is not installed"):
                setup()
            continue
        assert setup().told.message == "on the CPU: no GPU was asked for"
        assert create("mlp", shape) is not None
        integration.close()

    engine = AlgorithmTrainingEngine()
    told = asyncio.run(engine.train_algorithm(gpu_lessons.cards, {"gpu_config": {"gpu_count": 1}}))
    assert (told.device, told.result["cards"]) == ("gpu", "1")
    assert cleanup_gpu_resources(allocation_id=made.allocation_id).released == [made.allocation_id]


def test_all_names_are_told_and_none_needs_a_framework() -> None:
    program = "import sys, worker.gpus; print({'torch', 'tensorflow', 'fastapi'} & set(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set()\n"
    assert all(hasattr(worker.gpus, name) for name in worker.gpus.__all__)


@pytest.mark.parametrize("section", ["PyTorch and TensorFlow", "A training that takes its own cards"])
def test_what_the_page_lets_one_type_runs(section: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    _, _, rest = PAGE.partition(f"## {section}\n")
    program = re.findall(r"```python\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)[0]
    (tmp_path / "cluster.yaml").write_text("nodes: [{name: a, gpus: 4xA100-80GB}]")
    (tmp_path / "train.py").write_text(program)
    ended = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    said = re.findall(r"# prints (.*)", program)
    assert said
    for line in said:
        assert line in ended.stdout, ended.stdout
