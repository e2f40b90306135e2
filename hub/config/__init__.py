"""Configuration: hub.yaml, from text with line numbers to entities, rules and mappings."""

from hub.config.loading import Config, SystemConfig, load, loads

__all__ = ["Config", "SystemConfig", "load", "loads"]
