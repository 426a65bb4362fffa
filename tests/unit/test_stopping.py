"""Stopping on signals: whatever moment they come at, a run ends and can tell what it did."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from ctctl.kernel import stopping
from ctctl.kernel.stopping import SignalStop, TimeLimit, stop_on_signals
from tests.support.children import line_of, started
from tests.support.wait import PATIENCE_S

#: Waits in many short turns, as a run with a rate limit does, and says that it ended by itself.
WAITER = """
import sys
from ctctl.kernel.stopping import stop_on_signals
with stop_on_signals() as stop:
    print("ready", flush=True)
    while not stop.wait(0.0001):
        pass
    print("reported", flush=True)
"""


@pytest.mark.parametrize("signals", [1, 2, 5])
def test_signals_close_together_end_the_run_with_its_report(signals: int) -> None:
    for _ in range(6):
        with started(sys.executable, "-c", WAITER) as waiter:
            assert line_of(waiter, waiter.stdout) == "ready\n"
            for _ in range(signals):
                waiter.send_signal(signal.SIGINT)
            rest, _ = waiter.communicate(timeout=PATIENCE_S)
        # A signal that comes after the report may end the process: its status says nothing here.
        assert rest == "reported\n"


def test_a_later_signal_acts_as_if_nobody_listened(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_twice() -> None:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.wait(PATIENCE_S)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(stopping, "SAME_SIGNAL_S", 0.0)
    of_the_run = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted_twice()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, of_the_run)


def test_every_thread_that_waits_is_told() -> None:
    stop = SignalStop()
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(stop.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert not stop.is_set()
    assert not stop.wait(0)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    stop.close()
    assert told == [True, True, True]
    assert stop.is_set()


def test_a_time_limit_ends_by_itself() -> None:
    stop = SignalStop()
    limit = TimeLimit(stop, 0.01)
    assert limit.wait()
    assert not stop.is_set()
    stop.close()
