"""What the image and the composition promise, as far as their text tells. No Docker is needed, nor asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from app.settings import Settings

ROOT = Path(__file__).parents[2]
HEALTH_IMPORTS = """
import sys
from app.cli import app
try:
    app(["health", "ready"])
except SystemExit:
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
UNHEALTHY_WITHIN_S = 60
"""Promise 7: a wedged worker shows within a minute."""


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile's last stage: what the running image is made of."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]
    last = max(index for index, (name, _) in enumerate(pairs) if name == "FROM")
    return pairs[last:]


def _only(name: str) -> str:
    [value] = [value for instruction, value in _instructions() if instruction == name]
    return value


def _blocks(text: str, indent: str) -> Iterator[tuple[str, str]]:
    """Keys at an indentation, each with the lines below it."""
    for found in re.finditer(rf"^{indent}(\S+):[^\n]*\n((?:{indent}[ #].*\n|\n)*)", text, re.MULTILINE):
        yield found[1], found[0]


def _compose() -> dict[str, str]:
    return dict(_blocks((ROOT / "docker-compose.yml").read_text(encoding="utf-8"), ""))


def _services() -> dict[str, str]:
    return dict(_blocks(_compose()["services"], "  "))


def _seconds(block: str, key: str) -> float:
    [value] = re.findall(rf"{key}[:=] ?(\d+)s", block)
    return float(value)


def test_the_image_does_not_run_as_root() -> None:
    assert _only("USER") == "${USER_ID}:${USER_ID}"
    name, _, number = _only("ARG").partition("=")
    assert name == "USER_ID"
    assert int(number) > 0


def test_signals_reach_python_and_not_a_shell() -> None:
    assert json.loads(_only("ENTRYPOINT")) == ["python", "-m", "app"]
    assert json.loads(_only("CMD")) == ["worker"]


def test_health_is_asked_through_the_cli_and_says_so_in_time() -> None:
    options, _, command = _only("HEALTHCHECK").partition(" CMD ")
    assert json.loads(command) == ["python", "-m", "app", "health", "ready"]
    [retries] = re.findall(r"--retries=(\d+)", options)
    assert int(retries) * (_seconds(options, "interval") + _seconds(options, "timeout")) <= UNHEALTHY_WITHIN_S


def test_asking_for_health_does_not_load_the_service(tmp_path: Path) -> None:
    """It is asked in every container several times a minute."""
    environment = {"PYTHONPATH": str(ROOT), "HTTP_PORT": "1"}
    command = [sys.executable, "-c", HEALTH_IMPORTS]
    asked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "Connection refused" in asked.stderr
    heavy = {"sqlalchemy", "alembic", "asyncpg", "redis", "fastapi", "uvicorn", "httpx", "openai", "structlog", "anyio"}
    assert heavy.isdisjoint(asked.stdout.split())


def test_workers_can_be_scaled() -> None:
    worker = _services()["worker"]
    assert "ports:" not in worker
    assert "container_name:" not in worker


def test_ports_are_published_on_this_machine_only() -> None:
    published = re.findall(r"ports: (.*)", _compose()["services"])
    assert published == ['["127.0.0.1:${PAGE_PORT:-8080}:8080"]']


def test_the_page_needs_a_token_and_consumes_nothing() -> None:
    page = _services()["page"]
    assert "ADMIN_TOKEN: ${ADMIN_TOKEN:?" in page
    assert "STAGES: none" in page


def test_a_stopping_worker_has_time_to_hand_its_jobs_back() -> None:
    default = Settings.model_fields["shutdown_grace_seconds"].default
    for name in ("worker", "page"):
        service = _services()[name]
        [given] = re.findall(r"SHUTDOWN_GRACE_SECONDS: (\d+)", service) or [default]
        assert _seconds(service, "stop_grace_period") > max(float(given), default)


def test_nothing_starts_before_the_tables_are_there() -> None:
    for name in ("worker", "page"):
        assert "depends_on: *after-migration" in _services()[name]
    assert "migrate: {condition: service_completed_successfully}" in _compose()["x-after-migration"]


def test_the_image_holds_no_environment_of_this_machine() -> None:
    """Settings also read `.env` in the working directory."""
    let_in = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] in "!*"]
    assert let_in[0] == "*"
    assert not [line for line in let_in if ".env" in line]
    copied = [value.split()[0] for name, value in _instructions() if name == "COPY" and "--from" not in value]
    assert {line[1:] for line in let_in[1:] if line[0] == "!"} == {*copied, "requirements.lock"}
