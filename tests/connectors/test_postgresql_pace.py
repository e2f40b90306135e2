"""When the slot of a database is moved on."""

from connectors.postgresql.pace import Moves


def test_the_slot_is_not_moved_behind_every_page_and_at_once_behind_much() -> None:
    moves = Moves(bytes_=1_000, rows=10)
    assert moves.due(5_000, 0), "the first time"
    assert [moves.due(5_000 + n, 9) for n in range(1, 5)] == [False] * 4, "pages right behind each other"
    assert moves.due(6_000, 0), "so many bytes would be kept"
    assert moves.due(6_001, 10), "so many rows would be read again"
