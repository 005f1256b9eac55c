"""report.html: one file, everything escaped, nothing fetched."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from tests.queues import QueueUnderTest
from worker.items import Answer, Failure, Item, Result
from worker.queue.finals import Spent
from worker.report.files import relative_paths
from worker.report.html import ROWS_MOST, Report, render
from worker.report.performance import performance
from worker.report.provenance import provenance

SCRIPT = "<script>alert(1)</script>.jpg"
HOSTILE = [SCRIPT, '" onmouseover="alert(1)', "שלום\u202egpj.exe", "🏖️ 海滩.mp4", "a&b's.mp4", "${title}$x"]


class Page(HTMLParser):
    """The tags with their attributes, and the texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def row(result: Result) -> Mapping[str, str]:
    assert isinstance(result.outcome, Answer)
    return {key: str(value) for key, value in result.outcome.keys.items()}


def report(results: Sequence[Result], out: Path, **own: object) -> Report:
    queue = QueueUnderTest()
    failed = [r for r in results if isinstance(r.outcome, Failure)]
    summary = {
        "task": "shout",
        "fingerprint": "f00d",
        "total": len(results),
        "ok": len(results) - len(failed),
        "failed": len(failed),
        "failures": {"broken": len(failed)} if failed else {},
        "refused": [],
        **own,
    }
    went = performance((Spent(r.input, r.seconds, None, 1) for r in results), [], 1)
    return Report(summary, results, row, lambda _: (), went, provenance(queue.run, "queue", [], [], {}), out)


def result(input: str, outcome: Answer | Failure, files: Mapping[str, str] | None = None) -> Result:
    item = Item(f"{abs(hash(input)):024x}", input)
    return Result(item.id, input, outcome, files=files or {}, run={"seconds": 1.5, "worker": "w1"})


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    results = [result(name, Answer({name: name})) for name in HOSTILE]
    results += [result(name, Failure(name, name)) for name in HOSTILE]
    refused = [{"file": SCRIPT, "line": 1, "why": SCRIPT}]
    page = Page(
        render(report(results, tmp_path, refused=refused, failures={SCRIPT: 6}, own={SCRIPT: SCRIPT}))
    )
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for name in HOSTILE:
        assert page.texts.count(name.replace("\u202e", "\ufffd")) >= 4


def test_nothing_is_fetched_from_elsewhere(tmp_path: Path) -> None:
    text = render(report([result("a", Answer({"x": 1}))], tmp_path))
    assert not re.search(r"""(src|href|url|@import|action)\s*[=(]\s*["']?\s*(https?:)?//""", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_small_pictures_are_inside_and_large_ones_are_links(tmp_path: Path) -> None:
    one = result("50% #1.mp4", Answer({}), files={"sheet.jpg": "files/x", "notes <1>.txt": "files/y"})
    for path in relative_paths(one).values():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"small")
    page = Page(render(report([one], tmp_path)))
    (inside,) = [a for tag, a in page.tags if tag == "img"]
    beside = "The pictures are too many for one page"
    assert beside not in "".join(page.texts)
    assert str(inside["src"]).startswith("data:image/jpeg;base64,")

    picture = relative_paths(one)["sheet.jpg"]
    (tmp_path / picture).write_bytes(b"x" * (2 << 20))
    page = Page(render(report([one], tmp_path)))
    (image,) = [a for tag, a in page.tags if tag == "img"]
    assert str(image["src"]).startswith("files/50_")
    assert image["loading"] == "lazy"
    assert beside in "".join(page.texts)
    assert len([a for tag, a in page.tags if tag == "a" and "title" in a]) == 2


def test_both_languages_are_there_and_one_is_shown(tmp_path: Path) -> None:
    results = [result("a", Failure("broken", "no"))]
    english, chinese = (render(report(results, tmp_path), lang) for lang in ("en", "zh"))
    assert '<html lang="en">' in english
    assert '<html lang="zh">' in chinese
    assert "失败" in english
    assert "Failures" in chinese


def test_a_hundred_thousand_results_make_a_page_that_still_opens(tmp_path: Path) -> None:
    results = [result(f"{n:06}.mp4", Answer({"words": "x" * 20})) for n in range(100_000)]
    began = time.process_time()
    text = render(report(results, tmp_path))
    assert time.process_time() - began < 5
    assert text.count("<bdi>") <= ROWS_MOST + 5
    assert len(text) < 2_000_000
    assert "100,000: final_results.json" in text


def test_counts_are_drawn_from_the_largest_on(tmp_path: Path) -> None:
    one = report([result("a", Answer({}))], tmp_path)
    summary = {**one.summary, "types": {"open": 1, "spur <i>": 3}}
    page = render(replace(one, summary=summary, paretos={"types": ("defects by type", "缺陷")}))
    section = page.partition('id="pareto"')[2].partition("</section>")[0]
    assert section.index("spur &lt;i&gt;") < section.index("open")
    assert re.findall(r"width:([\d.]+)%", section) == ["100.0", "33.3"]
    assert re.findall(r"[\d.]+%(?=</td>)", section) == ["75.0%", "100.0%"]


def test_what_a_task_calls_its_headlines_stands_large_and_once(tmp_path: Path) -> None:
    one = report([result("a", Answer({}))], tmp_path, found_rate=0.128, other=3)
    page = render(replace(one, headlines={"found_rate": ("found", "检出"), "absent": ("x", "x")}))
    assert '<b>12.8%</b><span><span class="en">found</span>' in page
    assert "found_rate" not in page
    assert "<td>other</td><td>3</td>" in page
