"""Mutations: the hub with one mechanism switched off, to see the test of a promise fail.

with mutation(deliver.Deliverer, "_give_back", nothing):
    ...
python -m tests.promises.mutations tests.promises.p1:lose_a_record run --config hub.yaml   # a hub process, mutated
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def mutation(owner: Any, name: str, broken: Any) -> Iterator[None]:
    """The mechanism `owner.name` replaced by a broken twin. Fails where there is no such mechanism any more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, broken)
        yield


@contextmanager
def broken(what: str) -> Iterator[None]:
    """The body must fail as a test fails: by an AssertionError (of anything else the test would tell nothing)."""
    with pytest.raises(AssertionError) as caught:
        yield
    assert str(caught.value), f"{what}: the check failed without a word"


def mutated(mutation: str) -> tuple[str, ...]:
    """The command of a hub with the mutation `module:function`, in place of that of a hub as it is."""
    return (sys.executable, "-m", "tests.promises.mutations", mutation)


def main(arguments: list[str]) -> None:
    """Apply the mutation named `module:function`, then run the hub's command line."""
    module, _, function = arguments[1].partition(":")
    getattr(importlib.import_module(module), function)()
    sys.argv = ["hub", *arguments[2:]]
    from hub.edge.main import main as hub

    hub()


if __name__ == "__main__":
    main(sys.argv)
