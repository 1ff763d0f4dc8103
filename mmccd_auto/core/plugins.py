"""Extension by a subclass: classes found by their name, in the package or in a folder of the user's."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from mmccd_auto.core.errors import MMCCDError


def find_subclass(base: type, name: str, modules: Sequence[str], folders: Sequence[Path] = ()) -> type:
    """Find a subclass of ``base`` (or ``base`` itself) by its class name.

    Of the files in ``folders`` only those that define a class of this name are run, so that other scripts lying there do
    no harm. While such a file runs, its folder is importable: it may import its neighbours.

    Parameters
    ----------
    base : what the class must derive from
    name : of the class
    modules : dotted names of modules or packages of ours; of a package the modules directly inside it are searched
    folders : folders with a user's .py files (not searched recursively)

    Raises
    ------
    MMCCDError
        If a folder doesn't exist, no class or more than one has this name (the message lists what there is), a file that
        defines it fails when it is run, or the class doesn't derive from ``base``.
    """
    folders = [Path(folder) for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise MMCCDError(f"--extensions {folder} is not a folder: give the one that holds your {base.__name__} classes.")
    known = {found.__name__: found for module in _own_modules(modules) for found in _subclasses(module, base)}
    found = [known[name]] if name in known else []
    files = [file for folder in folders for file in sorted(folder.glob("*.py")) if name in _class_names(file)]
    found += [getattr(_run_file(file), name) for file in dict.fromkeys(file.resolve() for file in files)]
    if len(found) > 1:
        places = ", ".join(str(sys.modules[one.__module__].__file__) for one in found)
        raise MMCCDError(f"the class {name} is defined more than once ({places}): rename yours.")
    if not found:
        there = sorted(set(known).union(*(_class_names(file) for folder in folders for file in folder.glob("*.py"))))
        remedy = "" if folders else ", or name the folder that holds yours with --extensions"
        raise MMCCDError(f"there is no {base.__name__} named {name}: choose one of {', '.join(there) or 'none'}{remedy}.")
    if not (isinstance(found[0], type) and issubclass(found[0], base)):
        raise MMCCDError(f"{files[0]}: the class {name} must derive from {base.__name__}.")
    return found[0]


def _own_modules(names: Sequence[str]) -> Iterator[ModuleType]:
    for name in names:
        module = importlib.import_module(name)
        yield module
        for item in pkgutil.iter_modules(getattr(module, "__path__", ())):
            yield importlib.import_module(f"{name}.{item.name}")


def _subclasses(module: ModuleType, base: type) -> list[type]:
    """Return the public subclasses defined in ``module`` itself (not those it imports)."""
    classes = [value for value in vars(module).values() if isinstance(value, type) and not value.__name__.startswith("_")]
    return [found for found in classes if issubclass(found, base) and found.__module__ == module.__name__]


def _class_names(file: Path) -> set[str]:
    """Return the names of the classes at a file's top level, read without running it; none where it isn't Python."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def _run_file(file: Path) -> ModuleType:
    """Import a file by its path, once per process."""
    name = f"mmccd_extension_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise MMCCDError(f"{file} could not be run (it has no ending that Python knows): call it NAME.py.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise MMCCDError(f"{file} could not be run ({type(error).__name__}: {error}): fix it.") from error
    finally:
        sys.path.remove(str(file.parent))
    return module
