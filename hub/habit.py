"""Habit: whether a source does what it usually does, judged by its own history. Pure; counts are per period, oldest first."""

from collections.abc import Sequence
from math import expm1, log1p
from statistics import median

PEERS = 5
"""Earlier periods like this one without which nothing is usual."""
FEW = 20
"""Changes in a period that are too few to say anything of their number."""
LEAST_SPREAD = 0.25
NORMAL = 1.4826
"""What makes the median absolute deviation comparable with a standard deviation."""


def silent(counts: Sequence[int], times: float, learn: int) -> bool:
    """Whether nothing has come for more than `times` the longest silence before, of a source that used to yield."""
    lasting = _lasting(counts)
    if len(counts) < learn or lasting == len(counts):
        return False
    return lasting > times * max(1, _longest(counts[: len(counts) - lasting]))


def deviation(counts: Sequence[int], cycle: int, learn: int) -> float:
    """How far the last period is from the periods a cycle, two cycles, ... earlier, in robust standard deviations of the
    logarithm: positive is more than usual. 0.0 where nothing can be said."""
    if len(counts) < learn or not counts:
        return 0.0
    peers = [log1p(count) for count in counts[-1 - cycle :: -cycle]]
    if len(peers) < PEERS:
        return 0.0
    usual = median(peers)
    if max(counts[-1], expm1(usual)) < FEW:
        return 0.0
    spread = max(NORMAL * median(abs(peer - usual) for peer in peers), LEAST_SPREAD)
    return (log1p(counts[-1]) - usual) / spread


def _lasting(counts: Sequence[int]) -> int:
    return next((n for n, count in enumerate(reversed(counts)) if count), len(counts))


def _longest(counts: Sequence[int]) -> int:
    longest = run = 0
    for count in counts:
        run = 0 if count else run + 1
        longest = max(longest, run)
    return longest
