"""A worker that stalls says where its task waits, however deep that is."""

import asyncio

from pipeline.edge.kafka.group.stuck import stack


async def outer() -> None:
    await inner()


async def inner() -> None:
    await asyncio.Event().wait()


def test_the_stack_of_a_waiting_task_goes_down_to_what_it_waits_for() -> None:
    async def play() -> list[str]:
        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        try:
            return stack(task)
        finally:
            task.cancel()

    assert [line.split(" ")[0] for line in asyncio.run(play())] == ["outer", "inner", "Event.wait"]
    assert stack(None) == []
