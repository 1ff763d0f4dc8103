"""mmccd_models: the models that can predict: installed, trained and ready."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.common import add_folder_options, folders_from, make_parser, run_command


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("List the models that are installed, those that are trained, and those that came with the package.")
    add_folder_options(parser, "results")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.workflows.sharing.list_models import describe_models, list_models

    folders = folders_from(options)
    print(describe_models(list_models(folders), folders))


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
