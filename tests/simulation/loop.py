"""One event loop for every simulated process: virtual time, a seeded order, crashes and freezes."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any

PROCESS: ContextVar["Process"] = ContextVar("process")


Call = tuple[Callable[..., object], tuple[Any, ...], Context]


class Timer:
    """A callback for later; as much of `asyncio.TimerHandle` as anyone uses."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def cancel(self) -> None:
        """Skip it, also when it waits for its turn already."""
        self.call = None

    def fire(self) -> None:
        """Call back, unless somebody cancelled it."""
        if self.call is not None:
            callback, args, _ = self.call
            callback(*args)


class Died(BaseException):
    """The process ended here; nothing in it runs any more."""


class Process:
    """One operating-system process: its handles run in order, and only while it lives."""

    def __init__(self, loop: "Loop", name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.skew_ms = 0  # by which its clock is wrong
        self.frozen_at: float | None = None
        self.ready: deque[Call] = deque()
        self.at_end: list[Callable[[], None]] = []

    @property
    def is_runnable(self) -> bool:
        """Whether the scheduler may choose it."""
        return self.alive and self.frozen_at is None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a task of this process, whoever asks for it."""
        context = copy_context()
        context.run(PROCESS.set, self)
        return self.loop.create_task(work, context=context)

    def kill(self) -> None:
        """End at once: what is in memory is gone, `finally` does not run."""
        if self.alive:
            self.alive = False
            self.ready.clear()
            self.loop.sort_out(self)
            for tell in self.at_end:
                self.loop.outside.copy().run(tell)  # it may be entered already

    def freeze(self) -> None:
        """Stop running, with everything in memory."""
        self.frozen_at = self.loop.now
        self.loop.sort_out(self)

    def thaw(self, chance: Random) -> None:
        """Run on; what became ready meanwhile is in no order."""
        self.frozen_at = None
        waiting = list(self.ready)
        chance.shuffle(waiting)
        self.ready = deque(waiting)
        self.loop.sort_out(self)


class Loop(asyncio.AbstractEventLoop):
    """Runs the handles of all processes; time passes only when nobody has anything to do."""

    def __init__(self, chance: Random) -> None:
        self.now = 0.0
        self.steps = 0
        self.interrupt_at = -1  # the step at which `interrupt` is called, between two handles
        self.interrupt: Callable[[], None] = lambda: None
        self.failures: list[BaseException] = []
        self._chance = chance
        self._active: list[Process] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._tasks: list[asyncio.Task[Any]] = []  # the garbage collector finds no half-run coroutine
        self._numbers = count()
        self.kernel = Process(self, "kernel")
        self.outside = copy_context()  # what runs here belongs to no process that can die
        self.outside.run(PROCESS.set, self.kernel)

    # -- what asyncio asks for -------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> None:
        """Queue a callback with its process; nobody cancels it."""
        self._enqueue((callback, args, context or copy_context()))

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        """Queue a callback for later."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        """Queue a callback for a time."""
        timer = Timer((callback, args, context or copy_context()))
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        """A task of the process that the context belongs to; what it does not catch is remembered."""
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        task.add_done_callback(self._ended, context=context)
        self._tasks.append(task)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Died):
            self.failures.append(error)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, as far as anyone can ask."""
        return True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks and futures of dead processes end as they may; see `_ended` for the others."""

    # -- the scheduler ---------------------------------------------------------------------------

    def _enqueue(self, call: Call) -> None:
        process = call[2].get(PROCESS, self.kernel)
        if process.alive:
            process.ready.append(call)
            if len(process.ready) == 1 and process.frozen_at is None:
                self._active.append(process)

    def sort_out(self, process: Process) -> None:
        """Choose a process from now on only if it can run."""
        if process in self._active:
            self._active.remove(process)
        if process.is_runnable and process.ready:
            self._active.append(process)

    def run(self, work: Coroutine[Any, Any, Any], limit: float) -> Any:
        """Run until `work`, in no process that can die, is done; at most `limit` virtual seconds."""
        asyncio._set_running_loop(self)
        try:
            task = self.kernel.spawn(work)
            while not task.done() and self.now < limit:
                if self._active:
                    self._step()
                elif not self._pass_time():
                    break
            return task.result() if task.done() else None
        finally:
            self._close()
            asyncio._set_running_loop(None)

    def _close(self) -> None:
        """End what is still waiting, the dead included, in an order that is always the same."""
        for process in self._active:
            process.alive = False
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()
        self._tasks.clear()

    def _step(self) -> None:
        if self.steps == self.interrupt_at:
            self.interrupt()
            return
        self.steps += 1
        active = self._active
        place = int(self._chance.random() * len(active)) if len(active) > 1 else 0
        process = active[place]
        callback, args, context = process.ready.popleft()
        if not process.ready:
            del active[place]
        context.run(callback, *args)

    def _pass_time(self) -> bool:
        if not self._timers:
            return False
        self.now = max(self.now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                self._enqueue((timer.fire, (), timer.call[2]))
        return True
