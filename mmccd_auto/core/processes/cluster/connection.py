"""Workers of a dask.distributed cluster, in the place of a pool of processes."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mmccd_auto import __version__
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.cluster.starting import Place, import_distributed, parse_place, started
from mmccd_auto.core.processes.cluster.worker import Reply, Sender, answer, packed
from mmccd_auto.core.processes.failures import ClusterLost, WorkerLost

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 30.0
COUNT_SECONDS = 2.0
"""The workers are counted no more often than this: with many of them, the answer is long."""
WAITING_SECONDS = 60.0
"""Between two messages that there is no worker."""
logger = logging.getLogger(__name__)


class Cluster:
    """The workers of a connected cluster; made by :func:`connected_cluster`.

    Parameters
    ----------
    client : connected
    place : what ``--cluster`` named
    close : ends the workers at once where they were started for this; None leaves them to whoever has started them
    """

    def __init__(self, client: Client, place: Place, close: Callable[[], None] | None) -> None:
        self._client = client
        self._place = place
        self._close = close
        self._counted, self._asked, self._told = 0, -COUNT_SECONDS, time.monotonic()

    @property
    def here(self) -> bool:
        """Whether all workers run on this machine, and see its temporary folder."""
        return self._place.local_workers is not None

    def workers(self) -> int:
        """Count the workers as they are now, at most some seconds ago; tells from time to time that there is none.

        Raises
        ------
        MMCCDError
            If one of them works on several cases at once, or the connection is lost.
        """
        now = time.monotonic()
        if now - self._asked < COUNT_SECONDS:
            return self._counted
        threads = self._threads()
        self._counted, self._asked = len(threads), time.monotonic()
        several = next((name for name, count in threads.items() if count != 1), None)
        if several is not None:
            raise MMCCDError(
                f"The worker {several} of the cluster works in {threads[several]} threads: start workers by "
                "dask worker --nthreads 1, since a case may use up a worker's memory or kill it."
            )
        if not threads and now - self._told > WAITING_SECONDS:
            self._told = now
            logger.warning("The cluster %s has no worker: waiting for one.", self._place.name)
        return self._counted

    def executor(self) -> Executor:
        """Give an executor whose calls run at the workers."""
        return _ClusterExecutor(self._client, self._place, self.end, self._recount)

    def _recount(self) -> None:
        # At a worker that isn't there a case would wait behind another one, and be blamed with it for the death of a worker.
        self._asked = -COUNT_SECONDS

    def end(self) -> bool:
        """End the workers at once where they were started for this; tells whether they were."""
        if self._close is None:
            return False
        self._close()
        return True

    def _threads(self) -> dict[str, int]:
        try:
            return dict(self._client.nthreads())
        except Exception as error:
            raise _lost(self._place) from error


@contextmanager
def connected_cluster(name: str) -> Iterator[Cluster]:
    """Connect to the cluster that ``--cluster`` names, started where need be, and closed at the end where it was.

    Parameters
    ----------
    name : ``tcp://HOST:PORT`` (or ``tls://``) of a scheduler; ``local:N`` for N workers on this machine; or a JSON or YAML
        file that says which cluster of dask-jobqueue is to be started, see :mod:`mmccd_auto.core.processes.cluster.starting`

    Raises
    ------
    MMCCDError
        If there is no such cluster, it can't be reached or started, or dask.distributed isn't installed.
    """
    place = parse_place(name)
    distributed = import_distributed()
    with _silent(), started(place) as running:
        try:
            client = distributed.Client(
                running.address, security=running.security, timeout=CONNECT_SECONDS, set_as_default=False
            )
        except (OSError, ValueError) as error:
            raise MMCCDError(
                f"There is no scheduler at {place.name}: start one (dask scheduler), or correct --cluster."
            ) from error
        try:
            cluster = Cluster(client, place, running.close)
            logger.info("cases go to %s, %d workers by now", place.name, cluster.workers())
            yield cluster
        finally:
            # A scheduler that is gone doesn't answer any more; why the work ended is said by then.
            with suppress(OSError, asyncio.TimeoutError):
                client.close(timeout=5)


@contextmanager
def _silent() -> Iterator[None]:
    """Within this dask says nothing: what becomes of workers and connections is told in sentences of our own."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    levels = {name: logging.getLogger(name).level for name in (*names, "distributed", "tornado")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class _ClusterExecutor(Executor):
    """The interface of concurrent.futures for a cluster's client, one call a case.

    A future raises :class:`WorkerLost` where the case's worker died, and MMCCDError where the scheduler did.
    """

    def __init__(self, client: Client, place: Place, end: Callable[[], bool], lost_one: Callable[[], None]) -> None:
        self._client = client
        self._inner = client.get_executor(pure=False)
        self._place = place
        self._end = end
        self._lost_one = lost_one
        self._open: set[Future] = set()
        level = logging.getLogger("mmccd_auto").getEffectiveLevel()
        self._sender = Sender(__version__, os.getcwd(), level)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Send ``function(*args)`` to a worker."""
        if self._client.status != "running":
            raise _lost(self._place)
        outer: Future = Future()
        try:
            call = packed(function, args)
        except Exception as error:
            outer.set_exception(error)
            return outer
        inner = self._inner.submit(answer, call, self._sender, key=f"mmccd-case-{uuid.uuid4().hex}", **kwargs)
        self._open.add(inner)
        inner.add_done_callback(lambda done: self._settle(outer, done))
        return outer

    def _settle(self, outer: Future, inner: Future) -> None:
        self._open.discard(inner)
        try:
            reply: Reply = pickle.loads(inner.result())
        except CancelledError:
            outer.set_exception(_lost(self._place))
        except Exception as error:
            killed = type(error).__name__ == "KilledWorker"
            if killed:
                self._lost_one()
            outer.set_exception(WorkerLost(getattr(error, "allowed_failures", 0) + 1) if killed else error)
        else:
            for name, level, text, case in reply.messages:
                logging.getLogger(name).log(level, "%s", text, extra={} if case is None else {"case": case})
            if reply.failure is None:
                outer.set_result(reply.result)
            else:
                outer.set_exception(reply.failure)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        With ``cancel_futures`` workers that were started for this are ended, and what others have in work is waited for, so
        that nothing is written any more when the folder is given back.
        """
        if self._client.status != "running" or (cancel_futures and self._end()):
            return
        if wait and self._open:
            logger.info("waiting for the cases that are in work; press Ctrl-C again not to wait")
            wait_for(list(self._open))


def _lost(place: Place) -> ClusterLost:
    return ClusterLost(
        f"The connection to the scheduler of {place.name} was lost: see why it ended, and run the same command again to "
        "continue (mmccd_predict: with --continue_prediction)."
    )
