"""Waiting for the first of several things, by the Clock port alone."""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from perseus.errors import UnavailableError
from perseus.runtime.ports import Clock

Result = TypeVar("Result")


async def first_to_end(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs all until one ends; ends the others, then raises what the first raised.

    When it returns, none of them runs any more.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_all(tasks)
    for task in tasks:
        if task in done:
            task.result()


async def within(clock: Clock, limit_s: float, what: str, waited: Awaitable[Result]) -> Result:
    """The result of ``waited``; raises UnavailableError naming ``what`` after ``limit_s``."""
    task = asyncio.ensure_future(waited)
    limit = asyncio.ensure_future(clock.sleep(limit_s))
    try:
        await asyncio.wait([task, limit], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise UnavailableError(f"{what} took longer than {limit_s:g} s")
    finally:
        await end_all([task, limit])


async def end_all(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancels the tasks and waits until they have ended; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
