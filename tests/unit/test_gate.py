"""What endpoints say of their limits, and the gate that all calls pass."""

from __future__ import annotations

import pytest

from worker.engines.gate import Gate, duration, exhausted, retry_after

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:28:42 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 1.0),
        ({"retry-after": LATER, "date": DATE}, 42.0),
        ({"retry-after": DATE, "date": LATER}, 0.0),
        ({"retry-after": "2, 5"}, 5.0),  # two such headers
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_how_long_we_are_told_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_without_the_servers_own_clock_is_taken_by_ours() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) > 1e8  # type: ignore[operator]
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("1s", 1.0),
        ("17ms", 0.017),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("59", 59.0),
        ("0s", 0.0),
        ("", None),
        ("2026-10-21T07:28:00Z", None),
    ],
)
def test_lengths_of_time_as_endpoints_write_them(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("requests", "tokens", "seconds"),
    [("5", "9000", 0.0), ("0", "9000", 20.0), ("5", "999", 360.0), ("0", "0", 360.0), ("?", "", 0.0)],
)
def test_what_is_used_up_is_waited_for(requests: str, tokens: str, seconds: float) -> None:
    headers = {
        "x-ratelimit-remaining-requests": requests,
        "x-ratelimit-reset-requests": "20s",
        "x-ratelimit-remaining-tokens": tokens,
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert exhausted(headers, 1000) == seconds


def test_the_gate_never_opens_earlier_than_somebody_was_told() -> None:
    now = 100.0
    gate = Gate(lambda: now)
    assert gate.left == 0.0
    gate.shut(30.0)
    gate.shut(5.0)
    assert gate.left == 30.0
    now = 129.0
    gate.shut(2.0)
    assert gate.left == 2.0
    now = 140.0
    assert gate.left == 0.0
