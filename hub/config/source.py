"""YAML text as plain data that still knows where each of its parts stands.

Read by composing nodes rather than objects, so that duplicate keys and every other finding can name a line, and so that
nothing in the text can construct anything. Scalars follow YAML 1.2: `yes`, `no`, `on`, `off` and dates are text.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hub.errors import ConfigError, Problem

Path = tuple[str | int, ...]

MAX_CHARACTERS = 1_000_000
MAX_NODES = 200_000
MAX_DEPTH = 30


@dataclass(slots=True)
class Source:
    """A read file: plain `data`, and what was found wrong or doubtful in it so far."""

    name: str
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: Path, what: str, suggestion: str = "", *, key: bool = False) -> None:
        """Note an error at the value (or with `key` at the key) of `path`."""
        self.problems.append(Problem(self.where(path, key=key), what, suggestion))

    def warn(self, path: Path, what: str, suggestion: str = "") -> None:
        """Note something that works but is probably not meant."""
        self.warnings.append(Problem(self.where(path, key=True), what, suggestion))

    def where(self, path: Path, *, key: bool = False) -> str:
        """file:line:column of a path, or of the nearest part above it that is written in the file; counted from 1."""
        while path:
            found = (self.keys.get(path) if key else None) or self.values.get(path) or self.keys.get(path)
            if found:
                return f"{self.name}:{found[0]}:{found[1]}"
            path = path[:-1]
        return f"{self.name}:1:1"

    def refuse(self) -> None:
        """Raise what was found, in the order of the file."""
        if self.problems:
            raise ConfigError(sorted(self.problems, key=_position))


def read(text: str, name: str) -> Source:
    """The data of one YAML document. What YAML itself refuses ends the reading; it raises ConfigError."""
    source = Source(name)
    if len(text) > MAX_CHARACTERS:
        raise ConfigError([Problem(f"{name}:1:1", f"longer than {MAX_CHARACTERS} characters")])
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except (YAMLError, RecursionError) as error:
        raise ConfigError([_syntax(error, text, name)]) from None
    source.data = _Walk(source).plain(node, ()) if node is not None else None
    return source


def closest(word: object, known: Iterable[str], alike: float = 0.6) -> str:
    """`did you mean ...` for the known word most like `word`, else the list of known words if that is short."""
    words = list(known)
    folded = {w.casefold(): w for w in words}
    if near := get_close_matches(str(word).casefold(), folded, 1, alike):
        return f"did you mean {folded[near[0]]}?"
    return f"one of: {', '.join(words)}" if 0 < len(words) <= 15 else ""


def shown(value: object) -> str:
    """A value for a message, bounded."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Walk:
    """Turns nodes into data, noting positions; aliases are followed, within bounds."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes = 0

    def plain(self, node: Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise ConfigError([Problem(self.source.where(path), "nested too deeply, or an alias that contains itself")])
        self.source.values.setdefault(path, _mark(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._item(item, path, place) for place, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode), "YAML has three kinds of nodes"
        return _scalar(node)

    def _item(self, node: Node, path: Path, place: int) -> Any:
        """An item of a list; a name in it is found by the name too, for lists that stand for mappings."""
        if isinstance(node, ScalarNode):
            self.source.keys.setdefault((*path, str(node.value)), _mark(node))
        return self.plain(node, (*path, place))

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, at = str(key_node.value), _mark(key_node)
            if key in data:
                first = self.source.keys[(*path, key)][0]
                problem = Problem(
                    f"{self.source.name}:{at[0]}:{at[1]}", f"{key} is given twice", f"first on line {first}"
                )
                self.source.problems.append(problem)
                continue
            self.source.keys[(*path, key)] = at
            data[key] = self.plain(value_node, (*path, key))
        return data


def _scalar(node: ScalarNode) -> Any:
    kind = node.tag.rsplit(":", 1)[-1] if isinstance(node.tag, str) else str(node.tag).rsplit(":", 1)[-1]
    if node.style in ("'", '"', "|", ">") or kind not in SCALARS:
        return node.value
    try:
        return SCALARS[kind](node.value)
    except ValueError:
        return node.value


SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": lambda text: int(text, 0) if text.lstrip("+-")[:2].lower() in ("0x", "0o") else int(text),
    "float": float,
}


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _position(problem: Problem) -> tuple[int, int]:
    parts = problem.where.rsplit(":", 2)
    return (int(parts[1]), int(parts[2])) if len(parts) == 3 and parts[1].isdigit() else (0, 0)


def _syntax(error: Exception, text: str, name: str) -> Problem:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    line, column = (mark.line + 1, mark.column + 1) if mark else _unreadable(error, text)
    what = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read as YAML")
    return Problem(f"{name}:{line}:{column}", what, _mend(what, text.splitlines(), line))


def _unreadable(error: Exception, text: str) -> tuple[int, int]:
    """Where a character stands that YAML does not admit."""
    before = text[: getattr(error, "position", 0) or 0]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _mend(what: str, lines: list[str], line: int) -> str:
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\\t" in what or "\t" in here:
        return "YAML is indented with spaces: replace the tab"
    if "${" in here:
        return 'inside { } or [ ] a reference needs quotes: "${NAME}"'
    if "mapping values are not allowed" in what:
        return 'a value with ": " in it needs quotes; else look at the indentation'
    if "alias" in what or "cannot start any token" in what:
        return "a value that begins with one of * & ! % @ ` needs quotes"
    return "look at the indentation, brackets and quotes here and on the line before"
