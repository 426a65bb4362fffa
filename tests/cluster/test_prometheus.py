"""A real Prometheus scrapes a real node: it takes the rules, and every query of the dashboard has an answer."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.children import CTCTL, run_ctctl, started
from tests.support.control_plane import PARTS, why_not
from tests.support.net import free_ports
from tests.support.nodes import OUTSIDE_IP, make_node, run
from tests.support.wait import PATIENCE_S, wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
_MISSING = why_not("prometheus", "promtool")

pytestmark = [
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
    pytest.mark.kernel,
    pytest.mark.slow,
]

Ask = Callable[..., Any]
#: Metrics of which a node that runs well has none: nothing was translated, nothing failed.
_QUIET = re.compile(r"ctctl_snat_|gc_nat_deleted|reason!=")


def rules() -> dict[str, Any]:
    (document,) = yaml.safe_load_all((DEPLOY / "alerts.yaml").read_text())
    spec: dict[str, Any] = document["spec"]
    return spec


def test_the_rules_are_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules()))
    done = subprocess.run([PARTS / "promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Prometheus over a loaded node, with its figures and those of its garbage collection; a query's answer."""
    folder = tmp_path_factory.mktemp("prometheus")
    tables, collected, web = free_ports(3)
    with ExitStack() as stack:
        node = stack.enter_context(make_node())
        file = folder / "node.yaml"
        file.write_text(node.text())
        assert run_ctctl("load", "-f", file, "--netns", node.name).returncode == 0
        stack.callback(run_ctctl, "unload", "--node", node.name, "--yes")
        run("ip", "netns", "exec", node.pod(1), "ping", "-c1", OUTSIDE_IP)
        serve = ("metrics", "serve", f"127.0.0.1:{tables}", "--node", node.name)
        collect = ("gc", "--node", node.name, "--interval", "10s", "--metrics", f"127.0.0.1:{collected}")
        log = stack.enter_context((folder / "log").open("w"))
        for words in (serve, collect):
            stack.enter_context(started(*CTCTL, *words, stdout=log, stderr=log))
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
        targets = [f"127.0.0.1:{tables}", f"127.0.0.1:{collected}"]
        scrape = {"job_name": "ctctl", "scrape_interval": "1s", "static_configs": [{"targets": targets}]}
        scrape["metric_relabel_configs"] = [{"target_label": "instance", "replacement": node.name}]
        config = {"global": {"evaluation_interval": "1s"}, "scrape_configs": [scrape], "rule_files": ["rules.yaml"]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        words = ["--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "data"]
        words += ["--web.listen-address", f"127.0.0.1:{web}"]
        stack.enter_context(started(PARTS / "prometheus", *map(str, words), stdout=log, stderr=log))

        def answer(path: str, **query: str) -> Any:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{web}{path}?{urllib.parse.urlencode(query)}") as stream:
                    return json.load(stream)["data"]
            except OSError:
                return None

        yield answer


def test_every_query_of_the_dashboard_is_answered(ask: Ask) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= len(dashboard["panels"])
    for query in queries:
        asked = query.replace("$__rate_interval", "1m").replace("$instance", ".*")

        def answered(asked: str = asked) -> Any:
            found = ask("/api/v1/query", query=asked)
            return found is not None and (found["result"] or (_QUIET.search(asked) and {"result": []}))

        wait_for(answered, PATIENCE_S, what=asked)


def test_every_alert_is_evaluated(ask: Ask) -> None:
    def healthy() -> bool:
        found = ask("/api/v1/rules")
        if found is None:
            return False
        told = [rule for group in found["groups"] for rule in group["rules"]]
        return len(told) == len(rules()["groups"][0]["rules"]) and all(rule["health"] == "ok" for rule in told)

    wait_for(healthy, what="every rule is evaluated")
