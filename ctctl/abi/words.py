"""The words of output for numbers of abi.h: an enumerator's name without its prefix, in lower case."""

from __future__ import annotations

from ctctl.abi.layouts import CtctlHook, CtctlReason, CtctlStat

_HOOKS = {int(hook): hook.name.removeprefix("HOOK_").lower() for hook in CtctlHook}
_REASONS = {int(reason): reason.name.removeprefix("REASON_").lower() for reason in CtctlReason}


def hook_name(number: int) -> str:
    """``from_container`` for HOOK_FROM_CONTAINER; "hook_N" for one this version does not know."""
    return _HOOKS.get(number, f"hook_{number}")


def reason_name(number: int) -> str:
    """``policy`` for REASON_POLICY, ``ok`` for what went through; "reason_N" for one this version does not know."""
    return _REASONS.get(number, f"reason_{number}")


def stat_name(stat: CtctlStat) -> str:
    """``events_lost`` for STAT_EVENTS_LOST."""
    return stat.name.removeprefix("STAT_").lower()
