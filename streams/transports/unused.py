"""What Faust asks of a consumer only for tables and changelogs, which the hub does not use."""

from collections.abc import Mapping
from typing import Any, NoReturn

from faust.types import TP


class StreamsOnly:
    """Refuses everything that only Faust's tables need, so that a mistake shows at once."""

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise NotImplementedError("the hub's log drivers carry streams only, no Faust tables")

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Refused."""
        self._refuse()

    async def create_topic(self, *_args: Any, **_options: Any) -> None:
        """Refused: topics are created by `Log.ensure_topics`."""
        self._refuse()

    async def _seek(self, partition: TP, offset: int) -> None:
        self._refuse()

    position = earliest_offsets = highwaters = topic_partitions = key_partition = _new_topicpartition = _refuse

    def highwater(self, tp: TP) -> int:
        """Faust's monitor wants a number; lag is measured from `Log.ends` and `Log.committed`."""
        return 0

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """Nothing recovers."""
