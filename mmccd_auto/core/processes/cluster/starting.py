"""Which cluster ``--cluster`` means, and how one is started."""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import JsonObject, dataclass_from_json

MOST_WORKERS = 4096
INSTALL = "pip install 'mmccd_auto[cluster]'"
FORMS = "tcp://HOST:PORT, local:N, or a .json or .yaml file (documentation/scaling.md)"
# Workers hold nothing but the case in work: there is nothing to write to a disk, and none is paused for good.
_MEMORY = ("target", "spill", "pause")
SETTINGS = {
    # The first worker that dies over a case is told; whether the case is tried again is decided here, not by the scheduler.
    "distributed.scheduler.allowed-failures": 0,
    **{f"distributed.worker.memory.{name}": False for name in _MEMORY},
}
WORKER_SETTINGS = tuple(f"export DASK_DISTRIBUTED__WORKER__MEMORY__{name.upper()}=False" for name in _MEMORY)
"""Lines of a job's script, since jobs don't know the configuration of the process that sends them."""


@dataclass(frozen=True)
class ClusterFile:
    """A file that says which cluster of dask-jobqueue is to be started.

    Attributes
    ----------
    cluster : class of dask_jobqueue
    jobs : that are asked for
    options : of the class: queue, cores, memory, walltime, ...
    """

    cluster: Literal[
        "SLURMCluster", "PBSCluster", "SGECluster", "LSFCluster", "OARCluster", "MoabCluster", "HTCondorCluster"
    ]
    jobs: Annotated[int, Ge(1), Le(MOST_WORKERS)]
    options: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """What ``--cluster`` named.

    Attributes
    ----------
    name : as it was given
    local_workers : to start on this machine; None where they are elsewhere
    file : read from a file; None where there is none
    """

    name: str
    local_workers: int | None = None
    file: ClusterFile | None = None


@dataclass(frozen=True)
class Running:
    """A cluster that runs.

    Attributes
    ----------
    address : of its scheduler, or dask's object of the cluster
    security : of the connection; None for dask's own configuration
    close : ends it at once; None where others have started it
    """

    address: Any
    security: Any = None
    close: Callable[[], None] | None = None


def parse_place(name: str) -> Place:
    """Read the value of ``--cluster``.

    Raises
    ------
    MMCCDError
        If it is none of the forms, or the file can't be read or says something else.
    """
    if re.fullmatch(r"(tcp|tls|ucx)://\S+:[0-9]+", name):
        return Place(name)
    local = re.fullmatch(r"local:([0-9]{1,6})", name)
    if local is not None:
        count = int(local[1])
        if not 1 <= count <= MOST_WORKERS:
            raise MMCCDError(f"--cluster {name}: give 1 to {MOST_WORKERS} workers.")
        return Place(name, local_workers=count)
    path = Path(name)
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        return Place(name, file=_read_file(path))
    raise MMCCDError(f"--cluster {name} is no cluster: give {FORMS}.")


def import_distributed() -> ModuleType:
    """Load dask.distributed; raises :class:`MMCCDError` where it isn't installed."""
    return _load("distributed", "--cluster")


@contextmanager
def started(place: Place) -> Iterator[Running]:
    """Within this the cluster runs: one that is only named is left to whoever has started it.

    Raises
    ------
    MMCCDError
        If it can't be started.
    """
    import dask

    with workspace("cluster") as scratch, dask.config.set(SETTINGS):
        if place.file is not None:
            cluster = _start_jobs(place.name, place.file)
        elif place.local_workers is not None:
            cluster = _start_local(place.local_workers, scratch)
        else:
            yield Running(place.name)
            return
        try:
            yield Running(cluster, cluster.security, lambda: cluster.close(timeout=20))
        finally:
            cluster.close(timeout=20)


def _start_local(workers: int, scratch: Path) -> Any:
    """Start workers on this machine.

    Nobody else who works on it can send them anything: connections are encrypted, by keys that are made for this.
    """
    return import_distributed().LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        # Like a pool's: what is too much for the machine is told by the system.
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
        local_directory=str(scratch),
        silence_logs=logging.CRITICAL,
        protocol="tls://",
        security=True,
    )


def _start_jobs(name: str, file: ClusterFile) -> Any:
    jobqueue = _load("dask_jobqueue", f"--cluster {name}")
    # Nobody else on the network can send work to the scheduler: connections are encrypted by keys that are made for this,
    # and lie where the jobs read them (shared_temp_directory, else the folder in which the command was started).
    options: dict[str, Any] = {
        "protocol": "tls://",
        "security": True,
        "shared_temp_directory": str(Path.cwd()),
        **file.options,
    }
    options["scheduler_options"] = {"dashboard_address": "127.0.0.1:0", **(options.get("scheduler_options") or {})}
    try:
        # The last one counts: whatever cores a worker has, it works on one case at a time.
        extra = [*options.pop("worker_extra_args", []), "--nthreads", "1"]
        prologue = [*WORKER_SETTINGS, *options.pop("job_script_prologue", [])]
        cluster = getattr(jobqueue, file.cluster)(**options, worker_extra_args=extra, job_script_prologue=prologue)
        cluster.scale(jobs=file.jobs)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise MMCCDError(f"{name}: {file.cluster} can't be started with these options ({error}): correct them.") from error
    return cluster


def _read_file(path: Path) -> ClusterFile:
    yaml = _load("yaml", f"--cluster {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MMCCDError(f"{path} can't be read ({getattr(error, 'strerror', None) or error}): give {FORMS}.") from error
    except yaml.YAMLError as error:
        raise MMCCDError(f"{path} is neither JSON nor YAML: correct it as documentation/scaling.md shows.") from error
    options = content.get("options") if isinstance(content, dict) else None
    if isinstance(options, dict) and isinstance(options.get("walltime"), int):
        # YAML takes 12:00:00 for a number of seconds.
        raise MMCCDError(f'{path}: put the walltime between quotes, as in "12:00:00".')
    for name in ("worker_extra_args", "job_script_prologue"):
        if isinstance(options, dict) and not isinstance(options.get(name, []), list):
            raise MMCCDError(f"{path}: {name} is a list of lines: put it between brackets.")
    try:
        plain = json.loads(json.dumps(content, default=str))
    except ValueError as error:
        raise MMCCDError(f"{path} refers to itself ({error}): write it without anchors.") from error
    return dataclass_from_json(ClusterFile, plain, str(path))


def _load(module: str, wish: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        install = INSTALL.replace("[cluster]", "[jobqueue]") if module == "dask_jobqueue" else INSTALL
        raise MMCCDError(f"{wish} needs {module}, which isn't installed: {install}.") from error
