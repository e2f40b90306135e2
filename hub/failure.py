"""Failure: why a write was not taken, and the one table of what happens then. Everything that decides reads it from here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Failure(StrEnum):
    """The classes. Every answer of a target that is no success belongs to exactly one."""

    transient = "transient"
    outage = "outage"
    limited = "limited"
    conflict = "conflict"
    gone = "gone"
    dependency = "dependency"
    auth = "auth"
    invalid = "invalid"
    defect = "defect"


@dataclass(frozen=True, slots=True)
class Handling:
    """What happens to the row of the write queue, and to its target.

    row       due: tried again. held: waits for another record. parked: waits for a person
    counts    whether the try uses up one of the row's attempts: after the last of them a due row is parked.
              `well`: only if the target took another write since the row's last failure, for else it may be the target
    breaker   whether the call counts against the target, whose circuit opens after several in a row
    pauses    whether the whole target waits for a person or for new credentials
    """

    means: str
    row: Literal["due", "held", "parked"]
    counts: Literal["never", "well", "always"]
    breaker: bool
    pauses: bool
    then: str


# fmt: off
TABLE: dict[Failure, Handling] = {
    Failure.transient: Handling(
        "the target answered that this write may succeed later (locked, busy)", "due", "always", False, False,
        "again after a backoff with full jitter, or when the target said; after the last attempt parked"),
    Failure.outage: Handling(
        "a call got no usable answer (5xx, network, DNS, cut off for its length)", "due", "well", True, False,
        "again after a backoff with full jitter; several in a row open the target's circuit, and nothing is used up"),
    Failure.limited: Handling(
        "the target asked to be called later (429, or a pause of its budget)", "due", "never", False, False,
        "again when the target said"),
    Failure.conflict: Handling(
        "the record is otherwise than believed (409, 412, edited meanwhile, found by a create)", "due", "always", False,
        False, "what was read is captured, then compared anew; after the last attempt parked"),
    Failure.gone: Handling(
        "the record was deleted there", "due", "always", False, False,
        "the delete is captured, and the entity's delete rule decides; a delete is done"),
    Failure.dependency: Handling(
        "another record must exist there first", "held", "never", False, False,
        "released by the other record's own receipt; an alert when that is overdue"),
    Failure.auth: Handling(
        "the credentials were refused (401, 403)", "due", "never", False, True,
        "the target pauses with one alert; it resumes by itself when other credentials are proven, or by `hub resume`"),
    Failure.invalid: Handling(
        "the target will never take it as it is (400, 422)", "parked", "never", False, False,
        "quarantine: `hub parked` shows, edits, retries or discards it; a newer version of the record replaces it"),
    Failure.defect: Handling(
        "the connector broke, answered garbage, or says that a person must act", "parked", "never", False, False,
        "quarantine, as above; the other writes of the call are tried one by one"),
}
# fmt: on


def rendered() -> str:
    """The table in Markdown, as docs/failures.md has it."""
    lines = ["| class | what it is | the write | uses up an attempt | what happens |", "|---|---|---|---|---|"]
    used = {"never": "no", "always": "yes", "well": "if the target took others since"}
    lines += [f"| {name} | {h.means} | {h.row} | {used[h.counts]} | {h.then} |" for name, h in TABLE.items()]
    return "\n".join(lines) + "\n"
