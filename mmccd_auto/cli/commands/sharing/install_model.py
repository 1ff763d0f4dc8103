"""mmccd_install_model model.zip: check a model from elsewhere and install it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.argument_types import path_name
from mmccd_auto.cli.common import add_folder_options, folders_from, make_parser, run_command


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Check a model file and put it where mmccd_predict --model NAME finds it.")
    parser.add_argument("archive", metavar="FILE.zip", help="that mmccd_export_model made")
    parser.add_argument(
        "--name", type=path_name("portable model"), default=None, metavar="NAME", help="to know it by; default: its own name"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an installed model of this name")
    add_folder_options(parser, "results")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.workflows.sharing.install_model import install_model

    print(install_model(folders_from(options), options.archive, options.name, options.overwrite).describe())


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
