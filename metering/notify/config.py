"""Who is told of what: a YAML file, METERING_NOTIFY_FILE."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from metering.errors import UserError
from metering.notify.signature import secret_bytes

_Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
_Address = Annotated[str, Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(_Strict):
    """Somebody who is told; `events` are kinds, `*` stands for any text."""

    id: _Id
    events: tuple[str, ...] = ("*",)

    def wants(self, kind: str) -> bool:
        """Whether it is told of this kind; a test reaches everybody."""
        return kind == "test" or any(fnmatchcase(kind, pattern) for pattern in self.events)


class Webhook(Target):
    """An address that takes signed JSON; `secret_file` is relative to the configuration."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")]
    secret_file: Path


class Email(Target):
    """Addresses that get a text."""

    to: Annotated[tuple[_Address, ...], Field(min_length=1)]


class Smtp(_Strict):
    """The mail server; `security` is starttls, tls or none."""

    host: str
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    security: Annotated[str, Field(pattern="^(starttls|tls|none)$")] = "starttls"
    sender: _Address
    user: str = ""
    password_file: Path | None = None


class NotifyConfig(_Strict):
    """The whole file; `templates` is a folder whose files stand before ours."""

    webhooks: tuple[Webhook, ...] = ()
    emails: tuple[Email, ...] = ()
    smtp: Smtp | None = None
    templates: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> "NotifyConfig":
        ids = [target.id for target in self.targets()]
        if len(set(ids)) < len(ids):
            raise ValueError("two targets have the same id: deliveries are told apart by it")
        if self.emails and self.smtp is None:
            raise ValueError("e-mail needs `smtp`: host and sender at least")
        return self

    def targets(self) -> tuple[Webhook | Email, ...]:
        """Everybody who is told."""
        return (*self.webhooks, *self.emails)


class Secrets:
    """Secrets of a configuration, read from files beside it."""

    def __init__(self, folder: Path, config: NotifyConfig) -> None:
        self.signing = {
            hook.id: secret_bytes(_read(folder / hook.secret_file), str(folder / hook.secret_file))
            for hook in config.webhooks
        }
        file = config.smtp.password_file if config.smtp else None
        self.password = _read(folder / file).strip() if file else ""


def load_config(file: Path | None) -> tuple[NotifyConfig, Secrets]:
    """Read and check the file with its secrets; UserError names the file and the field."""
    if file is None:
        raise UserError("nobody is to be told", hint="set METERING_NOTIFY_FILE; see docs/notifications.md")
    try:
        config = NotifyConfig.model_validate(yaml.safe_load(_read(file)) or {})
    except yaml.YAMLError as error:
        raise UserError(
            f"{file}: not YAML: {str(error).splitlines()[0]}", hint="docs/notifications.md has every field"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{file}: {place}: {first['msg']}", hint="docs/notifications.md has every field"
        ) from error
    if config.templates is not None:
        config = config.model_copy(update={"templates": file.parent / config.templates})
    return config, Secrets(file.parent, config)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}", hint="docs/notifications.md has every field"
        ) from error
