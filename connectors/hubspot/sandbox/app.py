"""A stateful stand-in of HubSpot's CRM API, built from HubSpot's published description and documentation.

`create_app` gives the application; connectors.kit.sandbox says what its control API offers. What this sandbox takes:

- POST `/_sandbox/seed`: records by type (`{"contacts": [{"id", "properties", "createdAt", "updatedAt", "archived"}]}`),
  `associations` (`[{"from": ["deals", "1"], "to": ["contacts", "101"], "typeId": 3}]`), `properties` and `pipelines` as
  their APIs take them, by type and for deals, `customObjects` (`[{"name", "objectTypeId"}]`), `owners`
  (`[{"id", "email", "firstName", "lastName"}]`), `token` and `tokens` (`{token: {"scopes", "expiresAt"}}`),
  `refreshTokens`, `oauth` (any of the kit's Registration, or `revoke`), `limits` (`{"perTenSeconds", "searchPerSecond",
  "daily"}`), `subscriptions` and `app`, which is any of Options (`clientSecret`, `indexLagSeconds`, ...).
- POST `/_sandbox/edit`: `{"object", "id", "properties"}` (also `hs_email_optout`, which only a contact can change), or
  with `"action"`: `create`, `archive`, `erase`, `merge` (`into`), `associate` and `dissociate` (`to`: `[type, id]`).

Sources and deviations are in NOTES.md.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.hubspot.sandbox import (
    apps,
    associations,
    batches,
    control,
    objects,
    settings,
)
from connectors.hubspot.sandbox.account import Account, Options, open_account
from connectors.hubspot.sandbox.errors import ApiError, rate_limited, token_expired
from connectors.hubspot.sandbox.http import Router, refuse
from connectors.hubspot.sandbox.spoil import spoil
from connectors.hubspot.sandbox.values import iso
from connectors.kit.sandbox import Clock, Fault, WebhookSender, install
from connectors.kit.sandbox.authorizing import answered

AUTHORIZE = ("/oauth/authorize", "/oauth/{portal}/authorize")  # on app.hubspot.com in the real service
__all__ = ["Options", "create_app"]


class HubSpot:
    """The vendor's side of the control API."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.clock: Clock = account.clock
        self.webhooks: WebhookSender = account.webhooks.sender

    def refuse(self, fault: Fault) -> Response:
        """HubSpot's error answer for a fault."""
        match fault.kind:
            case "rate_limit":
                after = (
                    str(int(fault.retry_after))
                    if fault.retry_after == int(fault.retry_after)
                    else str(fault.retry_after)
                )
                return refuse(rate_limited("TEN_SECONDLY_ROLLING", {"Retry-After": after}))
            case "expired_token":
                return refuse(token_expired(1, iso(self.account.now() - 1000)))
        category = "INTERNAL_ERROR" if fault.status >= 500 else "VALIDATION_ERROR"
        return refuse(ApiError(fault.status, "internal error" if fault.status >= 500 else "refused", category))

    def spoil(self, fault: Fault, body: Any) -> Any:
        """A list that does not show everything."""
        return spoil(fault, body)

    def seed(self, body: Any) -> Any:
        """Load records and settings."""
        return control.seed(self.account, body)

    def edit(self, body: Any) -> Any:
        """Make an edit as a user does."""
        return control.edit(self.account, body)

    def state(self) -> Any:
        """Everything there is."""
        return control.state(self.account)


def create_app(options: Options | None = None) -> Starlette:
    """The application of a new, empty account."""
    account = open_account(options or Options())
    router = Router(account)
    # The batch endpoints come before those with an id in the same place of the path.
    for module in (batches, objects, associations, settings, apps):
        module.add_routes(router)

    async def authorize(request: Request) -> Response:
        return answered(account.access.authority, request)

    app = Starlette(
        routes=[*router.routes, *(Route(path, authorize, methods=["GET"]) for path in AUTHORIZE)],
        middleware=[Middleware(GZipMiddleware, minimum_size=1024, compresslevel=1)],
        exception_handlers={HTTPException: _unrouted},
    )
    install(app, HubSpot(account))
    return app


async def _unrouted(_request: Request, error: Exception) -> Response:
    """A path or method that does not exist."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return refuse(ApiError(405, "HTTP 405 Method Not Allowed", "METHOD_NOT_ALLOWED"))
    return refuse(ApiError(404, "resource not found", "OBJECT_NOT_FOUND"))
