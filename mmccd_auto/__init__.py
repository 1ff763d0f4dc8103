"""Self-configuring unsupervised anomaly segmentation in brain MRI by masked modality cycles (MMCCD, arXiv 2308.16150).

What a notebook needs is here: ``Predictor``, ``Plan``, ``Volume``, ``MMCCDError``, and one function a command. Each is
loaded when it is asked for.

Examples
--------
>>> import mmccd_auto
>>> mmccd_auto.Volume.__module__
'mmccd_auto.imaging.volume'
>>> mmccd_auto.train.__module__
'mmccd_auto.workflows.train'
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "MMCCDError": "core.errors",
    "Plan": "plans.plan",
    "Predictor": "inference.prediction.predictor",
    "Volume": "imaging.volume",
    "calibrate": "workflows.calibrate",
    "cross_validate": "workflows.cross_validate",
    "evaluate": "workflows.evaluate",
    "export_model": "workflows.sharing.export_model",
    "find_best_configuration": "workflows.find_best_configuration",
    "import_export": "workflows.import_export",
    "install_model": "workflows.sharing.install_model",
    "list_models": "workflows.sharing.list_models",
    "plan_and_preprocess": "workflows.plan_and_preprocess",
    "predict": "workflows.predict",
    "predict_bids": "workflows.bids.predict",
    "run_all": "workflows.run",
    "run_demo": "workflows.demo",
    "serve_pacs": "workflows.pacs.serve",
    "train": "workflows.train",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
