"""Pages of records: complete, the same as the commands tell, harmless whatever stands in the data; and in a real browser."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI

from connectors.kit.serving import serve
from hub.edge import access, history, web_records
from tests.changes.support import BASE, VARIANTS, Deployed
from tests.promises.mutations import broken, mutation
from tests.stages.conftest import hub
from tests.stages.support import Stages

__all__ = ["hub"]

EVIL = "<script>document.title='owned'</script><img src=//evil.example onerror=alert(1)>\"'"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self) -> list[str]:
        return [str(attributes["href"]) for tag, attributes in self.tags if tag == "a"]


def application(hub: Stages) -> FastAPI:
    """The pages alone, guarded as in the hub."""
    app = FastAPI()
    app.add_middleware(access.Guarded, token="")
    web_records.mount(app, hub.context)
    return app


@asynccontextmanager
async def asked(hub: Stages) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(hub), client=("127.0.0.1", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield client


async def known(hub: Stages) -> None:
    """A contact that two systems hold, with a hostile name, a conflict, a pin and a deployment."""
    hub.context.model = BASE
    deployed = Deployed(hub)
    await deployed.adopt()
    await hub.crm("1", email="ann@example.com", name="Ann", city="Bonn")
    await hub.shop("a/b?c#d", email="ann@example.com", name=EVIL, city="Köln")
    await deployed.apply(VARIANTS["rules"])
    await hub.order(await hub.golden_of("crm", "contacts", "1"), "pin", field="tier", value="gold", reason=EVIL)


async def check_harmless(hub: Stages) -> None:
    """What systems say is text, and the browser is told to run and load nothing."""
    await known(hub)
    async with asked(hub) as client:
        for path in ("/records/contact/ann@example.com?why=tier", "/records/contact/" + "%3Cscript%3Ex", "/records"):
            answer = await client.get(path)
            page = Page(answer.text)
            strange = {tag for tag, _ in page.tags} & {"script", "img", "iframe", "link", "object", "base"}
            assert not strange, f"{path}: {strange}"
            handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
            assert not handlers, f"{path}: {handlers}"
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-"), policy
            assert "unsafe" not in policy
            assert all(link.startswith("/records/") for link in page.links()), page.links()


async def test_a_page_is_harmless(hub: Stages) -> None:
    await check_harmless(hub)


async def test_the_check_fails_where_nothing_is_escaped(hub: Stages) -> None:
    with mutation(web_records, "escape", lambda text, quote=True: text), broken("values are markup"):
        await check_harmless(hub)


async def check_links_lead_there(hub: Stages) -> int:
    """Every way that a page offers is to a page; at an event it shows what the record was then. How many ways there were."""
    await known(hub)
    async with asked(hub) as client:
        page = Page((await client.get("/records/contact/shop%2Fcustomers%2Fa%2Fb%3Fc%23d")).text)
        steps = await history.history(hub.context, "contact", "shop/customers/a/b?c#d")
        assert [s["kind"] for s in steps] == ["event", "event", "deployment", "event"], "the page is checked for these"
        for link in page.links():
            answer = await client.get(link)
            assert answer.status_code == 200, f"{link}: {answer.status_code}"
        for step in steps:
            there = [link for link in page.links() if link.endswith(f"?at={step['id'].replace('/', '%2F')}")]
            assert there, f"no way to {step['kind']} {step['id']} among {page.links()}"
            assert f"as of {step['id']}" in Page((await client.get(there[0])).text).text
        first = Page((await client.get(next(one for one in page.links() if steps[0]["id"] in one))).text)
        assert "Bonn" in first.text.split("History")[0], "what it was after the first event"
        assert "Köln" not in first.text.split("History")[0], "what came later is not there"
        return len(page.links())


async def test_every_way_leads_there(hub: Stages) -> None:
    assert await check_links_lead_there(hub) > 10


async def test_the_check_fails_where_instants_are_forgotten(hub: Stages) -> None:
    link = web_records.link
    with mutation(web_records, "link", lambda entity, name, **query: link(entity, name)), broken("no instants"):
        await check_links_lead_there(hub)


async def test_a_page_tells_who_deployed_and_why_a_field_has_its_value(hub: Stages) -> None:
    await known(hub)
    async with asked(hub) as client:
        page = Page((await client.get("/records/contact/crm:1?why=tier")).text)
        for told in ("configuration 2 in place of 1: because", "Why tier", "Pinned by ann", "crm/contacts/1", "Bonn"):
            assert told in page.text, told


async def test_a_search_leads_to_the_record(hub: Stages) -> None:
    await known(hub)
    async with asked(hub) as client:
        query: dict[str, Any] = {"entity": "contact", "name": " shop/customers/a/b?c#d ", "at": ""}
        answer = await client.get("/records", params=query)
        assert answer.status_code == 303
        assert unquote(answer.headers["location"]) == "/records/contact/shop/customers/a/b?c#d"
        assert (await client.get(answer.headers["location"])).status_code == 200
        for path, status in (("/records/contact/nobody", 404), ("/records/nothing/x", 404),
                             ("/records/contact/crm:1?at=2999-01-01", 400)):  # fmt: skip
            answer = await client.get(path)
            assert (answer.status_code, "role=alert" in answer.text, "<form" in answer.text) == (status, True, True)


@pytest.mark.skipif(BROWSER is None, reason="no chromium here: `apt-get install chromium` brings one")
async def test_in_a_browser(hub: Stages) -> None:
    """By keyboard alone, on a telephone's screen: search, go back in time, ask why. Nothing runs, nothing is refused."""
    from playwright.async_api import async_playwright

    await known(hub)
    async with serve(application(hub)) as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 360, "height": 640})
        page.set_default_timeout(10_000)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url) if server.url not in request.url else None)
        await page.goto(f"{server.url}/records")
        await page.get_by_label("What").select_option("contact")
        await page.get_by_label("Which").focus()
        await page.keyboard.type("ann@example.com")
        await page.keyboard.press("Enter")
        await page.get_by_text("as of now").wait_for()
        assert "owned" not in await page.title()
        wide = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        assert not wide, "the page is wider than a telephone"
        family = await page.evaluate("getComputedStyle(document.body).fontFamily")
        assert "system-ui" in family, "the style is not taken"
        await page.get_by_role("link", name="why tier").focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Why tier").wait_for()
        await page.get_by_role("link", name="the record after").last.focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("link", name="now").wait_for()
        assert "Köln" not in await page.get_by_role("region", name="Fields").inner_text(), "not what it was at first"
        assert not complaints, complaints
        await browser.close()
