"""Backoff: how long to wait before trying again."""

import random

FIRST_SECONDS = 0.5
MOST_SECONDS = 300.0
LEAST_SECONDS = 0.1


def backoff(attempts: int) -> float:
    """Seconds before the next attempt, after so many."""
    return jittered(attempts, FIRST_SECONDS, MOST_SECONDS)


def jittered(times: int, first: float, most: float) -> float:
    """Exponential with full jitter, so that many that wait do not come at once: anything up to `first` seconds doubled
    so many times, at most `most`."""
    return random.uniform(LEAST_SECONDS, max(LEAST_SECONDS, min(most, first * 2 ** min(times, 20))))
