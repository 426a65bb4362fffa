"""``ctctl report``: one page that says what the commands say, loads nothing, and runs nothing of the data."""

from __future__ import annotations

import html
import io
import json
import re
import subprocess
import tarfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.children import run_ctctl
from tests.support.needs import need_program
from tests.support.wait import PATIENCE_S

DATA = Path(__file__).resolve().parents[1] / "data"
DUMP = DATA / "samples/cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"
ARTEFACTS = Path(__file__).resolve().parents[2] / "build" / "report"
FLOW = "tcp 10.64.2.110 > 10.64.0.106:443"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return run_ctctl(*words)


class Page(HTMLParser):
    """What a page consists of: tags with their attributes, and the texts of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "incident.html"
    done = run("report", FLOW, "--from", str(DUMP), "--out", str(path))
    assert done.returncode == 0, done.stderr
    return path


def test_says_what_the_commands_say(made: Path) -> None:
    text = made.read_text()
    page = Page(text)
    tables = json.loads(run("ct", "stats", "--from", str(DUMP), "-o", "json").stdout)["tables"]
    for table in tables:
        after = [page.cells[at + 2] for at, cell in enumerate(page.cells[:-2]) if cell == table["map"]]
        assert str(table["entries"]) in after
    (story, *_more) = json.loads(run("ct", "get", FLOW, "--from", str(DUMP), "-o", "json").stdout).get(
        "connections"
    ) or [json.loads(run("ct", "get", FLOW, "--from", str(DUMP), "-o", "json").stdout)]
    assert html.escape(story["why"].removeprefix(f"{story['state']}: "), quote=False) in text
    assert f"{story['state']}</strong>: {story['state']}" not in text, "the state is said once"
    for finding in json.loads(run("doctor", "--from", str(DUMP), "-o", "json").stdout)["findings"]:
        assert finding["check"] in text
    assert "<dd>[" not in text, "what a finding was told by is in words"
    assert "<dd>{" not in text
    listed = run("ct", "list", "--from", str(DUMP), "-o", "name").stdout.splitlines()
    for line in listed[:20]:
        assert line.split()[1] in page.cells


def test_loads_nothing_and_its_policy_allows_just_its_own_script(made: Path) -> None:
    page = Page(made.read_text())
    for tag, attributes in page.tags:
        assert tag not in ("img", "iframe", "link", "object", "embed", "base", "form")
        assert not {"src", "srcset", "action"} & attributes.keys(), tag
        assert not any(name.startswith("on") for name in attributes)
        assert "href" not in attributes
    (policy,) = (found["content"] for tag, found in page.tags if tag == "meta" and "http-equiv" in found)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_data_cannot_become_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    dump = tmp_path / f"{evil.replace('/', '_')}.txt"
    dump.write_text(DUMP.read_text())
    path = tmp_path / "page.html"
    done = run("report", "--from", str(dump), "--out", str(path))
    assert done.returncode == 0, done.stderr
    page = Page(path.read_text())
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(tag == "img" for tag, _ in page.tags)


def sysdump(path: Path, nodes: int) -> Path:
    """Conntrack and service listings of so many nodes; each has a backend of its own, and a service without one."""
    with tarfile.open(path, "w") as packed:
        for n in range(nodes):
            at = f"10.{n >> 8}.{n & 255}"
            files = {
                "ct-list.md": "".join(
                    f"TCP SVC {at}.5:4000 -> {vip}:80 expires=9000 Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 "
                    "TxFlagsSeen=0x02 LastTxReport=1000 Flags=0x0010 [ SeenNonSyn ] RevNAT=5 SourceSecurityID=3 "
                    "IfIndex=0 BackendID=7 \n"
                    for vip in ("10.96.0.10", "10.96.0.20")
                ),
                "lb-list.md": "SERVICE ADDRESS     BACKEND ADDRESS (REVNAT_ID) (SLOT)\n"
                f"10.96.0.10:80 (0)   0.0.0.0:0 (5) (0) [ClusterIP, non-routable]\n"
                f"10.96.0.10:80 (1)   {at}.9:8080 (5) (1)\n"
                "10.96.0.20:80 (0)   0.0.0.0:0 (6) (0) [ClusterIP, non-routable]\n",
            }
            for name, text in files.items():
                info = tarfile.TarInfo(f"cilium-bugtool-node-{n}-20260101-000000/cmd/{name}")
                info.size = len(text)
                packed.addfile(info, io.BytesIO(text.encode()))
    return path


def test_a_page_of_many_nodes_is_one_page(tmp_path: Path) -> None:
    """One table of a kind for all nodes; what is too much for a page is said and counted."""
    sizes = {}
    for nodes in (3, 700):
        path = tmp_path / f"{nodes}.html"
        done = run("report", "--from", str(sysdump(tmp_path / f"{nodes}.tar", nodes)), "--out", str(path))
        assert done.returncode == 0, done.stderr
        text = path.read_text()
        sizes[nodes] = len(text)
        assert len(re.findall("<h2>Services", text)) == 1
        (services,) = re.findall(r"<h2>Services.*?</table>", text, re.DOTALL)
        assert services.count("<tr>") == 1 + min(2 * nodes, 500)
        assert ("500 of 1400" in services) == (nodes == 700)
        assert ("500 of 700, the fullest" in text) == (nodes == 700)
        page = Page(text)
        for n in range(3):
            at = page.cells.index(f"10.0.{n}.9:8080")
            assert f"node-{n}" in page.cells[at - 8 : at]
        told = [int(number) for number in re.findall(r"(\d+) (?:more )?not told here", text)]
        findings = len(re.findall("<article", text)) + sum(told)
        assert findings
        assert findings % nodes == 0
        assert bool(told) == (nodes == 700)
    assert sizes[700] < 1_000_000


def test_in_a_browser(made: Path, tmp_path: Path) -> None:
    """A real browser runs the page's own script under its policy, and draws it."""
    need_program("chromium")
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    picture = ARTEFACTS / "report.png"
    picture.unlink(missing_ok=True)
    base = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    drawn = [*base, "--window-size=1200,1600", f"--screenshot={picture}", made.as_uri()]
    subprocess.run(drawn, capture_output=True, check=True, timeout=PATIENCE_S)
    assert picture.stat().st_size > 20_000
    shown = subprocess.run(
        [*base, "--dump-dom", made.as_uri()], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert re.search(r'<th[^>]*tabindex="0"', shown.stdout), "the script did not run"
    assert "Refused to" not in shown.stderr
