"""What the configuration needs to know of a connector: a view of its manifest, so that nothing here imports one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hub.mapping import Codec, FieldMap
from hub.values import Value


class SettingLike(Protocol):
    """One configuration key of a system."""

    @property
    def name(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def secret(self) -> bool: ...
    @property
    def required(self) -> bool: ...
    @property
    def default(self) -> Any: ...


class ObjectLike(Protocol):
    """What a connector knows of one object before any configuration."""

    @property
    def name(self) -> str: ...
    @property
    def entity(self) -> str: ...
    @property
    def fields(self) -> Sequence[FieldMap]: ...
    @property
    def constants(self) -> Mapping[str, Value]: ...
    @property
    def marketing(self) -> bool: ...
    @property
    def requires(self) -> tuple[str, ...]: ...
    @property
    def create(self) -> bool: ...


class ManifestLike(Protocol):
    """A connector as data."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def settings(self) -> Sequence[SettingLike]: ...
    @property
    def objects(self) -> Sequence[ObjectLike]: ...
    @property
    def dialect(self) -> Mapping[str, Callable[[Value], Any]]: ...
    @property
    def codecs(self) -> Mapping[str, Codec]: ...


Manifests = Mapping[str, ManifestLike]
