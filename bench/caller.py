"""A process that calls one HubSpot account as fast as its budget lets it, for a while. For bench/budget.py and the tests.

Prints "ready" when it could begin, begins at a line on its standard input, and prints at its end how its calls went, as
JSON: {"calls": 200}.
"""

import argparse
import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack

from connectors.hubspot.connector import HubSpot
from connectors.kit.allowance import Priority
from connectors.kit.budget import Budgets, using
from connectors.kit.line import calling
from hub.errors import Retry
from streams import budgets


async def main(options: argparse.Namespace) -> None:
    """Call until the time is over."""
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(budgets.shared(options.state)) if options.state else Budgets()
        settings = {"access_token": options.token, "base_url": options.url, "portal_id": "62515"}
        with using(shared):
            connector = HubSpot("hubspot", settings | json.loads(options.settings), {})
        stack.push_async_callback(connector.close)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        end = time.monotonic() + options.seconds
        with calling(Priority[options.priority.upper()]):
            calls = await asyncio.gather(*[one_after_another(connector, options, end) for _ in range(options.abreast)])
        print(json.dumps({"calls": sum(calls)}), flush=True)


async def one_after_another(connector: HubSpot, options: argparse.Namespace, end: float) -> int:
    """How many calls were answered well."""
    api, calls = connector._connected().api, 0
    while time.monotonic() < end:
        try:
            if options.search:
                await asyncio.wait_for(api.search("contacts", [], [], "hs_object_id"), max(0.0, end - time.monotonic()))
            else:
                await asyncio.wait_for(api.account(), max(0.0, end - time.monotonic()))
            calls += 1
        except Retry:
            await asyncio.sleep(0.05)
        except TimeoutError:
            break
    return calls


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the sandbox")
    parser.add_argument("--token", required=True)
    parser.add_argument("--state", default="", help="the state database; without it the budget is this process's own")
    parser.add_argument("--settings", default="{}", help="more settings of the connector, as JSON")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--abreast", type=int, default=4, help="calls at once")
    parser.add_argument("--priority", default="deliver")
    parser.add_argument("--search", action="store_true", help="search instead")
    asyncio.run(main(parser.parse_args()))
