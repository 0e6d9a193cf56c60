"""Several requests at once, and each answer as it comes."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from itertools import islice
from typing import TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def ask_at_once(
    runner: asyncio.Runner, most: int, prompts: Iterable[Asked], ask: Callable[[Asked], Coroutine[None, None, Answer]]
) -> Generator[tuple[Asked, Answer, float], None, None]:
    """Yield each prompt with its answer and the seconds it took, its share where several were answered at once.

    Whatever `ask` raises comes after the answers that were there with it. Close it to have no more.

    Args:
        runner: runs the requests.
        most: requests that may be open at a time.
        prompts: taken as there is room for them.
        ask: asks for the answer to one.
    """
    waiting = iter(prompts)
    running: dict[asyncio.Task[Answer], Asked] = {}

    async def wait() -> set[asyncio.Task[Answer]]:
        running.update((asyncio.create_task(ask(each)), each) for each in islice(waiting, most - len(running)))
        return (await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0] if running else set()

    async def end() -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    last = time.perf_counter()
    try:
        while done := runner.run(wait()):
            now = time.perf_counter()
            seconds, last = (now - last) / len(done), now
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield running.pop(task), task.result(), seconds
    finally:
        runner.run(end())
