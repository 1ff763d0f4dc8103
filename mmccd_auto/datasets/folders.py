"""Where the raw, preprocessed and result folders are: a flag, else the environment, else a folder below this one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_FOLDER = "mmccd"
KINDS = ("raw", "preprocessed", "results")


@dataclass(frozen=True)
class Folders:
    """The three folders that every command works in (absolute paths; they need not exist yet).

    Attributes
    ----------
    raw : the datasets as users gave them
    preprocessed : fingerprints, plans, splits and normalised slices
    results : trained models
    sources : for each of the three why it is used, in words
    """

    raw: Path
    preprocessed: Path
    results: Path
    sources: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def resolve(
        cls,
        raw: str | Path | None = None,
        preprocessed: str | Path | None = None,
        results: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Folders:
        """Settle each folder on its own: the argument, else its environment variable, else ``./mmccd/KIND``.

        Parameters
        ----------
        raw, preprocessed, results : what the user's flag said, or None
        environment : in place of ``os.environ``; a variable that is set but empty counts as unset

        Examples
        --------
        >>> folders = Folders.resolve(raw="/data/raw", environment={"mmccd_results": "/data/models"})
        >>> folders.raw.as_posix(), folders.results.as_posix()
        ('/data/raw', '/data/models')
        >>> folders.sources["preprocessed"]
        'the default, as neither --preprocessed_folder nor mmccd_preprocessed is set'
        """
        environment = os.environ if environment is None else environment
        paths: dict[str, Path] = {}
        sources: dict[str, str] = {}
        for kind, flag in zip(KINDS, (raw, preprocessed, results), strict=True):
            variable = environment_variable(kind)
            if flag is not None:
                chosen, sources[kind] = Path(flag), f"by the option --{kind}_folder"
            elif environment.get(variable, "").strip():
                chosen, sources[kind] = Path(environment[variable].strip()), f"by the environment variable {variable}"
            else:
                chosen = Path(DEFAULT_FOLDER) / kind
                sources[kind] = f"the default, as neither --{kind}_folder nor {variable} is set"
            paths[kind] = Path(os.path.abspath(chosen.expanduser()))
        return cls(**paths, sources=sources)

    def describe(self) -> str:
        """Write three lines for people: each folder and why it is used."""
        return "\n".join(f"{kind + ':':<13} {getattr(self, kind)} ({self.sources.get(kind, 'as given')})" for kind in KINDS)


def environment_variable(kind: str) -> str:
    """Return the name of the environment variable of ``raw``, ``preprocessed`` or ``results``."""
    return f"mmccd_{kind}"
