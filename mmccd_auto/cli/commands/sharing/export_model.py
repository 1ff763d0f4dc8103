"""mmccd_export_model DATASET -o model.zip: a trained model as one file that can be handed on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.argument_types import path_name
from mmccd_auto.cli.common import add_folder_options, folders_from, make_parser, run_command
from mmccd_auto.cli.options import add_folds_option, add_model_options, models_from


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Write the model that mmccd_predict would take into one file, without code or people's names.")
    parser.add_argument("dataset", metavar="DATASET", help="number or name")
    parser.add_argument("-o", dest="output", required=True, metavar="FILE.zip", help="the model file")
    add_model_options(parser, several=True)
    add_folds_option(parser)
    parser.add_argument(
        "--name",
        type=path_name("portable model"),
        default=None,
        metavar="NAME",
        help="by which it will be installed; default: of the dataset and the input modality",
    )
    parser.add_argument("--licence", default="", metavar="TEXT", help="under which others may use it, for the model card")
    parser.add_argument("--description", default="", metavar="TEXT", help="in your words, for the model card")
    parser.add_argument("--ages", default="", metavar="TEXT", help="of the people ('20 to 45 years'), for the model card")
    add_folder_options(parser, "results")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.workflows.sharing.describe_model import MakersWords
    from mmccd_auto.workflows.sharing.export_model import export_model

    exported = export_model(
        folders_from(options),
        models_from(options),
        options.output,
        name=options.name,
        words=MakersWords(options.description, options.licence, options.ages),
    )
    print(exported.describe())


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
