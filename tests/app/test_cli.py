"""The commands: what they print, what they change, and their exit codes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from app.cli import app
from app.cli_orders import parse_lines
from app.cli_tables import Screen
from app.db import tables
from app.db.errors import InvalidError
from app.db.receiving import Units
from tests.app.conftest import Cli
from tests.app.db.given import DOUBTS

pytestmark = pytest.mark.usefixtures("silent_logs")
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


def test_a_file_is_sent_as_upstream_would(cli: Cli, having: Any, redis_admin: redis.Redis, tmp_path: Path) -> None:
    having(lambda given: given.merchant())
    file = tmp_path / "po.csv"
    file.write_text("sku,qty\nA,1\n")
    result = cli("enqueue", str(file), "--merchant", "m1")
    assert result.exit_code == 0, result.output
    [run] = having(lambda given: given.rows(tables.runs))
    [job_id] = redis_admin.lrange("bull:ai-parsing:wait", 0, -1)
    assert job_id == f"po-{run['id']}-ai-parsing-0"
    envelope = json.loads(str(redis_admin.hget(f"bull:ai-parsing:{job_id}", "data")))
    assert (envelope["stage"], envelope["data"]["fileName"], envelope["data"]["mimeType"]) == (
        "ai_parsing",
        "po.csv",
        "text/csv",
    )


def test_a_file_sent_while_redis_is_away_is_accepted_and_says_when_it_starts(
    cli: Cli, having: Any, tmp_path: Path
) -> None:
    having(lambda given: given.merchant())
    file = tmp_path / "po.csv"
    file.write_text("sku,qty\nA,1\n")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        away = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        nobody.close()
        result = cli("enqueue", str(file), "--merchant", "m1", REDIS_URL=away)
    assert (result.exit_code, "starts when Redis is back" in result.output) == (0, True), result.output
    [run] = having(lambda given: given.rows(tables.runs))
    assert (run["state"], run["due_stage"]) == ("running", "ai-parsing")


def test_a_refusal_is_one_line_on_stderr_and_exit_code_1(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "po.csv"
    file.write_text("x")
    result = cli("enqueue", str(file), "--merchant", "nobody")
    assert (result.exit_code, result.stderr) == (1, "error: there is no merchant nobody\n")
    assert cli("approve", "nothing").stderr == "error: there is no run or order nothing\n"


def test_settings_that_cannot_be_used_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["status"], env={"RATE_LIMIT": "x", "DATABASE_POOL_SIZE": "0"})
    assert result.exit_code == 1
    assert "DATABASE_POOL_SIZE" in result.stderr


def test_approving_names_the_stage_and_enqueues_its_job(cli: Cli, having: Any, redis_admin: redis.Redis) -> None:
    having(lambda given: given.run_in_review("r", at="image-attachment"))
    result = cli("approve", "wf-r", "--without-plan")
    assert "run r goes on at shopify-sync" in result.output
    assert redis_admin.lrange("bull:shopify-sync:wait", 0, -1) == ["po-r-shopify-sync-1"]
    again = cli("approve", "r", "--without-plan")
    assert again.exit_code == 1
    assert "it is running" in again.stderr


def test_a_shop_that_is_put_right_lets_its_runs_go_at_once(cli: Cli, having: Any, redis_admin: redis.Redis) -> None:
    having(lambda given: given.merchant())
    having(lambda given: given.run("r", due_stage="shopify-sync", job_id="po-r-shopify-sync-0"))
    having(lambda given: given.insert(tables.shop_states, merchant_id="m1", parked_reason="connect it again"))
    assert cli("doctor").exit_code == 0, "the token is not stored here, so the shop is not connected"
    assert "runs waiting: 1: connect it again" in cli("status").output
    job = {
        "name": "__default__",
        "data": "{}",
        "opts": "{}",
        "timestamp": "1700000000000",
        "delay": "0",
        "priority": "0",
    }
    redis_admin.hset("bull:shopify-sync:po-r-shopify-sync-0", mapping=job)
    redis_admin.zadd("bull:shopify-sync:delayed", {"po-r-shopify-sync-0": 9e15})
    assert cli("merchants", "unpark", "m1").exit_code == 0
    assert redis_admin.lrange("bull:shopify-sync:wait", 0, -1) == ["po-r-shopify-sync-0"]
    assert cli("merchants", "unpark", "m1").exit_code == 1
    assert "there is no merchant" in cli("merchants", "unpark", "m2").stderr


def test_a_new_token_is_a_shop_put_right(cli: Cli, having: Any, redis_url: str, database_url: str) -> None:
    having(lambda given: given.merchant())
    having(lambda given: given.insert(tables.shop_states, merchant_id="m1", parked_reason="connect it again"))
    assert cli("merchants", "add", "m1", "--shop", "m1.example").exit_code == 0
    assert having(lambda given: given.rows(tables.shop_states))[0]["parked_reason"], "no token, nothing is new"
    key = "a-key-that-was-drawn-and-not-thought-up"
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": database_url, "SECRET_KEY": key}
    arguments = ["merchants", "add", "m1", "--shop", "m1.example", "--token-stdin", "--no-check"]
    result = CliRunner().invoke(app, arguments, input="shpat_new\n", env=environment)
    assert result.exit_code == 0, result.output
    assert not having(lambda given: given.rows(tables.shop_states))[0]["parked_reason"]


def test_who_used_the_terminal_is_in_the_audit(cli: Cli, having: Any) -> None:
    having(lambda given: given.run("r", due_stage="ai-parsing"))
    assert cli("cancel", "r").exit_code == 0
    [note] = having(lambda given: given.rows(tables.audit))
    assert note["who"].startswith("cli")


def test_orders_show_the_reasons_in_words(cli: Cli, having: Any) -> None:
    having(lambda given: given.run_in_review("r", at="database-save"))
    assert DOUBTS[0].message in cli("orders").output.replace("\n", " ")
    assert f"look at: {DOUBTS[0].message}" in cli("orders", "r").output
    assert json.loads(cli("orders", "--json").output)[0]["run_id"] == "r"
    assert json.loads(cli("orders", "r", "--json").output)["run"]["review"][0]["code"] == "totals"


def test_failed_lists_only_what_failed(cli: Cli, having: Any) -> None:
    assert cli("failed").output == "none\n"
    having(lambda given: given.run("ok"))
    having(lambda given: given.run("bad", state="failed", failed_stage="shopify-sync", failure="no shop"))
    assert [row["run_id"] for row in json.loads(cli("failed", "--json").output)] == ["bad"]
    assert "no shop" in cli("failed").output


def test_goods_are_received_by_line(cli: Cli, having: Any) -> None:
    having(lambda given: given.order())
    result = cli("receive", "PO-1", "--line", "MUG-R=8/1", "--line", "2=3")
    assert result.exit_code == 0, result.output
    lines = having(lambda given: given.rows(tables.receipt_lines))
    assert {(line["draft_variant_id"], line["accepted"], line["rejected"]) for line in lines} == {
        ("v-1", 8, 1),
        ("v-2", 3, 0),
    }


def test_what_came_must_be_said_one_way(cli: Cli, having: Any) -> None:
    having(lambda given: given.order())
    assert cli("receive", "PO-1").exit_code == 1
    assert cli("receive", "PO-1", "--all", "--line", "MUG-R=1").exit_code == 1
    over = cli("receive", "PO-1", "--line", "MUG-R=11")
    assert "confirm the over-receipt" in over.stderr
    assert cli("receive", "PO-1", "--line", "MUG-R=11", "--over").exit_code == 0


@pytest.mark.parametrize(("command", "action"), [("close", "close"), ("cancel-order", "cancel")])
def test_an_order_is_ended_by_its_number_once(cli: Cli, having: Any, command: str, action: str) -> None:
    having(lambda given: given.order())
    ended = cli(command, "PO-1")
    assert "goes on at shopify-sync" in ended.output
    assert [row["action"] for row in having(lambda given: given.rows(tables.receipts))] == [action]
    again = cli(command, "PO-1")
    assert (again.exit_code, "another receipt of this order" in again.stderr) == (1, True)


def test_a_line_is_read_from_its_last_equals_sign() -> None:
    assert parse_lines(["A=8", "B=1=2/3"]) == {"A": Units(8, 0), "B=1": Units(2, 3)}
    for wrong in ("A", "A=", "=8", "A=x", "A=-1", "A=1/x"):
        with pytest.raises(InvalidError):
            parse_lines([wrong])
    with pytest.raises(InvalidError, match="twice"):
        parse_lines(["A=1", "A=2"])


def test_status_counts_every_stage(cli: Cli, having: Any) -> None:
    having(lambda given: given.run("r", due_stage="shopify-sync"))
    found = json.loads(cli("status", "--json").output)
    assert found["runs"] == {"running": 1}
    assert len(found["stages"]) == 11
    assert "shopify-sync" in cli("status").output


def test_pause_and_resume_hold_in_both_stores(cli: Cli, having: Any, redis_admin: redis.Redis) -> None:
    assert cli("pause", "ai-parsing").exit_code == 0
    assert redis_admin.exists("bull:ai-parsing:meta-paused")
    assert len(having(lambda given: given.rows(tables.queue_pauses))) == 1
    assert cli("resume", "ai-parsing").exit_code == 0
    assert not redis_admin.exists("bull:ai-parsing:meta-paused")
    assert cli("pause", "mail").exit_code == 1


def test_a_queue_is_emptied_unless_it_works_or_by_force(cli: Cli, redis_admin: redis.Redis) -> None:
    redis_admin.lpush("bull:ai-parsing:active", "a")
    refused = cli("obliterate", "ai-parsing")
    assert (refused.exit_code, "run" in refused.stderr) == (1, True)
    assert redis_admin.exists("bull:ai-parsing:meta-paused")
    redis_admin.set("bull:ai-parsing:completed", "by hand")
    assert cli("obliterate", "ai-parsing", "--force").exit_code == 0
    assert redis_admin.keys("bull:ai-parsing:*") == []
    assert cli("obliterate", "mail").exit_code == 1


def test_reconcile_gives_a_run_its_job_and_finds_everything_in_order(cli: Cli, having: Any) -> None:
    having(lambda given: given.run("r", due_stage="database-save", due_since=AN_HOUR_AGO))
    result = cli("reconcile")
    assert result.exit_code == 0, result.output
    assert "open runs: 1; of these had no job and got one: 1" in result.output
    assert re.search(r"database-save +1 +0 +0 +in order", result.output)
    assert "everything is in order" in result.output
    assert json.loads(cli("reconcile", "--json").output)["in_order"] is True


@pytest.mark.breaks("stuck", "missing_field", "wrong_kind", "due_fits_state", reason="that is the claim")
def test_reconcile_names_what_a_person_must_look_at(cli: Cli, having: Any, redis_admin: redis.Redis) -> None:
    having(lambda given: given.run("r", due_stage="shopify-sync", due_since=AN_HOUR_AGO))
    having(lambda given: given.run("ended", state="needs_review", due_stage="ai-parsing", review_stage="ai-parsing"))
    redis_admin.hset("bull:ai-parsing:lost", "data", "{}")
    redis_admin.set("bull:shopify-sync:wait", "not a list")
    result = cli("reconcile")
    assert result.exit_code == 1
    assert "ai-parsing  lost  exists and stands in no place" in result.output
    assert "shopify-sync  wait is a string where Bull keeps a list" in result.output
    assert "shopify-sync  r  is due at shopify-sync and no job will run it" in result.output
    assert "journal  ended  is due where its state does not let it be" in result.output
    found = json.loads(cli("reconcile", "--json").output)
    assert found["in_order"] is False
    assert [one["rule"] for one in found["journal"]] == ["due_fits_state"]


def test_what_is_on_its_way_is_shown_and_needs_nobody(cli: Cli, having: Any, redis_admin: redis.Redis) -> None:
    having(lambda given: given.run("r", due_stage="database-save", due_since=AN_HOUR_AGO))
    cli("reconcile")
    redis_admin.rpoplpush("bull:database-save:wait", "bull:database-save:active")  # taken by a Node that died there
    having(lambda given: given.change(tables.runs, tables.runs.c.id == "r", due_stage="merchant-config"))
    result = cli("reconcile")
    assert result.exit_code == 0
    assert re.search(r"database-save +1 +1 +1 +in order", result.output)


def test_config_shows_no_secret(cli: Cli, redis_url: str) -> None:
    shown = json.loads(cli("config").output)
    assert shown["redis_url"] == shown["database_url"] == "***"
    assert redis_url not in json.dumps(shown)


def test_the_doctor_finds_a_good_installation_good(cli: Cli, having: Any) -> None:
    having(lambda given: given.merchant())
    result = cli("doctor")
    assert result.exit_code == 0, result.output
    assert "fail" not in result.output
    assert "nobody else is seen to take our jobs" in result.output


def test_the_doctor_says_what_to_do(cli: Cli, redis_admin: redis.Redis, redis_url: str) -> None:
    redis_admin.config_set("maxmemory-policy", "allkeys-lru")
    redis_admin.hset("bull:shopify-sync:meta", "version", "bullmq:5.0.0")
    with redis.Redis.from_url(redis_url) as intruder:
        intruder.client_setname("bull:c2hvcGlmeS1zeW5j")
        try:
            result = cli("doctor")
        finally:
            redis_admin.config_set("maxmemory-policy", "noeviction")
    assert result.exit_code == 1
    for words in ("set noeviction", "bullmq:5.0.0", "shopify-sync is consumed by a bull worker", "merchants add"):
        assert words in result.output


def test_the_doctor_reports_servers_that_are_away(cli: Cli) -> None:
    result = cli("doctor", REDIS_URL="redis://127.0.0.1:1", DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    assert result.exit_code == 1
    assert result.output.count("check the address") == 2


@pytest.mark.parametrize(("status", "code", "words"), [(200, 0, "ready"), (503, 1, "worker: no sweep for 99 s")])
def test_health_asks_http_and_exits_with_the_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, code: int, words: str
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reasons = [] if status == 200 else [words]
            body = json.dumps({"status": "ready" if status == 200 else "not ready", "reasons": reasons}).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    monkeypatch.chdir(tmp_path)
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        result = CliRunner().invoke(app, ["health", "ready"], env={"HTTP_PORT": str(server.server_port)})
        thread.join()
    assert (result.exit_code, words in result.output) == (code, True)


def test_health_fails_when_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["health", "live"], env={"HTTP_PORT": "1"}).exit_code == 1


def test_a_document_is_read_without_any_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "po.csv"
    file.write_text("PO Number,Supplier,Item,SKU,Quantity,Unit Price,Total\nPO-7,Acme Ltd,Mug,MUG-R,2,5.00,10.00\n")
    result = CliRunner().invoke(app, ["read", str(file), "--json"])
    assert result.exit_code == 0, result.output
    order = json.loads(result.output)["order"]
    assert (order["number"], order["lines"][0]["sku"]) == ("PO-7", "MUG-R")


def test_a_document_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().say("\x1b[2Jgone [red]not markup[/red]")
    assert capsys.readouterr().out == " [2Jgone [red]not markup[/red]\n"


def test_a_worker_that_waits_for_its_servers_still_stops_when_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "REDIS_URL": "redis://127.0.0.1:1",
        "DATABASE_URL": "postgresql://x@127.0.0.1:1/x",
        "HTTP_PORT": str(port),
    }
    command = [sys.executable, "-m", "app", "worker"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        try:
            assert any("waiting for servers" in line for line in waiting.stderr)
            waiting.send_signal(signal.SIGTERM)
            assert waiting.wait(timeout=10) == 0
        finally:
            waiting.kill()


@pytest.mark.parametrize("lacking", ["a server", "a port"])
def test_a_worker_that_cannot_start_says_why_in_its_last_line(tmp_path: Path, lacking: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "REDIS_URL": "redis://127.0.0.1:1",
            "DATABASE_URL": "" if lacking == "a server" else "postgresql://x@127.0.0.1:1/x",
            "HTTP_PORT": str(taken.getsockname()[1]),
        }
        command = [sys.executable, "-m", "app", "worker"]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    last = json.loads(ended.stderr.splitlines()[-1])
    reason = "DATABASE_URL must be set" if lacking == "a server" else "set HTTP_PORT"
    assert (ended.returncode, last["event"], reason in last["reason"]) == (1, "refused to start", True)
