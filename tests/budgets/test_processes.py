"""Real processes on one HubSpot account at the sandbox's limits: what the sandbox refuses, by its own count, is counted."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from connectors.hubspot.sandbox import create_app
from connectors.kit.sandbox import serve
from tests.e2e.systems import LONG
from tests.promises.mutations import broken

ROOT = Path(__file__).parents[2]
TOKEN = "pat-na1-only-for-tests"
SECONDS = 60.0 if LONG else 12.0


class Account:
    """A HubSpot account, and the processes that call it."""

    def __init__(self, url: str, state: str) -> None:
        self.url, self.state = url, state
        self.children: list[asyncio.subprocess.Process] = []

    async def call(self, seconds: float, *more: str) -> asyncio.subprocess.Process:
        """Start a process that calls for so long; returns when it has everything it needs to begin."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "bench" / "caller.py"), "--url", self.url, "--token", TOKEN,
            "--seconds", str(seconds), *more, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        self.children.append(child)
        assert child.stdout is not None
        assert (await child.stdout.readline()).strip() == b"ready"
        return child

    async def journal(self) -> list[tuple[float, int | None, str]]:
        """What the sandbox received: (when, status, path), in order."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            told = (await http.get("/_sandbox/requests")).raise_for_status().json()["requests"]
        return sorted((datetime.fromisoformat(c["at"]).timestamp(), c["status"], c["path"]) for c in told)


async def ended(child: asyncio.subprocess.Process) -> int:
    """How many calls a process made by its own count, at its end; it begins where it has not begun yet."""
    out, _ = await child.communicate(b"\n")
    return int(json.loads(out.splitlines()[-1])["calls"])


@asynccontextmanager
async def account(state: str, **limits: int) -> AsyncIterator[Account]:
    """An account at these limits; its processes end with the block."""
    async with serve(create_app()) as running:
        async with httpx.AsyncClient(base_url=running.url) as http:
            seed = {"token": TOKEN, "limits": limits, "app": {"portalId": 62515}}
            (await http.post("/_sandbox/seed", json=seed)).raise_for_status()
        made = Account(running.url, state)
        try:
            yield made
        finally:
            for child in made.children:
                if child.returncode is None:
                    child.kill()
                    await child.wait()


def fullest(times: list[float], seconds: float) -> int:
    """The most calls in any window."""
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


async def check_nobody_is_refused(state: str, shared: bool, seconds: float, processes: int = 3) -> dict[str, Any]:
    """Processes at 190 calls per 10 seconds, as fast as they can; gives what was counted."""
    async with account(state, perTenSeconds=190) as hubspot:
        more = ("--state", state) if shared else ()
        children = [await hubspot.call(seconds, "--abreast", "6", *more) for _ in range(processes)]
        made = await asyncio.gather(*map(ended, children))
        calls = await hubspot.journal()
    refused = sum(status == 429 for _, status, _ in calls)
    window = fullest([at for at, _, _ in calls], 10.0)
    assert (refused, window) <= (0, 190), f"{refused} of {len(calls)} calls refused, {window} in a window"
    assert min(made) > 0, f"a process starved: {made}"
    return {"processes": processes, "calls": len(calls), "answers_429": refused, "fullest_window": window}


async def test_nobody_is_refused(state: str, figures: Callable[..., None]) -> None:
    counted = await check_nobody_is_refused(state, True, SECONDS)
    assert counted["calls"] > 190, "the limit was never reached, so this proves nothing"
    figures("B1", **counted)


async def test_nobody_is_refused_fails_without_sharing(state: str) -> None:
    with broken("each process has a budget of its own"):
        await check_nobody_is_refused(state, False, 4.0)


async def test_searches_have_a_limit_of_their_own(state: str, figures: Callable[..., None]) -> None:
    async with account(state, perTenSeconds=190, searchPerSecond=5) as hubspot:
        children = [await hubspot.call(3.0, "--search", "--state", state) for _ in range(2)]
        children += [await hubspot.call(3.0, "--state", state)]
        await asyncio.gather(*map(ended, children))
        calls = await hubspot.journal()
    searches = [at for at, _, path in calls if path.endswith("/search")]
    assert not [status for _, status, _ in calls if status == 429]
    assert fullest(searches, 1.0) == 5
    assert len(calls) > 2 * len(searches), "searches held the others up"
    figures("B1", searches=len(searches), other_calls=len(calls) - len(searches), answers_429=0)


async def test_what_a_killed_process_held_comes_back(state: str) -> None:
    """It dies in the midst of its calls: they are counted as over when its lease is, and nobody is refused."""
    async with account(state, perTenSeconds=190) as hubspot:
        killed, other = [await hubspot.call(8.0, "--state", state) for _ in range(2)]
        for child in (killed, other):
            assert child.stdin is not None
            child.stdin.write(b"\n")
        await until_called(hubspot, 40)
        killed.kill()
        await killed.wait()
        assert set(await holders(state)), "nobody held anything, so this proves nothing"
        made = await ended(other)
        calls = await hubspot.journal()
    assert not [status for _, status, _ in calls if status == 429]
    assert fullest([at for at, _, _ in calls], 10.0) <= 190
    assert made > 40, "the other process was held up"
    assert await holders(state) == {}


async def holders(state: str) -> dict[str, Any]:
    """Who holds permits, by the state database."""
    conn = await asyncpg.connect(state)
    try:
        return dict(json.loads(await conn.fetchval("select state -> 'holders' from hub.budget")))
    finally:
        await conn.close()


async def until_called(hubspot: Account, count: int) -> None:
    """Return when the sandbox has seen so many calls."""
    for _ in range(600):
        if len(await hubspot.journal()) >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the account is not called")


async def test_a_call_of_others_makes_all_processes_wait(state: str) -> None:
    """Somebody else draws on the account too: the vendor's word about it reaches every process."""
    async with account(state, perTenSeconds=190) as hubspot:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=hubspot.url, headers=headers) as other:
            for _ in range(150):
                (await other.get("/account-info/v3/details")).raise_for_status()
        children = [await hubspot.call(4.0, "--state", state) for _ in range(2)]
        made = await asyncio.gather(*map(ended, children))
        refused = sum(status == 429 for _, status, _ in await hubspot.journal())
    assert 30 <= sum(made) <= 40
    assert refused <= 2, f"{refused} refused, although the vendor had told how many were left"


async def test_all_that_is_kept_is_one_row_without_secrets(state: str) -> None:
    async with account(state, perTenSeconds=190) as hubspot:
        await ended(await hubspot.call(0.5, "--state", state))
    conn = await asyncpg.connect(state)
    rows = await conn.fetch("select account, state::text from hub.budget")
    await conn.close()
    assert [row["account"].split("/")[0] for row in rows] == ["hubspot"]
    assert not any(TOKEN in text for row in rows for text in row)
    assert await holders(state) == {}, "a process that ended well holds nothing"
