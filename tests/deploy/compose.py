"""The compose file as the tests read it: variables replaced, merge keys resolved, services typed."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "docker-compose.yml"
TEXT = FILE.read_text()
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def required() -> set[str]:
    """Variables without which `docker compose` refuses to start."""
    return {name for name, kind, _ in _VARIABLE.findall(TEXT) if kind == "?"}


def optional() -> dict[str, str]:
    """Variables with a default."""
    return {name: default for name, kind, default in _VARIABLE.findall(TEXT) if kind == "-"}


def undecided() -> set[str]:
    """Variables that are neither required nor have a default: empty without a word."""
    return {name for name, kind, _ in _VARIABLE.findall(TEXT) if not kind}


def load() -> dict[str, Any]:
    """The file with `NAME` in place of a required variable and the default in place of another."""
    text = _VARIABLE.sub(lambda found: found[1] if found[2] == "?" else found[3] or "", TEXT)
    return dict(yaml.safe_load(text))


COMPOSE = load()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONE_SHOT = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
STAYING = sorted(SERVICES.keys() - ONE_SHOT)


def commands(service: dict[str, Any]) -> list[list[str]]:
    """The commands of one of our services as words; `sh -c` is taken apart."""
    words = [str(word) for word in service["command"]]
    if words[:2] == ["sh", "-c"]:
        return [one.split() for one in words[2].split("&&")]
    return [words]
