"""The page of evenly spaced frames."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from PIL import Image

from worker.media.contact_sheet import Sampler, Thumb, clock, contact_sheet, thumb_width


def sample(count: int, duration_s: float | None, frames: int) -> list[float]:
    sampler = Sampler(count, duration_s)
    for n in range(frames):
        if sampler.wants((n + 1) / 10):
            sampler.take(Thumb(n / 10, Image.new("RGB", (8, 6))), (n + 1) / 10)
    return [thumb.time for thumb in sampler.thumbs]


def test_frames_sit_in_the_middle_of_equal_parts() -> None:
    assert sample(4, 8.0, 80) == [1.0, 3.0, 5.0, 7.0]


def test_of_an_unknown_length_at_most_twice_as_many_are_kept_evenly_spaced() -> None:
    times = sample(4, None, 1000)
    gaps = {round(b - a, 3) for a, b in pairwise(times)}
    assert 4 <= len(times) < 8
    assert len(gaps) == 1


def test_a_time_from_a_thousand_years_hence_costs_no_time() -> None:
    sampler = Sampler(12, 0.3)
    sampler.take(Thumb(3e10, Image.new("RGB", (8, 6))), 3e10)
    assert not sampler.wants(3e10)


def test_a_film_with_fewer_frames_than_asked_gives_each_once() -> None:
    assert sample(12, 0.3, 3) == [0.0, 0.1, 0.2]


@pytest.mark.parametrize("shape", [(1584, 660), (1080, 1920)])
def test_a_sheet_is_about_1200_wide_for_any_shape(shape: tuple[int, int]) -> None:
    width = thumb_width(*shape)
    size = width, round(width * shape[1] / shape[0])
    sheet = Image.open(io.BytesIO(contact_sheet([Thumb(n, Image.new("RGB", size)) for n in range(12)])))
    assert sheet.format == "JPEG"
    assert 1150 <= sheet.width <= 1200


def test_times_read_like_a_film() -> None:
    assert [clock(t) for t in (0, 63.25, 3723.9)] == ["0:00.0", "1:03.2", "1:02:03.9"]
