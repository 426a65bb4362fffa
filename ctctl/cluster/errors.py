"""Why a node or the API did not answer: the message is the reason, for a row."""

from __future__ import annotations

from ctctl.errors import CtctlError


class ClusterError(CtctlError):
    """The API or a node did not answer as it should."""


class TransientError(ClusterError):
    """It may go better when tried again: the connection was refused, cut or the server was busy."""


class ExitError(ClusterError):
    """The command ran and ended with a status of its own, ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
