"""Errors, by what to do next.

HubError
 +- Retry        the same call may succeed later (network, 5xx); `after` seconds if the vendor said so
 |   +- Limited      it was only too early (429): the vendor is well
 +- Hold         something else must come first; `waits_for` names it
 +- Reject       this input will never be accepted; `reason` says why, nothing else is affected
 +- Fatal        a person must act before anything of this kind can go on
     +- AuthError      credentials refused; the target pauses until they change
     |   +- Unauthorized   there is no authorization, or it was withdrawn: `hub auth <system>` gives one
     +- ConfigError    the configuration is wrong; `problems` lists where and what to do
"""

from dataclasses import dataclass


class HubError(Exception):
    """Every error the hub raises on purpose."""


class Retry(HubError):
    """The same call may succeed later."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Limited(Retry):
    """The vendor asked to be called later; nothing is wrong with it or with the call."""


class Hold(HubError):
    """Something else must come first."""

    def __init__(self, waits_for: str) -> None:
        super().__init__(f"waits for {waits_for}")
        self.waits_for = waits_for


class Reject(HubError):
    """This input will never be accepted as it is."""

    def __init__(self, reason: str, code: str = "invalid") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Fatal(HubError):
    """A person must act before anything of this kind can go on."""


class AuthError(Fatal):
    """Credentials were refused. `generation` is that of the stored token they came from, where they did."""

    generation: int | None = None


class Unauthorized(AuthError):
    """A person has to authorize the hub, for the first time or anew; the message names the command."""

    def __init__(self, system: str, why: str) -> None:
        super().__init__(f"{why}: run `hub auth {system}`")
        self.system = system


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a configuration: where it is and what would mend it."""

    where: str
    what: str
    suggestion: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.suggestion})" if self.suggestion else "")


class ConfigError(Fatal):
    """The configuration is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
