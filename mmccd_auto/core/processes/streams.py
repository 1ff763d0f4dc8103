"""Cases on their way through the stages of prediction: each stage works on one case while the next is read already.

A stage that ends, by an error or because it is closed, closes what it reads from. So closing the last stage ends all of
them and their threads, also while somebody keeps the error.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Queue
from typing import Any, TypeVar

from mmccd_auto.core.processes.failures import failure_of
from mmccd_auto.core.processes.memory import release_free_blocks

Item = TypeVar("Item")
AHEAD = 1
_END = object()
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
# Each stage that works needs several volumes for it: no more of them at a time than keep the cores busy beside the networks.
_WORKING = threading.Semaphore(AT_ONCE)


@dataclass(frozen=True)
class Settled:
    """What became of a case on which there is nothing more to do; every stage hands it on, in its place.

    Attributes
    ----------
    outcome : a result, or the MMCCDError or MemoryError that ended the case, see
        :func:`mmccd_auto.core.processes.failures.failure_of`; of an error, and of those that led to it, only the messages
        are kept, since the frames of a traceback hold the case's arrays
    """

    outcome: Any

    def __post_init__(self) -> None:
        if isinstance(self.outcome, BaseException):
            _forget_frames(self.outcome)


def each(function: Callable[..., Any], *streams: Iterable[Any]) -> Iterator[Any]:
    """Yield ``function`` of the items that stand at the same place of all ``streams``, one after the other.

    An exception of one case is handed on as :class:`Settled`; so is what was settled before.

    Raises
    ------
    ValueError
        If one stream is shorter than another.
    """
    iterators = [iter(stream) for stream in streams]
    with closed_at_the_end(*iterators):
        while items := _next_of(iterators):
            outcome = [_outcome_of(function, items)]
            # A case in memory is large: nothing of it is held on to while the next one is waited for.
            del items
            yield outcome.pop()


def part_of_each(name: str, items: Iterable[Any]) -> Iterator[Any]:
    """Yield the attribute ``name`` of every item; what is settled is handed on. No work: it waits for no other stage."""
    iterator = iter(items)
    with closed_at_the_end(iterator):
        while (item := next(iterator, _END)) is not _END:
            part = [item if isinstance(item, Settled) else getattr(item, name)]
            del item
            yield part.pop()


def prefetched(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """Yield the same items, made by a thread of their own before they are asked for.

    At most ``ahead`` of them, made or in the making, beside those that were handed out.

    What is raised while they are made is raised here. A consumer that stops early (``close``) stops the thread at its next
    item, and waits for it.
    """
    ready: Queue = Queue()
    places, stopped = threading.Semaphore(ahead), threading.Event()
    thread = threading.Thread(target=_make, args=(iter(items), ready, places, stopped), daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            places.release()
            yield value
            del value
    finally:
        stopped.set()
        places.release()
        thread.join()


def split(items: Iterable[Item], count: int) -> list[Iterator[Item]]:
    """Return the same items ``count`` times over, for consumers in several threads.

    What one hasn't asked for yet is kept, and no more (itertools.tee keeps up to 57 items that all have had).

    They work on the same cases: the first one that stops early (``close``) closes what all of them read from.
    """
    # By a thread's garbage collector a consumer may be closed in the middle of that thread's own turn.
    source, lock = iter(items), threading.RLock()
    waiting: list[deque[Item]] = [deque() for _ in range(count)]
    return [_from_shared(source, lock, waiting, own) for own in waiting]


def behind(function: Callable[..., Any], *streams: Iterable[Any]) -> Iterator[Any]:
    """Work as :func:`each`, but ``function`` runs in a thread of its own, while the next items are being made here.

    Where making the next items fails, the last result is handed out first.
    """
    iterators = [iter(stream) for stream in streams]
    with ThreadPoolExecutor(1) as pool, closed_at_the_end(*iterators):
        pending: Future | None = None
        while True:
            try:
                items = _next_of(iterators)
            except BaseException:
                if pending is not None:
                    yield pending.result()
                raise
            if items is None:
                break
            before, pending = pending, pool.submit(_outcome_of, function, items)
            del items
            if before is not None:
                yield before.result()
        if pending is not None:
            yield pending.result()


@contextmanager
def closed_at_the_end(*streams: Iterator[Any]) -> Iterator[None]:
    """Close the streams that are read within this at its end, the last one first, where they can be."""
    with ExitStack() as stack:
        for stream in streams:
            stack.callback(_close, stream)
        yield


def _close(stream: Iterator[Any]) -> None:
    # Generators can be closed, the iterator of a list can't.
    close = getattr(stream, "close", None)
    if close is not None:
        close()


def _forget_frames(error: BaseException) -> None:
    """Take the tracebacks off an error and off all that led to it."""
    errors: list[BaseException | None] = [error]
    seen: set[int] = set()
    while errors:
        one = errors.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            errors += [one.__cause__, one.__context__]


def _next_of(iterators: Sequence[Iterator[Any]]) -> tuple | None:
    """Return the next item of each; None at their common end (unlike zip this keeps nothing of what it gave)."""
    items = tuple(next(one, _END) for one in iterators)
    ended = [item is _END for item in items]
    if any(ended) and not all(ended):
        raise ValueError("one stream is shorter than another")
    return None if all(ended) else items


def _outcome_of(function: Callable[..., Any], items: tuple) -> Any:
    settled = next((item for item in items if isinstance(item, Settled)), None)
    return _attempt(function, items) if settled is None else settled


def _attempt(function: Callable[..., Any], items: tuple) -> Any:
    try:
        with _WORKING:
            try:
                return function(*items)
            finally:
                # Else the gaps between the blocks of earlier cases grow from case to case.
                release_free_blocks()
    except Exception as error:
        return Settled(failure_of(error))


def _make(items: Iterator[Any], ready: Queue, places: threading.Semaphore, stopped: threading.Event) -> None:
    try:
        while True:
            places.acquire()
            if stopped.is_set():
                return
            try:
                ready.put(("item", next(items)))
            except StopIteration:
                ready.put(("end", None))
                return
    except BaseException as error:
        ready.put(("error", error))
    finally:
        _close(items)


def _from_shared(
    source: Iterator[Item], lock: threading.RLock, waiting: list[deque[Item]], own: deque[Item]
) -> Iterator[Item]:
    """Yield the items of one consumer: those that wait for it, then new ones, which then wait for the others."""
    try:
        while True:
            if not own:
                # What waits already is taken without the lock, while another consumer waits for the next one.
                with lock:
                    if not own and not _share_next(source, waiting):
                        return
            yield own.popleft()
    finally:
        # What another consumer is having made in its thread is waited for.
        with lock:
            _close(source)


def _share_next(source: Iterator[Item], waiting: list[deque[Item]]) -> bool:
    """Put the next item into all queues; whether there was one."""
    for item in source:
        for queue in waiting:
            queue.append(item)
        return True
    return False
