"""OAuth 2 as a client sees it: the grants, what a system's settings say of them, and the messages they consist of.

RFC 6749 (code, client credentials, refresh), 7636 (PKCE), 7523 (JWT bearer), 8252 (loopback redirects).
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from connectors.kit.client import Client, Grant
from connectors.kit.connector import Setting
from hub.errors import ConfigError, Problem

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ALGORITHM = "RS256"  # the one that every vendor with this grant takes
ASSERTION_SECONDS = 180  # Salesforce refuses more than 5 minutes

_CODE = (
    Setting("redirect_uri", "OAuth: the redirect registered with the vendor, on this machine", required=False),
    Setting("refresh_token", "OAuth: refresh token of an installation made elsewhere", secret=True, required=False),
)
_JWT = (
    Setting("private_key", "OAuth: PEM key that signs assertions", secret=True, required=False),
    Setting("key_id", "OAuth: name of that key", required=False),
    Setting("issuer", "OAuth: issuer of assertions, if not client_id", required=False),
    Setting("subject", "OAuth: the user to act as", required=False),
    Setting("audience", "OAuth: audience of assertions, if not the token endpoint", required=False),
)


def settings(*grants: Grant) -> tuple[Setting, ...]:
    """The settings of a system that offers these grants; the first is the one where `grant` says nothing."""
    choice = Setting("grant", f"OAuth: {' or '.join(grants)}", required=False, default=grants[0])
    return (
        *([choice] if len(grants) > 1 else []),
        Setting("client_id", "OAuth: id of the app", required=False),
        Setting("client_secret", "OAuth: secret of the app", secret=True, required=False),
        Setting("scopes", "OAuth: the scopes to ask for, separated by spaces", required=False),
        *(_CODE if "authorization_code" in grants else ()),
        *(_JWT if "jwt_bearer" in grants else ()),
    )


def client(given: Mapping[str, Any], usual: Client, needs: Sequence[str] = ()) -> Client:
    """A client as a system's resolved settings say, over what is usual with the vendor. Raises ConfigError where what
    the grant needs, or the vendor `needs`, is missing; no message holds a value."""
    known: dict[str, Any] = {name: str(given[name]) for name in _FROM_SETTINGS if given.get(name)}
    made: Client = replace(usual, **known)
    if made.grant not in get_args(Grant):
        raise _wrong(made, "grant", f"grant is none of {', '.join(get_args(Grant))}")
    for name in (*_NEEDED[made.grant], *needs):
        if not getattr(made, name):
            raise _wrong(made, name, f"{name} is missing, which grant {made.grant} needs")
    return made


_FROM_SETTINGS = (
    "grant", "client_id", "client_secret", "scopes", "redirect_uri", "refresh_token",
    "private_key", "key_id", "issuer", "subject", "audience",
)  # fmt: skip
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "authorization_code": ("client_id",),
    "client_credentials": ("client_id", "client_secret"),
    "jwt_bearer": ("client_id", "private_key"),
}


def _wrong(made: Client, name: str, what: str) -> ConfigError:
    return ConfigError(
        [Problem(f"systems.{made.system}.{name}", what, "docs/authorization.md says what each grant needs")]
    )


def secret_text() -> str:
    """A fresh state or code verifier: 256 bits, in letters that need no escaping."""
    return secrets.token_urlsafe(32)


def authorization_url(client: Client, redirect_uri: str, state: str, verifier: str) -> str:
    """Where a person's browser goes to authorize the hub."""
    challenge = {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
    more = {**client.extra, **challenge}
    url: str = prepare_grant_uri(
        client.authorize_url, client.client_id, "code", redirect_uri, client.scopes or None, state, **more
    )
    return url


def form_of_code(code: str, redirect_uri: str, verifier: str) -> dict[str, str]:
    """What exchanges the code that the redirect brought."""
    return {
        "grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier,
    }  # fmt: skip


def form_of_grant(client: Client, refresh: str) -> dict[str, str] | None:
    """What asks for the next token; None where only a person can give it."""
    scope = {"scope": client.scopes} if client.scopes else {}
    match client.grant:
        case "client_credentials":
            return {"grant_type": "client_credentials", **scope}
        case "jwt_bearer":
            return {"grant_type": JWT_BEARER, "assertion": assertion(client), **scope}
    return {"grant_type": "refresh_token", "refresh_token": refresh} if refresh else None


def assertion(client: Client) -> str:
    """A signed JWT that says who asks. Raises ConfigError where the key cannot sign."""
    # Imported here: they take a tenth of a second, and few systems sign assertions.
    from authlib.oauth2.rfc7523.assertion import sign_jwt_bearer_assertion
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    try:
        key = import_key(client.private_key, "RSA")
        signed: str = sign_jwt_bearer_assertion(
            key, client.issuer or client.client_id, client.audience or client.token_url,
            subject=client.subject or client.client_id, alg=ALGORITHM, expires_in=ASSERTION_SECONDS,
            header={"kid": client.key_id} if client.key_id else None,
        )  # fmt: skip
    except (JoseError, ValueError, TypeError):  # their texts may quote the key
        raise _wrong(client, "private_key", "private_key is no RSA key in PEM form") from None
    return signed
