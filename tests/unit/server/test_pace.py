"""What a batch may take, and what may wait, follow from how fast the model is."""

from __future__ import annotations

import asyncio
import time

import pytest

from headstart.server.queue import lanes
from headstart.server.queue.batching import Batcher, Busy
from headstart.server.queue.lanes import CALM_SECONDS, FEW, PRESSED_SECONDS
from headstart.server.queue.pace import Pace
from headstart.server.queue.work import WHOLE, Work
from headstart.server.record.metrics import Metrics
from headstart.server.service import first_of


class Slow(Work):
    """Rows that take so many seconds each."""

    seen: list[int] = []  # noqa: RUF012

    def __init__(self, rows: int, seconds: float) -> None:
        self.costs, self.seconds, self.group = [WHOLE // 1000] * rows, seconds, "slow"

    @classmethod
    def together(cls, parts):
        cls.seen.append(sum(map(len, parts)))
        time.sleep(sum(len(part) * part.work.seconds for part in parts))
        return [[0] * len(part) for part in parts]


def run(scenario, **options):
    async def main():
        batcher = Batcher(Metrics(), **options)
        batcher.start()
        Slow.seen = []
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            await batcher.stop()

    return asyncio.run(main())


def test_a_batch_is_what_can_be_answered_in_its_time():
    pace = Pace()
    assert pace.batch(0.1) == WHOLE
    pace.note(1000, 0.01)
    assert pace.batch(0.1) == 10_000
    for _ in range(20):
        pace.note(10_000, 0.05)
    assert pace.batch(0.1) == pytest.approx(20_000, rel=0.02)


def test_a_network_whose_passes_all_take_long_gets_larger_batches():
    pace, cost = Pace(), 1000
    for _ in range(20):
        pace.note(cost, 0.3)
        cost = pace.batch(0.1)
    assert cost > 100_000


def test_a_batch_that_a_busy_machine_held_up_says_little():
    pace = Pace()
    pace.note(1000, 0.01)
    pace.note(1000, 60.0)
    assert pace.rate > 1000 / 0.05


def test_batches_follow_the_speed():
    async def scenario(batcher):
        batcher.learn("m", WHOLE // 1000, 0.005)
        await batcher.submit(Slow(100, 0.005), "m")

    run(scenario)
    assert 10 <= max(Slow.seen) <= 30


def test_where_many_wait_batches_are_larger():
    async def scenario(batcher):
        batcher.learn("m", WHOLE // 1000, 0.005)
        await asyncio.gather(*(batcher.submit(Slow(1, 0.005), "m") for _ in range(120)))

    run(scenario, batches=64)
    # 0.6 s of work: half of it is the first batch, then 0.1 s each.
    assert 50 <= Slow.seen[0] <= 70
    assert max(Slow.seen[1:]) <= 30


def test_a_lane_that_stays_deep_without_a_refusal_has_batches_of_all_that_waits(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(lanes.time, "monotonic", lambda: clock[0])
    lane = lanes.Lane("m", 64, None)
    lane.pace.note(100, 0.01)
    shares = []

    def share(load, after):
        clock[0] += after
        lane.load = load
        shares.append(lane.batch() / lane.pace.rate)
        return pytest.approx(shares[-1], rel=0.01)

    assert share(4000, 0.0) == 0.1
    assert share(6000, 0.4) == 0.3, "half of what waits"
    assert share(4000, 0.4) == 0.1
    assert share(4000, 0.4) == 0.4, "it has been deep for more than a second"
    assert share(9000, 0.4) == 0.5
    assert share(2000, 0.4) == 0.1
    assert share(4000, 0.4) == 0.1, "it begins anew"
    assert share(4000, 0.9) == 0.1
    assert share(4000, 0.9) == 0.4
    assert share(4000, 5.0) == 0.1, "nothing was drawn meanwhile"
    share(4000, 0.9)
    assert share(4000, 0.9) == 0.4
    lane.refused = clock[0]
    assert share(4000, 0.1) == 0.05
    assert share(4000, 1.0) == 0.1


def test_what_waits_is_bounded_in_seconds_and_less_when_pressed():
    async def scenario(batcher):
        batcher.learn("m", WHOLE // 1000, 0.005)
        waiting = []
        with pytest.raises(Busy) as caught:
            for _ in range(1000):
                waiting.append(batcher.submit(Slow(1, 0.005), "m"))
        many = len(waiting)
        assert caught.value.retry_after == 1
        for each in waiting:
            each.cancel()
        await asyncio.sleep(0)
        waiting = [batcher.submit(Slow(1, 0.005), "m")]
        with pytest.raises(Busy):
            for _ in range(1000):
                waiting.append(batcher.submit(Slow(1, 0.005), "m"))
        with pytest.raises(Busy):
            batcher.check("m", 1000)
        pressed = len(waiting)
        started = time.perf_counter()
        await asyncio.gather(*waiting)
        assert time.perf_counter() - started < 10 * PRESSED_SECONDS
        await asyncio.sleep(CALM_SECONDS + 0.1)
        calm = [batcher.submit(Slow(1, 0.0), "m") for _ in range(FEW)]
        await asyncio.gather(*calm)
        return many, pressed

    many, pressed = run(scenario, batches=4)
    assert 60 <= many <= 120
    assert 5 <= pressed <= 20


def test_a_request_of_many_rows_leaves_room_for_others():
    async def scenario(batcher):
        batcher.learn("m", WHOLE // 1000, 0.005)
        big = batcher.submit(Slow(100, 0.005), "m")
        batcher._lanes["m"].refused = time.monotonic()
        await batcher.submit(Slow(1, 0.005), "m")
        assert not big.done()
        await big

    run(scenario)


def test_like_goes_with_like():
    class Sized(Work):
        seen: list[list[int]] = []  # noqa: RUF012

        def __init__(self, cost) -> None:
            self.costs, self.group = [cost], "sized"

        @classmethod
        def together(cls, parts):
            cls.seen.append([part.work.costs[0] for part in parts])
            time.sleep(0.001)
            return [[0] for _ in parts]

    async def scenario(batcher):
        await asyncio.gather(*(batcher.submit(Sized([1000, 200_000][each % 2]), "m") for each in range(20)))

    run(scenario)
    first = Sized.seen[0]
    assert first.count(1000) == 10
    assert sorted(cost for batch in Sized.seen for cost in batch) == [1000] * 10 + [200_000] * 10


async def never() -> None:
    await asyncio.Event().wait()


def test_the_race_leaves_no_cancellation_behind():
    async def main():
        loop = asyncio.get_running_loop()
        answers = loop.create_future()
        loop.call_later(0.01, answers.set_result, [1])
        assert await first_of(answers, never(), None) == [1]
        assert asyncio.current_task().cancelling() == 0
        with pytest.raises(Exception, match="X-Request-Timeout"):
            await first_of(loop.create_future(), never(), 0.01)
        # The client leaves in the same turn of the loop in which the answer comes.
        for _ in range(3):
            answers = loop.create_future()
            loop.call_soon(answers.set_result, [2])
            assert await first_of(answers, asyncio.sleep(0), None) == [2]
            await asyncio.sleep(0)
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_a_request_that_is_cut_off_stays_so():
    async def main():
        answers = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(first_of(answers, never(), None))
        await asyncio.sleep(0)
        answers.set_result([1])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
