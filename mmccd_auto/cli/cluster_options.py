"""The options by which work over cases is spread over machines: a cluster, or a part of the cases."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmccd_auto.core.disk.parts import Part
from mmccd_auto.core.errors import MMCCDError

if TYPE_CHECKING:
    from mmccd_auto.core.processes.executor import Workers


def add_cluster_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --cluster."""
    parser.add_argument(
        "--cluster",
        default=None,
        metavar="CLUSTER",
        help="work at a cluster of dask instead of -np: the scheduler's address (tcp://HOST:8786), local:N for N workers on "
        "this machine, or a JSON or YAML file that names a cluster of dask-jobqueue (pip install 'mmccd_auto[cluster]')",
    )


def add_part_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --part."""
    parser.add_argument(
        "--part",
        type=_part,
        default=None,
        metavar="I/N",
        help="work on the I-th of N parts of the cases only, for job arrays; once all are done, run the command without it",
    )


def _part(text: str) -> Part:
    try:
        return Part.parse(text)
    except MMCCDError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextmanager
def workers_of(cluster: str | None, processes: int) -> Iterator[Workers]:
    """Give the workers that the options ask for: those of a cluster, connected within this, or processes.

    Raises
    ------
    MMCCDError
        If the cluster can't be reached or started.
    """
    if cluster is None:
        yield processes
        return
    # Loading it takes a while, which most commands need not wait for.
    from mmccd_auto.core.processes.cluster.connection import connected_cluster

    with connected_cluster(cluster) as connected:
        yield connected
