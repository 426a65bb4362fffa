"""Lakes in an object store: a real S3 server (moto's), over HTTP. ``make test-store`` installs it beside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctctl.fleet.questions import QUESTIONS
from tests.support.children import run_ctctl, started
from tests.support.fleet import A, B, Node, Row, flow, small_fleet
from tests.support.net import free_ports
from tests.support.wait import PATIENCE_S, wait_for

pytest.importorskip("pyarrow", reason="lakes need pyarrow (ctctl[fleet])")
pytest.importorskip("duckdb", reason="questions need DuckDB (ctctl[fleet])")

SERVER = Path(__file__).parents[2] / "build/moto/bin/moto_server"
pytestmark = pytest.mark.skipif(not SERVER.exists(), reason="no S3 server here: make test-store")
KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}
TOLD = {
    "flow": ("--flow", f"tcp {A}:1000 > {B}:80"),
    "node-loss": ("--node", "node-b"),
}


@dataclass(frozen=True)
class Store:
    """An S3 server at ``end``, and what asks it."""

    end: str
    log: Path

    def url(self, bucket: str, path: str = "/lake") -> str:
        """A lake in it; the bucket is made."""
        urllib.request.urlopen(urllib.request.Request(f"http://{self.end}/{bucket}", method="PUT")).close()
        return f"s3://{bucket}{path}?endpoint_override={self.end}&scheme=http&region=us-east-1"

    def fleet(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """``ctctl fleet``, with keys."""
        done = run_ctctl("fleet", *words, env={**os.environ, **KEYS}, timeout=10 * PATIENCE_S)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    (port,) = free_ports(1)
    path = tmp_path_factory.mktemp("store") / "log"
    with path.open("w") as log, started(SERVER, "-H", "127.0.0.1", "-p", str(port), stdout=log, stderr=log) as server:

        def answers() -> bool:
            assert server.poll() is None, path.read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
            except OSError:
                return False
            return True

        wait_for(answers, what="the S3 server answers")
        yield Store(f"127.0.0.1:{port}", path)


def test_a_store_answers_every_question_as_a_folder_does(store: Store, tmp_path: Path) -> None:
    froms = [word for node in small_fleet() for word in ("--from", str(node.write(tmp_path)))]
    url, folder = store.url("questions"), str(tmp_path / "lake")
    store.fleet("collect", folder, *froms)
    for turn in ("collected", "already there"):
        done = store.fleet("collect", url, *froms, "-o", "jsonl")
        assert {json.loads(line)["status"] for line in done.stdout.splitlines()} == {turn}
    for name in QUESTIONS:
        told = TOLD.get(name, ())
        here, there = (
            run_ctctl("fleet", "ask", name, *told, "--lake", lake, "-o", "json", env={**os.environ, **KEYS})
            for lake in (folder, url)
        )
        assert (here.returncode, here.stdout) == (there.returncode, there.stdout), name
        assert here.returncode in (0, 5), here.stderr


def test_an_object_that_was_begun_is_not_there_and_holds_no_process_up(store: Store) -> None:
    """Whoever wrote it failed: closed by the library itself it would be there as a half, and at the end of the
    process a stream that is still open waits for ever."""
    text = """if True:
        import sys
        from ctctl.fleet.lake import Lake
        lake = Lake(sys.argv[1])
        try:
            with lake._whole("ct/half") as stream:
                stream.write(b"half")
                raise KeyError
        except KeyError as error:
            kept = error, stream
        print(lake._fs.get_file_info(lake.root + "/ct/half").type.name)
    """
    words = [sys.executable, "-c", text, store.url("half")]
    env = {**os.environ, **KEYS}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (0, "NotFound\n"), done.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_half_collection(store: Store, tmp_path: Path, how: signal.Signals) -> None:
    paths = [Node(f"n{number}", [Row(flow(A, number + 1, B, 80))], [A]).write(tmp_path) for number in range(4)]
    url = store.url(f"ended-{how.name.lower()}")
    words = [word for path in paths for word in ("--from", str(path))]
    env = {**os.environ, **KEYS}
    with started(sys.executable, "-m", "ctctl", "fleet", "collect", url, *words, env=env) as child:
        wait_for(lambda: child.poll() is not None or f"PUT /ended-{how.name.lower()}/lake/" in store.log.read_text())
        child.send_signal(how)
        child.wait(PATIENCE_S)
    listed = run_ctctl("fleet", "list", "--lake", url, "-o", "name", env=env)
    whole = len(listed.stdout.splitlines())
    assert listed.returncode == (0 if whole else 1), listed.stderr
    assert store.fleet("collect", url, *words, "-o", "csv").stdout.count("already there") == whole
    counted = store.fleet("sql", "SELECT count(*) AS n, count(DISTINCT node) AS m FROM ct", "--lake", url, "-o", "csv")
    assert counted.stdout == "n,m\n4,4\n"


def test_what_a_store_refuses_is_one_line(store: Store, tmp_path: Path) -> None:
    path = Node("a", [Row(flow(A, 1, B, 80))], [A]).write(tmp_path)
    url = store.url("there")
    missing = store.fleet("collect", url.replace("//there", "//missing"), "--from", path, code=1)
    assert "bucket does not exist" in missing.stderr
    assert store.fleet("list", "--lake", url.replace("//there/lake", "//"), code=2).stderr.endswith("no bucket\n")
    empty = store.fleet("list", "--lake", url, code=1).stderr
    assert f"ctctl fleet collect '{url}' --from SRC" in empty, "as it can be pasted"
    (port,) = free_ports(1)
    nobody = store.fleet("list", "--lake", url.replace(store.end, f"127.0.0.1:{port}"), code=1).stderr
    assert "connect" in nobody.lower()
    assert len(nobody.splitlines()) == 1
