"""The base of every value that is stored or handed from stage to stage."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Immutable, compared by content, and strict about names: a misspelt field is an error, not a surprise.

    Money and quantities are `Decimal` and travel through JSON as strings, so no cent is lost in a float.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
