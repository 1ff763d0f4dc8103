"""Packaging: four folders, one import package."""

from pathlib import Path

from setuptools import find_packages, setup

ROOMS = {"plans": "plans", "preprocessing": "preprocessing", "inference": "inference"}
# cryptography makes the keys of clusters on one machine, to which nobody else may send work.
CLUSTER = ["dask[distributed]>=2025.1", "cryptography>=42", "pyyaml>=6"]
HERE = Path(__file__).parent


def packages() -> list[str]:
    """mmccd_auto and the three rooms under its name, all with their sub-packages."""
    return (
        ["mmccd_auto"]
        + [f"mmccd_auto.{name}" for name in find_packages("mmccd_auto")]
        + [f"mmccd_auto.{room}" for room in ROOMS]
        + [f"mmccd_auto.{room}.{name}" for room, folder in ROOMS.items() for name in find_packages(folder)]
    )


setup(
    name="mmccd_auto",
    version="0.1.0",
    description="Self-configuring unsupervised anomaly segmentation in brain MRI by masked modality cycles",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=packages(),
    package_dir={f"mmccd_auto.{room}": folder for room, folder in ROOMS.items()} | {"mmccd_auto": "mmccd_auto"},
    package_data={
        "mmccd_auto": ["py.typed"],
        "mmccd_auto.reporting.page": ["assets/*.*", "assets/niivue/*"],
        "mmccd_auto.ready": ["models/*.json", "models/*/*.*", "models/*/*/*.*", "models/*/*/*/*.*"],
    },
    install_requires=[
        "torch>=2.5",
        "SimpleITK>=2.3",
        "nibabel>=5.0",
        "batchgenerators>=0.25.1",
        "numpy>=1.24",
        "scipy>=1.11",
        "acvl-utils>=0.2.3",
        "pandas>=2.0",
        "matplotlib>=3.7",
        "pillow>=10",
        "tqdm>=4.60",
        "nilearn>=0.10",
        "pydicom>=3.0",
        "highdicom>=0.28",
        "dcm2niix>=1.0.20220715",
        "filelock>=3.30",
        "pydantic>=2.7",
        "annotated-types>=0.6",
        "safetensors>=0.4.3",
        "pathspec>=0.12",
    ],
    extras_require={
        "dev": [
            "setuptools>=68",
            "wheel",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "import-linter>=2.17",
            "hypothesis>=6.100",
            "scikit-learn>=1.3",
            "playwright>=1.45",
            "bids-validator-deno>=2",
            *CLUSTER,
            "dask-jobqueue>=0.9",
        ],
        "cluster": CLUSTER,
        "jobqueue": [*CLUSTER, "dask-jobqueue>=0.9"],
        "bids": ["bids-validator-deno>=2"],
        "deepbet": ["deepbet>=1.0"],
    },
    entry_points={
        "console_scripts": [
            "mmccd_run = mmccd_auto.cli.entry_points:run",
            "mmccd_plan_and_preprocess = mmccd_auto.cli.entry_points:plan_and_preprocess",
            "mmccd_import = mmccd_auto.cli.entry_points:import_export",
            "mmccd_train = mmccd_auto.cli.entry_points:train",
            "mmccd_calibrate = mmccd_auto.cli.entry_points:calibrate",
            "mmccd_find_best_configuration = mmccd_auto.cli.entry_points:find_best_configuration",
            "mmccd_cross_validate = mmccd_auto.cli.entry_points:cross_validate",
            "mmccd_predict = mmccd_auto.cli.entry_points:predict",
            "mmccd_bids = mmccd_auto.cli.entry_points:bids",
            "mmccd_evaluate = mmccd_auto.cli.entry_points:evaluate",
            "mmccd_export_model = mmccd_auto.cli.entry_points:export_model",
            "mmccd_install_model = mmccd_auto.cli.entry_points:install_model",
            "mmccd_models = mmccd_auto.cli.entry_points:models",
            "mmccd_demo = mmccd_auto.cli.entry_points:demo",
        ]
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Healthcare Industry",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
