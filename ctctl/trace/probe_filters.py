"""Probes as clsact filters, where the kernel has no TCX: in front of all filters, and gone with the trace."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ctctl.errors import CtctlError
from ctctl.kernel import tc
from ctctl.kernel.child import own_command
from ctctl.kernel.netns import run_in_netns
from ctctl.kernel.program import Program
from ctctl.trace.probe_guard import PREFIX, process_name, sweep
from ctctl.trace.probe_points import ProbePoint

#: How long the guard may take to go after the end of the trace.
_PATIENCE_S: Final = 30


class ProbeFilters:
    """The filters of one trace in some network namespaces. A context manager; at its end they are gone.

    Raises CtctlError where what takes them off again cannot be started: then nothing is attached.
    """

    def __init__(self, namespaces: Iterable[Path]) -> None:
        self._name = f"{PREFIX}{process_name()}/{secrets.token_hex(4)}"
        self._stack = contextlib.ExitStack()
        self._descriptors: dict[Path, int] = {}
        try:
            for path in namespaces:
                run_in_netns(str(path), sweep)
                self._descriptors[path] = os.open(path, os.O_RDONLY)
                self._stack.callback(os.close, self._descriptors[path])
            self._guard = self._started()
        except BaseException:
            self._stack.close()
            raise

    def _started(self) -> subprocess.Popen[str]:
        guard = subprocess.Popen(
            own_command("ctctl.trace.probe_guard", self._name, *map(str, self._descriptors.values())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=list(self._descriptors.values()),
            start_new_session=True,
        )
        assert guard.stdout is not None
        if guard.stdout.readline() != "ready\n":
            _, said = guard.communicate(timeout=_PATIENCE_S)
            raise CtctlError(f"attach probes: what takes their filters off again did not start: {said.strip()[-300:]}")
        return guard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def attach(self, program: Program, point: ProbePoint) -> None:
        """Put a probe in front of a point's filters, from a thread in its namespace.

        Raises UnsupportedError where a filter of another kind is first, KernelError.
        """
        if tc.add_clsact(point.ifindex):
            assert self._guard.stdin is not None
            self._guard.stdin.write(f"{self._descriptors[point.netns]} {point.ifindex}\n")
            self._guard.stdin.flush()
        tc.attach_first(program, point.ifindex, point.direction, name=self._name)

    def close(self) -> None:
        """Take every filter off. Twice is fine. Raises CtctlError where one stays."""
        with self._stack:
            if self._guard.returncode is not None:
                return
            _, said = self._guard.communicate(timeout=_PATIENCE_S)
        if self._guard.returncode:
            raise CtctlError(f"filters {self._name} stay: {said.strip()[-300:]}; tc filter del takes them off")
