"""HubSpot's error answers: one exception that carries the documented body, and the errors that several places raise.

HubSpot's description requires `category`, `correlationId` and `message` of every error, so `category` is always given,
also where captured answers leave it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Context = Mapping[str, list[str]]

SCOPES_PAGE = "https://developers.hubspot.com/scopes"
AUTH_PAGE = "https://developers.hubspot.com/docs/methods/auth/oauth-overview"


class ApiError(Exception):
    """An answer that is not a success."""

    def __init__(
        self,
        status: int,
        message: str,
        category: str,
        *,
        context: Context | None = None,
        errors: list[dict[str, Any]] | None = None,
        links: Mapping[str, str] | None = None,
        sub_category: str | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.category = status, message, category
        self.context, self.errors, self.links = context, errors, links
        self.sub_category, self.extra, self.headers = sub_category, extra, dict(headers or {})

    def body(self, correlation_id: str) -> dict[str, Any]:
        """The answer's JSON."""
        optional = {
            "subCategory": self.sub_category,
            "errors": self.errors,
            "context": self.context,
            "links": self.links,
        }
        shown: dict[str, Any] = {"status": "error", "message": self.message, "correlationId": correlation_id}
        shown |= {name: value for name, value in optional.items() if value is not None}
        return shown | {"category": self.category} | dict(self.extra or {})

    def in_batch(self, **context: list[str]) -> dict[str, Any]:
        """The error as one entry of a batch answer's `errors`; the description requires all of these fields."""
        shown: dict[str, Any] = {
            "status": "error",
            "category": self.category,
            "message": self.message,
            "context": {**(self.context or {}), **context},
            "errors": self.errors or [],
            "links": dict(self.links or {}),
        }
        return shown if self.sub_category is None else shown | {"subCategory": self.sub_category}


def invalid(message: str, **context: list[str]) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, message, "VALIDATION_ERROR", context=context or None)


def missing_fields(names: Iterable[str]) -> ApiError:
    """400: required fields of the JSON body are absent."""
    return invalid(f"Invalid input JSON on line 1, column 2. Some required fields were not set: [{', '.join(names)}]")


def not_found(record_id: str = "0") -> ApiError:
    """404: no such record; an id that is not a number is answered in other words."""
    if record_id.isdecimal():
        return ApiError(404, "resource not found", "OBJECT_NOT_FOUND")
    text = "Object not found.  objectId are usually numeric."
    return ApiError(404, text, "OBJECT_NOT_FOUND", context={"id": [record_id]})


def some_not_found(singular: str, ids: Iterable[str]) -> ApiError:
    """The one entry of a batch answer that names every id that was not found."""
    text = f"Could not get some {singular} objects, they may be deleted or not exist. Check that ids are valid."
    return ApiError(404, text, "OBJECT_NOT_FOUND", context={"ids": list(ids)})


def duplicate_ids(ids: list[str]) -> ApiError:
    """400: a batch names a record twice."""
    return invalid(f"Duplicate IDs found in batch input: [{', '.join(ids)}]. IDs must be unique", ids=ids)


def contact_exists(existing_id: str) -> ApiError:
    """409: another contact has the email address."""
    return ApiError(409, f"Contact already exists. Existing ID: {existing_id}", "CONFLICT")


def unauthenticated() -> ApiError:
    """401: no token, or one that was never issued."""
    text = (
        "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more"
        f" details at {AUTH_PAGE}"
    )
    return ApiError(401, text, "INVALID_AUTHENTICATION", headers={"x-hubspot-auth-failure": "401 Unauthorized"})


def token_expired(seconds: int, expired_at: str) -> ApiError:
    """401: the token was good and is no longer."""
    text = f"The OAuth token used to make this call expired {seconds} second(s) ago."
    context = {"expire time": [expired_at]}
    headers = {"x-hubspot-auth-failure": "401 Unauthorized"}
    return ApiError(401, text, "EXPIRED_AUTHENTICATION", context=context, headers=headers)


def missing_scopes(scopes: list[str]) -> ApiError:
    """403: the token was not granted what the call needs."""
    text = (
        "This app hasn't been granted all required scopes to make this call."
        f" Read more about required scopes here: {SCOPES_PAGE}."
    )
    detail = {
        "message": "One or more of the following scopes are required.",
        "context": {"requiredGranularScopes": scopes},
    }
    return ApiError(403, text, "MISSING_SCOPES", errors=[detail], links={"scopes": SCOPES_PAGE})


def rate_limited(policy: str, headers: Mapping[str, str]) -> ApiError:
    """429: `policy` is TEN_SECONDLY_ROLLING, SECONDLY or DAILY."""
    extra = {"errorType": "RATE_LIMIT", "policyName": policy}
    return ApiError(429, f"You have reached your {policy.lower()} limit.", "RATE_LIMITS", extra=extra, headers=headers)
