"""Loops end: rings of systems that rewrite, run automations and echo late, twice and in disorder come to rest within a
stated number of writes after the last edit, and no edit is taken for an echo.

The bound, for each record and field after the last edit:
- systems that trim, change case or reformat: 2 writes. One may be on its way, and one brings the final value; what comes
  back is the same in their words and changes nothing.
- systems that make one and the same other word of a value: that word may become the golden value once for each system
  (`latest`), or is written over MAX_REWRITES times until it is known (`truth`): systems + MAX_REWRITES + 1.
- systems that make another word each time: each record may answer MAX_TURNS writes, and one more that was not yet known
  to be a turn, before its field waits for a person; each answer may be written once to each other record:
  systems x (MAX_TURNS + 1) + 1.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial

import pytest

from hub import decide, view
from hub.view import MAX_REWRITES, MAX_TURNS
from tests.promises.mutations import broken, mutation
from tests.simulation.playing import (
    Played,
    check_all_agree,
    check_no_edit_is_suppressed,
    check_nothing_is_doubled,
    check_nothing_waits,
    check_only_people_are_heard,
    check_the_newest_word_counts,
    play,
)
from tests.simulation.rings import Kind, in_memory
from tests.simulation.twin import Twin
from tests.simulation.vendor import Vendor, counts, plain, titles

Seeds = Callable[[int], Sequence[int]]
KINDS: dict[str, tuple[Kind, Callable[[int], int]]] = {
    "trim, case, format": (Kind(), lambda _: 2),
    "the same, by truth": (Kind(rule="truth"), lambda _: 2),
    "answers without a version": (Kind(dates=False), lambda _: 2),
    "one other word": (Kind((plain, titles)), lambda systems: systems + MAX_REWRITES + 1),
    "one other word, by truth": (Kind((plain, titles), rule="truth"), lambda systems: systems + MAX_REWRITES + 1),
    "automations": (Kind((plain,), (None, titles)), lambda systems: systems + MAX_REWRITES + 1),
    "another word each time": (Kind((plain, counts)), lambda systems: systems * (MAX_TURNS + 1) + 1),
    "another word each time, by truth": (Kind((plain, counts), rule="truth"), lambda _: MAX_TURNS + 2),
    "automations without end": (Kind((plain,), (None, counts)), lambda systems: systems * (MAX_TURNS + 1) + 1),
}
BENIGN = "trim, case, format"


def judge(end: Played, kind: str) -> None:
    """What must hold of a ring that has come to rest."""
    bound = KINDS[kind][1](len(end.world.vendors))
    assert max(end.last.values(), default=0) <= bound, (
        f"{end.last} writes after the last edit, not at most {bound} each"
    )
    check_no_edit_is_suppressed(end)
    check_nothing_is_doubled(end)
    if not KINDS[kind][0].dates:
        return
    check_nothing_waits(end)
    check_all_agree(end)
    if kind == BENIGN:
        check_only_people_are_heard(end)
        check_the_newest_word_counts(end)


def check_loops_end(kind: str, seeds: Iterable[int]) -> list[Played]:
    """Every seed's ring of this kind comes to rest as promised."""
    return [play(seed, partial(in_memory, seed, KINDS[kind][0]), partial(judge, kind=kind)) for seed in seeds]


@pytest.mark.parametrize("kind", KINDS)
def test_loops_end(kind: str, seeds: Seeds, figures: Callable[..., None]) -> None:
    ends = check_loops_end(kind, seeds(1000 if kind == BENIGN else 125))
    figures(
        "P6", rings=len(ends), edits=sum(end.world.number for end in ends),
        most_writes_of_a_record_after_the_last_edit=max(max(end.last.values(), default=0) for end in ends),
        near_misses=sum(end.near_misses for end in ends), edits_suppressed=0,
    )  # fmt: skip


BROKEN: dict[str, tuple[str, Callable[[], AbstractContextManager[None]]]] = {
    "echoes are not known": (BENIGN, lambda: mutation(decide, "echoes", lambda written, value: False)),
    "echoes by record only": (BENIGN, lambda: mutation(decide, "echoes", lambda written, value: True)),
    "no intents are left": (BENIGN, lambda: mutation(Twin, "_leave", lambda self, writes: None)),
    "creates look for nothing": (BENIGN, lambda: mutation(Vendor, "found", lambda self, write: None)),
    "only the last value is remembered": (BENIGN, lambda: mutation(view, "_before", lambda held: [held.value])),
    "turns are not counted": ("another word each time", lambda: mutation(decide, "taken_turns", lambda *_: 0)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_loops_end_fails_without_what_ends_them(what: str) -> None:
    kind, broken_by = BROKEN[what]
    with broken_by(), broken(what):
        check_loops_end(kind, range(200))
