"""Backoff: how long to wait before trying again."""

import random

FIRST_SECONDS = 0.5
MOST_SECONDS = 300.0


def backoff(attempts: int) -> float:
    """Seconds before the next attempt: exponential with full jitter, so that many waiting rows do not come at once."""
    return random.uniform(0.1, min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(attempts, 20)))
