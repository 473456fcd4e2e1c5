"""Find implementations by file name: the folder is the registry, and listing it imports nothing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from headstart.core.errors import MissingExtra, UsageError, listed, nearest

Contract = TypeVar("Contract")


class Registry(Generic[Contract]):
    """The implementations of one contract: the files of a folder, and entry points of other packages.

    Args:
        package: dotted name of the folder, such as `headstart.tasks`. Its last part is also the
            entry point group's last part, so a third party registers under `headstart.tasks`.
        contract: the abstract class that each file implements exactly once.
    """

    def __init__(self, package: str, contract: type[Contract]) -> None:
        self.package, self.contract = package, contract
        self.kind = package.rpartition(".")[2]

    def _modules(self) -> dict[str, str]:
        folder = importlib.import_module(self.package)
        modules = {entry.name: entry.value for entry in entry_points(group=self.package)}
        for module in pkgutil.iter_modules(folder.__path__):
            if not module.name.startswith("_"):
                modules[module.name] = f"{self.package}.{module.name}"
        return modules

    def names(self) -> list[str]:
        """Return the names of all implementations, sorted, importing none of them."""
        return sorted(self._modules())

    def get(self, name: str) -> type[Contract]:
        """Return the implementation called `name`.

        Raises:
            UsageError: there is none of that name.
            MissingExtra: its file needs a package that is not installed.
        """
        modules = self._modules()
        if name not in modules:
            raise UsageError(
                f"There is nothing called '{name}' among the {self.kind}.",
                allowed=f"Known: {listed(sorted(modules))}.",
                hint=nearest(name, modules),
            )
        try:
            module = importlib.import_module(modules[name])
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing == "headstart":
                raise
            raise MissingExtra(
                f"'{name}' of the {self.kind} needs the package '{missing}', which is not installed.",
                hint=f"Install it with: pip install 'headstart[{name}]'",
            ) from error
        found = [
            each
            for _, each in inspect.getmembers(module, inspect.isclass)
            if issubclass(each, self.contract) and not inspect.isabstract(each) and each.__module__ == module.__name__
        ]
        if len(found) != 1:
            raise UsageError(
                f"{modules[name]} holds {len(found)} implementations of {self.contract.__name__}; it must hold one."
            )
        return found[0]

    def all(self) -> dict[str, type[Contract]]:
        """Return every implementation by name, importing each."""
        return {name: self.get(name) for name in self.names()}


def require(package: str, extra: str) -> Any:
    """Import an optional package at the moment it is needed, so that a plugin file without it stays cheap to import.

    Args:
        package: dotted module name, such as `pyarrow.parquet`.
        extra: the extra that brings it, named after the plugin's file.

    Raises:
        MissingExtra: the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing = (error.name or package).partition(".")[0]
        raise MissingExtra(
            f"'{extra}' needs the package '{missing}', which is not installed.",
            hint=f"Install it with: pip install 'headstart[{extra}]'",
        ) from error
