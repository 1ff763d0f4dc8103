"""Map four folders into one import package; what else there is to say about it stands in pyproject.toml."""

from setuptools import find_packages, setup

ROOMS = {"plans": "plans", "preprocessing": "preprocessing", "inference": "inference"}


def packages() -> list[str]:
    """List mmccd_auto and the three rooms under its name, all with their sub-packages."""
    return (
        ["mmccd_auto"]
        + [f"mmccd_auto.{name}" for name in find_packages("mmccd_auto")]
        + [f"mmccd_auto.{room}" for room in ROOMS]
        + [f"mmccd_auto.{room}.{name}" for room, folder in ROOMS.items() for name in find_packages(folder)]
    )


setup(
    packages=packages(),
    package_dir={f"mmccd_auto.{room}": folder for room, folder in ROOMS.items()} | {"mmccd_auto": "mmccd_auto"},
)
