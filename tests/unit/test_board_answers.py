"""What a model is asked about a board, and how strictly its answer is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.boards import prompt
from worker.boards.coordinates import FAMILIES, Coordinates, Family
from worker.boards.defect import TYPES, Box, Defect
from worker.boards.reading import read
from worker.engines.reply import UnreadableError

WHERE = Coordinates("qwen3-vl", 500, 500)
RIGHT = '["open",10,20,30,40]'


@given(
    st.sampled_from(FAMILIES),
    st.lists(
        st.tuples(
            st.sampled_from(TYPES),
            st.integers(0, 600),
            st.integers(0, 600),
            st.integers(2, 39),
            st.integers(2, 39),
        ),
        unique_by=lambda one: one[1:3],
    ),
)
def test_what_is_learnt_as_an_answer_is_read_as_one(
    family: Family, drawn: list[tuple[str, int, int, int, int]]
) -> None:
    defects = [Defect(kind, Box(x, y, x + wide, y + high)) for kind, x, y, wide, high in drawn]
    where = Coordinates(family, 640, 640)
    said = read(prompt.answer(defects, where), where)
    assert not said.wrong
    left = list(said.defects)
    for one in defects:
        left.remove(max(left, key=lambda each: (each.type == one.type) * one.box.iou(each.box)))
    assert not left


def test_an_answer_goes_from_top_to_bottom_with_few_letters() -> None:
    low, high = Defect("spur", Box(0, 400, 10, 500)), Defect("open", Box(100, 50, 200, 100))
    text = prompt.answer([low, high], WHERE)
    assert text == '[["open",200,100,400,200],["spur",0,800,20,1000]]'
    assert prompt.answer([], WHERE) == "[]"


def test_fences_thoughts_and_spaces_do_no_harm() -> None:
    said = read(f"<think>[..]</think>\n```json\n[ {RIGHT} ]\n```", WHERE)
    assert said.defects == [Defect("open", Box(5, 10, 15, 20))]
    assert (said.wrong, said.places) == ([], [0])


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ('{"type":"open","box":[1,2,3,4]}', 'entry 2 is not ["type",left,top,right,bottom]'),
        ('["open",1,2,3]', "entry 2 is not"),
        ('"open"', "entry 2 is not"),
        ('["scratch",1,2,3,4]', "entry 2 has none of the types open, short"),
        ('[["open"],1,2,3,4]', "entry 2 has none of the types"),
        ('["open",1,2,3,4.5]', "no whole numbers"),
        ('["open",1,2,3,"4"]', "no whole numbers"),
        ('["open",false,2,3,4]', "no whole numbers"),
        ('["open",1,2,3,1001]', "leaves the picture, which is 1000 wide and 1000 high"),
        ('["open",-1,2,3,4]', "leaves the picture"),
        ('["open",3,2,3,4]', "is an empty box"),
        ('["open",1,4,3,2]', "is an empty box"),
        (RIGHT, "entry 2 says again what entry 1 says"),
    ],
)
def test_what_is_right_is_kept_and_the_rest_told(entry: str, why: str) -> None:
    said = read(f'[{RIGHT},{entry},["spur",10,20,30,40]]', WHERE)
    assert [one.type for one in said.defects] == ["open", "spur"]
    assert said.places == [0, 2]
    (complaint,) = said.wrong
    assert why in complaint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("There are no defects.", "it is no JSON"),
        (f"[{RIGHT},", "it is no JSON"),
        (f'{{"defects":[{RIGHT}]}}', "it is no JSON array"),
        ("[NaN]", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
    ],
)
def test_what_is_no_array_is_refused(text: str, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        read(text, WHERE)


def test_the_question_says_in_what_boxes_are_counted() -> None:
    assert "thousandths" in prompt.ask("en", "qwen3-vl")
    assert "像素" in prompt.ask("zh", "qwen2.5-vl", pair=True)
    assert prompt.ask("en", "qwen3-vl", pair=True).startswith("The first picture is the template")
    assert "entry 1 is odd" in prompt.ask_again("en", "?", "entry 1 is odd")


def test_the_grammar_takes_answers_and_nothing_else() -> None:
    llguidance = pytest.importorskip("llguidance")
    from tests import tiny_models
    from worker.engines.grammar import Grammar

    words = tiny_models.tokenizer()
    grammar = Grammar(words, [tiny_models.id_of(tiny_models.IM_END)], tiny_models.VOCABULARY)
    assert llguidance
    for text, fits in (
        ('[["pin-hole",0,20,1000,40],["open",1,2,3,4]]', True),
        ("[]", True),
        ('[["scratch",1,2,3,4]]', False),
        ('[["open",1,2,3,1001]]', False),
        ('[["open",1,2,3]]', False),
        ('{"open":1}', False),
    ):
        held = grammar.of(prompt.schema(WHERE))
        try:
            for token in words(text).input_ids:
                held.accept(token)
            took = True
        except ValueError:
            took = False
        assert took == fits, text
    assert json.dumps(prompt.schema(WHERE))
