"""What asks a cluster, imported where a cluster is asked."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from ctctl.errors import MissingLibraryError


def library(name: str) -> ModuleType:
    """Raises MissingLibraryError, which names the extra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingLibraryError("clusters need lightkube and websockets", "k8s") from None


def http_library() -> ModuleType:
    """The httpx that lightkube itself speaks: httpx2 since its version 1."""
    return library("httpx2" if importlib.util.find_spec("httpx2") is not None else "httpx")
