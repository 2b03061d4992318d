"""Which server all of this is asked of: Valkey 9 by default, and once more in CI Debian's Redis 7."""

from __future__ import annotations

import os

import redis

from app.embedded.programs import get_valkey


def test_these_tests_run_on_the_server_that_was_asked_for(redis_admin: redis.Redis) -> None:
    assert redis_admin.info("server")["executable"] == os.environ.get("REDIS_PROGRAM", str(get_valkey()))
