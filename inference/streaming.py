"""Cases on their way through the stages of prediction: each stage works on one case while the next is read already."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Full, Queue
from typing import Any, TypeVar

from mmccd_auto.errors import MMCCDError

Item = TypeVar("Item")
AHEAD = 1
_PATIENCE_SECONDS = 0.1


@dataclass(frozen=True)
class Settled:
    """What became of a case on which there is nothing more to do; every stage hands it on, in its place.

    Attributes
    ----------
    outcome : a result, or the MMCCDError or MemoryError that ended the case
    """

    outcome: Any


def each(function: Callable[..., Any], *streams: Iterable[Any]) -> Iterator[Any]:
    """``function`` of the items that stand at the same place of all ``streams``, one after the other.

    An error of one case, an :class:`MMCCDError` or a MemoryError, is handed on as :class:`Settled`; so is what was settled
    before.

    Raises
    ------
    ValueError
        If one stream is shorter than another.
    """
    for items in zip(*streams, strict=True):
        yield _outcome_of(function, items)


def prefetched(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """The same items, made by a thread of their own, ``ahead`` of them before they are asked for.

    What is raised while they are made is raised here. A consumer that stops early (``close``) stops the thread at its next
    item, and waits for it.
    """
    ready: Queue = Queue(ahead)
    stopped = threading.Event()
    thread = threading.Thread(target=_make, args=(iter(items), ready, stopped), daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()


def split(items: Iterable[Item], count: int) -> list[Iterator[Item]]:
    """The same items ``count`` times over, for consumers in several threads; what one hasn't asked for yet is kept, and no
    more (itertools.tee keeps up to 57 items that all have had)."""
    source, lock = iter(items), threading.Lock()
    waiting: list[deque[Item]] = [deque() for _ in range(count)]
    return [_from_shared(source, lock, waiting, own) for own in waiting]


def behind(function: Callable[..., Any], *streams: Iterable[Any]) -> Iterator[Any]:
    """As :func:`each`, but ``function`` runs in a thread of its own, while the next items are being made here.

    Where making the next items fails, the last result is handed out first.
    """
    with ThreadPoolExecutor(1) as pool:
        pending: Future | None = None
        try:
            for items in zip(*streams, strict=True):
                before, pending = pending, pool.submit(_outcome_of, function, items)
                if before is not None:
                    yield before.result()
        except GeneratorExit:
            raise
        except BaseException:
            if pending is not None:
                yield pending.result()
            raise
        if pending is not None:
            yield pending.result()


def _outcome_of(function: Callable[..., Any], items: tuple) -> Any:
    settled = next((item for item in items if isinstance(item, Settled)), None)
    return _attempt(function, items) if settled is None else settled


def _attempt(function: Callable[..., Any], items: tuple) -> Any:
    try:
        return function(*items)
    except (MMCCDError, MemoryError) as error:
        return Settled(error)


def _make(items: Iterator[Any], ready: Queue, stopped: threading.Event) -> None:
    try:
        for item in items:
            if not _put(ready, ("item", item), stopped):
                return
        _put(ready, ("end", None), stopped)
    except BaseException as error:
        _put(ready, ("error", error), stopped)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _put(ready: Queue, entry: tuple[str, Any], stopped: threading.Event) -> bool:
    """Wait for a free place; whether there was one before the consumer stopped."""
    while not stopped.is_set():
        try:
            ready.put(entry, timeout=_PATIENCE_SECONDS)
        except Full:
            continue
        return True
    return False


def _from_shared(
    source: Iterator[Item], lock: threading.Lock, waiting: list[deque[Item]], own: deque[Item]
) -> Iterator[Item]:
    """The items of one consumer: those that wait for it, then new ones, which then wait for the others."""
    while True:
        with lock:
            if not own:
                try:
                    item = next(source)
                except StopIteration:
                    return
                for queue in waiting:
                    queue.append(item)
                del item
        yield own.popleft()
