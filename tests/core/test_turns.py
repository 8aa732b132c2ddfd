"""Steps of long work take turns, and whatever else is ready goes on between two of them."""

import asyncio

from trafficlog.turns import Turns


async def test_other_work_goes_on_between_two_steps():
    """Of many that want a step at once, no two have it in the same pass of the loop."""
    turns, passes, steps = Turns(), 0, []

    async def large():
        await turns.next()
        steps.append(passes)

    async def count():
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await asyncio.gather(*(large() for _ in range(5)))
    counting.cancel()
    assert steps == sorted(set(steps))


async def test_one_that_gives_up_its_turn_holds_nobody_up():
    """A request that is cancelled while it waits is passed over."""
    turns = Turns()
    first, second = (asyncio.create_task(turns.next()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(5):
        await second
