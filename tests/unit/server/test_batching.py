"""The queue in front of the model: every answer goes to its request, and nobody waits for somebody's thousands."""

from __future__ import annotations

import asyncio
import time
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.server.batching import Batcher, Busy
from headstart.server.metrics import Metrics
from headstart.testing.toys import POISON, toy_runtime

RUNTIME = toy_runtime()
WORDS = st.text(alphabet="abc ", min_size=1, max_size=12)


class Recorder:
    """Answers each row with itself and remembers the batches; `hold` is a lock that keeps the model busy."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches = seconds, []

    def __call__(self, rows):
        self.batches.append([row["text"] for row in rows])
        time.sleep(self.seconds)
        if any(POISON in row["text"] for row in rows):
            raise ValueError("poison")
        return [dict(row) for row in rows]


def row(text):
    return {"text": text}


def run(predict, scenario, **options):
    """Run a scenario of a batcher to its end, and stop the batcher."""

    async def main():
        batcher = Batcher(predict, Metrics(), **options)
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            await batcher.stop()

    return asyncio.run(main())


@settings(max_examples=60, deadline=None)
@given(
    jobs=st.lists(st.tuples(st.lists(WORDS, max_size=12), st.booleans(), st.booleans()), max_size=20),
    rows=st.integers(1, 6),
    characters=st.integers(6, 60),
)
def test_every_answer_equals_the_unbatched_one(jobs, rows, characters):
    async def scenario(batcher):
        async def ask(texts, pause, leave):
            if pause:
                await asyncio.sleep(0)
            answer = batcher.submit([row(text) for text in texts])
            if leave:
                await asyncio.sleep(0)
                answer.cancel()
                return None
            return await answer

        return await asyncio.gather(*(ask(*job) for job in jobs))

    answers = run(RUNTIME.predict_rows, scenario, rows=rows, characters=characters, batches=10_000)
    for (texts, _, left), answer in zip(jobs, answers, strict=True):
        assert left or answer == [RUNTIME.predict_rows([row(text)])[0] for text in texts]


@settings(max_examples=60, deadline=None)
@given(
    jobs=st.lists(st.lists(WORDS, min_size=1, max_size=30), min_size=1, max_size=12),
    rows=st.integers(1, 8),
    characters=st.integers(8, 80),
)
def test_batches_keep_to_the_budget(jobs, rows, characters):
    recorder = Recorder()

    async def scenario(batcher):
        await asyncio.gather(*(batcher.submit([row(text) for text in texts]) for texts in jobs))

    run(recorder, scenario, rows=rows, characters=characters, batches=10_000)
    for batch in recorder.batches:
        least = max(1, characters // rows)
        assert sum(max(least, len(text)) for text in batch) <= max(characters, *map(len, batch), least)
    assert sorted(chain(*recorder.batches)) == sorted(chain(*jobs))


def test_waiting_rows_go_together():
    recorder = Recorder(0.05)

    async def scenario(batcher):
        await asyncio.gather(*(batcher.submit([row(str(each))]) for each in range(20)))

    run(recorder, scenario)
    assert len(recorder.batches) <= 2


def test_a_lone_row_does_not_wait_for_others():
    async def scenario(batcher):
        await batcher.submit([row("warm")])
        started = time.perf_counter()
        await batcher.submit([row("x")])
        return time.perf_counter() - started

    assert min(run(Recorder(), scenario) for _ in range(5)) < 0.02


def test_small_requests_overtake_big_ones():
    recorder = Recorder(0.005)

    async def scenario(batcher):
        big = batcher.submit([row(f"big {each}") for each in range(400)])
        await asyncio.sleep(0.02)
        seen = len(recorder.batches)
        await batcher.submit([row("small")])
        waited = len(recorder.batches) - seen
        assert not big.done()
        answers = await big
        assert [answer["text"] for answer in answers] == [f"big {each}" for each in range(400)]
        return waited

    assert run(recorder, scenario, rows=8) <= 3


def test_big_requests_share_the_model():
    recorder = Recorder(0.002)

    async def scenario(batcher):
        first = batcher.submit([row("first")] * 200)
        second = batcher.submit([row("second")] * 200)
        await asyncio.gather(first, second)

    run(recorder, scenario, rows=10)
    half = [text for batch in recorder.batches[:20] for text in batch]
    assert 80 <= half.count("second") <= 120


def test_only_the_request_that_is_to_blame_fails():
    recorder = Recorder()

    async def scenario(batcher):
        blocker = batcher.submit([row("blocker")])
        answers = [batcher.submit([row(POISON if each == 5 else str(each))]) for each in range(12)]
        await blocker
        return await asyncio.gather(*answers, return_exceptions=True)

    outcomes = run(recorder, scenario)
    assert isinstance(outcomes.pop(5), ValueError)
    assert all(isinstance(outcome, list) for outcome in outcomes)


def test_a_wrong_number_of_answers_is_an_error_and_not_a_mixup():
    async def scenario(batcher):
        with pytest.raises(RuntimeError, match="1 answers for 2 rows"):
            await batcher.submit([row("a"), row("b")])

    run(lambda rows: [{}], scenario)


def test_those_who_leave_never_reach_the_model():
    recorder = Recorder(0.05)

    async def scenario(batcher):
        blocker = batcher.submit([row("blocker")])
        await asyncio.sleep(0.02)
        leaving = [batcher.submit([row("gone")] * 3) for _ in range(50)]
        staying = batcher.submit([row("here")])
        for each in leaving:
            each.cancel()
        await asyncio.gather(blocker, staying)
        return batcher._rows, batcher._load, len(batcher._waiting)

    assert run(recorder, scenario) == (0, 0, 0)
    assert recorder.batches == [["blocker"], ["here"]]


def test_a_request_that_leaves_halfway_stops_there():
    recorder = Recorder(0.01)

    async def scenario(batcher):
        big = batcher.submit([row("big")] * 100)
        await asyncio.sleep(0.025)
        big.cancel()
        await batcher.submit([row("small")])

    run(recorder, scenario, rows=10)
    assert len(recorder.batches) < 8


def test_a_full_queue_says_when_to_come_back():
    async def scenario(batcher):
        waiting = [batcher.submit([row("x")] * 10)]
        await asyncio.gather(*waiting)  # now the speed is known: ten rows in 0.2 s
        waiting = [batcher.submit([row("x")] * 10) for _ in range(11)]
        with pytest.raises(Busy) as caught:
            for _ in range(10):
                waiting.append(batcher.submit([row("x")] * 10))
        for each in waiting:
            each.cancel()
        return caught.value

    error = run(Recorder(0.2), scenario, rows=10, batches=12)
    assert "rows are waiting" in error.problem
    assert 2 <= error.retry_after <= 4
    assert error.status == 503


def test_a_big_request_fits_into_an_empty_queue():
    async def scenario(batcher):
        return await batcher.submit([row("x" * 50)] * 1000)

    assert len(run(Recorder(), scenario, rows=10, characters=100, batches=1)) == 1000


def test_stopping_answers_those_who_wait():
    async def scenario(batcher):
        waiting = [batcher.submit([row(str(each))]) for each in range(5)]
        await batcher.stop()
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            batcher.submit([row("late")])
        return await asyncio.gather(*waiting)

    assert len(run(Recorder(0.05), scenario)) == 5


def test_before_the_start_nothing_is_taken():
    batcher = Batcher(Recorder(), Metrics())
    with pytest.raises(Busy):
        batcher.submit([row("early")])
    asyncio.run(batcher.stop())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_model_thread_is_noticed():
    def end(rows):
        raise SystemExit

    async def scenario(batcher):
        first = batcher.submit([row("a")])
        second = batcher.submit([row("b")] * 1000)
        for each in (first, second):
            with pytest.raises(Busy):
                await each
        assert batcher.failed
        assert not batcher.running

    run(end, scenario, rows=1)
