"""Which models predict where nobody names one: what a workflow that trains several leaves in best_configuration.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.model_folder import BEST_FILE, load_best
from mmccd_auto.workflows.find_best_configuration import BestConfiguration


def name_default_models(results: Path, plan: Plan, configuration: str, models: Sequence[str]) -> None:
    """Name the model, or the models of an ensemble, that predict scans of a configuration's input modality by default.

    What mmccd_find_best_configuration has found out about the models stays in the file.

    Parameters
    ----------
    results : $mmccd_results/DATASET
    plan : of the models
    configuration : modality cycle
    models : names of model folders in ``results``

    Raises
    ------
    MMCCDError
        If best_configuration.json is there and broken.
    """
    path, modality = results / BEST_FILE, plan.configuration(configuration).input_modality
    if path.is_file():
        load_best(path)
        content = read_record(JsonObject, path)
    else:
        content = asdict(BestConfiguration({}, {}, modality, (), ()))
    content["models"][modality] = list(models)
    content.setdefault("decisions", {})[modality] = "what predicts where its models were trained"
    save_json(content, path)
