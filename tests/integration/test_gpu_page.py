"""The page of the GPU manager as a person has it: open in a real browser while others take cards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra gpus is not installed")

import uvicorn

from tests.chromium import Chromium, chromium
from tests.servers import free_port
from worker.gpus import TrainingGPUConfig
from worker.gpus.allocation import Allocation
from worker.gpus.api import create_app
from worker.gpus.config import GpuConfig
from worker.gpus.described import DescribedCluster
from worker.gpus.gate import LOOPBACK_NAMES
from worker.gpus.manager import GpuResourceManager

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
ILL = ", ill: {1: row remapping failed}"


def cluster(copies: int = 3, gpus: str = "4xA100-80GB", ill: str = "") -> str:
    return f"nodes: [{{name: gpu, copies: {copies}, gpus: {gpus}}}, {{name: old, gpus: 2xV100-32GB{ill}}}]"


LIVE = "document.getElementById('link')?.dataset.state === 'live'"
TILES = "Array.from(document.querySelectorAll('.tile b'), (one) => one.textContent).join(' ')"


class Served:
    """A server in this process that can be taken away and put back."""

    def __init__(self, folder: Path, nodes: str, token: str = "") -> None:
        self.file = folder / "cluster.yaml"
        self.file.write_text(nodes)
        self.manager = GpuResourceManager(
            DescribedCluster(self.file), folder / "l", GpuConfig(monitor_update_interval=0.2)
        )
        self.manager.wait_ready(30)
        self._token = token
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        self._app = create_app(self.manager, self._token, () if self._token else LOOPBACK_NAMES)
        settings = uvicorn.Config(self._app, port=self.port, log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        end = time.monotonic() + 60
        while not self._server.started and time.monotonic() < end:
            time.sleep(0.01)
        assert self._server.started

    def stop(self) -> None:
        self._app.state.feed.close()
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    def allocate(self, owner: str, count: int = 1, wait_s: float = 0) -> Allocation:
        return self.manager.allocate(
            TrainingGPUConfig(gpu_count=count, gpu_type="A100", owner=owner, wait_s=wait_s)
        ).result(60)


@contextmanager
def served(folder: Path, nodes: str = cluster(), token: str = "") -> Iterator[Served]:
    made = Served(folder, nodes, token)
    try:
        yield made
    finally:
        made.stop()
        made.manager.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as made:
        yield made


def text(browser: Chromium, where: str) -> str:
    told: str = browser.ask(f"document.querySelector({where!r}).innerText")
    return told


def test_what_happens_appears_by_itself(browser: Chromium, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        browser.view(1200, 900)
        browser.language("en")
        browser.go(server.url)
        browser.until(LIVE)
        assert browser.ask(TILES).startswith("14 0 0 0 0")
        browser.ask("window.mark = 'not loaded again'")

        made = server.allocate(HOSTILE, 2)
        browser.until(f"{TILES}.startsWith('12 2 0 0 0')")
        assert HOSTILE in text(browser, "#allocations")
        assert made.id in text(browser, "#allocations")
        assert "gpu-0: #0 #1" in text(browser, "#allocations")
        assert HOSTILE in text(browser, '[data-node="gpu-0"]')
        assert browser.ask("window.hacked ?? null") is None

        waits = server.manager.allocate(
            TrainingGPUConfig(gpu_count=4, members=3, gpu_type="A100", owner="patient", wait_s=600)
        )
        browser.until("document.getElementById('waiting').innerText.includes('patient')")
        server.file.write_text(cluster(ill=ILL))
        browser.until("document.querySelector('[data-node=old]').innerText.includes('row remapping failed')")
        server.manager.release(made.id).result(60)
        assert waits.result(60)
        browser.until(f"{TILES}.startsWith('1 12 0 1 0')")
        assert not browser.ask("document.getElementById('line').checkVisibility()")
        server.file.write_text(cluster(copies=4, ill=ILL))
        browser.until("document.querySelector('[data-node=\"gpu-3\"]')")
        assert browser.ask("window.mark") == "not loaded again"
        assert browser.said == []


def test_a_lost_connection_is_shown_and_what_was_missed_is_made_up_for(
    browser: Chromium, tmp_path: Path
) -> None:
    with served(tmp_path) as server:
        browser.go(server.url)
        browser.until(LIVE)
        server.stop()
        browser.until("document.getElementById('link').dataset.state === 'lost'")
        assert "connection to the server was lost" in text(browser, "#banner")
        server.allocate("meanwhile")
        server.start()
        browser.until(LIVE)
        browser.until("document.getElementById('allocations').innerText.includes('meanwhile')")
        assert not browser.ask("document.getElementById('banner').checkVisibility()")


def test_the_token_is_asked_for_once_and_stays_in_the_tab(browser: Chromium, tmp_path: Path) -> None:
    opened = "document.getElementById('door')?.open"
    with served(tmp_path, token="s3cret") as server:
        browser.go(server.url)
        for token, again in (("wrong", True), ("s3cret", False)):
            browser.until(f"{opened} && document.activeElement.id === 'token'")
            browser.type(token)
            browser.press("Enter")
            if again:
                browser.until("document.getElementById('refused').checkVisibility()")
        browser.until(LIVE)
        assert browser.ask("[location.search, document.cookie, localStorage.length].join()") == ",,0"
        browser.go(server.url)
        browser.until(LIVE)
        assert not browser.ask(opened)
        browser.ask("sessionStorage.clear()")


def test_it_speaks_chinese_by_itself_and_by_the_button(browser: Chromium, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        browser.language("zh-CN,zh;q=0.9")
        browser.go(server.url)
        browser.until(LIVE)
        assert "空闲" in text(browser, "#tiles")
        assert text(browser, "#link") == "实时"
        browser.ask("document.getElementById('language').click()")
        assert "free of 14" in text(browser, "#tiles")
        browser.ask("localStorage.clear()")
        browser.language("en")


def test_a_thousand_nodes_are_searched_opened_by_keyboard_and_stay_small(
    browser: Chromium, tmp_path: Path
) -> None:
    rows = "document.querySelectorAll('.node').length"
    with served(tmp_path, cluster(1000, "8xA100-80GB", ILL)) as server:
        server.allocate("林悦", 8)
        browser.view(390, 844, phone=True)
        browser.go(server.url)
        browser.until(LIVE)
        assert browser.ask(TILES).startswith("7,993 8 0 1 0")
        assert browser.ask(rows) < 500
        assert browser.ask("document.documentElement.scrollWidth") <= 390
        for wanted, found in (("林悦", 1), ("gpu-99", 10), ("remapping", 1), ("nowhere", 0)):
            browser.ask(
                f"document.getElementById('search').value = '{wanted}';"
                "document.getElementById('search').dispatchEvent(new Event('input'))"
            )
            assert browser.ask(rows) == found, wanted
        browser.ask("document.querySelector('#filters [data-word=ill]').click()")
        browser.ask(
            "document.getElementById('search').value = '';"
            "document.getElementById('search').dispatchEvent(new Event('input'))"
        )
        assert browser.ask(rows) == 1
        browser.ask("document.querySelector('.node summary').focus()")
        browser.press("Enter")
        browser.until("document.querySelectorAll('.panel').length === 2")
        assert "row remapping failed" in text(browser, ".panels")


def test_the_interface_is_described_without_anything_from_elsewhere(
    browser: Chromium, tmp_path: Path
) -> None:
    with served(tmp_path) as server:
        browser.go(f"{server.url}docs")
        browser.until("document.readyState === 'complete' && document.title === 'GPU resource manager'")
        assert "/api/v1/gpu/allocate" in text(browser, "main")
        assert "of each card, in 10⁹ bytes" in text(browser, "#TrainingGPUConfig")
        assert browser.ask("performance.getEntriesByType('resource').length") == 0
        assert browser.said == []
