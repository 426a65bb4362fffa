"""Run the checks over the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from ctctl.abi import pins
from ctctl.doctor import checks_clock, checks_flows, checks_gc, checks_nat, checks_node, checks_services
from ctctl.doctor.facts import Facts, gather
from ctctl.doctor.finding import HERE, Diagnosis, Finding, Severity, Where
from ctctl.out.text import shell_word
from ctctl.tables.sources.base import Source

Need = Callable[[Facts], str | None]


# ---- what a check cannot do without: each says why it is not there, or None


def _ct(facts: Facts) -> str | None:
    return None if facts.tables else "the source shows no conntrack table"


def _now(facts: Facts) -> str | None:
    return None if facts.has_now else "the time of the dump is unknown: give --now"


def _live(facts: Facts) -> str | None:
    return None if facts.stats or facts.table_bytes else "needs live tables"


def _counters(facts: Facts) -> str | None:
    return None if facts.stats else "needs the counters of a datapath of ctctl"


def _own(facts: Facts) -> str | None:
    return None if facts.programs else "needs a node that ctctl loaded"


def _machine(facts: Facts) -> str | None:
    return None if facts.live else "needs live tables"


def _backends(facts: Facts) -> str | None:
    return None if facts.has_backends else "the source shows no backends"


def _services(facts: Facts) -> str | None:
    seen = facts.listings.services or (facts.has_backends and "services" not in facts.listings.missing)
    return None if seen else "the source shows no services"


def _nat(facts: Facts) -> str | None:
    return None if facts.has_nat else "the source shows no SNAT table"


def _endpoints(facts: Facts) -> str | None:
    return None if facts.pod_addresses else "the source shows no endpoints"


def _identities(facts: Facts) -> str | None:
    return None if facts.listings.ipcache else "the source shows no identities (ipcache)"


def _both_tables(facts: Facts) -> str | None:
    """SNAT entries are kept by either conntrack table of their family."""
    complete = any(len(facts.of_family(family)) > 1 for family in (4, 6))
    return None if complete else "the source does not show the TCP and the other conntrack table of one IP version"


def _incomplete(facts: Facts) -> str | None:
    """Versions whose SNAT entries could not be held to both of their conntrack tables."""
    some = [version for version, entries in facts.snat_use.entries.items() if entries]
    lacking = [f"IPv{version}" for version in sorted(some) if len(facts.of_family(version)) < 2]
    if not lacking:
        return None
    return f"the source does not show the TCP and the other conntrack table of {' and '.join(lacking)}"


def _absent(facts: Facts) -> str | None:
    """Tables that the node has and the source does not: who looked at the others has not looked at the node."""
    if not facts.absent:
        return None
    versions = " and ".join(dict.fromkeys(f"IPv{pins.CT_FAMILY[name]}" for name in facts.absent))
    where = "not pinned here" if facts.live else "not in the source"
    return f"{where}: {' and '.join(facts.absent)}, which a node with {versions} has"


def _unsized(facts: Facts) -> str | None:
    return "; ".join(filter(None, (checks_gc.without_capacity(facts), _absent(facts)))) or None


@dataclass(frozen=True, slots=True)
class Check:
    """One check, and what it cannot do without. ``gap`` names what it could not look at although it ran.

    ``essential``: without it nobody is called healthy.
    """

    name: str
    run: Callable[[Facts], Iterator[Finding]]
    needs: tuple[Need, ...] = (_ct,)
    gap: Need | None = None
    essential: bool = False

    def missing(self, facts: Facts) -> str | None:
        """Why it cannot run on these facts, or None."""
        return next((reason for need in self.needs if (reason := need(facts)) is not None), None)

    @property
    def timed(self) -> bool:
        return _now in self.needs


CHECKS = (
    Check("programs", checks_node.programs, (_own,)),
    Check("time-namespace", checks_clock.namespace, (_machine,)),
    Check("clock-mismatch", checks_clock.clock, (_ct, _now), essential=True),
    Check("pressure", checks_gc.pressure, (_ct, checks_gc.no_capacity), _unsized, essential=True),
    Check("insertion-failed", checks_gc.insertion, (_counters,)),
    Check("gc-backlog", checks_gc.backlog, (_ct, _now), _absent, essential=True),
    Check("family-starved", checks_gc.starved_family, (_ct, _now)),
    Check("table-memory", checks_gc.memory, (_live,)),
    Check("backend", checks_services.backends, (_ct, _backends)),
    Check("no-backends", checks_services.frontends, (_services,)),
    Check("backend-without-endpoint", checks_services.lost_backends, (_backends, _endpoints, _identities)),
    Check("service-finished", checks_services.finished, (_ct, _now)),
    Check("hairpin", checks_services.hairpins),
    Check("half-closed", checks_flows.half_closed),
    Check("one-way", checks_flows.one_way),
    Check("syn-only", checks_flows.syn_only),
    Check("snat-ports", checks_nat.ports, (_nat,)),
    Check("snat-exhausted", checks_nat.exhausted, (_counters,)),
    Check("snat-missing", checks_nat.pairs, (_ct, _nat)),
    Check("snat-orphans", checks_nat.orphans, (_ct, _nat, _both_tables), _incomplete),
    Check("shadowed", checks_flows.shadowed),
    Check("related-gone", checks_flows.related_gone, (_ct, _now)),
    Check("identity-0", checks_flows.identity_zero),
)

_ORDER = list(Severity)
#: Nobody reads more of one kind.
MOST_OF_A_CHECK = 50


#: After one of these findings nothing that depends on the time can be judged.
_VOIDING = frozenset({"clock-mismatch", "time-namespace"})


def diagnose(facts: Facts) -> Diagnosis:
    """Every check that can run on these facts. Where the clock is not the tables', those that need it are void."""
    findings: list[Finding] = []
    ran: list[str] = []
    skipped: dict[str, str] = {}
    for check in CHECKS:
        reason = check.missing(facts)
        if reason is None and check.timed and any(found.check in _VOIDING for found in findings):
            reason = "the table's clock is another one"
        if reason is not None:
            skipped[check.name] = reason
            continue
        findings += _some(check.run(facts))
        ran.append(check.name)
        gap = check.gap(facts) if check.gap is not None else None
        if gap is not None:
            skipped[check.name] = gap
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))
    essential = frozenset(check.name for check in CHECKS if check.essential)
    return Diagnosis(facts.source, tuple(findings), tuple(ran), skipped, essential)


def _some(found: Iterable[Finding]) -> list[Finding]:
    """Findings of one check; where there are very many, the first of them and how many more."""
    every = iter(found)
    first = list(islice(every, MOST_OF_A_CHECK))
    more = sum(1 for _ in every)
    if more:
        last = first[-1]
        rest = replace(last, summary=f"{more} more of the same kind", evidence={"more": more}, mend=())
        first.append(rest)
    return first


def examine(
    source: Source, *, gc_interval_s: float | None, sample_s: float = 0.0, where: Where = HERE
) -> list[tuple[str | None, Diagnosis]]:
    """A diagnosis for every node the source has tables of; None: one without a name.

    ``where`` are the options that name the source, for the commands of findings.
    """
    nodes: list[str | None] = [*source.nodes()] or [None]
    found = []
    for node in nodes:
        named = (
            f" --node {shell_word(node)}" if node is not None and len(nodes) > 1 and "--node" not in where.place else ""
        )
        its = where._replace(place=where.place + named, target=where.target if len(nodes) == 1 else "")
        facts = gather(source, node=node, gc_interval_s=gc_interval_s, sample_s=sample_s, where=its)
        found.append((node, diagnose(facts)))
    return found
