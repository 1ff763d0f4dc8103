"""The stages between reading and writing: order, errors, how far they run ahead, and how they stop."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.failures import Defect
from mmccd_auto.core.processes.streams import AT_ONCE, Settled, behind, each, part_of_each, prefetched, split


def refuse_three(value: int) -> int:
    if value == 3:
        raise MMCCDError("three is refused.")
    return 10 * value


@pytest.mark.parametrize("stage", [each, behind])
def test_an_error_settles_its_case_and_the_others_go_on(stage):
    first = list(stage(refuse_three, range(5)))
    assert [first[index] for index in (0, 1, 2, 4)] == [0, 10, 20, 40]
    assert isinstance(first[3], Settled)
    assert str(first[3].outcome) == "three is refused."
    second = list(stage(lambda one, other: one + other, first, range(5)))
    assert second[3] is first[3]
    assert second[4] == 44


@pytest.mark.parametrize("stage", [each, behind])
def test_a_defect_settles_its_case_and_is_visible_as_one(stage):
    first, settled, last = stage(lambda value: 1 // value, [1, 0, 1])
    assert (first, last) == (1, 1)
    assert isinstance(settled.outcome, Defect)
    assert "unexpected ZeroDivisionError" in str(settled.outcome)
    assert "1 // value" in settled.outcome.details


@pytest.mark.parametrize("stage", [each, behind])
def test_streams_must_be_equally_long(stage):
    with pytest.raises(ValueError, match="shorter"):
        list(stage(lambda one, other: one, [1, 2], [1]))


def test_what_is_made_ahead_is_in_order_and_no_more_than_asked_for():
    made = []

    def items():
        for value in range(20):
            made.append(value)
            yield value

    stream = prefetched(items(), ahead=2)
    taken = []
    for value in stream:
        time.sleep(0.01)
        # One in the hands of the consumer, two made or in the making.
        assert made[-1] <= value + 2
        taken.append(value)
    assert taken == list(range(20))


def test_an_error_of_the_thread_is_raised_where_it_is_waited_for():
    def items():
        yield 1
        raise KeyError("a defect")

    stream = prefetched(items())
    assert next(stream) == 1
    with pytest.raises(KeyError, match="a defect"):
        next(stream)


def test_a_consumer_that_stops_ends_every_thread_and_closes_what_they_read():
    before = threading.active_count()
    closed = []

    def endless():
        try:
            value = 0
            while True:
                yield (value := value + 1)
        finally:
            closed.append(True)

    stream = prefetched(each(lambda value: value, prefetched(endless())))
    assert next(stream) == 1
    stream.close()
    deadline = time.monotonic() + 600
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert closed == [True]


def test_every_consumer_sees_every_item_in_whatever_thread():
    one, other, third = split(prefetched(iter(range(200))), 3)
    seen: dict[str, list[int]] = {}
    threads = [
        threading.Thread(target=lambda name=name, stream=stream: seen.setdefault(name, list(stream)))
        for name, stream in (("one", one), ("other", other))
    ]
    for thread in threads:
        thread.start()
    seen["third"] = list(third)
    for thread in threads:
        thread.join()
    assert all(values == list(range(200)) for values in seen.values())
    assert len(seen) == 3


def test_results_are_made_while_the_next_item_is_and_the_last_one_is_not_lost():
    """Both of two items can only be waited for together if they are worked on side by side."""
    meeting = threading.Barrier(2, timeout=600)

    def items():
        yield "a"
        meeting.wait()
        raise KeyboardInterrupt

    stream = behind(lambda value: (meeting.wait(), value)[1], items())
    assert next(stream) == "a"
    with pytest.raises(KeyboardInterrupt):
        next(stream)


class Scan:
    """Something that is alive or not."""


def scans(alive: weakref.WeakSet, count: int = 20):
    for _ in range(count):
        scan = [Scan()]
        alive.add(scan[0])
        yield scan.pop()


def test_what_every_consumer_has_had_is_kept_by_nobody() -> None:
    alive = weakref.WeakSet()
    first, second = split(scans(alive), 2)
    most = 0
    for _ in zip(first, second, strict=True):
        most = max(most, len(alive))
    assert most <= 3


def test_a_part_of_each_item_is_handed_on_though_every_stage_works() -> None:
    settled = Settled(MMCCDError("refused"))
    started, go_on = threading.Semaphore(0), threading.Event()
    working = [prefetched(each(lambda _: (started.release(), go_on.wait(600)), [1])) for _ in range(AT_ONCE)]
    threads = [threading.Thread(target=list, args=(stream,)) for stream in working]
    for thread in threads:
        thread.start()
    try:
        assert all(started.acquire(timeout=600) for _ in working)
        began = time.monotonic()
        assert list(part_of_each("scan", [SimpleNamespace(scan=1), settled])) == [1, settled]
        assert time.monotonic() - began < 300
    finally:
        go_on.set()
        for thread in threads:
            thread.join()


def test_handing_on_a_part_keeps_nothing_of_the_last_item() -> None:
    alive = weakref.WeakSet()
    found = []

    def source():
        for scan in scans(alive):
            found.append(len(alive))
            last = [SimpleNamespace(scan=scan)]
            del scan
            yield last.pop()

    assert sum(isinstance(scan, Scan) for scan in part_of_each("scan", source())) == 20
    # One is in the hands of the consumer while the next is made.
    assert max(found) <= 2


@pytest.mark.parametrize("stage", [each, behind])
def test_a_stage_that_waits_for_its_next_item_keeps_nothing_of_the_last_one(stage) -> None:
    alive = weakref.WeakSet()
    found = []

    def source():
        for scan in scans(alive):
            # Made while the stage waits: of the earlier ones at most that is left on which the stage works beside.
            found.append(len(alive))
            last = [scan]
            del scan
            yield last.pop()

    results = list(stage(lambda scan: time.sleep(0.01) or isinstance(scan, Scan), source()))
    assert results == [True] * 20
    assert max(found) <= (1 if stage is each else 2)


def test_the_scans_in_flight_are_one_for_each_stage() -> None:
    alive = weakref.WeakSet()
    for_maps, beside = split(prefetched(each(lambda scan: scan, scans(alive))), 2)
    maps = prefetched(each(lambda scan: isinstance(scan, Scan), for_maps))
    most = 0
    for _ in behind(lambda scan, made: time.sleep(0.01) or made, beside, maps):
        most = max(most, len(alive))
    # Being read, with its maps in the making, being finished; what is handed on may be counted in two places.
    assert 2 <= most <= 4


def test_no_more_stages_work_at_a_time_than_keep_the_cores_busy() -> None:
    working, most = [], []

    def work(number: int) -> int:
        working.append(number)
        most.append(len(working))
        time.sleep(0.005)
        working.remove(number)
        return number

    stream = iter(range(20))
    for _ in range(AT_ONCE + 2):
        stream = prefetched(each(work, stream))
    assert list(behind(work, stream)) == list(range(20))
    assert max(most) <= AT_ONCE


def test_a_consumer_takes_what_waits_for_it_while_another_waits_for_the_source() -> None:
    go_on = threading.Event()

    def source():
        yield 1
        assert go_on.wait(600)
        yield 2

    first, second = split(source(), 2)
    assert next(first) == 1
    thread = threading.Thread(target=lambda: next(first))
    thread.start()
    time.sleep(0.05)
    assert next(second) == 1
    go_on.set()
    thread.join()
    assert next(second) == 2


@pytest.mark.parametrize("stage", [each, behind])
def test_a_case_that_failed_leaves_its_sentences_and_nothing_else(stage) -> None:
    alive = weakref.WeakSet()

    def read(number: int) -> None:
        volume = Scan()
        alive.add(volume)
        raise OSError(f"disk error {number}")

    def refuse(number: int) -> None:
        volume = Scan()
        alive.add(volume)
        try:
            read(number)
        except OSError as error:
            raise MMCCDError(f"case {number} can't be read.") from error

    found = list(stage(refuse, range(5)))
    gc.collect()
    assert len(alive) == 0
    for number, settled in enumerate(found):
        assert str(settled.outcome) == f"case {number} can't be read."
        assert str(settled.outcome.__cause__) == f"disk error {number}"


@pytest.mark.parametrize("stage", [each, behind])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_end_that_is_asked_for_is_no_failure_of_a_case(stage, error) -> None:
    def end(_: int) -> None:
        raise error

    with pytest.raises(error):
        list(stage(end, [1, 2]))


def test_an_end_asked_for_by_the_last_result_is_not_hidden_by_items_that_fail() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    def end(_: int) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        list(behind(end, items()))


def endless(closed: list[bool]) -> Iterator[SimpleNamespace]:
    try:
        while True:
            yield SimpleNamespace(scan=1)
    finally:
        closed.append(True)


def refuse_all(_: SimpleNamespace) -> None:
    raise SystemExit


STAGES = {
    "each": lambda items: each(refuse_all, items),
    "behind": lambda items: behind(refuse_all, items),
    "part": lambda items: part_of_each("nothing", items),
    "part of one of several": lambda items: part_of_each("nothing", split(items, 2)[0]),
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_an_error_ends_the_threads_before_it_gets_out(stage: Callable[..., Iterator]) -> None:
    """Also while somebody looks at the error, as a notebook does; its frames would hold on to the stages."""
    before, closed = set(threading.enumerate()), []
    with pytest.raises((SystemExit, AttributeError)) as held:
        list(stage(prefetched(endless(closed))))
    assert held.value.__traceback__ is not None
    assert set(threading.enumerate()) <= before
    assert closed == [True]


@pytest.mark.parametrize(
    "stage",
    [
        lambda items: each(lambda one: one, items),
        lambda items: behind(lambda one: one, items),
        lambda items: part_of_each("scan", items),
        lambda items: split(items, 2)[0],
    ],
    ids=["each", "behind", "part", "split"],
)
def test_a_stage_that_is_closed_closes_what_it_reads_from(stage: Callable[..., Iterator]) -> None:
    before, closed = set(threading.enumerate()), []
    items = prefetched(endless(closed))
    stream = stage(items)
    next(stream)
    stream.close()
    assert set(threading.enumerate()) <= before
    assert closed == [True]
    assert list(items) == []


def test_closing_one_of_several_consumers_waits_for_what_another_one_is_having_made() -> None:
    started, go_on, closed = threading.Event(), threading.Event(), []

    def source() -> Iterator[int]:
        try:
            yield 1
            started.set()
            assert go_on.wait(600)
            yield from (2, 3, 4)
        finally:
            closed.append(True)

    first, second = split(source(), 2)
    assert next(first) == next(second) == 1
    taken: list[int] = []
    reading = threading.Thread(target=lambda: taken.append(next(first)))
    reading.start()
    assert started.wait(600)
    closing = threading.Thread(target=second.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    go_on.set()
    for thread in (closing, reading):
        thread.join(600)
    assert taken == [2]
    assert closed == [True]
    assert list(first) == []
