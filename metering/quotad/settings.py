"""What a quotad can be told; the brokers and the prefix come from the deployment's own settings."""

import ipaddress
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from metering.errors import UserError


class QuotadSettings(BaseSettings):
    """Names are `METERING_QUOTAD_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="METERING_QUOTAD_", frozen=True)

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; beyond loopback a token is due."
    )
    port: int = Field(default=8710, ge=1, le=65_535, description="Port to listen on.")
    token: SecretStr = Field(
        default=SecretStr(""), description="Requests to `/v1` carry it as bearer token; empty: none is asked."
    )
    timeout_seconds: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="An answer takes no longer; then a limit's `when_stale` answers.",
    )
    when_no_data: Literal["allow", "deny"] = Field(
        default="deny", description="What a check answers while no limit is known, and nobody can be asked."
    )
    stale_seconds: float = Field(
        default=10.0, gt=0, description="A partition that was not heard of for so long makes it `degraded`."
    )
    max_body_bytes: int = Field(default=262_144, ge=1_024, description="Largest body of a request.")
    max_batch: int = Field(default=1_000, ge=1, description="Most checks in one batch.")

    def is_loopback(self) -> bool:
        """Whether only this machine can ask."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def quotad_settings() -> QuotadSettings:
    """The settings of this process; UserError for a bad value, and when others could ask without a token."""
    try:
        found = QuotadSettings()
    except ValidationError as error:
        said = "; ".join(f"METERING_QUOTAD_{e['loc'][0]}".upper() + f": {e['msg']}" for e in error.errors())
        raise UserError(said, hint="the settings are described in docs/quotad.md") from error
    if not found.is_loopback() and not found.token.get_secret_value():
        raise UserError(
            f"METERING_QUOTAD_HOST={found.host} can be reached from other machines, and no token is set",
            hint="set METERING_QUOTAD_TOKEN, or listen on 127.0.0.1",
        )
    return found
