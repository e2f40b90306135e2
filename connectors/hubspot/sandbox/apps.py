"""The endpoints of an app: OAuth tokens, and the management of its webhooks."""

from __future__ import annotations

import msgspec

from connectors.hubspot.sandbox.account import Account
from connectors.hubspot.sandbox.errors import ApiError
from connectors.hubspot.sandbox.http import Context, Reply, Router, anyone, developer
from connectors.hubspot.sandbox.shapes import batch_reply
from connectors.hubspot.sandbox.values import iso

WEBHOOKS = "/webhooks/v3/{app}"


class _Throttling(msgspec.Struct, rename="camel"):
    max_concurrent_requests: int


class _Settings(msgspec.Struct, rename="camel"):
    target_url: str
    throttling: _Throttling


class SubscriptionInput(msgspec.Struct, rename="camel"):
    """The body that creates a subscription."""

    event_type: str
    property_name: str | None = None
    object_type_id: str | None = None
    active: bool = False


class _Active(msgspec.Struct):
    active: bool | None = None


class _ActiveInput(msgspec.Struct):
    id: int
    active: bool


class _ActiveBatch(msgspec.Struct):
    inputs: list[_ActiveInput]


def add_routes(router: Router) -> None:
    """Serve the endpoints."""
    router.add("POST", "/oauth/{version}/token", token, anyone, form=True)
    router.add("POST", "/oauth/{version}/token/introspect", introspect, anyone, form=True)
    router.add("POST", "/oauth/{version}/token/revoke", revoke, anyone, form=True)
    router.add("GET", "/oauth/v1/access-tokens/{token}", access_token, anyone)
    router.add("GET", "/oauth/v1/refresh-tokens/{token}", refresh_token, anyone)
    router.add("DELETE", "/oauth/v1/refresh-tokens/{token}", forget_token, anyone)
    router.add("GET", f"{WEBHOOKS}/settings", settings, developer)
    router.add("PUT", f"{WEBHOOKS}/settings", configure, developer)
    router.add("DELETE", f"{WEBHOOKS}/settings", clear_settings, developer)
    router.add("GET", f"{WEBHOOKS}/subscriptions", list_subscriptions, developer)
    router.add("POST", f"{WEBHOOKS}/subscriptions", subscribe, developer)
    router.add("POST", f"{WEBHOOKS}/subscriptions/batch/update", update_subscriptions, developer)
    router.add("GET", f"{WEBHOOKS}/subscriptions/{{id}}", read_subscription, developer)
    router.add("PATCH", f"{WEBHOOKS}/subscriptions/{{id}}", update_subscription, developer)
    router.add("DELETE", f"{WEBHOOKS}/subscriptions/{{id}}", unsubscribe, developer)


def token(context: Context) -> Reply:
    """POST token: an access token for a refresh token or a code; the refresh token stays the same."""
    options = context.account.options
    return 200, context.account.access.grant(context.form()) | {"hub_id": options.portal_id, "user_id": 1}


def _about(account: Account) -> dict[str, object]:
    options = account.options
    return {"hub_id": options.portal_id, "user_id": 1, "user": "ada@example.com", "hub_domain": "sandbox.hubspot.com"}


def access_token(context: Context) -> Reply:
    """GET: what an access token is good for."""
    access, given = context.account.access, context.path["token"]
    found = access.tokens.get(given)
    if found is None or not access.expires_in(found):
        raise ApiError(404, "access token is invalid, expired or revoked", "OBJECT_NOT_FOUND")
    more = {"token": given, "token_type": "access", "scopes": sorted(found.scopes or ())}
    return 200, _about(context.account) | more | {
        "app_id": context.account.options.app_id,
        "expires_in": access.expires_in(found),
    }


def refresh_token(context: Context) -> Reply:
    """GET: what a refresh token is good for."""
    access, given = context.account.access, context.path["token"]
    found = access.authority.refresh_tokens.get(given)
    if found is None or found.line.revoked:
        raise ApiError(404, "refresh token is invalid, expired or revoked", "OBJECT_NOT_FOUND")
    more = {"token": given, "token_type": "refresh", "scopes": sorted(found.line.scope.split())}
    return 200, _about(context.account) | more | {"client_id": access.authority.registration.client_id}


def forget_token(context: Context) -> Reply:
    """DELETE: a refresh token is good for nothing any more."""
    context.account.access.authority.refresh_tokens.pop(context.path["token"], None)
    return 204, None


def introspect(context: Context) -> Reply:
    """POST introspect: whether a token is good."""
    access, given = context.account.access, context.form().get("token", "")
    found = access.tokens.get(given)
    return 200, {
        "active": given in access.authority.refresh_tokens or (found is not None and access.expires_in(found) > 0)
    }


def revoke(context: Context) -> Reply:
    """POST revoke: a refresh token is good for nothing any more."""
    context.account.access.authority.refresh_tokens.pop(context.form().get("token", ""), None)
    return 200, {}


def settings(context: Context) -> Reply:
    """GET: where the app's webhooks go."""
    found = context.account.webhooks.settings
    if found is None:
        raise ApiError(404, "resource not found", "OBJECT_NOT_FOUND")
    return 200, found


def configure(context: Context) -> Reply:
    """PUT: where the app's webhooks go; from then on only explicit subscriptions count."""
    given, webhooks, at = context.read(_Settings), context.account.webhooks, iso(context.account.now())
    throttling = {"maxConcurrentRequests": given.throttling.max_concurrent_requests}
    webhooks.settings = {"targetUrl": given.target_url, "throttling": throttling, "createdAt": at, "updatedAt": at}
    webhooks.everything = False
    webhooks.sender.configure(msgspec.structs.replace(webhooks.sender.settings, url=given.target_url))
    return 200, webhooks.settings


def clear_settings(context: Context) -> Reply:
    """DELETE: the app's webhooks go nowhere."""
    webhooks = context.account.webhooks
    webhooks.settings = None
    webhooks.sender.configure(msgspec.structs.replace(webhooks.sender.settings, url=None))
    return 204, None


def list_subscriptions(context: Context) -> Reply:
    """GET: what the app is subscribed to."""
    return 200, {"results": [item.to_json() for item in context.account.webhooks.subscriptions.values()]}


def subscribe(context: Context) -> Reply:
    """POST: one more subscription; it is not active unless the request says so."""
    given = context.read(SubscriptionInput)
    made = context.account.webhooks.subscribe(given.event_type, given.property_name, given.object_type_id, given.active)
    return 201, made.to_json()


def read_subscription(context: Context) -> Reply:
    """GET one subscription."""
    return 200, context.account.webhooks.get(context.path["id"]).to_json()


def update_subscription(context: Context) -> Reply:
    """PATCH: activate or pause."""
    found, given = context.account.webhooks.get(context.path["id"]), context.read(_Active)
    if given.active is not None:
        found.active, found.updated = given.active, context.account.now()
    return 200, found.to_json()


def update_subscriptions(context: Context) -> Reply:
    """POST batch/update: activate or pause several."""
    account, started = context.account, context.account.now()
    results = []
    for item in context.read(_ActiveBatch).inputs:
        found = account.webhooks.get(str(item.id))
        found.active, found.updated = item.active, account.now()
        results.append(found.to_json())
    return batch_reply(account, started, results, [])


def unsubscribe(context: Context) -> Reply:
    """DELETE a subscription."""
    found = context.account.webhooks.get(context.path["id"])
    del context.account.webhooks.subscriptions[found.id]
    return 204, None
