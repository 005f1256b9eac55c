"""Greedy decoding in batches: each row says what the model alone would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import tiny_models
from worker import signs
from worker.engines import causal
from worker.engines.batching import Batches
from worker.engines.capturing import Graphs
from worker.engines.decoding import SHORT, Decoder, Prompt, Said
from worker.engines.room import Room

LENGTHS = (7, 30, 19, 1, 12, 25, 40, 5)
MOST = 24


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_models.mistral()


@pytest.fixture(scope="module")
def questions() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randint(0, 256, (length,)) for length in LENGTHS]


def prompt(model: Any, ids: torch.Tensor, most: int = MOST) -> Prompt:
    def read() -> dict[str, Any]:
        return {
            "inputs_embeds": model.get_input_embeddings()(ids[None]),
            "position_ids": torch.arange(len(ids))[None],
        }

    return Prompt(len(ids), read, most)


def alone(model: Any, ids: torch.Tensor, most: int = MOST, **options: Any) -> list[int]:
    """What transformers' own loop says."""
    with torch.no_grad():
        out = model.generate(
            inputs_embeds=model.get_input_embeddings()(ids[None]),
            attention_mask=torch.ones(1, len(ids)),
            do_sample=False,
            max_new_tokens=most,
            pad_token_id=0,
            **{"eos_token_id": None, **options},
        )
    return list(map(int, out[0]))


def in_batches(
    decoder: Decoder, model: Any, questions: Sequence[torch.Tensor], size: int, most: int = MOST
) -> list[Said]:
    said: list[Said] = []
    for begin in range(0, len(questions), size):
        said += decoder.generate([prompt(model, ids, most) for ids in questions[begin : begin + size]])
    return said


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_row_says_what_generate_says_of_it_alone(
    model: Any, questions: list[torch.Tensor], batch: int
) -> None:
    said = in_batches(Decoder(model, []), model, questions, batch)
    assert [one.tokens for one in said] == [alone(model, ids) for ids in questions]
    assert all(one.truncated for one in said)


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_either_attention_will_do(model: Any, questions: list[torch.Tensor], kind: str) -> None:
    model.set_attn_implementation(kind)
    try:
        said = in_batches(Decoder(model, []), model, questions, 8)
        assert [one.tokens for one in said] == [alone(model, ids) for ids in questions]
    finally:
        model.set_attn_implementation("sdpa")


def test_heads_that_are_repeated_before_see_the_same(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As cards without FlashAttention read prompts."""
    calls: list[tuple[int, ...]] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def counted(query: torch.Tensor, key: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        calls.append((query.shape[1], key.shape[1], query.shape[2]))
        return real(query, key, *rest, **options)

    monkeypatch.setattr(causal, "prompts", lambda *_: causal.repeated())
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    said = in_batches(Decoder(model, []), model, questions, 8)
    prompts = calls[: 3 * len(questions)]
    monkeypatch.undo()
    assert [one.tokens for one in said] == [alone(model, ids) for ids in questions]
    assert prompts == [(4, 4, length) for length in LENGTHS for _ in range(3)]
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("chosen", "generation", "kind", "expected"),
    [
        ("sdpa", (7, 5), torch.float16, causal.REPEATED),
        ("sdpa", (8, 0), torch.float16, "sdpa"),
        ("sdpa", (9, 0), torch.float32, causal.REPEATED),
        ("eager", (7, 5), torch.float16, "eager"),
        ("flash_attention_2", (8, 0), torch.bfloat16, "flash_attention_2"),
    ],
)
def test_heads_are_repeated_where_flash_attention_has_no_kernel(
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
    generation: tuple[int, int],
    kind: torch.dtype,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: generation)
    assert causal.prompts(chosen, kind, torch.device("cuda:0")) == expected
    assert causal.prompts(chosen, kind, torch.device("cpu")) == chosen
    assert causal.steps(chosen) == ("eager" if chosen == "eager" else "sdpa")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_the_numbers_are_enough(questions: list[torch.Tensor], kind: torch.dtype) -> None:
    """Sums in another order end differently: a row may part from theirs where two words are as likely."""
    model = tiny_models.mistral().to(kind)
    said = [one.tokens for one in in_batches(Decoder(model, []), model, questions, 8)]
    theirs = [alone(model, ids) for ids in questions]
    alike = 0
    for ids, ours, other in zip(questions, said, theirs, strict=True):
        alike += MOST
        if (at := next((n for n in range(MOST) if ours[n] != other[n]), None)) is not None:
            asked = torch.cat([ids, torch.tensor(ours[:at], dtype=torch.long)])
            with torch.no_grad():
                likely = model(asked[None]).logits[0, -1].float().softmax(0)
            assert likely[ours[at]] == pytest.approx(float(likely[other[at]]), rel=0.25)
            alike += at - MOST
    assert alike > len(questions) * MOST / 2


def test_a_stop_ends_its_row_and_is_no_part_of_it(model: Any, questions: list[torch.Tensor]) -> None:
    whole = [alone(model, ids) for ids in questions]
    stops = [[whole[0][5]], [whole[1][9]], whole[2][11:13], [999]]
    decoder = Decoder(model, stops)
    said = in_batches(decoder, model, questions, 8)
    for row, one in enumerate(said):
        assert not one.truncated or one.tokens == whole[row]
        assert one.tokens == whole[row][: len(one.tokens)]
    ends = [stops[0][0], stops[1][0]]
    assert said[0].tokens == alone(model, questions[0], eos_token_id=ends)[: len(said[0].tokens)]
    assert len(said[0].tokens) <= 5
    assert len(said[1].tokens) <= 9
    assert len(said[2].tokens) <= 11
    assert not said[0].truncated


def test_a_stop_of_two_tokens_needs_both(model: Any, questions: list[torch.Tensor]) -> None:
    whole = alone(model, questions[3])
    first = whole.index(whole[8])
    stop = [whole[8], whole[9]]
    (said,) = Decoder(model, [stop]).generate([prompt(model, questions[3])])
    at = next(n for n in range(first, MOST) if whole[n : n + 2] == stop)
    assert said.tokens == whole[:at]


def test_rows_that_have_ended_take_no_part_in_later_steps(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    step = Decoder._step

    def counted(self: Decoder, room: Any, count: int) -> None:
        rows.append(count)
        step(self, room, count)

    monkeypatch.setattr(Decoder, "_step", counted)
    most = [3, 9, 2, 24, 1, 5, 24, 2]
    said = Decoder(model, []).generate(
        [prompt(model, ids, limit) for ids, limit in zip(questions, most, strict=True)]
    )
    assert [one.tokens for one in said] == [
        alone(model, ids, limit) for ids, limit in zip(questions, most, strict=True)
    ]
    assert rows == [sum(limit > said for limit in most) for said in range(1, 24)]


def test_the_room_of_one_batch_serves_the_next(model: Any, questions: list[torch.Tensor]) -> None:
    decoder = Decoder(model, [])
    expected = [alone(model, ids) for ids in questions]
    for order in ([6, 1, 2], [0, 3], [6, 5, 4, 3, 2, 1, 0, 7], [3]):
        said = decoder.generate([prompt(model, questions[n]) for n in order])
        assert [one.tokens for one in said] == [expected[n] for n in order]
    room = decoder._room
    decoder.generate([prompt(model, questions[0])])
    assert decoder._room is room
    decoder.release()
    assert decoder._room is None


def test_few_long_prompts_behind_many_short_ones_need_room_for_few(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that holds eight rows of 256 slots."""
    made: list[tuple[int, int]] = []
    real = Room.__init__

    def within(room: Room, pattern: Any, rows: int, slots: int, axes: int) -> None:
        made.append((rows, slots))
        if rows * slots > 8 * 256:
            raise torch.OutOfMemoryError
        real(room, pattern, rows, slots, axes)

    monkeypatch.setattr(Room, "__init__", within)
    decoder = Decoder(model, [])
    told: list[int] = []
    batches = Batches(8, release=decoder.release, resized=told.append)
    short = [prompt(model, ids) for ids in questions]
    long = [prompt(model, torch.cat([ids, torch.zeros(260).long()])) for ids in questions[:3]]
    expected = batches.answer(short, decoder.generate)
    alone = [Decoder(model, []).generate([one])[0] for one in long]
    made.clear()
    assert batches.answer(long, decoder.generate) == alone
    assert batches.answer(short, decoder.generate) == expected
    assert batches.answer(long[:1], decoder.generate) == alone[:1]
    assert made == [(3, 512), (8, 512), (8, 256), (1, 512)]
    assert (batches.size, told) == (8, [])


def test_one_long_answer_does_not_make_the_steps_of_all_later_ones_slow(
    model: Any, questions: list[torch.Tensor]
) -> None:
    """A step reads all slots of the room, so it is made anew; but not between long ones."""
    decoder = Decoder(model, [[alone(model, questions[3])[0]]])

    def slots(*mosts: int) -> list[int]:
        found = []
        for most in mosts:
            decoder.generate([prompt(model, questions[3], most)])
            assert decoder._room
            found.append(decoder._room.slots)
        return found

    assert slots(5000, *[MOST] * SHORT) == [*[5120] * SHORT, 256]
    assert slots(600, MOST, MOST, 600, *[MOST] * SHORT) == [*[768] * (SHORT + 3), 256]
    assert slots(500, *[MOST] * 2 * SHORT) == [512] * (2 * SHORT + 1)


def test_what_the_room_held_before_is_not_seen(model: Any, questions: list[torch.Tensor]) -> None:
    decoder = Decoder(model, [])
    decoder.generate([prompt(model, ids) for ids in questions])
    assert decoder._room
    for keys, values in decoder._room.layers:
        keys.fill_(float("nan"))
        values.fill_(float("inf"))
    (said,) = decoder.generate([prompt(model, questions[0])])
    assert said.tokens == alone(model, questions[0])


def test_where_a_step_cannot_be_captured_it_is_made_as_it_is(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Graphs, "_captured", refuses)
    decoder = Decoder(model, [], graphs=True)
    said = in_batches(decoder, model, questions, 5)  # rows of a captured step are 8: three of them are empty
    assert [one.tokens for one in said] == [alone(model, ids) for ids in questions]
    assert decoder.how.startswith("step by step")


def test_captured_steps_say_the_same(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph is stood for by the step that it would repeat: rows are padded, and looked at now and then."""
    made: list[int] = []

    class Graph:
        def __init__(self, step: Callable[[], None]) -> None:
            self.replay = step
            made.append(1)

    monkeypatch.setattr(Graphs, "_captured", lambda _, step, __: Graph(step))
    decoder = Decoder(model, [], graphs=True)
    monkeypatch.setattr(decoder, "_stride", 8)
    whole = [alone(model, ids) for ids in questions]
    most = [3, 9, 2, 24, 1, 5, 24, 2]
    for _ in range(2):
        said = decoder.generate(
            [prompt(model, ids, limit) for ids, limit in zip(questions, most, strict=True)]
        )
        assert [one.tokens for one in said] == [
            tokens[:limit] for tokens, limit in zip(whole, most, strict=True)
        ]
    assert list(decoder._graphs._graphs) == [8, 2]
    assert len(made) == 2  # once each: the second batch finds them


def test_memory_that_runs_out_while_a_step_is_captured_is_told_as_such(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of such a capture complains too, and must not hide it."""

    def full(*_: object) -> None:
        try:
            raise torch.OutOfMemoryError("no room")
        finally:
            raise RuntimeError("capture was invalidated")

    monkeypatch.setattr(Graphs, "_captured", full)
    decoder = Decoder(model, [], graphs=True)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        decoder.generate([prompt(model, questions[0])])
    assert decoder.how == "captured"


class After:
    """True from the so manyth question on."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("stride", [1, 8])
def test_a_stop_ends_the_steps_and_what_is_not_whole_is_not_told_as_such(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    few = 3
    decoder = Decoder(model, [], stopped=After(len(questions[:3]) + few))
    monkeypatch.setattr(decoder, "_stride", stride)
    said = decoder.generate(
        [prompt(model, ids, most) for ids, most in zip(questions, (2, 4000, 4000), strict=False)]
    )
    assert [one.ended for one in said] == [True, False, False]
    assert said[0].tokens == alone(model, questions[0], 2)
    assert decoder.steps == few * stride
    assert not said[1].truncated


def test_a_stop_while_prompts_are_read_reads_no_more(model: Any, questions: list[torch.Tensor]) -> None:
    asked: list[int] = []

    def counted(number: int) -> Prompt:
        one = prompt(model, questions[number])

        def read() -> Any:
            asked.append(number)
            return one.read()

        return Prompt(one.length, read, one.max_tokens)

    decoder = Decoder(model, [], stopped=After(2))
    said = decoder.generate([counted(number) for number in range(5)])
    assert (asked, decoder.steps) == ([0, 1], 0)
    assert not any(one.ended for one in said)


def test_a_long_answer_gives_signs_of_life(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(signs, "give", lambda: given.append(1))
    Decoder(model, []).generate([prompt(model, ids) for ids in questions[:3]])
    assert len(given) == 3 + MOST


@pytest.mark.parametrize("graphs", [False, True])
def test_numbers_that_become_too_large_end_their_row_and_no_other(
    model: Any, questions: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch, graphs: bool
) -> None:
    decoder = Decoder(model, [], graphs=graphs)
    monkeypatch.setattr(Graphs, "_captured", lambda _, step, __: SimpleNamespace(replay=step))
    monkeypatch.setattr(decoder, "_stride", 8 if graphs else 1)
    forward, calls = decoder._text.forward, 0

    def overflows(**inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        out = forward(**inputs)
        if calls == 5:  # two steps after three prompts
            out.last_hidden_state[1] *= float("inf")
        return out

    monkeypatch.setattr(decoder._text, "forward", overflows)
    said = decoder.generate([prompt(model, ids) for ids in questions[:3]])
    assert [one.overflowed for one in said] == [False, True, False]
    monkeypatch.undo()
    whole = [alone(model, ids) for ids in questions[:3]]
    assert [one.tokens for one in said] == [whole[0], whole[1][:2], whole[2]]


def test_a_model_that_sees_a_window_only_is_refused_beyond_it(questions: list[torch.Tensor]) -> None:
    model = tiny_models.mistral()
    model.config.sliding_window = 32
    with pytest.raises(ValueError, match="window of 32"):
        Decoder(model, []).generate([prompt(model, questions[0], 30)])
    model.config.sliding_window = None


def test_nothing_asked_is_nothing_said(model: Any) -> None:
    assert Decoder(model, []).generate([]) == []
