"""Whatever a model says under a grammar can be read, and it says what it would have said where it may."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tests import tiny_models
from tests.unit.test_decoding import prompt
from worker.engines.capturing import Graphs
from worker.engines.choice import Choice
from worker.engines.decoding import Decoder, bits
from worker.engines.engine import Reply, Request
from worker.engines.grammar import Grammar, grammar_of
from worker.engines.qwen import Qwen
from worker.engines.room import Room
from worker.ghosts.prompt import schema
from worker.ghosts.reply import read_reply
from worker.ghosts.words import Lang
from worker.items import Json

END = tiny_models.id_of(tiny_models.IM_END)
SMALL: Json = {
    "type": "object",
    "properties": {"gray": {"type": "boolean"}, "word": {"type": "string", "maxLength": 12}},
    "required": ["gray", "word"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    pytest.importorskip("llguidance", reason="llguidance is not installed: nothing holds answers to a form")
    return Grammar(tiny_models.tokenizer(), [END], tiny_models.VOCABULARY)


def said_at_random(grammar: Grammar, wanted: Json, seed: int, most: int) -> str | None:
    """By who knows nothing but the grammar; None: it went on too long."""
    chance = np.random.default_rng(seed)
    constraint = grammar.of(wanted)
    words = np.zeros(-(-tiny_models.VOCABULARY // 32), np.int32)
    tokens: list[int] = []
    while len(tokens) < most:
        constraint.mask(words)
        allowed = bits(torch.from_numpy(words)[None], tiny_models.VOCABULARY)[0].numpy()
        token = int(chance.choice(np.flatnonzero(allowed)))
        if token == END:
            text: str = tiny_models.tokenizer().decode(tokens)
            return text
        constraint.accept(token)
        tokens.append(token)
    return None


@pytest.mark.parametrize("lang", get_args(Lang))
def test_the_parser_of_ghosts_reads_whatever_a_grammar_lets_through(grammar: Grammar, lang: Lang) -> None:
    told = [said_at_random(grammar, schema(lang), seed, 20_000) for seed in range(12)]
    read = [read_reply(one, 60.0, lang) for one in told if one is not None]
    assert len(read) == len(told), "every answer ends"
    assert any(one.incidents for one in read)
    for one in read:
        json.dumps(one.incidents, ensure_ascii=False).encode()
        assert not [doubt for doubt in one.doubts if "unknown" in doubt]


def test_half_a_letter_and_endless_spaces_are_against_it(grammar: Grammar) -> None:
    def accepts(text: str) -> bool:
        constraint = grammar.of(SMALL)
        try:
            for token in text.encode():
                constraint.accept(tiny_models.tokenizer().convert_tokens_to_ids(_letter(token)))
        except ValueError:
            return False
        return True

    assert accepts('{"gray": true,\n  "word": "a\\n\\"é"}')
    assert not accepts('{"gray": true, "word": "\\ud83d"}')
    assert not accepts("{" + " " * 40 + '"gray"')
    assert not accepts('{"gray": true, "word": "longer than it may be"}')
    assert not accepts('{"word": "other order", "gray"')


def test_a_schema_of_which_no_grammar_can_be_made_is_refused(grammar: Grammar) -> None:
    with pytest.raises(ValueError, match="no grammar can be made of the schema"):
        grammar.of({"type": "nothing that there is"})


def _letter(byte: int) -> str:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return bytes_to_unicode()[byte]


def test_rows_are_held_beside_rows_that_are_free(grammar: Grammar) -> None:
    model: Any = tiny_models.mistral()
    torch.manual_seed(1)
    asked = [prompt(model, torch.randint(0, 256, (length,)), 90) for length in (7, 19, 12, 5)]
    free = Decoder(model, [[END]]).generate(asked)
    decoder = Decoder(model, [[END]])
    held = [_held(one, grammar, SMALL if n != 2 else None) for n, one in enumerate(asked)]
    said = decoder.generate(held)
    assert said[2] == free[2]
    for one in (said[0], said[1], said[3]):
        assert not one.truncated
        assert set(json.loads(tiny_models.tokenizer().decode(one.tokens))) == {"gray", "word"}
    alone = [
        Decoder(model, [[END]]).generate([_held(one, grammar, SMALL if n != 2 else None)])[0]
        for n, one in enumerate(asked)
    ]
    assert said == alone
    assert decoder.generate(asked) == free, "and free again"


def test_a_model_that_knows_no_end_is_held_to_nothing() -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed")
    assert grammar_of(tiny_models.tokenizer(), [], tiny_models.VOCABULARY) is None


def test_captured_steps_heed_it_too(grammar: Grammar, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph repeats what it saw when it was captured: masks that came later are none to it."""

    class Graph:
        def __init__(self, step: Callable[[], None], room: Room) -> None:
            self._step, self._room, self._allowed = step, room, room.allowed

        def replay(self) -> None:
            now, self._room.allowed = self._room.allowed, self._allowed
            self._step()
            self._room.allowed = now

    model: Any = tiny_models.mistral()
    torch.manual_seed(1)
    free = [prompt(model, torch.randint(0, 256, (length,)), 90) for length in (7, 19, 12)]
    plain = Decoder(model, [[END]], graphs=False)
    monkeypatch.setattr(Graphs, "_captured", lambda _, step, room: Graph(step, room))
    captured = Decoder(model, [[END]], graphs=True)
    for wanted in (None, SMALL, None, SMALL):
        asked = [[_held(one, grammar, wanted) for one in free] for _ in range(2)]
        assert captured.generate(asked[0]) == plain.generate(asked[1])
    assert captured.how == "captured"


def _held(one: Any, grammar: Grammar, wanted: Json) -> Any:
    from dataclasses import replace

    return replace(one, constraint=None if wanted is None else grammar.of(wanted))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.checkpoint(tmp_path_factory.mktemp("qwen"), "qwen2_5_vl")


@pytest.mark.parametrize("is_here", [True, False])
def test_qwen_is_held_to_the_schema_where_it_can_be(
    folder: Path, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_here:
        pytest.importorskip("llguidance", reason="llguidance is not installed")
    else:
        monkeypatch.setitem(sys.modules, "llguidance.hf", None)
        assert grammar_of(tiny_models.tokenizer(), [END], tiny_models.VOCABULARY) is None
    qwen = Qwen(Choice("qwen", "tiny", "tree:1", folder))
    qwen.open("cpu")
    frames = [np.zeros((56, 56, 3), np.uint8)] * 2
    replies = qwen.answer([Request(frames, [0.0, 1.0], words, SMALL, 90) for words in ("who?", "what?")])
    assert qwen.spent()["answers_as"] == ("json_schema" if is_here else "text")
    texts = [one.text for one in replies if isinstance(one, Reply)]
    assert len(texts) == 2
    if is_here:
        assert all(set(json.loads(one)) == {"gray", "word"} for one in texts)
    qwen.close()
