"""Patience: how long, and how often, before the hub does something else. Settings of hub.yaml under `patience`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """attempts          tries that count (see hub.failure) before a write is parked
    call_seconds         after which a call of a connector is cut off
    breaker_calls        calls in a row without a usable answer that open a target's circuit
    overdue_seconds      after which a write that waits for another record raises an alert
    """

    attempts: int = 12
    call_seconds: float = 120.0
    breaker_calls: int = 5
    overdue_seconds: float = 3_600.0
