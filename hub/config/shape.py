"""Data against a pydantic model: every difference becomes a problem with its place and, where there is one, a mend."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hub.config.source import Path, Source, closest, shown

M = TypeVar("M", bound=BaseModel)


def shape(source: Source, model: type[M]) -> M:
    """The model of the source's data. Raises ConfigError with all that does not fit, and all found before."""
    if not isinstance(source.data, dict):
        source.problem((), "is empty" if source.data is None else "must be a mapping of keys", "start with version: 1")
        source.refuse()
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _report(source, model, detail)
    source.refuse()
    raise AssertionError("a validation error without details")


def _report(source: Source, model: type[BaseModel], detail: ErrorDetails) -> None:
    path: Path = tuple(part for part in detail["loc"] if part != "[key]")
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        source.problem(path, f"unknown key {shown(path[-1])}", closest(path[-1], _keys(model, path[:-1])), key=True)
    elif kind == "missing":
        near = get_close_matches(str(path[-1]), detail["input"] if isinstance(detail["input"], dict) else (), 1)
        suggestion = f"is {near[0]} meant to be it?" if near else _about(model, path)
        source.problem(path[:-1], f"{path[-1]} is missing", suggestion, key=True)
    elif kind == "literal_error":
        known = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        source.problem(path, f"{path[-1]}: {shown(detail['input'])} is not known", closest(detail["input"], known))
    elif kind == "string_pattern_mismatch":
        what = f"{shown(detail['input'])} is not a name: lower-case letters, digits and _, beginning with a letter"
        source.problem(path, what, _name(detail["input"]), key=True)
    elif path == ("version",):
        source.problem(path, f"version {shown(detail['input'])} is not one this hub reads", "version: 1")
    else:
        source.problem(path, f"{path[-1] if path else 'this'}: {_plain(detail)}", _hint(detail))


def _name(text: Any) -> str:
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in str(text).lower()).split()
    name = "_".join(words).lstrip("0123456789_")
    return f"{name}?" if name else ""


EXPECTED = {
    "string_type": "must be text", "bool_type": "must be true or false", "int_type": "must be a whole number",
    "list_type": "must be a list", "dict_type": "must be a mapping", "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping", "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}  # fmt: skip


def _plain(detail: ErrorDetails) -> str:
    return EXPECTED.get(detail["type"], detail["msg"][:1].lower() + detail["msg"][1:])


def _hint(detail: ErrorDetails) -> str:
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return f'quote it: "{detail["input"]}"'
    if detail["type"] == "bool_type":
        return "write true or false" if detail["input"] in ("yes", "no", "on", "off") else ""
    if detail["type"] == "list_type" and isinstance(detail["input"], str):
        return f"[{shown(detail['input'])[1:-1]}]"
    return ""


def _about(model: type[BaseModel], path: Path) -> str:
    for owner in _models(model, path[:-1]):
        if field := owner.model_fields.get(str(path[-1])):
            return field.description or ""
    return ""


def _keys(model: type[BaseModel], path: Path) -> list[str]:
    return [name for owner in _models(model, path) for name in owner.model_fields]


def _models(model: Any, path: Path) -> Iterator[type[BaseModel]]:
    """The models that the configuration's shape admits at a path."""
    origin = get_origin(model)
    if origin is Annotated:
        yield from _models(get_args(model)[0], path)
    elif origin is Union or type(model).__name__ == "UnionType":
        for option in get_args(model):
            yield from _models(option, path)
    elif origin in (dict, Mapping, list):
        if path:
            yield from _models(get_args(model)[-1], path[1:])
    elif isinstance(model, type) and issubclass(model, BaseModel):
        if not path:
            yield model
        elif field := model.model_fields.get(str(path[0])):
            yield from _models(field.annotation, path[1:])
