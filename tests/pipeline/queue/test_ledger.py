"""What is announced and not yet taken is worth a claim; nothing else is."""

from __future__ import annotations

from pipeline.queue.ledger import REMEMBERED_MAX, IdLedger

Q = "ai-parsing"


def test_a_job_that_somebody_else_took_is_not_worth_asking_for() -> None:
    ledger = IdLedger([Q])
    assert not ledger.expects(Q)
    ledger.announced(Q, "1")
    ledger.announced(Q, "2")
    ledger.taken(Q, "1")
    assert ledger.expects(Q)
    ledger.taken(Q, "2")
    assert not ledger.expects(Q)


def test_a_job_announced_after_a_claim_was_sent_survives_that_claims_finding_nothing() -> None:
    """The two come by different sockets: the announcement may overtake the answer "empty", and must not be lost."""
    ledger = IdLedger([Q])
    ledger.announced(Q, "removed by somebody")
    mark = ledger.mark()
    ledger.announced(Q, "new")
    ledger.emptied(Q, mark)
    assert ledger.expects(Q)
    ledger.emptied(Q, ledger.mark())
    assert not ledger.expects(Q)


def test_a_job_that_is_announced_again_counts_from_then() -> None:
    ledger = IdLedger([Q])
    ledger.announced(Q, "1")
    mark = ledger.mark()
    ledger.announced(Q, "1")
    ledger.emptied(Q, mark)
    assert ledger.expects(Q)


def test_a_crowd_is_remembered_as_many_until_the_queue_is_found_empty() -> None:
    ledger = IdLedger([Q])
    for number in range(REMEMBERED_MAX + 5):
        ledger.announced(Q, str(number))
    for number in range(REMEMBERED_MAX + 5):
        ledger.taken(Q, str(number))
    assert ledger.expects(Q)
    ledger.emptied(Q, ledger.mark())
    assert not ledger.expects(Q)


def test_queues_do_not_share_what_they_expect() -> None:
    ledger = IdLedger([Q, "database-save"])
    ledger.announced(Q, "1")
    ledger.emptied("database-save", ledger.mark())
    assert ledger.expects(Q)
    assert not ledger.expects("database-save")


def test_what_was_announced_since_is_told_from_what_lay_there_already() -> None:
    ledger = IdLedger([Q])
    ledger.announced(Q, "1")
    mark = ledger.mark()
    ledger.announced(Q, "2")
    assert ledger.expects_since(Q, mark)
    ledger.taken(Q, "1")
    assert not ledger.expects_since(Q, mark)
    assert ledger.expects(Q)
