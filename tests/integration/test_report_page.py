"""report.html as a person has it: opened, sorted, filtered and read in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import look
from tests.pages import ghost_page
from worker.items import Failure

HOSTILE = [
    "<script>window.hacked = 1</script>.mp4",
    "<img src=x onerror='window.hacked = 2'>.mp4",
    '\'" onmouseover="window.hacked = 3" x=\'.mp4',
    "javascript:window.hacked=4//${title}.mp4",
]
CLIPS = ["clip 10.mp4", "clip 9.mp4", "路口 早晨.mp4", "a" * 200 + ".mp4", *HOSTILE]
FAILURES = {name: Failure("truncated", f"{name}: 162 of 450 frames readable") for name in HOSTILE}

_COLUMN = """
const shown = () => page.querySelectorAll("#items tbody tr:not([hidden])");
const column = (n) => Array.from(shown(), (row) => row.cells[n].textContent);
const click = (n) => page.querySelectorAll("#items th")[n].click();
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ghost_page(
        tmp_path_factory.mktemp("page"), CLIPS, positives=6, failures=FAILURES, labelled=True, lang="en"
    )


def test_a_table_is_sorted_by_a_click_and_back_by_another(page: Path) -> None:
    found = look(
        page,
        _COLUMN
        + """
        click(0); found.up = column(0);
        click(0); found.down = column(0);
        click(2); found.times = column(2);
        """,
    )
    assert sorted(found["up"]) == sorted(CLIPS)
    assert found["up"].index("clip 9.mp4") < found["up"].index("clip 10.mp4"), "a number is no text"
    assert found["down"] == found["up"][::-1]
    assert found["times"][:3] == ["", "", "2.0s"]


def test_the_filter_leaves_what_was_asked_for(page: Path) -> None:
    found = look(
        page,
        _COLUMN
        + """
        const filter = page.getElementById("filter");
        const type = (text) => { filter.value = text; filter.dispatchEvent(new view.Event("input")); };
        type("早晨"); found.some = column(0);
        type(""); found.all = column(0);
        """,
    )
    assert found["some"] == ["路口 早晨.mp4"]
    assert found["all"] == CLIPS


def test_the_language_is_switched(page: Path) -> None:
    found = look(
        page,
        """
        const heading = () => page.getElementById("failures").innerText;
        const card = () => page.querySelector(".headlines span").innerText;
        found.before = [heading(), card()];
        found.notice = page.querySelector(".notice").innerText;
        page.getElementById("language").click();
        found.after = [heading(), card()];
        """,
    )
    assert found["before"] == ["Failures", "clips with a ghost"]
    assert "no verdicts" in found["notice"]
    assert found["after"] == ["失败", "检出鬼探头的片段"]


def test_a_clip_in_the_table_leads_to_its_incidents(page: Path) -> None:
    found = look(
        page,
        """
        const links = page.querySelectorAll("#items td:first-child a");
        const told = (link) => page.getElementById(link.hash.slice(1));
        const name = (link) => told(link).querySelector("h3").textContent;
        found.names = Array.from(links, (link) => [link.textContent, name(link)]);
        found.moments = Array.from(links, (link) => told(link).querySelectorAll(".moment").length);
        found.pictures = Array.from(page.querySelectorAll(".moment img"), (image) => image.naturalWidth > 0);
        const place = (which) => page.querySelector(which).getBoundingClientRect();
        const [line, mark] = [place(".line"), place(".line i")];
        found.where = (mark.left - line.left) / line.width;
        """,
    )
    assert found["names"] == [[name, name] for name in CLIPS[:6]]
    assert found["moments"] == [1, 2] * 3
    assert found["pictures"] == [True] * 36
    assert found["where"] == pytest.approx(2.0 / 15.0, abs=0.01)


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_hangs_out_at_the_side(page: Path, width: int) -> None:
    found = look(
        page,
        """
        const root = page.documentElement;
        const wide = (one) => one.scrollWidth > one.clientWidth + 1;
        const boxes = Array.from(page.querySelectorAll(".card, .item, header, nav, .line"));
        const measure = () => [root.scrollWidth, root.clientWidth, boxes.filter(wide).length];
        found.en = measure();
        page.getElementById("language").click();
        found.zh = measure();
        """,
        width=width,
    )
    for scroll, client, hanging in (found["en"], found["zh"]):
        assert width - 20 <= client <= width
        assert scroll <= client
        assert hanging == 0


def test_hostile_names_run_no_script(page: Path) -> None:
    found = look(
        page,
        """
        for (const one of page.querySelectorAll("td, bdi, a"))
          one.dispatchEvent(new view.MouseEvent("mouseover"));
        found.hacked = view.hacked ?? null;
        found.scripts = page.scripts.length;
        found.handlers = page.querySelectorAll("[onmouseover], [onerror], [onclick]").length;
        found.shown = Array.from(page.querySelectorAll("bdi"), (one) => one.textContent);
        """,
    )
    assert (found["hacked"], found["scripts"], found["handlers"]) == (None, 1, 0)
    for name in HOSTILE:
        assert found["shown"].count(name) >= 2


def test_a_script_in_the_page_would_not_run(page: Path, tmp_path: Path) -> None:
    """The second lock, should escaping ever fail."""
    text = page.read_text(encoding="utf-8").replace("</main>", f"{HOSTILE[0]}{HOSTILE[1]}</main>")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    found = look(tmp_path / "report.html", "found.hacked = view.hacked ?? null;")
    assert found["hacked"] is None


def test_it_is_dark_where_people_like_it_dark(page: Path) -> None:
    def colours(*, dark: bool) -> tuple[float, float]:
        found: dict[str, Any] = look(
            page,
            """
            const style = view.getComputedStyle(page.body);
            const sum = (numbers) => numbers.reduce((so_far, one) => so_far + Number(one), 0);
            const light = (colour) => sum(colour.match(/\\d+/g).slice(0, 3)) / 765;
            found.colours = [light(style.backgroundColor), light(style.color)];
            """,
            dark=dark,
        )
        paper, ink = found["colours"]
        return paper, ink

    paper, ink = colours(dark=True)
    assert paper < 0.2 < 0.8 < ink
    paper, ink = colours(dark=False)
    assert ink < 0.2 < 0.8 < paper


def test_pictures_too_many_for_a_page_are_seen_wherever_the_folder_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.report.html.MOMENTS_EMBED_MOST", 1000)
    (tmp_path / "here").mkdir()
    ghost_page(tmp_path / "here", CLIPS, positives=4)
    there = (tmp_path / "here").rename(tmp_path / "路口 #1 50%")
    page = there / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "here/files" not in text
    # the browser of this test is closed before it comes to pictures that load late
    page.write_text(text.replace('loading="lazy"', ""), encoding="utf-8")
    found = look(
        page,
        """
        found.pictures = Array.from(page.querySelectorAll(".moment img"), (image) => image.naturalWidth > 0);
        const path = (link) => decodeURIComponent(link.pathname);
        found.links = Array.from(page.querySelectorAll(".moment a"), path);
        found.said = page.querySelector("#moments + p").innerText;
        """,
    )
    assert found["pictures"] == [True] * 24
    assert all(Path(link).is_file() and link.startswith(f"{there}/files/") for link in found["links"])
    assert "pass the whole folder on" in found["said"]


def test_a_thousand_clips_are_quick(tmp_path: Path) -> None:
    """The reference job: 1,019 clips, 130 of them with incidents. Here about 1 s and 0.15 s."""
    clips = [f"day {n % 28:02}/clip {n:04}.mp4" for n in range(1019)]
    large = ghost_page(tmp_path, clips, positives=130, labelled=True, picture_bytes=20_000)
    assert large.stat().st_size < 25e6, "it is mailed around"
    found = look(
        large,
        _COLUMN
        + """
        found.sorted_ms = timed(() => click(2));
        found.back_ms = timed(() => click(0));
        found.names = column(0);
        """,
    )
    assert found["loaded_ms"] < 8000
    assert max(found["sorted_ms"], found["back_ms"]) < 2000
    assert found["names"] == sorted(clips)
