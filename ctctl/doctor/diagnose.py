"""Run the checks over the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ctctl.doctor import checks_flows, checks_gc
from ctctl.doctor.facts import Facts, gather
from ctctl.doctor.finding import Diagnosis, Finding, Severity
from ctctl.tables.sources.base import Source


@dataclass(frozen=True, slots=True)
class Check:
    """One check, and what it cannot do without."""

    name: str
    run: Callable[[Facts], Iterator[Finding]]
    needs_now: bool = False
    needs_live: bool = False
    needs_backends: bool = False
    needs_nat: bool = False

    def missing(self, facts: Facts) -> str | None:
        """Why it cannot run on these facts, or None."""
        if self.needs_live and not (facts.stats or facts.table_bytes):
            return "needs live tables"
        if self.needs_now and not facts.has_now:
            return "the time of the dump is unknown: give --now"
        if self.needs_backends and not facts.has_backends:
            return "the source shows no backends"
        if self.needs_nat and not facts.has_nat:
            return "the source shows no SNAT table"
        return None


CHECKS = (
    Check("pressure", checks_gc.pressure),
    Check("insertion-failed", checks_gc.insertion, needs_live=True),
    Check("clock-mismatch", checks_gc.clock, needs_now=True),
    Check("gc-backlog", checks_gc.backlog, needs_now=True),
    Check("family-starved", checks_gc.starved_family, needs_now=True),
    Check("table-memory", checks_gc.memory, needs_live=True),
    Check("backend", checks_flows.backends, needs_backends=True),
    Check("half-closed", checks_flows.half_closed),
    Check("syn-only", checks_flows.syn_only),
    Check("snat-missing", checks_flows.snat_pairs, needs_nat=True),
    Check("snat-orphans", checks_flows.snat_orphans, needs_nat=True),
    Check("shadowed", checks_flows.shadowed),
    Check("related-gone", checks_flows.related_gone, needs_now=True),
    Check("identity-0", checks_flows.identity_zero),
)

_ORDER = list(Severity)


def diagnose(facts: Facts) -> Diagnosis:
    """Every check that can run on these facts. After a clock mismatch those that need the time are void."""
    findings: list[Finding] = []
    ran: list[str] = []
    skipped: dict[str, str] = {}
    for check in CHECKS:
        reason = check.missing(facts)
        if reason is None and check.needs_now and any(found.check == "clock-mismatch" for found in findings):
            reason = "the table's clock is another one"
        if reason is not None:
            skipped[check.name] = reason
            continue
        findings += check.run(facts)
        ran.append(check.name)
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))
    return Diagnosis(facts.source, tuple(findings), tuple(ran), skipped)


def examine(source: Source, *, gc_interval_s: float, sample_s: float = 0.0) -> list[tuple[str | None, Diagnosis]]:
    """A diagnosis for every node the source has tables of; None: one without a name."""
    nodes: list[str | None] = [*source.nodes()] or [None]
    return [
        (node, diagnose(gather(source, node=node, gc_interval_s=gc_interval_s, sample_s=sample_s))) for node in nodes
    ]
