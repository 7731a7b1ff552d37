"""The settings: a section for each room, and the one loader."""

from pipeline.config.loading import CONFIG_FILE, PREFIX, SECTIONS, ConfigError, Settings, load, to_environ

__all__ = ["CONFIG_FILE", "PREFIX", "SECTIONS", "ConfigError", "Settings", "load", "to_environ"]
