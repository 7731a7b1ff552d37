"""Every setting, read once: environment `INFERWATCH_*` over an optional TOML file over the defaults.

All mistakes are reported together, an unknown name is a mistake, and no secret is ever printed.
A secret NAME may also be given as NAME_FILE, the path of a file that holds it.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from pipeline.config.people import PeopleSettings
from pipeline.config.sections import (
    DetectionSettings,
    HttpSettings,
    ImageSettings,
    KafkaSettings,
    LogSettings,
    NotificationSettings,
    Section,
    StoreSettings,
    TrialSettings,
    WebSettings,
    WorkerSettings,
)

PREFIX = "INFERWATCH_"
CONFIG_FILE = PREFIX + "CONFIG_FILE"


# Of the Python client (client/), whose programs may have them set: no mistakes here.
OF_THE_CLIENT = {PREFIX + name for name in ("URL", "API_KEY", "DEVICE_ID", "SPOOL")}

SECTIONS: tuple[type[Section], ...] = (
    KafkaSettings,
    StoreSettings,
    WorkerSettings,
    DetectionSettings,
    NotificationSettings,
    TrialSettings,
    WebSettings,
    HttpSettings,
    ImageSettings,
    PeopleSettings,
    LogSettings,
)


class ConfigError(Exception):
    """Settings that cannot be used; the text lists every mistake, one a line."""


# Fields come in the order of the bases from the last to the first.
class Settings(
    LogSettings,
    ImageSettings,
    PeopleSettings,
    HttpSettings,
    WebSettings,
    TrialSettings,
    NotificationSettings,
    DetectionSettings,
    WorkerSettings,
    StoreSettings,
    KafkaSettings,
):
    """The settings of every process. The field `kafka_bootstrap` is INFERWATCH_KAFKA_BOOTSTRAP."""


def load(environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings: `overrides` over `environ` (default: the process's) over the file INFERWATCH_CONFIG_FILE.

    An empty text, wherever it stands, means "not given". Raises ConfigError with all mistakes, one a line.
    """
    environ = os.environ if environ is None else environ
    mistakes: list[str] = []
    given = _from_file(environ.get(CONFIG_FILE), mistakes)
    given |= _from_variables(environ, mistakes)
    given |= {field: _Given(value, field) for field, value in (overrides or {}).items()}
    try:
        settings = Settings(**{field: one.value for field, one in given.items() if one.value != ""})
    except ValidationError as invalid:
        for mistake in invalid.errors(include_input=False, include_url=False):
            field = str(mistake["loc"][0]) if mistake["loc"] else ""
            what = "no such setting" if mistake["type"] == "extra_forbidden" else mistake["msg"]
            mistakes.append(f"{given[field].name if field in given else field}: {what}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return settings


def to_environ(settings: Settings) -> dict[str, str]:
    """The settings as INFERWATCH_* variables, secrets included: what a child process is started with.

    Every variable is there, if need be empty, so that laid over any environment it gives these settings.
    """
    out = {CONFIG_FILE: ""}
    for field, value in settings:
        variable = PREFIX + field.upper()
        if isinstance(value, SecretStr):
            out[variable], out[variable + "_FILE"] = value.get_secret_value(), ""
        else:
            out[variable] = "" if value is None else str(value)
    return out


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and the name under which the user gave it."""

    value: Any
    name: str


def _from_file(path: str | None, mistakes: list[str]) -> dict[str, _Given]:
    if not path:
        return {}
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        mistakes.append(f"{CONFIG_FILE}: {error}")
        return {}
    return _with_secrets({field: _Given(value, f"{path}: {field}") for field, value in table.items()}, mistakes)


def _from_variables(environ: Mapping[str, str], mistakes: list[str]) -> dict[str, _Given]:
    given = {
        name.removeprefix(PREFIX).lower(): _Given(text, name)
        for name, text in environ.items()
        if name.startswith(PREFIX) and name != CONFIG_FILE and name not in OF_THE_CLIENT and text != ""
    }
    return _with_secrets(given, mistakes)


def _with_secrets(given: dict[str, _Given], mistakes: list[str]) -> dict[str, _Given]:
    """What one source gives, with the secret itself in place of each secret_file."""
    out: dict[str, _Given] = {}
    for field, one in given.items():
        secret = field.removesuffix("_file")
        if secret == field or not _is_secret(secret) or one.value == "":
            out.setdefault(field, one)
        elif secret in given and given[secret].value != "":
            mistakes.append(f"{one.name}: {given[secret].name} is given too")
        else:
            try:
                out[secret] = _Given(Path(one.value).read_text(encoding="utf-8").rstrip("\r\n"), one.name)
            except (OSError, ValueError, TypeError) as error:
                mistakes.append(f"{one.name}: {error}")
    return out


def _is_secret(field: str) -> bool:
    info = Settings.model_fields.get(field)
    return info is not None and info.annotation is SecretStr
