"""A system's settings: checked against its connector's manifest, and later resolved."""

from collections.abc import Callable, Mapping
from pathlib import Path as File
from typing import Any

from hub.config.manifest import ManifestLike, SettingLike
from hub.config.secrets import UnresolvedError, referenced, resolve
from hub.config.source import Path, Source, closest, shown

TYPES = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}


def check_settings(source: Source, name: str, settings: Mapping[str, Any], manifest: ManifestLike) -> None:
    """Note unknown and missing settings, secrets written out, and values of another type than the default's."""
    at: Path = ("systems", name)
    known = {setting.name: setting for setting in manifest.settings}
    for key, value in settings.items():
        if key not in known:
            what = f"unknown key {shown(key)}: {manifest.name} has no such setting"
            source.problem((*at, key), what, closest(key, [*known, "connector", "objects"]), key=True)
        elif known[key].secret and not referenced(value):
            source.problem((*at, key), f"{key} is a secret and must not be written here", _reference(name, key))
        elif not _fits(known[key], value):
            expected = TYPES[type(known[key].default)]
            source.problem((*at, key), f"{key} must be {expected}", f"default: {known[key].default}")
    for key, setting in known.items():
        if needed(setting) and key not in settings and setting.unless not in settings:
            mend = f"{key}: {variable(name, key) if setting.secret else '...'}  # {setting.what}"
            mend += f"; or {setting.unless}" if setting.unless else ""
            source.problem(at, f"{key} is missing", mend, key=True)


def needed(setting: SettingLike) -> bool:
    """Whether a system must have this setting, or the one it may be left out for."""
    return setting.required and setting.default is None


def resolved(
    name: str, settings: Mapping[str, Any], manifest: ManifestLike, env: Mapping[str, str], directory: File
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings with references replaced and defaults added; and by setting, why a reference leads nowhere."""
    values = {setting.name: setting.default for setting in manifest.settings if not setting.required or setting.default}
    unresolved: dict[str, str] = {}
    for key, value in settings.items():
        try:
            found = resolve(value, env, directory)
        except UnresolvedError as error:
            unresolved[key] = str(error)
            continue
        values[key] = _converted(found, values.get(key)) if found != value else found
    return values, unresolved


def _converted(text: Any, default: Any) -> Any:
    """What came out of a reference is text; where the setting is a number or a flag, it is read as one."""
    if isinstance(default, bool):
        return str(text).lower() in ("1", "true", "yes", "on")
    if isinstance(default, int | float):
        return next((number for read in (int, float) if (number := _read(read, str(text))) is not None), text)
    return text


def _read(read: Callable[[str], int | float], text: str) -> int | float | None:
    try:
        return read(text)
    except ValueError:
        return None


def _fits(setting: SettingLike, value: Any) -> bool:
    default = setting.default
    if default is None or isinstance(default, str) or (isinstance(value, str) and "${" in value):
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, int | float if isinstance(default, int | float) else type(default))


def _reference(system: str, setting: str) -> str:
    return f"write {setting}: {variable(system, setting)} and set that variable, or file:/path/of/a/file"


def variable(system: str, setting: str) -> str:
    """The reference by which a setting is usually given: `${CRM_URL}`."""
    return f"${{{system.upper()}_{setting.upper()}}}"
