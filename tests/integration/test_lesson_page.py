"""The report of a training, as a browser shows it: a hundred classes, and names that mean harm."""

from __future__ import annotations

from pathlib import Path

from tests.browser import look
from tests.lesson_pages import lesson_page

HOSTILE = "<script>window.hacked = 1</script>"
CLASSES = [HOSTILE, *(f"dish {number}" for number in range(99)), "宫保鸡丁"]


def test_curves_and_the_matrix_of_a_hundred_classes_are_there_and_fit(tmp_path: Path) -> None:
    found = look(
        lesson_page(tmp_path, CLASSES),
        """
        const all = (what) => Array.from(page.querySelectorAll(what));
        found.curves = all(".curves figcaption .en").map((one) => one.textContent);
        found.lines = all(".curves polyline").length;
        found.matrices = all(".matrix svg").length;
        found.names = all(".matrix svg")[0].querySelectorAll("text").length;
        found.letters = Math.min(...all(".matrix text").map((one) => one.getBoundingClientRect().height));
        found.titles = all(".matrix title").slice(0, 1).map((one) => one.textContent);
        found.worst = all(".parts figure img").map((one) => one.naturalWidth);
        found.wide = page.documentElement.scrollWidth;
        found.linked = Boolean(page.querySelector(page.querySelector("#items a").getAttribute("href")));
        found.hacked = view.hacked || null;
        """,
    )
    assert found["curves"] == [
        "Loss",
        "Accuracy",
        "Learning rate",
        "Norm of the gradients",
        "Pictures a second",
    ]
    assert found["lines"] == 2 + 3 + 3
    assert (found["matrices"], found["names"]) == (3, 2 * len(CLASSES))
    assert found["letters"] >= 8, "pixels"
    assert found["titles"][0].startswith(f"{HOSTILE} → {HOSTILE}: ")
    assert found["worst"] == [240] * 24
    assert found["wide"] <= 1200
    assert found["linked"]
    assert found["hacked"] is None


def test_on_a_phone_the_page_is_no_wider_than_the_phone(tmp_path: Path) -> None:
    script = "found.wide = page.documentElement.scrollWidth;"
    assert look(lesson_page(tmp_path, CLASSES), script, width=390)["wide"] <= 390
