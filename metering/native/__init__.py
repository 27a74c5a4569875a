"""The optional compiled scanner of usage events: the same rows as the plain path makes, sooner.

It is built where a C compiler is there when the package is installed, and left out otherwise.
"""

from importlib import import_module
from types import ModuleType


def _load() -> ModuleType | None:
    try:
        return import_module("metering.native.scan")
    except ImportError:
        return None


scan = _load()
