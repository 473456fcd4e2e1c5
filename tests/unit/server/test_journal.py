"""The journal: what was answered is kept, and keeping it never stands in the way of answering."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headstart.core.blob import Blob
from headstart.core.errors import ResourceError, UsageError
from headstart.core.ledger import Ledger, Prediction, Run
from headstart.ledgers import open_ledger
from headstart.server.protection.protected import keeping
from headstart.server.record.journal import Journal
from headstart.server.record.records import Answered, records_of, secret_of
from headstart.testing.toys import toy_runtime

SECRET = b"s" * 32
ANSWER = {"label": "red", "label_confidence": 0.9, "label_automated": True}


def answered(request: str = "r", rows: int = 1, **more) -> Answered:
    inputs = [{"body": f"my order {each}"} for each in range(rows)]
    return Answered(request, "/predict", "toy", "1", inputs, [ANSWER] * rows, ("label",), **more)


def until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


class Slow(Ledger):
    """A ledger whose disk stands still until it is told to go on, and then fails as often as wanted."""

    def __init__(self, failures: int = 0) -> None:
        self.go, self.failures, self.records = threading.Event(), failures, []

    @classmethod
    def claims(cls, place):
        return False

    @classmethod
    def open(cls, place):
        return cls()

    def append(self, records):
        self.go.wait()
        if self.failures:
            self.failures -= 1
            raise ResourceError("The disk is full.")
        self.records += records
        return len(records)

    def read(self, kind, **options):
        return (each for each in self.records if isinstance(each, kind))

    def forget(self, before, limit=1000):
        return 0

    def close(self):
        pass


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "ledger.sqlite")


def rows_of(place: str) -> list[Prediction]:
    with open_ledger(place) as ledger:
        return list(ledger.read(Prediction))


def test_what_is_kept_of_an_answer(place):
    with keeping(lambda: open_ledger(place), SECRET) as journal:
        journal.add(answered("one", 2, caller="shop", latency_ms=3.5, variant="canary"))
    first, second = rows_of(place)
    assert (first.request_id, first.row, second.row) == ("one", 0, 1)
    assert (first.model, first.model_version, first.variant, first.target) == ("toy", "1", "canary", "label")
    assert (first.pred, first.conf, first.decision, first.caller, first.latency_ms) == ("red", 0.9, "auto", "shop", 3.5)
    assert abs(first.ts - time.time()) < 60
    assert first.input_ref is None
    assert first.input_mac != second.input_mac
    with open_ledger(place) as ledger:
        assert [(each.verb, each.model, each.model_version) for each in ledger.read(Run)] == [("serve", "toy", "1")]
    assert b"my order" not in b"".join(each.read_bytes() for each in Path(place).parent.iterdir())


def test_inputs_are_kept_where_that_is_wanted(place):
    with keeping(lambda: open_ledger(place), SECRET, store_inputs=True) as journal:
        journal.add(answered())
    assert rows_of(place)[0].input_ref == '{"body":"my order 0"}'


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": "1", "b": 2}, {"b": 2, "a": "1"}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": b"x"}, {"a": Blob("x.png", lambda: b"x")}, True),
        ({"a": np.ones(3)}, {"a": np.ones(3)}, True),
        ({"a": np.ones(3)}, {"a": np.zeros(3)}, False),
    ],
)
def test_the_same_input_has_the_same_mac(one, other, same):
    macs = [
        records_of(Answered("r", "", "m", "1", [row], [ANSWER], ("label",)), 0, SECRET, False)[0].input_mac
        for row in (one, other)
    ]
    assert (macs[0] == macs[1]) is same
    again = records_of(Answered("r", "", "m", "1", [one], [ANSWER], ("label",)), 0, b"t" * 32, False)[0].input_mac
    assert again != macs[0]


def test_each_target_is_a_record_and_a_network_that_writes_is_kept_without_its_text(place):
    with keeping(lambda: open_ledger(place), SECRET) as journal:
        answer = {"a": ["x", "y"], "a_confidence": 0.5, "a_automated": False, "b": 2.5}
        journal.add(Answered("two", "", "m", "1", [{"t": "x"}], [answer], ("a", "b")))
        journal.add(Answered("none", "", "m", "1", [{"t": "x"}], [{"text": "a secret"}]))
    first, second, third = rows_of(place)
    assert (first.target, first.pred, first.decision) == ("a", '["x","y"]', "defer")
    assert (second.target, second.pred, second.conf) == ("b", "2.5", None)
    assert (third.target, third.pred) == ("", None)


def test_a_disk_that_stands_still_delays_nothing_and_what_is_too_much_is_counted():
    slow = Slow()
    journal = Journal(lambda: slow, SECRET, room=100)
    journal.add(answered("first"))
    assert until(lambda: not journal._queue)
    for each in range(1000):
        journal.add(answered(str(each)))
    assert not slow.go.is_set()
    assert journal.waiting == 100
    assert journal.dropped["full"] == 901
    slow.go.set()
    journal.close()
    assert journal.kept == 100
    assert journal.waiting == 0
    assert [each.request_id for each in slow.read(Prediction)] == ["first", *map(str, range(99))]


def test_taking_a_row_along_costs_microseconds():
    slow = Slow()
    journal = Journal(lambda: slow, SECRET)
    one = [{"body": "My order has not arrived."}]
    costs = []
    for _ in range(100):
        started = time.thread_time()
        for _ in range(50):
            journal.add(Answered("r", "/predict", "toy", "1", one, [ANSWER], ("label",), latency_ms=1.0))
        costs.append((time.thread_time() - started) / 50)
    assert min(costs) < 50e-6, "it is 6 on a quiet machine"
    slow.go.set()
    journal.close()


def test_a_write_that_fails_is_tried_again_and_nothing_is_lost_or_doubled(caplog):
    slow = Slow(failures=2)
    slow.go.set()
    journal = Journal(lambda: slow, SECRET)
    for each in range(10):
        journal.add(answered(str(each)))
    assert until(lambda: journal.kept == 10)
    assert [each.request_id for each in slow.read(Prediction)] == list(map(str, range(10)))
    assert caplog.text.count("Predictions are not kept now") == 1
    journal.close()


def test_closing_waits_for_a_dead_disk_only_so_long():
    slow = Slow()
    journal = Journal(lambda: slow, SECRET)
    journal.add(answered(rows=5))
    assert until(lambda: not journal._queue)
    journal.close(seconds=0.3)
    assert not slow.go.is_set()
    assert journal.dropped["stopped"] == 5
    journal.add(answered(rows=2))
    assert journal.dropped["stopped"] == 7
    slow.go.set()


def test_large_inputs_do_not_fill_the_memory():
    slow = Slow()
    journal = Journal(lambda: slow, SECRET, room_bytes=10_000)
    journal.add(answered())
    assert until(lambda: not journal._queue)
    big = [{"file": b"x" * 6000}]
    for _ in range(3):
        journal.add(Answered("r", "", "m", "1", big, [ANSWER], ("label",)))
    journal.add(Answered("r", "", "m", "1", [{"file": b"x" * 20_000}], [ANSWER], ("label",)))
    assert (journal.dropped["full"], journal.dropped["large"], journal.waiting) == (2, 1, 2)
    slow.go.set()
    journal.close()


def test_a_row_that_cannot_be_kept_is_left_out_alone(place, caplog):
    class Odd:
        def __str__(self):
            raise ValueError("odd")

    with keeping(lambda: open_ledger(place), SECRET) as journal:
        rows = [{"t": "a"}, {"t": Odd()}, {"t": "b"}, {"t": "c"}]
        answers = [ANSWER, ANSWER, ANSWER | {"label": "lone \ud800 surrogate"}, ANSWER]
        journal.add(Answered("r", "", "m", "1", rows, answers, ("label",)))
    assert [each.row for each in rows_of(place)] == [0, 3]
    assert (journal.kept, journal.dropped["invalid"], journal.waiting) == (2, 2, 0)


def test_a_ledger_that_becomes_readonly_is_waited_for(place):
    """Another process holds the lock, as a broken disk would: predictions wait, and are kept when it lets go."""
    with keeping(lambda: open_ledger(place), SECRET) as journal:
        other = sqlite3.connect(place, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal.add(answered("held", 3))
        assert until(lambda: bool(journal.failing))
        with pytest.raises(ResourceError, match="locked"):
            journal.ask(lambda ledger: 1)
        other.execute("ROLLBACK")
        other.close()
        assert until(lambda: journal.kept == 3)
        assert until(lambda: not journal.failing)
    assert len(rows_of(place)) == 3


def test_questions_are_answered_after_what_was_added_before(place):
    with keeping(lambda: open_ledger(place), SECRET) as journal:
        journal.add(answered("asked", 3))
        asked = journal.ask(lambda ledger: [each.row for each in ledger.read(Prediction)])
        assert asked.result(5) == [0, 1, 2]
        wrong = journal.ask(lambda ledger: list(ledger.read(Prediction, where={"nothing": 1})))
        with pytest.raises(UsageError):
            wrong.result(5)


def test_old_predictions_are_forgotten(place):
    with open_ledger(place) as ledger:
        ledger.append([Prediction(str(each), 1.0, "r", each, "", "m", "1") for each in range(2500)])
        ledger.append([Prediction("new", time.time(), "r", 0, "", "m", "1")])
    with keeping(lambda: open_ledger(place), SECRET, keep_days=30):
        assert until(lambda: len(rows_of(place)) == 1)
    assert rows_of(place)[0].id == "new"


def test_measures():
    slow = Slow()
    slow.go.set()
    journal, registry = Journal(lambda: slow, SECRET, room=2), CollectorRegistry()
    registry.register(journal.metrics())
    journal.add(answered(rows=3))
    journal.add(answered(rows=2))
    assert until(lambda: journal.kept == 2)
    text = generate_latest(registry).decode()
    assert 'headstart_journal_dropped_total{reason="full"} 3.0' in text
    assert "headstart_journal_rows_total 2.0" in text
    assert "headstart_journal_waiting 0.0" in text
    journal.close()


def test_the_secret_is_made_once_and_kept_from_others(tmp_path, monkeypatch):
    monkeypatch.delenv("HEADSTART_HMAC_KEY", raising=False)
    path = tmp_path / "ledger.key"
    made = secret_of(path)
    assert secret_of(path) == made
    assert len(made) == 64
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        secret_of(path)
    monkeypatch.setenv("HEADSTART_HMAC_KEY", "e" * 40)
    assert secret_of(path) == b"e" * 40
    monkeypatch.setenv("HEADSTART_HMAC_KEY", "short")
    with pytest.raises(UsageError, match="At least 32"):
        secret_of(path)


def test_a_wrong_place_is_told_at_the_start(tmp_path):
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with (
        pytest.raises(UsageError, match="is not a ledger"),
        keeping(lambda: open_ledger(str(tmp_path / "text.sqlite")), SECRET),
    ):
        pass


SERVER = """
import signal, sys, time, threading
import uvicorn
from headstart.ledgers import open_ledger
from headstart.server.app import create_app
from headstart.server.protection.protected import keeping
from headstart.testing.toys import toy_runtime
# uvicorn sends itself the signal again when it has stopped.
signal.signal(signal.SIGTERM, lambda *_: None)
if len(sys.argv) > 2:
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with keeping(lambda: open_ledger(sys.argv[1]), b"s" * 32) as journal:
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    app = create_app(toy_runtime(("body",)), name="toy", journal=journal)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on", ws="none"))
    def tell():
        while not server.started:
            time.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=tell).start()
    server.run()
    failing = journal.failing
print(journal.kept, journal.dropped.total(), bool(failing), flush=True)
"""


@pytest.fixture
def process(place):
    """Return a function that starts a server with a ledger in a process of its own, and gives it and its address."""
    started = []

    def start(*arguments: str):
        process = subprocess.Popen([sys.executable, "-c", SERVER, place, *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, f"http://127.0.0.1:{int(process.stdout.readline())}"

    yield start
    for each in started:
        each.kill()
        each.wait()
        each.stdout.close()


@pytest.mark.slow
def test_after_a_kill_what_was_answered_a_second_ago_is_there(place, process):
    import httpx2

    server, url = process()
    with httpx2.Client(base_url=url, timeout=30) as client:
        told = [client.post("/predict", json={"rows": ["red", "blue"]}).headers["x-request-id"] for _ in range(300)]
        time.sleep(1.0)
        last = [client.post("/predict", json="red").headers["x-request-id"] for _ in range(20)]
        server.send_signal(signal.SIGKILL)
        server.wait()
    kept = {(each.request_id, each.row) for each in rows_of(place)}
    assert {(each, row) for each in told for row in (0, 1)} <= kept
    assert kept <= {(each, row) for each in (*told, *last) for row in (0, 1)}


@pytest.mark.slow
def test_a_full_disk_fails_no_prediction(place, process):
    """The kernel refuses to let the process' files grow beyond a limit, as a full disk does."""
    import httpx2

    server, url = process("400000")
    expected = toy_runtime(("body",)).predict_rows(["red"])
    with httpx2.Client(base_url=url, timeout=30) as client:
        for _ in range(40):
            answer = client.post("/predict", json={"rows": ["red"] * 50})
            assert answer.status_code == 200
            assert answer.json()["predictions"] == expected * 50
        time.sleep(0.5)
        assert client.get("/health/ready").status_code == 200
    server.send_signal(signal.SIGTERM)
    kept, dropped, failing = server.stdout.readline().split()
    assert server.wait(20) == 0
    assert failing == "True"
    assert int(dropped) > 0
    assert int(kept) + int(dropped) == 2000
    assert len(rows_of(place)) == int(kept)
