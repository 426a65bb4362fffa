"""Listings that property tests draw, line by line: of every version, cut, edited, behind words."""

from __future__ import annotations

from hypothesis import strategies as st

from ctctl.decode.ct import decode_entry
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.tables.show.cilium import cilium_line
from tests.support.drawn import WORDS, pairs


@st.composite
def lines(draw: st.DrawFn, layout: Layout) -> str:
    """A line of the version that has the layout, of any entry."""
    key, value = draw(pairs())
    now = draw(st.sampled_from([None, 7, 5_000_000]))
    return cilium_line(decode_entry(key, value, layout), layout, Clock(), now) or ""


_ENDS = {
    4: st.sampled_from(["10.0.0.1", "192.168.1.254", "10.0.0.256", "10.00.0.1", "1.2.3"]),
    6: st.sampled_from(["[fd00::1]", "[::ffff:10.0.0.1]", "[::]", "[fd00:::1]", "[10.0.0.1]"]),
}


@st.composite
def nat_lines(draw: st.DrawFn) -> str:
    """A line of an SNAT listing, of early builds and later ones."""
    family = draw(st.sampled_from([4, 4, 6]))
    ends = [_ENDS[draw(st.sampled_from([family] * 9 + [10 - family]))] for _ in range(3)]
    source, target, to = (f"{draw(end)}:{draw(st.sampled_from([0, 1, 80, 65535, 65536, 99999]))}" for end in ends)
    way = draw(st.sampled_from([("OUT", "SRC"), ("IN", "DST")] * 4 + [("OUT", "DST")]))
    related = draw(st.sampled_from(["", "", " related"]))
    age = draw(st.sampled_from(["0", "72", "72", "-5", "9" * 18, "9" * 19]))
    tail = draw(st.sampled_from([" ago NeedsCT=0", " ago NeedsCT=1", " ago NeedsCT=18446744073709551616", " ago", ""]))
    proto = draw(st.sampled_from(["TCP", "UDP", "ICMP", "ICMPv6", "132", "256"]))
    return f"{proto} {way[0]} {source} -> {target}{related} XLATE_{way[1]} {to} Created={age}sec{tail}"


@st.composite
def service_lines(draw: st.DrawFn) -> str:
    """A row of a service listing, of any version."""
    family = draw(st.sampled_from([4, 4, 6]))
    front, backend = (f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}" for _ in range(2))
    protos = [draw(st.sampled_from(["", "/TCP", "/UDP", "/ANY", "/XYZ"])) for _ in range(2)]
    scope = draw(st.sampled_from(["", "", "/i"]))
    slots = draw(st.sampled_from([(0, 0), (1, 1), (2, 2), (1, 0), (65536, 1)]))
    words = draw(st.sampled_from(["", "", " []", " [ClusterIP, non-routable]", " [LoadBalancer]", " [a,,b ]"]))
    gap = draw(st.sampled_from(["   ", "     ", " ", "\t", " \t "]))
    right = f"{backend}{protos[1]} ({draw(st.integers(0, 70000))}) ({slots[1]}){words}"
    grouped = draw(st.sampled_from([False] * 5 + [True]))
    left = " " * 20 if grouped else f"{front}{protos[0]}{scope} ({slots[0]})"
    return left + gap + draw(st.sampled_from([right, right, right, "backend 9 not found", "0 1 (7) [0x10 0x2]"]))


@st.composite
def ipcache_lines(draw: st.DrawFn) -> str:
    """A row of identities, of any version."""
    family = draw(st.sampled_from([4, 4, 6]))
    prefix = draw(_ENDS[family].filter(lambda end: end[0] != "[")) if family == 4 else draw(_PREFIXES)
    bits = draw(st.sampled_from(["/32", "/128", "/8", "/0", "/33", "/129", "/300", "", "/032"]))
    cluster = draw(st.sampled_from(["", "", "", "@5", "@65536"]))
    tunnel = draw(st.sampled_from(["0.0.0.0", "192.168.1.1", "fd00::1", "[fd00::1]", "::", "<nil>", "10.0.0.1,"]))
    words = ["<none>", "hastunnel", "skiptunnel,hastunnel", "x", "", "<none>,hastunnel", "a b"]
    flags = draw(st.sampled_from(["", *(f"{mark} flags={word}" for mark in ("", ",") for word in words)]))
    gap = draw(st.sampled_from(["   ", "       ", " ", "\t"]))
    key, identity = draw(st.sampled_from([0, 3, 255, 256])), draw(st.sampled_from([0, 7, 1 << 24, 1 << 32]))
    return f"{prefix}{bits}{cluster}{gap}identity={identity} encryptkey={key} tunnelendpoint={tunnel}{flags}"


_PREFIXES = st.sampled_from(["fd00::1", "fd00:0::ff", "::ffff:10.0.0.1", "::", "[fd00::1]", "fd00:::1"])


@st.composite
def maps_lines(draw: st.DrawFn) -> str:
    """A line of ``lb/maps-dump``: a slot or a backend."""
    family = draw(st.sampled_from([4, 4, 6]))
    proto, scope = draw(st.sampled_from(["", "/TCP", "/UDP", "/ANY", "/XYZ"])), draw(st.sampled_from(["", "", "/i"]))
    end = f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}{proto}"
    number, words = (
        draw(st.sampled_from([0, 9, 1 << 32])),
        draw(st.sampled_from(["", "ClusterIP+non-routable", "a=b", "x y"])),
    )
    if draw(st.booleans()):
        return f"BE: ID={number} ADDR={end} STATE={draw(st.sampled_from(['active', words]))}"
    which = draw(
        st.sampled_from(["SLOT=0 LBALG=undef AFFTimeout=9", "SLOT=1 BEID=5", "SLOT=0 BEID=5", "SLOT=256 BEID=5"])
    )
    more = draw(st.sampled_from(["", "", " L7PORT=5", " ID=7"]))
    return f"SVC: ID={number} ADDR={end}{scope} {which} COUNT=2 QCOUNT=0 FLAGS={words}{more}"


@st.composite
def connection_lines(draw: st.DrawFn) -> str:
    """A line of ``conntrack -L`` or ``/proc/net/nf_conntrack``."""
    family = draw(st.sampled_from([4, 4, 6]))
    ends = [draw(_ENDS[family if draw(st.integers(0, 15)) else 10 - family]).strip("[]") for _ in range(4)]
    if draw(st.booleans()):  # the same way back
        ends[2:] = [ends[1], ends[0]]
    ports = [draw(st.sampled_from([0, 80, 80, 8080, 65535, 65536])) for _ in range(2)]
    back = [ports[1], ports[0]] if draw(st.booleans()) else [draw(st.sampled_from([7, 80])) for _ in range(2)]
    name, proto = draw(
        st.sampled_from(
            [("tcp", 6)] * 4 + [("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132), ("gre", 47), ("x", 300)]
        )
    )
    given = draw(st.sampled_from(["ports"] * 3 + ["icmp", "none", "both"]))
    echo = f" type=8 code=0 id={draw(st.sampled_from([0, 9, 65535]))}"
    counted = draw(st.sampled_from([(0, 0), (0, 0), (1, 1), (1, 0)]))
    shown = []
    for number, (first, second) in enumerate((ports, back)):
        text = f"src={ends[2 * number]} dst={ends[2 * number + 1]}"
        text += f" sport={first} dport={second}" if given in ("ports", "both") else ""
        text += echo if given in ("icmp", "both") else ""
        shown.append(text + (f" packets={draw(WORDS)} bytes={draw(WORDS)}" if counted[number] else ""))
    front = draw(st.sampled_from(["", "", "ipv4     2 ", "ipv6     10 ", "    [NEW] ", "[1700000000.5] "]))
    timeout = draw(st.sampled_from(["", "30 ", "431999 ", "4294967296 "]))
    state = draw(
        st.sampled_from(
            ["", "ESTABLISHED ", "SYN_SENT ", "SYN_SENT2 ", "TIME_WAIT ", "CLOSE ", "COOKIE_WAIT ", "NONE "]
        )
    )
    mark = draw(st.sampled_from([" ", " ", " [UNREPLIED] "]))
    end = draw(
        st.sampled_from(
            [" mark=0 use=1", " [ASSURED] mark=0 use=1", " [ASSURED] mark=0 zone=0 use=2", "", " [OFFLOAD] use=2"]
        )
    )
    end += draw(st.sampled_from(["", "", "", " secctx=null use=1", " helper=ftp", " packets=7", " dport=9"]))
    return f"{front}{name:<8} {proto} {timeout}{state}{shown[0]}{mark}{shown[1]}{end}"


@st.composite
def pair_lines(draw: st.DrawFn) -> str:
    """A row of endpoints, backends or reverse NAT."""
    family, gap = draw(st.sampled_from([4, 4, 6])), draw(st.sampled_from(["   ", "     ", " ", "\t"]))
    end, number = draw(_ENDS[family]), draw(st.sampled_from([0, 7, 65535, 65536, 1 << 32]))
    kind = draw(st.sampled_from(["endpoint", "endpoint", "backend", "rev_nat"]))
    if kind == "rev_nat":
        return f"{number}{gap}{end}:{draw(st.sampled_from([0, 80, 65536]))}"
    if kind == "backend":
        to = draw(st.sampled_from([end, end.strip("[]")]))
        more = draw(st.sampled_from(["", "", "@7", "@65536", "[zone]", "[]"]))
        return f"{number}{gap}{draw(st.sampled_from(['TCP', 'ANY', 'NONE', 'XYZ', 'udp']))}://{to}{more}"
    left = f"{draw(st.sampled_from([end, end.strip('[]')]))}:{draw(st.sampled_from([0, 0, 0, 65536]))}"
    if draw(st.integers(0, 3)) == 0:
        return f"{left}{gap}(localhost)"
    macs = [draw(st.sampled_from(["BE:AB:1E:0C:E7:2B", "be:ab:1e:0c:e7:2b", "", "BE:AB"])) for _ in range(2)]
    identity, flags = draw(st.sampled_from([1, 26718, 1 << 32])), draw(st.sampled_from([0, 1]))
    fields = f"id={number:<5} sec_id={identity:<5} flags=0x{flags:04x}"
    fields += f" ifindex={draw(st.sampled_from([0, 7])):<3} mac={macs[0]} nodemac={macs[1]}"
    return f"{left}{gap}{fields}{draw(st.sampled_from(['', ' parent_ifindex=0    ', ' parent_ifindex=9', ' x=1']))}"


@st.composite
def frontend_lines(draw: st.DrawFn) -> str:
    """A row of ``bpf lb list --frontends``."""
    family, gap = draw(st.sampled_from([4, 4, 6])), draw(st.sampled_from(["   ", "     ", " ", "\t"]))
    front = f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}"
    front += draw(st.sampled_from(["", "/TCP", "/ANY", "/XYZ"])) + draw(st.sampled_from(["", "", "/i"]))
    slot, first = draw(st.sampled_from([0, 0, 1, 65536])), draw(st.sampled_from([0, 9, 0x01000005, 1 << 32]))
    held = draw(st.sampled_from(["", "[0]", "[3]", "[65536]", "[]"]))
    flags = draw(st.sampled_from(["0x0 0x0", "0x42 0x80", "0x60 0xff", "0x100 0x0", "0x6A 0x0", "0x 0x"]))
    rev_nat = draw(st.sampled_from([1, 65535, 65536]))
    return f"{front} ({slot}){gap}{first} {draw(st.sampled_from([0, 2]))}{held} ({rev_nat}) [{flags}]"


@st.composite
def socket_lines(draw: st.DrawFn) -> str:
    """A row of ``bpf socknat list``."""
    family, gap = draw(st.sampled_from([4, 4, 6])), draw(st.sampled_from(["   ", "            ", " ", "\t"]))
    ends = [f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 16415, 65536]))}" for _ in range(2)]
    cookie, rev_nat = draw(st.sampled_from([0, 4468, 1 << 63, 1 << 64])), draw(st.sampled_from([0, 2560, 65536]))
    return f"{cookie}{gap}{ends[0]} -> {ends[1]} (revnat={rev_nat}){draw(st.sampled_from(['', '   ']))}"


@st.composite
def agent_service_lines(draw: st.DrawFn) -> str:
    """A row of the agent's ``service list``."""
    family = draw(st.sampled_from([4, 4, 6]))
    front, backend = (f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}" for _ in range(2))
    protos = [draw(st.sampled_from(["", "/TCP", "/UDP", "/ANY", "/XYZ"])) for _ in range(2)]
    scopes = [draw(st.sampled_from(["", "", "/i"])) for _ in range(2)]
    state = draw(st.sampled_from(["", " (active)", " (active)", " (terminating)", " (odd)", "(active)"]))
    right = f"{draw(st.integers(0, 65536))} => {backend}{protos[1]}{scopes[1]}{state}"
    gap = draw(st.sampled_from(["   ", "    ", " ", "\t"]))
    if draw(st.booleans()):
        return f"{draw(st.sampled_from([' ' * 30, ' ', '']))}{right}"
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LocalRedirect", "Odd", ""]))
    number = draw(st.sampled_from(["1", " 1", "70000", "4294967296"]))
    left = f"{number}{gap}{front}{protos[0]}{scopes[0]}{gap}{kind}"
    return left + draw(st.sampled_from(["", "  ", gap + right, gap + right, right]))


@st.composite
def listings(draw: st.DrawFn) -> bytes:
    """Lines of one version or two, some of them edited as nobody should, between them what people leave there."""
    others = {"nat": nat_lines(), "services": service_lines(), "ipcache": ipcache_lines(), "maps": maps_lines()}
    others |= {"connections": connection_lines(), "pairs": pair_lines(), "agent": agent_service_lines()}
    others |= {"frontends": frontend_lines(), "sockets": socket_lines()}
    layouts = draw(st.lists(st.sampled_from([*Layout, *others, "services", "connections"]), min_size=1, max_size=2))
    found: list[str] = []
    for layout in layouts:
        found += draw(st.lists(lines(layout) if isinstance(layout, Layout) else others[layout], max_size=12))
    for at in draw(st.lists(st.integers(0, max(len(found) - 1, 0)), max_size=4)):
        if found:
            found[at] = edited(draw, found[at])
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", ""]))
    return (end.join(found) + draw(st.sampled_from(["\n", ""]))).encode()


def edited(draw: st.DrawFn, line: str) -> str:
    """A line as an editor, a terminal or a hostile file may have it."""
    at = draw(st.integers(0, len(line)))
    return draw(
        st.sampled_from(
            [
                line[:at],
                line[at:],
                "",
                "...",
                "node1: " + line,
                " " + line,
                line.rstrip(),
                line + "\t ",
                line[:at] + draw(st.sampled_from([" ", "0", "-", "é", "\x1b[31m", "\x00", "x"])) + line[at:],
                line.replace("[ ", "[ Unknown=0xf800 "),
                line.replace(" RevNAT=", " RevNAT=0"),
                line.replace("=0x", "=0xFF"),
                line + line,
            ]
        )
    )


#: What tools and people put in front of each line, ``{}`` a number that differs from line to line.
_FRONTS = (
    "node-1: ",
    "2026-11-25T19:14:{}.4Z ",
    "Nov 25 19:14:{} node-1 cilium[{}]: ",
    "pod/cilium-{}x cilium-agent  \t",
    "dump.txt:{}:",
    "{}-",
    "  {}: ",
    "knoten-\u00fc ",
    "<a&b> {} ",
    "> {} ",
    "[pod/x] ",
    "kubectl   exec{} | ",
)


@st.composite
def worded(draw: st.DrawFn) -> bytes:
    """A listing with words in front of its lines, but for some."""
    front, other = draw(st.sampled_from(_FRONTS)), draw(st.sampled_from(_FRONTS))
    text = draw(listings()).decode(errors="replace").split("\n")
    odd = draw(st.lists(st.integers(0, len(text)), max_size=2))
    ends = [draw(st.sampled_from(["", front.strip(), other])) if at in odd else front for at in range(len(text))]
    first = draw(st.integers(0, 99))
    return "\n".join(
        end.replace("{}", str(first + at)) + line for at, (end, line) in enumerate(zip(ends, text, strict=True))
    ).encode()
