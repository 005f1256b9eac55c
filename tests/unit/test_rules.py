"""The rules of docs/protocol.md, one by one; each test fails when its rule is taken out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.fakes import Bench, HandClock, TalkativeStore, answered, failed
from worker.errors import StoreAwayError, UsageError
from worker.items import Item
from worker.queue import intake, layout, parts
from worker.queue.answers import Done, read_done
from worker.queue.beat import Beat, Heart
from worker.queue.claims import Free, newest_claims
from worker.queue.finals import final_answers
from worker.queue.holding import release
from worker.queue.protocol import SHARD_MOST, Sizes, Watch, item_id, measured_size, shard_size
from worker.queue.recipe import Recipe, freeze
from worker.queue.shards import cut
from worker.queue.store import open_store

# 1 · leases save work; the commit gives safety


def test_a_part_that_was_not_acknowledged_is_not_listed() -> None:
    bench = Bench(items=2, shard_size=2)
    holding = bench.take(bench.worker("a"))
    holding.add([answered(holding.shard.items[0])])
    with bench.store.outage(), pytest.raises(StoreAwayError):
        holding.flush()
    holding.add([answered(holding.shard.items[1])])
    holding.commit()
    done = read_done(bench.store, holding.shard.name)  # type: ignore[arg-type]
    assert set(done.answers) == {"id0", "id1"}
    assert json.loads(bench.store.get(layout.done(holding.shard.name)))["parts"] == []


def test_a_part_that_arrived_late_under_our_name_is_not_listed_in_place_of_ours() -> None:
    bench = Bench(items=2, shard_size=2)
    holding = bench.take(bench.worker("a"))
    first, second = holding.shard.items
    name = layout.part(holding.shard.name, 1, 1)
    holding.add([answered(first, "given up for lost")])
    bench.store.lose.add(name)
    with pytest.raises(StoreAwayError):
        holding.flush()
    holding.add([answered(second)])
    holding.flush()
    holding.commit()
    done = json.loads(bench.store.get(layout.done(holding.shard.name)))
    assert done["parts"] == [layout.part(holding.shard.name, 1, 2)]
    assert len(read_done(bench.store, holding.shard.name).answers) == 2  # type: ignore[arg-type]


def test_exactly_one_commit_exists_however_many_finish_the_shard() -> None:
    bench = Bench(items=2, shard_size=2)
    zombie = bench.take(bench.worker("a"))
    bench.clock.sleep(1)
    heir = bench.wait(bench.worker("b"), 10 * bench.ttl)
    assert heir is not None
    for holding, by in ((heir, "heir"), (zombie, "zombie")):
        holding.add([answered(item, by) for item in holding.shard.items])
        holding.commit()
    answers = read_done(bench.store, heir.shard.name).answers  # type: ignore[arg-type]
    assert {result.outcome.keys["by"] for result in answers.values()} == {"heir"}  # type: ignore[union-attr]


def test_the_first_answer_in_the_order_of_the_parts_counts() -> None:
    bench = Bench(items=2, shard_size=2)
    zombie = bench.take(bench.worker("a"))
    heir = bench.wait(bench.worker("b"), 10 * bench.ttl)
    assert heir is not None
    zombie.add([answered(zombie.shard.items[0], "zombie")])
    zombie.flush()  # after the heir has looked: written, and listed by nobody
    heir.add([answered(item, "heir") for item in heir.left()])
    heir.commit()
    answers = read_done(bench.store, heir.shard.name).answers  # type: ignore[arg-type]
    assert {result.outcome.keys["by"] for result in answers.values()} == {"heir"}  # type: ignore[union-attr]


# 2 · claim alive or not


def test_the_beat_lists_a_claim_before_its_create_is_sent() -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    written = bench.store.written()
    assert written.index(layout.worker("a")) < written.index(layout.claim(bench.shards[0].name, 1))
    beat = json.loads(bench.store.get(layout.worker("a")))
    assert beat["claims"] == [[bench.shards[0].name, 1]]


def test_without_an_acknowledged_beat_nothing_is_claimed() -> None:
    bench = Bench(items=1)
    claims = bench.worker("a")
    bench.store.lose.add(layout.worker("a"))
    assert claims.take() is None
    assert not bench.store.list(layout.CLAIMS)


def test_a_claim_that_its_living_worker_no_longer_lists_is_dead() -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    bench.lives["a"].say(frozenset(), ())
    heir = bench.wait(bench.worker("b"), 3 * bench.ttl, beating=("a",))
    assert heir is not None
    assert heir.epoch == 2


def test_a_claim_of_ours_that_we_gave_up_for_lost_is_taken_again_at_once() -> None:
    bench = Bench(items=1)
    claims = bench.worker("a")
    bench.store.lose.add(layout.claim(bench.shards[0].name, 1))
    with pytest.raises(StoreAwayError):
        claims.take()
    began = bench.clock.time
    holding = bench.wait(claims, bench.ttl / 2)
    assert holding is not None
    assert holding.epoch == 2
    assert bench.clock.time - began < 2


def test_only_the_newest_epochs_release_frees_a_shard() -> None:
    names = ["claims/s/1.json", "claims/s/1.released", "claims/s/2.json"]
    assert not newest_claims(names)["s"].released
    assert newest_claims([*names, "claims/s/2.released"])["s"].released


def test_a_shard_that_was_committed_meanwhile_is_not_worked_on_again() -> None:
    bench = Bench(items=1)
    claims = bench.worker("b")
    claims._look()  # sees the shard free
    first = bench.take(bench.worker("a"))
    first.add([answered(first.shard.items[0])])
    first.commit()
    release(bench.store, first.shard.name, 1, "done")  # type: ignore[arg-type]
    claims._free = [Free(first.shard.name, 2, "released")]
    assert claims.take() is None


def test_several_claims_are_listed_by_one_beat_before_the_first_is_made() -> None:
    bench = Bench(items=8, shard_size=2)
    claims = bench.worker("a")
    claims._look()
    bench.store.calls.clear()
    held = claims.take_many(3)
    assert len(held) == 3
    beat, *made = bench.store.written()
    assert beat == layout.worker("a")
    assert sorted(made) == sorted(layout.claim(one.shard.name, 1) for one in held)
    said = Beat.decode(bench.store.get(beat))
    assert said is not None
    assert said.claims == {(one.shard.name, 1) for one in held}


def test_of_several_claims_those_that_others_won_are_listed_no_longer() -> None:
    bench = Bench(items=8, shard_size=2)
    slow, fast = bench.worker("slow"), bench.worker("fast")
    slow._look()
    theirs = {bench.take(fast).shard.name for _ in range(2)}
    ours = {one.shard.name for one in slow.take_many(4)}
    assert ours == {shard.name for shard in bench.shards} - theirs
    assert {shard for shard, _ in bench.lives["slow"].heart.claims} == ours


def test_an_outage_of_all_of_several_claims_leaves_none_listed() -> None:
    bench = Bench(items=8, shard_size=2)
    claims = bench.worker("a")
    claims._look()
    bench.store.lose |= {layout.claim(free.shard, 1) for free in claims._free}
    with pytest.raises(StoreAwayError):
        claims.take_many(4)
    assert not bench.lives["a"].heart.claims
    bench.store.lose.clear()
    again = [claims.take() for _ in range(4)]
    assert [one.epoch for one in again if one] == [2, 2, 2, 2]


def test_an_outage_of_one_of_several_claims_leaves_those_that_were_won() -> None:
    bench = Bench(items=8, shard_size=2)
    claims = bench.worker("a")
    claims._look()
    bench.store.lose.add(layout.claim(claims._free[-3].shard, 1))
    won = claims.take_many(4)
    assert bench.lives["a"].heart.claims == {(one.shard.name, 1) for one in won}
    again = claims.take()
    assert [one.epoch for one in won] == [1, 1, 1]
    assert again
    assert again.epoch == 2


def test_what_was_held_before_is_taken_alone() -> None:
    bench = Bench(items=8, shard_size=2)
    first, second = bench.worker("a"), bench.worker("b")
    for one in [bench.take(first) for _ in range(3)]:
        one.release("stopped")
    second._look()
    held = [second.take_many(4) for _ in range(4)]
    assert sorted(one.epoch for [one] in held) == [1, 2, 2, 2]


# 3 · expiry without comparing clocks


def test_a_silent_worker_loses_its_shard_after_the_ttl_and_not_before() -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    began = bench.clock.time
    heir = bench.wait(bench.worker("b"), 10 * bench.ttl)
    assert heir is not None
    assert bench.ttl <= bench.clock.time - began <= bench.ttl + 2


def test_of_many_dead_claims_those_not_tried_in_one_take_are_not_watched_for_another_ttl() -> None:
    bench = Bench(items=6, shard_size=1)
    for number in range(6):
        bench.take(bench.worker(f"dead{number}"))
    contender = bench.worker("z")
    while not contender._free:
        contender._look()
        bench.clock.sleep(15)
    for free in contender._free[-2:]:  # others are faster
        bench.store.create(layout.claim(free.shard, 2), b'{"worker":"other"}')
    assert bench.wait(contender, 20) is not None


def test_a_beating_worker_keeps_its_shard() -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    assert bench.wait(bench.worker("b"), 10 * bench.ttl, beating=("a",)) is None


def test_a_pause_of_the_looker_proves_nothing() -> None:
    watch = Watch()
    watch.see("7", now=0.0, poll=1.0)
    assert watch.see("7", now=3600.0, poll=1.0) <= 2.0


def test_an_outage_proves_nothing() -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    contender = bench.worker("b")
    assert contender.take() is None
    with bench.store.outage():
        for _ in range(100):
            bench.clock.sleep(10)
            with pytest.raises(StoreAwayError):
                contender.take()
    assert contender.take() is None, "taken over though the store was away, not the worker"


def test_a_stale_list_proves_nothing_because_the_contents_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    stale = bench.store.list(layout.WORKERS)
    listed = bench.store._store.list
    monkeypatch.setattr(
        bench.store._store, "list", lambda prefix: stale if prefix == layout.WORKERS else listed(prefix)
    )
    assert bench.wait(bench.worker("b"), 3 * bench.ttl, beating=("a",)) is None


def test_a_wall_clock_that_is_set_back_disturbs_nothing() -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    bench.clock.wall_time -= 3600
    began = bench.clock.time
    assert bench.wait(bench.worker("b"), 10 * bench.ttl) is not None
    assert bench.clock.time - began <= bench.ttl + 2


def test_the_holders_own_longer_ttl_counts_and_waiting_for_it_is_cheap() -> None:
    bench = Bench(items=1, ttl=600.0)
    bench.take(bench.worker("a"))
    bench.ttl = 60.0
    contender = bench.worker("b")
    bench.store.calls.clear()
    assert bench.wait(contender, 500) is None
    assert len(bench.store.calls) < 300
    assert bench.wait(contender, 300) is not None


# 4 · fencing


def test_after_a_silence_of_ours_work_goes_on_only_if_nobody_took_over() -> None:
    bench = Bench(items=2, shard_size=1)
    claims = bench.worker("a")
    kept, lost = bench.take(claims), bench.take(claims)
    bench.store.create(layout.claim(lost.shard.name, 2), b'{"worker":"b"}')
    bench.clock.sleep(2 * bench.ttl)
    assert kept.doubtful
    assert kept.ours()
    assert not lost.ours()


def test_a_pause_is_noticed_even_if_a_beat_came_first_after_it() -> None:
    bench = Bench(items=1)
    holding = bench.take(bench.worker("a"))
    bench.clock.sleep(2 * bench.ttl)
    bench.lives["a"].heart.beat()
    assert holding.doubtful


def test_while_no_beat_is_heard_no_new_work_is_begun_and_finished_results_are_written() -> None:
    bench = Bench(items=1)
    holding = bench.take(bench.worker("a"))
    holding.add([answered(holding.shard.items[0])])
    bench.clock.sleep(2 * bench.ttl)
    bench.store.lose.add(layout.worker("a"))
    assert not holding.ours()
    assert bench.store.get(layout.part(holding.shard.name, 1, 1)) is not None


def test_a_beat_is_not_retried_the_next_supersedes_it() -> None:
    store, clock = TalkativeStore(), HandClock()
    heart = Heart(store, "a", 60.0, clock)  # type: ignore[arg-type]
    with store.outage():
        assert not heart.beat()
    assert [name for _, name in store.calls] == [layout.worker("a")]
    assert heart.beat()
    assert json.loads(store.get(layout.worker("a")))["counter"] == 2


def test_a_beat_that_takes_longer_than_the_ttl_is_a_silence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = TalkativeStore(), HandClock()
    heart = Heart(store, "a", 60.0, clock)  # type: ignore[arg-type]
    heart.beat()
    clock.sleep(15)
    put = store._store.put

    def slow(name: str, data: bytes, *, retry: bool = True, durable: bool = True) -> None:
        clock.sleep(50)
        put(name, data, retry=retry, durable=durable)

    monkeypatch.setattr(store._store, "put", slow)
    assert heart.beat()
    assert heart.gaps == 1


# 5 · work is inherited


def test_the_next_holder_goes_on_behind_the_parts_of_the_last() -> None:
    bench = Bench(items=4, shard_size=4)
    first = bench.take(bench.worker("a"))
    first.add([answered(item, "a") for item in first.shard.items[:3]])
    first.flush()
    heir = bench.wait(bench.worker("b"), 10 * bench.ttl)
    assert heir is not None
    assert [item.id for item in heir.left()] == ["id3"]
    heir.add([answered(item, "b") for item in heir.left()])
    heir.commit()
    by = [r.outcome.keys["by"] for r in read_done(bench.store, heir.shard.name).answers.values()]  # type: ignore
    assert by == ["a", "a", "a", "b"]


def test_a_torn_part_is_not_inherited() -> None:
    bench = Bench(items=2, shard_size=2)
    first = bench.take(bench.worker("a"))
    whole = parts.pack([answered(item) for item in first.shard.items])
    bench.store.create(layout.part(first.shard.name, 1, 1), whole[: len(whole) // 2])
    first.release("test")
    heir = bench.take(bench.worker("b"))
    assert len(heir.left()) == 2


# 6 · ambiguous writes: test_store.py


# 7 · poison


def die(bench: Bench, name: str, hand: int | None, *, told: bool = False) -> None:
    """A worker takes the shard, begins an item, and is never heard again."""
    holding = bench.wait(bench.worker(name), 10 * bench.ttl)
    assert holding is not None
    if hand is not None:
        holding.begin([holding.shard.items[hand]])
        bench.lives[name].heart.beat()
    if told:
        ids = [f"id{hand}"]
        release(bench.store, holding.shard.name, holding.epoch, "died", died=True, hand=ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("told", [True, False], ids=["its parent tells", "nobody tells"])
def test_an_item_that_kills_every_worker_is_failed_after_two_careful_deaths(told: bool) -> None:
    bench = Bench(items=4, shard_size=4)
    for name in "abcd":
        die(bench, name, hand=2, told=told)
    heir = bench.wait(bench.worker("e"), 10 * bench.ttl)
    assert heir is not None
    assert heir.careful
    assert [item.id for item in heir.left()] == ["id0", "id1", "id3"]
    heir.add([answered(item) for item in heir.left()])
    heir.commit()
    outcome = read_done(bench.store, heir.shard.name).answers["id2"].outcome  # type: ignore[arg-type]
    assert outcome.kind == "crashed-worker"  # type: ignore[union-attr]


def test_the_third_holder_is_careful_and_the_second_is_not() -> None:
    bench = Bench(items=4, shard_size=4)
    die(bench, "a", hand=0)
    second = bench.wait(bench.worker("b"), 10 * bench.ttl)
    assert second is not None
    assert not second.careful
    third = bench.wait(bench.worker("c"), 10 * bench.ttl)
    assert third is not None
    assert third.careful


def test_deaths_that_left_new_parts_do_not_make_the_next_holder_careful() -> None:
    bench = Bench(items=4, shard_size=4)
    for number, name in enumerate("abc"):
        holding = bench.wait(bench.worker(name), 10 * bench.ttl)
        assert holding is not None
        holding.add([answered(holding.shard.items[number])])
        holding.flush()
    heir = bench.wait(bench.worker("d"), 10 * bench.ttl)
    assert heir is not None
    assert not heir.careful


def test_shards_handed_back_on_request_do_not_count_as_deaths() -> None:
    bench = Bench(items=4, shard_size=4)
    for name in "abcd":
        bench.take(bench.worker(name)).release("SIGTERM")
    assert not bench.take(bench.worker("e")).careful


def test_a_careful_holder_begins_nothing_before_a_beat_that_names_it_is_acknowledged() -> None:
    bench = Bench(items=4, shard_size=4)
    die(bench, "a", hand=0)
    die(bench, "b", hand=0)
    heir = bench.wait(bench.worker("c"), 10 * bench.ttl)
    assert heir is not None
    bench.store.lose.add(layout.worker("c"))
    assert not heir.begin([heir.shard.items[1]])
    assert heir.begin([heir.shard.items[1]])
    assert json.loads(bench.store.get(layout.worker("c")))["hand"] == ["id1"]


# 8 · shard size


@pytest.mark.parametrize(
    ("seconds", "size"), [(0.001, SHARD_MOST), (1.0, 60), (7.0, 9), (45.0, 1), (600.0, 1)]
)
def test_a_shard_is_about_a_minute_of_work(seconds: float, size: int) -> None:
    assert shard_size(seconds) == size


@pytest.mark.parametrize(
    ("seconds", "items", "size"),
    [
        (2.0, 1_000_000, 30),
        (2.0, 1_000, 8),
        (2.0, 129, 2),
        (20.0, 1_000, 3),  # smaller than a 128th of the list
        (20.0, 10, 1),
        (600.0, 1_000, 1),
        (1.0, 100, 5),  # 5 s of work
        (0.01, 1_000, SHARD_MOST),  # half a minute of work, all in all
    ],
)
def test_a_short_list_of_slow_items_is_cut_finer(seconds: float, items: int, size: int) -> None:
    assert Sizes.of(seconds).of_list(items) == size


@pytest.mark.parametrize(
    ("each", "size"),
    [(20.0, 3), (3.0, 30), (4.0, 15), (0.01, SHARD_MOST)],  # 3 s are near the estimate
)
def test_what_items_took_counts_where_the_estimate_was_wrong(each: float, size: int) -> None:
    assert measured_size(30, each) == size


def test_a_shard_of_one_item_stays_one_whatever_was_measured() -> None:
    assert measured_size(1, 1.0) == 1


# 9 · identity


def test_an_item_is_known_by_recipe_path_size_content_and_its_own_params() -> None:
    base = item_id("recipe", "a.mp4", 10, "mark", {})
    others = [
        item_id("another", "a.mp4", 10, "mark", {}),
        item_id("recipe", "b.mp4", 10, "mark", {}),
        item_id("recipe", "a.mp4", 11, "mark", {}),
        item_id("recipe", "a.mp4", 10, "other", {}),
        item_id("recipe", "a.mp4", 10, "mark", {"x": 1}),
    ]
    assert len({base, *others}) == 6
    assert base == item_id("recipe", "a.mp4", 10, "mark", {})


def test_another_recipe_on_the_same_queue_is_refused_in_one_line_that_says_what_differs() -> None:
    store = open_store("memory://rules-recipe")
    freeze(store, Recipe(task="media-check", params={"sheet_frames": 12}), Sizes(60))
    freeze(store, Recipe(task="media-check", params={"sheet_frames": 12}), Sizes(60))
    with pytest.raises(UsageError, match=r"sheet_frames is 12 there, 9 here.*new queue"):
        freeze(store, Recipe(task="media-check", params={"sheet_frames": 9}), Sizes(60))


def test_an_item_in_two_shards_counts_once_by_the_lower_shard_name() -> None:
    item = Item("x", "x.jpg")
    one, two = sorted((cut([item], 1)[0], cut([item, Item("y", "y.jpg")], 2)[0]), key=lambda s: s.name)
    done = [Done(shard, {i.id: answered(i, shard.name) for i in shard.items}, 1, 1) for shard in (two, one)]
    assert next(iter(final_answers(done))).outcome.keys["by"] == one.name  # type: ignore[union-attr]


# 10 · retry


def test_a_failed_retry_never_replaces_an_ok_answer_and_an_ok_one_replaces_a_failure() -> None:
    item = Item("x", "x.jpg")
    old, new = cut([item], 1)[0], cut([replace(item, generation=1)], 1)[0]

    def final(before: bool, after: bool) -> object:
        done = [
            Done(shard, {"x": answered(item, name) if ok else failed(item, name)}, 1, 1)
            for shard, ok, name in ((old, before, "old"), (new, after, "new"))
        ]
        outcome = next(iter(final_answers(done))).outcome
        return getattr(outcome, "kind", None) or outcome.keys["by"]  # type: ignore[union-attr]

    assert final(before=True, after=False) == "old"
    assert final(before=False, after=True) == "new"
    assert final(before=True, after=True) == "new"
    assert final(before=False, after=False) == "new"


def test_a_retry_writes_its_record_before_its_shards_and_rewrites_nothing() -> None:
    bench = Bench(items=2, shard_size=2)
    holding = bench.take(bench.worker("a"))
    holding.add([failed(item) for item in holding.shard.items])
    holding.commit()
    before = bench.store.get(layout.done(holding.shard.name))
    bench.store.calls.clear()
    assert intake.retry(bench.store, Sizes(2), holding.shard.items) == 2  # type: ignore[arg-type]
    written = bench.store.written()
    assert written[0] == layout.retry(1)
    assert written[1].startswith(layout.ITEMS)
    assert bench.store.get(layout.done(holding.shard.name)) == before
    assert bench.take(bench.worker("b")).shard.generation == 1


# 11 · durable locally: test_store.py


# 12 · traffic


def test_an_idle_worker_costs_less_than_one_list_a_quarter_ttl_and_reads_no_immutable_object_twice() -> None:
    bench = Bench(items=1)
    bench.take(bench.worker("a"))
    idle = bench.worker("b")
    bench.wait(idle, 5 * bench.ttl, beating=("a",))
    bench.store.calls.clear()
    bench.wait(idle, 20 * bench.ttl, beating=("a",))
    asked = [call for call in bench.store.calls if call != ("put", layout.worker("a"))]
    looks = 20 * 4
    lists = [name for operation, name in asked if operation == "list"]
    assert lists.count(layout.WORKERS) <= looks * 1.1
    assert len(lists) - lists.count(layout.WORKERS) <= 3 * looks / 4 * 1.1
    assert not [name for operation, name in asked if operation == "get" and name.startswith(layout.CLAIMS)]
    assert len(asked) <= 3 * looks
