"""Which checkpoint counts, and which may go: decisions over places."""

from __future__ import annotations

import pytest

from worker.jobs.checkpoints import Manifest, StoredFile, kept, lineage


def manifest(**changes: object) -> Manifest:
    values = {"epoch": 1, "number": 2, "step": 30, "score": None, "files": {"a/b": StoredFile(3, "ab")}}
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


def test_a_manifest_reads_back_as_it_was_written() -> None:
    for one in (manifest(), manifest(score=-0.25, files={})):
        assert Manifest.decode(one.encode()) == one


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"epoch":1}', manifest().encode()[:-5]])
def test_what_is_torn_is_no_manifest(data: bytes) -> None:
    assert Manifest.decode(data) is None


def test_a_manifest_that_was_changed_is_none() -> None:
    assert Manifest.decode(manifest().encode().replace(b'"step":30', b'"step":31')) is None


def test_the_newest_of_the_newest_epoch_comes_first_then_older_ones() -> None:
    whole = [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert lineage(whole, 3, {2: (1, 2)}) == [(2, 2), (2, 1), (1, 2), (1, 1)]


def test_what_a_zombie_wrote_after_its_job_was_taken_over_is_never_taken() -> None:
    whole = [(1, 1), (1, 2), (1, 3), (2, 1)]  # 1-3 came when epoch 2 had gone on from 1-2
    assert lineage(whole, 3, {2: (1, 2)}) == [(2, 1), (1, 2), (1, 1)]
    assert lineage([(1, 1), (1, 2), (1, 3)], 3, {2: (1, 2)}) == [(1, 2), (1, 1)]


def test_an_epoch_that_is_not_among_the_ancestors_says_nothing() -> None:
    # epoch 3 went on from 1-2 though 2 had gone on from 1-1: what 2 and 1 wrote since does not count
    assert lineage([(1, 1), (1, 2), (2, 1)], 4, {2: (1, 1), 3: (1, 2)}) == [(1, 2), (1, 1)]


def test_after_an_epoch_that_began_from_nothing_only_its_own_count() -> None:
    assert lineage([(1, 1), (2, 1)], 3, {2: None}) == [(2, 1)]
    assert lineage([(1, 1)], 3, {2: None}) == []


def test_an_epoch_that_died_before_it_had_chosen_hides_nothing() -> None:
    assert lineage([(1, 1)], 3, {}) == [(1, 1)]


def test_the_newest_the_best_and_the_base_are_kept() -> None:
    own = [(3, 1), (3, 2), (3, 3), (3, 4)]
    assert kept(own, (1, 7), (3, 1), 2) == {(3, 3), (3, 4), (1, 7), (3, 1)}
    assert kept(own, None, None, 1) == {(3, 4)}
