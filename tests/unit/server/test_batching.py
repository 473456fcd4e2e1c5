"""The queue in front of the model: every answer goes to its request, and nobody waits for somebody's thousands."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.server.models.fitted import Fitted
from headstart.server.queue.batching import Batcher, Busy, Expired
from headstart.server.queue.work import WHOLE, Budget, Work
from headstart.server.record.metrics import Metrics
from headstart.testing.toys import POISON, toy_runtime

WORDS = st.text(alphabet="abc ", min_size=1, max_size=12)


class Recorder:
    """A model that answers each text with itself, and remembers the batches."""

    def __init__(self, seconds: float = 0.0, **budget: int) -> None:
        self.seconds, self.batches, self.budget = seconds, [], Budget(**budget)

    def __call__(self, texts, group=""):
        return Echo(self, texts, group)


class Echo(Work):
    """Texts for a Recorder."""

    def __init__(self, recorder, texts, group) -> None:
        self.recorder, self.texts, self.group = recorder, texts, (id(recorder), group)
        self.costs = [recorder.budget.cost(len(text)) for text in texts]

    @classmethod
    def together(cls, parts):
        recorder = parts[0].work.recorder
        assert len({part.work.group for part in parts}) == 1
        texts = [part.work.texts[part.start : part.stop] for part in parts]
        recorder.batches.append(list(chain(*texts)))
        time.sleep(recorder.seconds)
        if any(POISON in text for text in chain(*texts)):
            raise ValueError("poison")
        return texts


def run(scenario, **options):
    """Run a scenario of a batcher to its end, and stop the batcher."""

    async def main():
        batcher = Batcher(Metrics(), **options)
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            await batcher.stop()

    return asyncio.run(main())


@settings(max_examples=60, deadline=None)
@given(
    jobs=st.lists(
        st.tuples(st.lists(WORDS, max_size=12), st.booleans(), st.booleans(), st.sampled_from("xy")), max_size=20
    ),
    rows=st.integers(1, 6),
    characters=st.integers(6, 60),
)
def test_every_answer_equals_the_unbatched_one(jobs, rows, characters):
    budget = Budget(rows=rows, characters=characters)
    models = {name: Fitted(toy_runtime(), name, "1", budget) for name in "xy"}

    async def scenario(batcher):
        async def ask(texts, pause, leave, name):
            if pause:
                await asyncio.sleep(0)
            answer = batcher.submit(models[name].prepare([{"text": text} for text in texts], {}), name)
            if leave:
                await asyncio.sleep(0)
                answer.cancel()
                return None
            return await answer

        return await asyncio.gather(*(ask(*job) for job in jobs))

    answers = run(scenario, batches=10_000)
    runtime = toy_runtime()
    for (texts, _, left, _), answer in zip(jobs, answers, strict=True):
        assert left or answer == [runtime.predict_rows([{"text": text}])[0] for text in texts]


@settings(max_examples=60, deadline=None)
@given(
    jobs=st.lists(st.lists(WORDS, min_size=1, max_size=30), min_size=1, max_size=12),
    rows=st.integers(1, 8),
    characters=st.integers(8, 80),
)
def test_batches_keep_to_the_budget(jobs, rows, characters):
    recorder = Recorder(rows=rows, characters=characters)

    async def scenario(batcher):
        await asyncio.gather(*(batcher.submit(recorder(texts), str(len(texts) % 3)) for texts in jobs))

    run(scenario, batches=10_000)
    for batch in recorder.batches:
        costs = [recorder.budget.cost(len(text)) for text in batch]
        assert sum(costs) <= max(WHOLE, *costs)
        assert len(batch) <= rows
    assert sorted(chain(*recorder.batches)) == sorted(chain(*jobs))


def test_waiting_rows_go_together():
    recorder = Recorder(0.05)

    async def scenario(batcher):
        await asyncio.gather(*(batcher.submit(recorder([str(each)])) for each in range(20)))

    run(scenario)
    assert len(recorder.batches) <= 2


def test_a_lone_row_does_not_wait_for_others():
    recorder = Recorder()

    async def scenario(batcher):
        await batcher.submit(recorder(["warm"]))
        started = time.perf_counter()
        await batcher.submit(recorder(["x"]))
        return time.perf_counter() - started

    assert min(run(scenario) for _ in range(5)) < 0.02


def test_small_requests_overtake_big_ones():
    recorder = Recorder(0.005, rows=8)
    texts = [f"big {each}" for each in range(400)]

    async def scenario(batcher):
        big = batcher.submit(recorder(texts))
        await asyncio.sleep(0.02)
        seen = len(recorder.batches)
        await batcher.submit(recorder(["small"]))
        waited = len(recorder.batches) - seen
        assert not big.done()
        assert await big == texts
        return waited

    assert run(scenario) <= 3


def test_big_requests_share_the_model():
    recorder = Recorder(0.002, rows=10)

    async def scenario(batcher):
        await asyncio.gather(batcher.submit(recorder(["first"] * 200)), batcher.submit(recorder(["second"] * 200)))

    run(scenario)
    half = [text for batch in recorder.batches[:20] for text in batch]
    assert 80 <= half.count("second") <= 120


def test_models_take_turns_by_what_they_cost():
    dear, cheap = Recorder(0.004, rows=10), Recorder(0.0, rows=10)

    async def scenario(batcher):
        many = [batcher.submit(dear([f"dear {each}"] * 10), "dear") for each in range(40)]
        await asyncio.sleep(0.01)
        few = [batcher.submit(cheap(["cheap"] * 10), "cheap") for _ in range(5)]
        await asyncio.gather(*few)
        return sum(each.done() for each in many)

    assert run(scenario, batches=100) < 15


def test_models_on_one_network_share_its_batches():
    recorder = Recorder(0.02)

    async def scenario(batcher):
        blocker = batcher.submit(recorder(["blocker"]), "first")
        await asyncio.gather(*(batcher.submit(recorder([name]), name) for name in ("a", "b", "c") * 3), blocker)

    run(scenario)
    assert len(recorder.batches) <= 3


def test_what_does_not_belong_together_is_not_answered_together():
    recorder = Recorder(0.01)

    async def scenario(batcher):
        await asyncio.gather(*(batcher.submit(recorder([option], option), "one model") for option in "ababab"))

    run(scenario)
    assert all(len(set(batch)) == 1 for batch in recorder.batches)


@pytest.mark.parametrize("rows", [1, 5])
def test_only_the_request_that_is_to_blame_fails(rows):
    recorder = Recorder()

    async def scenario(batcher):
        blocker = batcher.submit(recorder(["blocker"]))
        answers = [batcher.submit(recorder([POISON if each == 5 else str(each)] * rows)) for each in range(12)]
        await blocker
        return await asyncio.gather(*answers, return_exceptions=True)

    outcomes = run(scenario)
    assert isinstance(outcomes.pop(5), ValueError)
    assert all(isinstance(outcome, list) for outcome in outcomes)


def test_a_batch_that_is_too_much_is_halved():
    recorder = Recorder()

    class Narrow(Work):
        def __init__(self, texts) -> None:
            self.texts, self.costs, self.group = texts, [1] * len(texts), "narrow"

        @classmethod
        def together(cls, parts):
            if sum(map(len, parts)) > 3:
                raise MemoryError
            recorder.batches.append([part.work.texts[part.start : part.stop] for part in parts])
            return recorder.batches[-1]

    async def scenario(batcher):
        return await batcher.submit(Narrow(list("abcdefghij")))

    assert run(scenario) == list("abcdefghij")


def test_those_who_leave_never_reach_the_model():
    recorder = Recorder(0.05)

    async def scenario(batcher):
        blocker = batcher.submit(recorder(["blocker"]), "lane")
        await asyncio.sleep(0.02)
        leaving = [batcher.submit(recorder(["gone"] * 3), "lane") for _ in range(50)]
        staying = batcher.submit(recorder(["here"]), "lane")
        assert batcher.waiting("lane") == 151
        for each in leaving:
            each.cancel()
        await asyncio.gather(blocker, staying)
        return batcher.waiting("lane")

    assert run(scenario) == 0
    assert recorder.batches == [["blocker"], ["here"]]


def test_a_request_that_leaves_halfway_stops_there():
    recorder = Recorder(0.01, rows=10)

    async def scenario(batcher):
        big = batcher.submit(recorder(["big"] * 100))
        await asyncio.sleep(0.025)
        big.cancel()
        await batcher.submit(recorder(["small"]))

    run(scenario)
    assert len(recorder.batches) < 8


def test_what_is_too_late_never_reaches_the_model():
    recorder = Recorder(0.05)

    async def scenario(batcher):
        blocker = batcher.submit(recorder(["blocker"]))
        await asyncio.sleep(0.02)
        late = batcher.submit(recorder(["late"]), deadline=time.monotonic() + 0.01)
        early = batcher.submit(recorder(["early"]), deadline=time.monotonic() + 10)
        with pytest.raises(Expired):
            await late
        await asyncio.gather(blocker, early)
        return batcher.waiting("")

    assert run(scenario) == 0
    assert "late" not in chain(*recorder.batches)


def test_a_full_queue_says_when_to_come_back():
    recorder = Recorder(0.2, rows=10)

    async def scenario(batcher):
        await batcher.submit(recorder(["x"] * 10))  # now the speed is known: ten rows in 0.2 s
        waiting = [batcher.submit(recorder(["x"] * 10)) for _ in range(11)]
        with pytest.raises(Busy) as caught:
            for _ in range(20):
                waiting.append(batcher.submit(recorder(["x"] * 10)))
        elsewhere = batcher.submit(recorder(["y"]), "another model")
        for each in [*waiting, elsewhere]:
            each.cancel()
        return caught.value

    error = run(scenario, batches=12)
    assert "rows are waiting" in error.problem
    assert 4 <= error.retry_after <= 12  # 240 rows, ten in 0.2 to 0.4 s
    assert error.status == 503


def test_a_big_request_fits_into_an_empty_queue():
    recorder = Recorder(rows=10, characters=100)

    async def scenario(batcher):
        return await batcher.submit(recorder(["x" * 50] * 1000))

    assert len(run(scenario, batches=1)) == 1000


def test_the_background_waits_for_everybody_else():
    recorder = Recorder(0.01)

    async def scenario(batcher):
        first = batcher.submit(recorder(["first"]), "live")
        shadow = batcher.submit(recorder(["shadow"], "other"), "shadow", background=True)
        others = [batcher.submit(recorder([str(each)], str(each)), "live") for each in range(5)]
        await asyncio.gather(first, shadow, *others)

    run(scenario)
    assert recorder.batches[-1] == ["shadow"]


def test_a_call_runs_between_batches():
    recorder = Recorder(0.01)

    async def scenario(batcher):
        work = batcher.submit(recorder(["x"]))
        with pytest.raises(ZeroDivisionError):
            await batcher.call(lambda: 1 // 0)
        assert await batcher.call(lambda: len(recorder.batches)) == 1
        await work

    run(scenario)


def test_a_stream_takes_turns_with_batches():
    recorder = Recorder(0.001)
    written, closed = [], []

    def write():
        try:
            for each in range(300):
                time.sleep(0.001)
                written.append(each)
                yield str(each)
        finally:
            closed.append(True)

    async def scenario(batcher):
        stream = batcher.stream(write, 2)
        assert await stream.next() == "0"
        for _ in range(20):
            await batcher.submit(recorder(["x"]))
        meanwhile, found = len(written), ["0"]
        while (piece := await stream.next()) is not None:
            found.append(piece)
        assert found == [str(each) for each in range(300)]
        return meanwhile

    assert 10 <= run(scenario) < 200
    assert closed


def test_a_stream_ends_when_its_reader_leaves_and_pauses_when_he_is_slow():
    written = []

    def write():
        for each in range(1000):
            written.append(each)
            yield str(each)

    async def scenario(batcher):
        stream = batcher.stream(write, 1)
        with pytest.raises(Busy):
            batcher.stream(write, 1)
        assert await stream.next() == "0"
        await asyncio.sleep(0.05)
        paused = len(written)
        stream.leave()
        await asyncio.sleep(0.05)
        batcher.stream(lambda: iter(()), 1).leave()
        return paused

    assert run(scenario) < 100
    assert len(written) < 100


def test_a_stream_that_fails_says_so():
    def write():
        yield "a"
        raise ValueError("broken")

    async def scenario(batcher):
        stream = batcher.stream(write, 1)
        assert await stream.next() == "a"
        with pytest.raises(ValueError, match="broken"):
            await stream.next()

    run(scenario)


def test_stopping_answers_those_who_wait():
    recorder = Recorder(0.05)

    async def scenario(batcher):
        waiting = [batcher.submit(recorder([str(each)])) for each in range(5)]
        await batcher.stop()
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            batcher.submit(recorder(["late"]))
        return await asyncio.gather(*waiting)

    assert len(run(scenario)) == 5


def test_before_the_start_nothing_is_taken():
    batcher = Batcher(Metrics())
    with pytest.raises(Busy):
        batcher.submit(Recorder()(["early"]))
    asyncio.run(batcher.stop())


def test_a_stuck_batch_is_noticed():
    async def scenario(batcher):
        assert batcher.stuck() == 0
        work = batcher.submit(Recorder(0.1)(["x"]))
        await asyncio.sleep(0.05)
        stuck = batcher.stuck()
        await work
        return stuck

    assert 0.02 < run(scenario) < 0.1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_model_thread_is_noticed():
    class Ending(Work):
        costs, group = [WHOLE, WHOLE], "ending"

        @classmethod
        def together(cls, parts):
            raise SystemExit

    async def scenario(batcher):
        first, second = batcher.submit(Ending()), batcher.submit(Ending(), "other")
        stream, call = batcher.stream(lambda: iter("a"), 1), batcher.call(lambda: time.sleep(0.01))
        await asyncio.gather(call, return_exceptions=True)
        for each in (first, second):
            with pytest.raises(Busy):
                await each
        assert batcher.failed
        assert not batcher.running
        stream.leave()

    run(scenario)


def test_others_come_in_between_the_steps_of_a_long_work():
    recorder = Recorder()

    class Long(Work):
        long, costs = True, [1]

        def __init__(self, batcher, name) -> None:
            self.batcher, self.group = batcher, name

        @classmethod
        def together(cls, parts):
            work = parts[0].work
            for _ in range(50):
                time.sleep(0.002)
                work.batcher.pause()
            recorder.batches.append([work.group])
            return [[work.group]]

    async def scenario(batcher):
        long = [batcher.submit(Long(batcher, name), name) for name in ("first", "second")]
        for _ in range(5):
            await batcher.submit(recorder(["short"]), "short")
        assert not any(each.done() for each in long)
        assert batcher.stuck() < 0.05
        await asyncio.gather(*long)

    run(scenario)
    assert [each for batch in recorder.batches for each in batch if each != "short"] == ["first", "second"]


class Watchful(Recorder):
    """A Recorder that remembers in which thread it answers, and how many of a room did at once."""

    def __init__(self, seconds: float = 0.0, room: dict[str, int] | None = None) -> None:
        super().__init__(seconds)
        self.threads, self.room = [], {"inside": 0, "most": 0} if room is None else room

    def __call__(self, texts, group=""):
        return Watched(self, texts, group)


class Watched(Echo):
    """Texts for a Watchful."""

    @classmethod
    def together(cls, parts):
        recorder = parts[0].work.recorder
        room = recorder.room
        room["inside"] += 1
        room["most"] = max(room["most"], room["inside"])
        recorder.threads.append(threading.current_thread().name)
        try:
            return Echo.together(parts)
        finally:
            room["inside"] -= 1


async def asleep(batcher):
    """Wait until the model's thread sleeps."""
    while not batcher._asleep:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(("seconds", "place"), [(0.0, "MainThread"), (0.003, "headstart-model")])
def test_what_takes_no_longer_than_handing_it_over_is_answered_in_the_loop(seconds, place):
    model = Watchful(seconds)

    async def scenario(batcher):
        batcher.learn("a", model(["x"]).costs[0], max(seconds, 1e-5))
        for number in range(5):
            await asleep(batcher)
            assert await batcher.submit(model([str(number)]), "a") == [str(number)]

    run(scenario)
    assert set(model.threads) == {place}


def test_nobody_knows_yet_how_long_the_first_batch_takes():
    model = Watchful()

    async def scenario(batcher):
        await asleep(batcher)
        await batcher.submit(model(["x"]))

    run(scenario)
    assert model.threads == ["headstart-model"]


def test_the_loop_and_the_thread_never_run_a_model_at_once():
    quick = Watchful()
    slow = Watchful(0.004, quick.room)

    async def scenario(batcher):
        batcher.learn("quick", 4000, 1e-5)
        batcher.learn("slow", 4000, 0.004)
        asked = []
        for number in range(60):
            asked.append(batcher.submit(quick([str(number)]), "quick"))
            if number % 3 == 0:
                asked.append(batcher.submit(slow([str(number)]), "slow"))
            if number % 20 == 19:
                await asyncio.gather(*asked)
                await asleep(batcher)
            await asyncio.sleep(0)
        await asyncio.gather(*asked)

    run(scenario, batches=1000)
    assert quick.room["most"] == 1
    assert set(quick.threads) == {"MainThread", "headstart-model"}
    assert set(slow.threads) == {"headstart-model"}


def test_a_broken_row_fails_alone_in_the_loop_too():
    model = Watchful()

    async def scenario(batcher):
        batcher.learn("a", model(["x"]).costs[0], 1e-5)
        await asleep(batcher)
        asked = [batcher.submit(model([text]), "a") for text in ("one", POISON, "two")]
        return await asyncio.gather(*asked, return_exceptions=True)

    first, broken, second = run(scenario)
    assert (first, second) == (["one"], ["two"])
    assert isinstance(broken, ValueError)
    assert set(model.threads) == {"MainThread"}


def test_how_soon_a_batch_breaks_does_not_bring_the_next_one_into_the_loop():
    model = Watchful(0.005)

    async def scenario(batcher):
        batcher.learn("a", model(["x"]).costs[0], 0.005)
        model.seconds = 0.0
        for _ in range(30):
            await asleep(batcher)
            with pytest.raises(ValueError, match="poison"):
                await batcher.submit(model([POISON]), "a")
        model.seconds = 0.005
        await asleep(batcher)
        await batcher.submit(model(["x"]), "a")

    run(scenario)
    assert set(model.threads) == {"headstart-model"}


def test_what_lets_others_come_in_between_is_never_answered_in_the_loop():
    model = Watchful()

    async def scenario(batcher):
        batcher.learn("a", model(["x"]).costs[0], 1e-5)
        await asleep(batcher)
        work = model(["x"])
        work.long = True
        await batcher.submit(work, "a")

    run(scenario)
    assert model.threads == ["headstart-model"]


def test_a_batch_of_which_all_is_too_late_is_none():
    model = Watchful()

    async def scenario(batcher):
        batcher.learn("a", model(["x"]).costs[0], 1e-5)
        await asleep(batcher)
        with pytest.raises(Expired):
            await batcher.submit(model(["x"]), "a", deadline=time.monotonic() - 1)

    run(scenario)
    assert model.batches == []
