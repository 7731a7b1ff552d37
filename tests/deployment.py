"""What deploy/Dockerfile and docker-compose.yml say, as far as the tests ask: read, never assumed."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One service of docker-compose.yml, with the defaults of its variables filled in."""

    name: str
    says: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Does it run our image?"""
        return str(self.says["image"]).startswith("inferwatch:")

    @property
    def command(self) -> list[str]:
        return list(self.says.get("command", []))

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.says.get("environment", {}))

    @property
    def profiles(self) -> set[str]:
        return set(self.says["profiles"])

    @property
    def needs(self) -> dict[str, str]:
        """The services that it waits for, and until what."""
        return {name: dependency["condition"] for name, dependency in self.says.get("depends_on", {}).items()}

    @property
    def runs_once(self) -> bool:
        return bool(self.says["restart"] == "no")

    @property
    def health(self) -> list[str]:
        """The command that tells whether it is well: the service's own, or its image's. [] for none."""
        check = self.says.get("healthcheck", {})
        if check.get("disable"):
            return []
        if "test" not in check:
            assert self.is_ours
            return image().health
        command: list[str]
        kind, *command = check["test"]
        assert kind == "CMD"
        return command


@cache
def services(file: Path = COMPOSE_FILE) -> dict[str, Service]:
    """All services, by name."""
    compose = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {name: Service(name, filled(says)) for name, says in compose["services"].items()}


def filled(value: Any, environ: Mapping[str, str] | None = None) -> Any:
    """With ${NAME:-default} replaced, at any depth."""
    if isinstance(value, dict):
        return {key: filled(inner, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, environ) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: (environ or {}).get(found[1]) or found[2] or "", value)
    return value


def in_order(wanted: Mapping[str, Service]) -> list[Service]:
    """Each after all that it needs."""
    ordered: list[Service] = []
    left = dict(wanted)
    while left:
        ready = [s for s in left.values() if not any(name in left for name in s.needs)]
        assert ready, f"{list(left)} wait for each other"
        ordered += ready
        left = {name: service for name, service in left.items() if service not in ready}
    return ordered


@dataclass(frozen=True)
class Instruction:
    """One instruction of the Dockerfile, on one line."""

    word: str
    text: str


@dataclass(frozen=True)
class Image:
    """The Dockerfile: its stages, each a list of instructions."""

    arguments: Mapping[str, str]
    stages: tuple[tuple[Instruction, ...], ...]

    @property
    def final(self) -> tuple[Instruction, ...]:
        """The stage that is the image."""
        return self.stages[-1]

    def texts(self, word: str, stage: int = -1) -> list[str]:
        """What follows a word, each time it stands in a stage."""
        return [one.text for one in self.stages[stage] if one.word == word]

    @property
    def environment(self) -> dict[str, str]:
        pairs = [pair for text in self.texts("ENV") for pair in shlex.split(text)]
        return dict(pair.split("=", 1) for pair in pairs)

    @property
    def health(self) -> list[str]:
        [text] = self.texts("HEALTHCHECK")
        command: list[str] = json.loads(text[text.index("CMD") + len("CMD") :])
        return command

    @property
    def entrypoint(self) -> list[str]:
        [text] = self.texts("ENTRYPOINT")
        command: list[str] = json.loads(text)
        return command

    @property
    def sources(self) -> list[str]:
        """What is copied from the tree."""
        copies = [shlex.split(text) for stage in range(len(self.stages)) for text in self.texts("COPY", stage)]
        return [source for copy in copies if not copy[0].startswith("--from=") for source in copy[:-1]]


@cache
def image() -> Image:
    """deploy/Dockerfile."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    instructions = [Instruction(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]
    stages: list[list[Instruction]] = [[]]
    for instruction in instructions:
        if instruction.word == "FROM":
            stages.append([])
        stages[-1].append(instruction)
    head, *rest = stages
    return Image(dict(one.text.split("=", 1) for one in head), tuple(map(tuple, rest)))
