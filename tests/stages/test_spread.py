"""The pauses between the pages of a poll."""

from streams.capture import Spread


def test_pauses_follow_the_pages_and_end_with_half_of_the_interval() -> None:
    spread = Spread(5.0)
    pauses = [spread.pause(0.1) for _ in range(10)]
    assert pauses[:6] == [0.4] * 6
    assert abs(sum(pauses) - 2.5) < 1e-9
    assert spread.pause(100.0) == 0.0


def test_a_first_reading_never_waits() -> None:
    assert Spread(0.0).pause(1.0) == 0.0
