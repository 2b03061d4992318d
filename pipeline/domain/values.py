"""The base of every value that is stored or handed from stage to stage."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class Value(BaseModel):
    """Immutable, compared by content, and strict about names: a misspelt field is an error, not a surprise.

    Money and quantities are `Decimal` and travel through JSON as strings, so no cent is lost in a float.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        """Documents may hold NUL characters; Postgres stores none, and no name or number needs one."""
        return value.replace("\0", "") if isinstance(value, str) else value
