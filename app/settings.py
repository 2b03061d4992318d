"""The only reader of the environment. Read once, checked whole, frozen, handed on.

Every field is an environment variable of the same name in capitals; `.env.example` explains each.
All problems are reported together, not the first one only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline import flow

BEATS_PER_LEASE = 4
"""A lease must survive three lost heartbeats."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SettingsError(ValueError):
    """The environment cannot be used; the message lists every problem."""


class Settings(BaseSettings):
    """Everything that may differ between two installations."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, env_ignore_empty=True
    )

    redis_url: SecretStr | None = None
    database_url: SecretStr | None = None
    database_migrate_url: SecretStr | None = None
    database_pool_size: int = Field(default=8, ge=2, le=100)
    queue_prefix: str = "bull"
    redis_connect_timeout_seconds: float = Field(default=10.0, gt=0)
    allow_eviction: bool = False

    openai_api_key: SecretStr | None = None
    openai_base_url: str = "https://api.openai.com/v1"
    openai_model: str = "gpt-6-luna"
    model_timeout_seconds: float = Field(default=120.0, gt=0)

    shopify_mode: str = Field(default="live", pattern="^(live|sandbox)$")
    shopify_api_version: str = "2026-10"
    shopify_client_id: str = ""
    shopify_client_secret: SecretStr | None = None
    supabase_url: str = ""
    supabase_service_role_key: SecretStr | None = None
    document_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    document_folder: Path | None = None
    image_host_map: dict[str, str] = {}
    trusted_bases: Annotated[tuple[str, ...], NoDecode] = ()

    secret_key: SecretStr | None = None
    admin_token: SecretStr | None = None
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    public_url: str = Field(default="", pattern=r"^(https?://[^/?#\s]+)?/?$")

    lease_seconds: float = Field(default=120.0, gt=0)
    heartbeat_seconds: float = Field(default=30.0, gt=0)
    stalled_seconds: float = Field(default=60.0, gt=0)
    max_stalls: int = Field(default=3, ge=0)
    guard_seconds: float = Field(default=5.0, gt=0)
    reconcile_seconds: float = Field(default=60.0, gt=0)
    retry_delay_seconds: float = Field(default=5.0, gt=0)
    rate_limit: str = "10/5"
    shop_open_runs: int = Field(default=flow.SHOP_SHARE, ge=1)
    shutdown_grace_seconds: float = Field(default=30.0, ge=0)

    stages: str = "all"
    log_format: str = Field(default="json", pattern="^(json|text)$")

    @field_validator("document_hosts", "trusted_bases", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages this process consumes: all, none, or a list of queue names."""
        if self.stages == "all":
            return flow.NAMES
        if self.stages == "none":
            return ()
        return tuple(name.strip() for name in self.stages.split(",") if name.strip())

    @property
    def rate_limits(self) -> dict[str, tuple[int, int]]:
        """Claims per window by queue, as (jobs, milliseconds); a queue that is not named has no limit.

        `10/5` means ten jobs in five seconds for each stage that calls a vendor; `off` none at all;
        `shopify-sync=20/1,ai-parsing=off` settles single queues after such a default.
        """
        limits: dict[str, tuple[int, int]] = {}
        for part in filter(None, (item.strip() for item in self.rate_limit.split(","))):
            queue, _, value = part.rpartition("=")
            names = [queue] if queue else [spec.name for spec in flow.STAGES if spec.vendor]
            for name in names:
                if value == "off":
                    limits.pop(name, None)
                else:
                    jobs, _, seconds = value.partition("/")
                    limits[name] = (int(jobs), int(float(seconds) * 1000))
        return limits

    @model_validator(mode="after")
    def _coherent(self) -> Settings:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        problems = []
        if self.heartbeat_seconds * BEATS_PER_LEASE > self.lease_seconds:
            problems.append(f"LEASE_SECONDS must hold {BEATS_PER_LEASE} beats of HEARTBEAT_SECONDS")
        shortest = min(spec.time_limit.total_seconds() for spec in flow.STAGES if spec.vendor)
        if self.model_timeout_seconds >= shortest:
            problems.append(f"MODEL_TIMEOUT_SECONDS must be below the shortest time limit of a stage, {shortest:g}")
        unknown = [name for name in self.stage_names if name not in flow.BY_NAME]
        if unknown:
            problems.append(f"STAGES names {', '.join(unknown)}; known are {', '.join(flow.NAMES)}")
        try:
            strangers = [name for name in self.rate_limits if name not in flow.BY_NAME]
        except ValueError:
            problems.append("RATE_LIMIT is written like 10/5 or shopify-sync=20/1,ai-parsing=off")
        else:
            problems += [f"RATE_LIMIT names {name}, which is no queue" for name in strangers]
        if self.shopify_client_id and self.shopify_client_secret is None:
            problems.append("SHOPIFY_CLIENT_ID needs SHOPIFY_CLIENT_SECRET")
        if self.http_host not in _LOOPBACK and self.admin_token is None:
            problems.append("HTTP_HOST beyond loopback needs ADMIN_TOKEN")
        return problems


def load_settings(**given: Any) -> Settings:
    """Read the environment (and `.env`); what is `given` wins. Raises SettingsError listing every problem."""
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in e['loc']).upper() or 'settings'}: {e['msg']}" for e in error.errors()
        ]
        raise SettingsError("the settings cannot be used:\n  " + "\n  ".join(lines)) from None


def redacted(settings: Settings) -> dict[str, Any]:
    """The settings as they may be shown: secrets and passwords masked."""
    return {name: "***" if isinstance(value, SecretStr) else value for name, value in settings.model_dump().items()}
