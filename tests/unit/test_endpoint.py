"""Which endpoint the environment names, and what is said of it."""

from __future__ import annotations

import pytest

from worker.engines.choice import Choice
from worker.engines.endpoint import endpoint
from worker.engines.openai import OpenAi, Terms
from worker.engines.spending import Till
from worker.errors import UsageError

KEY = "s3cr3tV4lu3plain"


def test_openai_itself_needs_a_key_alone() -> None:
    found = endpoint({"OPENAI_API_KEY": f" {KEY}\n"}, "gpt-x")
    assert found.url == "https://api.openai.com/v1/chat/completions"
    assert found.headers == {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "given", ["http://gpu:8000/v1", "http://gpu:8000/v1/", "http://gpu:8000/v1/chat/completions"]
)
def test_a_server_of_ones_own_needs_none(given: str) -> None:
    found = endpoint({"OPENAI_BASE_URL": given}, "qwen")
    assert found.url == "http://gpu:8000/v1/chat/completions"
    assert found.headers == {}


def test_azure_names_the_model_in_the_address() -> None:
    environment = {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/", "AZURE_OPENAI_API_KEY": KEY}
    found = endpoint(environment, "my gpt/4")
    address = "https://me.openai.azure.com/openai/deployments/my%20gpt%2F4/chat/completions"
    assert found.url == f"{address}?api-version=2024-10-21"
    assert found.headers == {"api-key": KEY}
    assert found.shown == address
    found = endpoint({**environment, "AZURE_OPENAI_API_VERSION": "2025-01-01-preview"}, "x")
    assert found.url.endswith("?api-version=2025-01-01-preview")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"OPENAI_BASE_URL": "gpu:8000/v1"}, "must be like"),
        ({"OPENAI_BASE_URL": "http://gpu:port/v1"}, "must be like"),
        ({"OPENAI_BASE_URL": f"http://gpu/v1?api_key={KEY}"}, "must be like"),
        ({"AZURE_OPENAI_ENDPOINT": "https://me"}, "AZURE_OPENAI_API_KEY is not"),
        ({"AZURE_OPENAI_ENDPOINT": "https://me", "OPENAI_BASE_URL": "https://you"}, "two endpoints"),
        ({"OPENAI_API_KEY": f"{KEY}\u2011x"}, "OPENAI_API_KEY holds a character"),
        ({"OPENAI_API_KEY": f"{KEY}\nx"}, "OPENAI_API_KEY holds a character"),
    ],
)
def test_a_wrong_environment_is_told_without_its_key(environment: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as error:
        endpoint(environment, "m")
    assert says in str(error.value)
    assert KEY not in str(error.value)


def test_a_key_is_hidden_wherever_it_stands() -> None:
    found = endpoint({"OPENAI_BASE_URL": "https://me:pa55word@host:8/v1", "OPENAI_API_KEY": KEY}, "m")
    assert found.shown == "https://host:8/v1/chat/completions"
    assert KEY not in repr(found)
    assert "pa55word" not in repr(found)
    assert found.hide(f'{{"you": "sent {KEY}"}}\n') == '{"you": "sent ***"}\n'
    anything = endpoint({"OPENAI_BASE_URL": "http://gpu/v1", "OPENAI_API_KEY": "x"}, "m")
    assert anything.hide('{"next": 1}') == '{"next": 1}', "a key that is none spoils no answer"
    assert anything.clean("no next turn") == "no next turn"
    assert found.clean(f"no such\n user pa55word, Authorization: Bearer {KEY}") == (
        "no such user ***, Authorization: Bearer ***"
    )


def test_the_price_is_what_tokens_cost() -> None:
    terms = Terms.read({"WORKER_PRICE_IN": "2.5", "WORKER_PRICE_OUT": "10", "WORKER_CONCURRENCY": "3"})
    assert terms.at_once == 3
    assert terms.prices
    assert terms.prices.cost(2_000_000, 100_000) == 6.0
    assert Till(terms.prices, None).told() == {"cost_usd": 0.0, "perhaps_usd": 0.0}
    assert Till(Terms.read({}).prices, None).told() == {}, "no prices, no costs"


@pytest.mark.parametrize(
    "environment",
    [
        {"WORKER_PRICE_IN": "2"},
        {"WORKER_CONCURRENCY": "0"},
        {"WORKER_CALL_LIMIT": "2 min"},
        {"WORKER_CALL_LIMIT": "inf"},
    ],
)
def test_wrong_terms_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(environment))):
        Terms.read(environment)


@pytest.mark.parametrize(
    ("film", "frame"),
    [((1584, 660), (512, 213)), ((720, 1280), (288, 512)), ((320, 240), (320, 240)), ((9000, 2), (512, 1))],
)
def test_frames_are_no_larger_than_the_lowest_price_shows(
    film: tuple[int, int], frame: tuple[int, int]
) -> None:
    assert OpenAi(Choice("openai", "m")).frame_size(*film) == frame
