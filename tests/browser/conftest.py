"""The page stands on what the endpoints stand on."""

from tests.app.admin.conftest import (  # noqa: F401 - fixtures, found by name
    bull,
    connections,
    database,
    deps,
    given,
    make_deps,
    shops,
)
