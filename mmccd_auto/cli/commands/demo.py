"""mmccd_demo -o DIR: the whole pipeline on simulated brains."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.argument_types import whole
from mmccd_auto.cli.common import add_device_option, add_processes_option, make_parser, run_command


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Simulate brains, then plan, preprocess, train, predict and evaluate on them.")
    parser.add_argument("-o", dest="output", required=True, metavar="DIR", help="an empty or new folder")
    parser.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, metavar="N", help="another seed gives other brains and lesions"
    )
    add_processes_option(parser)
    add_device_option(parser)
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.demo import run_demo

    print(run_demo(options.output, seed=options.seed, device=choose_device(options.device), processes=options.processes))


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
