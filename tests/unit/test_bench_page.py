"""The page of figures: one section is rewritten, the rest stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import page
from tests.bench.__main__ import MACHINE, MEASUREMENTS, PAGE

TEXT = "# Figures\n\n<!-- one -->\n<!-- /one -->\n\nprose\n\n<!-- two -->\n| old |\n<!-- /two -->\n"


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    (tmp_path / "page.md").write_text(TEXT)
    return tmp_path / "page.md"


def test_only_the_named_section_changes(figures: Path) -> None:
    page.write(figures, "two", "| new |\n")
    assert figures.read_text() == TEXT.replace("| old |", "| new |")


def test_an_empty_section_is_filled_and_what_is_no_table_keeps_its_lines(figures: Path) -> None:
    page.write(figures, "one", "a  1\nb \\2\n")
    assert "<!-- one -->\n```\na  1\nb \\2\n```\n<!-- /one -->" in figures.read_text()
    page.write(figures, "one", "| x |")
    assert "<!-- one -->\n| x |\n<!-- /one -->" in figures.read_text()


def test_what_a_library_prints_does_not_tear_a_table(figures: Path) -> None:
    page.write(figures, "one", "| x |\n[WARNING] no accelerator\n| y |")
    assert "<!-- one -->\n| x |\n| y |\n<!-- /one -->" in figures.read_text()


def test_a_section_without_a_place_is_told(figures: Path) -> None:
    with pytest.raises(ValueError, match="three"):
        page.write(figures, "three", "| new |")
    assert figures.read_text() == TEXT


def test_the_page_has_a_place_for_every_measurement() -> None:
    assert page.sections(PAGE) == [MACHINE, *MEASUREMENTS]
