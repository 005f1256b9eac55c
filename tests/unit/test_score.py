"""Answers against labels, and against other answers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from worker.cli import group
from worker.evaluation.comparison import compare, merge, rule
from worker.evaluation.counts import Confusion, confusion, jeffreys, wilson
from worker.evaluation.labels import Label
from worker.evaluation.score import match
from worker.evaluation.verdicts import Verdict
from worker.items import Json

GHOST = "ghost probing"


def test_rates_of_a_confusion() -> None:
    found = confusion([(True, True)] * 6 + [(False, True)] * 2 + [(True, False)] * 3 + [(False, False)] * 4)
    assert found == Confusion(6, 2, 3, 4)
    assert found.precision == 0.75
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(12 / 17)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 2 / 3) / 2)
    nothing = confusion([])
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.accuracy) == (None,) * 4


def test_intervals() -> None:
    low, high = wilson(8, 10) or (0, 0)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 0) is None
    found = confusion([(True, True)] * 8 + [(True, False)] * 2)
    low, high = jeffreys(found, lambda one: one.recall) or (0, 0)
    assert (low, high) == (pytest.approx(0.497, abs=0.02), pytest.approx(0.956, abs=0.02))
    assert jeffreys(found, lambda one: one.recall) == (low, high)
    assert jeffreys(found, lambda one: one.balanced_accuracy) is None


def test_a_few_clips_all_right_prove_no_perfect_engine() -> None:
    found = confusion([(True, True), (True, True), (False, False)])
    for figure in (lambda one: one.f1, lambda one: one.balanced_accuracy):
        low, high = jeffreys(found, figure) or (0, 0)
        assert low < 0.6
        assert high == 1.0


def test_labels_find_their_clips_and_the_rest_is_counted() -> None:
    verdicts = [
        Verdict("day/a.avi", True, [(4.0, 5.0)]),
        Verdict("day/b.avi", False),
        Verdict("c.avi", None, failure="truncated"),
        Verdict("1/d.avi", True, [(1.0, 2.0)]),
        Verdict("2/d.avi", False),
        Verdict("e.avi", True, [(9.0, 9.5)]),
    ]
    labels = [
        Label("a.avi", GHOST, (6.5,)),
        Label("day/b.avi", "none"),
        Label("c", GHOST),
        Label("d.avi", "none"),
        Label("e.avi", GHOST, (3.0,)),
        Label("x.avi", "none"),
    ]
    score = match(labels, verdicts)
    assert [pair.label.clip for pair in score.pairs] == ["a.avi", "day/b.avi", "e.avi"]
    assert [pair.verdict.failure for pair in score.failed] == ["truncated"]
    assert [label.clip for label in score.missing] == ["x.avi"]
    assert [one.text for one in score.unusable] == ["d.avi"]
    assert score.unlabelled == 2
    assert score.time_hits == (1, 2)
    document = score.document()
    assert document["confusion"] == {"true_yes": 2, "false_yes": 0, "false_no": 0, "true_no": 1}
    assert document["always_yes"]["f1"] == 0.8
    assert document["always_no"]["recall"] == 0.0


def test_what_a_screen_let_through_of_the_ghosts() -> None:
    labels = [Label("a", GHOST, (4.0,)), Label("b", GHOST, (4.0,)), Label("c", "none", ())]
    verdicts = [
        Verdict("a", True, let_through=True),
        Verdict("b", False, let_through=False),
        Verdict("c", False, let_through=False),
    ]
    document = match(labels, verdicts).document()
    assert document["screen"] == {
        "clips": 3,
        "let_through": 1,
        "ghosts": 2,
        "ghosts_let_through": 1,
        "recall_interval": wilson(1, 2),
    }
    assert [(one["clip"], one["screened_out"]) for one in document["wrong"]] == [("b", True)]
    assert match(labels, [Verdict("a", True)]).document()["screen"] is None


def test_of_two_labels_of_one_clip_the_first_counts() -> None:
    score = match([Label("a", "none"), Label("a.mp4", GHOST, (5.0,))], [Verdict("a.mp4", True)])
    assert score.confusion == Confusion(0, 1, 0, 0)
    assert [one.text for one in score.unusable] == ["a.mp4"]
    assert score.unlabelled == 0


def test_an_exact_path_is_found_beside_others_of_its_name() -> None:
    verdicts = [Verdict("x.mp4", False), Verdict("sub/x.mp4", True), Verdict("x", True)]
    score = match([Label("x.mp4", "none"), Label("sub/x.mp4", GHOST), Label("x", GHOST)], verdicts)
    assert (score.confusion, score.unusable) == (Confusion(2, 0, 0, 1), [])


def test_the_command_reads_what_collect_wrote(tmp_path: Path) -> None:
    _write(tmp_path / "a", {"1.avi": [1.0], "2.avi": [], "3.avi": [8.0]}, failed=("4.avi",))
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "\ufeffvideo_id,ground_truth_label,note\n1.avi,2s: ghost probing\n2.avi,none\n"
        "3.avi,???\n3.avi,6s: cut-in\n4.avi,none\n"
    )
    arguments = ["evaluate", str(tmp_path / "a"), "--labels", str(labels)]
    said = CliRunner().invoke(group, arguments)
    assert said.exit_code == 0, said.output
    for line in (
        "3 clips with an answer and a label",
        "row 4 is not used",
        "4.avi (truncated)",
        "1 of 1 ghosts",
    ):
        assert line in said.output
    document = json.loads(CliRunner().invoke(group, [*arguments, "--json"]).output)
    assert document["confusion"] == {"true_yes": 1, "false_yes": 1, "false_no": 0, "true_no": 1}
    assert [one["clip"] for one in document["wrong"]] == ["3.avi"]
    assert document["categories"]["cut-in"] == {"clips": 1, "said_yes": 1}


def test_agreement_beyond_chance() -> None:
    a = [Verdict(str(n), n < 5) for n in range(10)]
    b = [Verdict(str(n), n < 4 or n == 9) for n in range(10)] + [Verdict("only", True)]
    found = compare(a, b)
    assert (len(found.both_yes), found.only_a, found.only_b, len(found.both_no)) == (4, ["4"], ["9"], 4)
    assert found.agreement == 0.8
    assert found.kappa == pytest.approx(0.6)
    assert found.missing == ["only"]


@pytest.mark.parametrize(
    ("name", "yes"), [("any", ["1", "2", "3"]), ("all", ["1"]), ("weighted", ["1", "2"])]
)
def test_a_merged_run(name: str, yes: list[str]) -> None:
    a = {"results": [_line("1", [1.0]), _line("2", [2.0]), _line("3", []), _line("4", [])]}
    b = {"results": [_line("1", [4.0]), _line("2", []), _line("3", [3.0])]}
    merged = merge(a, b, rule(name, weight=0.7, threshold=0.5))
    assert [one["input"] for one in merged if one["ghost_probing_detected"]] == yes
    assert [one["merged_from"] for one in merged] == [2, 2, 2, 1]
    assert [i["start_time"] for i in merged[0]["incidents"]] == ["1.0s", "4.0s"]


def test_a_clip_that_a_run_answers_twice_is_told_and_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name, {"1.avi": [1.0], "2.avi": []})
    file = tmp_path / "b" / "final_results.json"
    document = json.loads(file.read_bytes())
    document["results"].append(_line("1.avi", []))
    file.write_text(json.dumps(document))
    out = tmp_path / "out"
    said = CliRunner().invoke(
        group, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--merge", "any", "--out", str(out)]
    )
    assert "1 clips answered in both" in said.output
    assert "more than once in one of them, so neither compared nor merged: 1.avi" in said.output
    results = json.loads((out / "final_results.json").read_bytes())["results"]
    assert [one["input"] for one in results] == ["2.avi"]


def test_a_merged_line_names_no_files_that_it_lacks_and_who_told_what() -> None:
    a = _line("1", [4.0]) | {"engine": "motion", "files": {"1-1.jpg": "files/1-a/1-1.jpg"}}
    b = _line("1", [1.0]) | {"engine": "detector"}
    alone = _line("2", [1.0]) | {"engine": "motion", "files": {"1-1.jpg": "files/2-a/1-1.jpg"}}
    both, single = merge({"results": [a, alone]}, {"results": [b]}, rule("all", 0.5, 0.5))
    assert [one["engine"] for one in both["incidents"]] == ["detector", "motion"]
    assert not {"files", "engine"} & both.keys()
    assert single["engine"] == "motion"
    assert "files" not in single


def test_what_both_tell_of_one_time_is_one_incident() -> None:
    a = _line("1", [1.0, 4.0]) | {"engine": "motion"}
    b = _line("1", [1.5, 8.0]) | {"engine": "detector"}
    a["incidents"][0]["evidence"] = {"confidence": 0.3}
    (merged,) = merge({"results": [a]}, {"results": [b]}, rule("any", 0.5, 0.5))
    told = [(one["start_time"], one["end_time"], one["engine"]) for one in merged["incidents"]]
    assert told == [
        ("1.0s", "2.5s", "detector+motion"),
        ("4.0s", "5.0s", "motion"),
        ("8.0s", "9.0s", "detector"),
    ]


def test_a_merged_run_is_not_written_over_other_answers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name, {"1.avi": [1.0]})
    before = (tmp_path / "a" / "final_results.json").read_bytes()
    command = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--merge", "all", "--out"]
    said = CliRunner().invoke(group, [*command, str(tmp_path / "a")])
    assert "holds other answers" in said.output
    assert (tmp_path / "a" / "final_results.json").read_bytes() == before
    for _ in range(2):  # the same again is no other
        assert CliRunner().invoke(group, [*command, str(tmp_path / "out")]).exit_code == 0


def test_compare_writes_a_merged_run(tmp_path: Path) -> None:
    _write(tmp_path / "a", {"1.avi": [1.0], "2.avi": []})
    _write(tmp_path / "b", {"1.avi": [], "2.avi": []}, failed=("3.avi",))
    out = tmp_path / "out"
    said = CliRunner().invoke(
        group, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--merge", "any", "--out", str(out)]
    )
    assert said.exit_code == 0, said.output
    assert "agreement 50.0%" in said.output
    assert "yes in A alone: 1.avi" in said.output
    results = json.loads((out / "final_results.json").read_bytes())["results"]
    assert [one["status"] for one in results] == ["ok", "ok", "failed"]


def _line(name: str, starts: list[float]) -> dict[str, Json]:
    incidents = [{"start_time": f"{s:.1f}s", "end_time": f"{s + 1:.1f}s"} for s in starts]
    return {
        "input": name,
        "status": "ok",
        "failure": None,
        "ghost_probing_detected": bool(starts),
        "incidents": incidents,
    }


def _write(folder: Path, clips: dict[str, list[float]], failed: tuple[str, ...] = ()) -> None:
    folder.mkdir()
    broken = [
        {"input": f, "status": "failed", "failure": {"kind": "truncated", "message": ""}} for f in failed
    ]
    results = [*(_line(name, starts) for name, starts in clips.items()), *broken]
    (folder / "final_results.json").write_text(
        json.dumps({"task": "ghost-probing", "fingerprint": "f", "results": results})
    )
