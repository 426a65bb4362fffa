"""What the pages call ``examples/NAME``, typed where there is no such folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctctl.cli.main import main
from ctctl.kernel import build

ROOT = Path(__file__).resolve().parents[2]
CAPTURE, STORY, WORKLOAD = (
    f"examples/{name}" for name in ("cilium-bugtool.tar.xz", "pod-to-pod.yaml", "workload.yaml")
)


@pytest.mark.parametrize(
    "words",
    [
        ["ct", "list", "--from", CAPTURE],
        ["trace", "--scenario", STORY],
        ["trace", "--from", "examples/hubble.jsonl"],
        ["load", "--dry-run", "-f", STORY],
        ["sizing", WORKLOAD],
        ["gc", "simulate", WORKLOAD],
    ],
    ids=" ".join,
)
def test_the_error_says_where_it_is(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    (name,) = [word for word in words if word.startswith("examples/")]
    assert capsys.readouterr().err.rstrip().endswith(f"; ctctl came with {ROOT / name}")


@pytest.mark.parametrize("name", ["cilium-bugtool.tar.xz", "examples/no-such.yaml", "samples/workload.yaml"])
def test_no_other_name_is_taken_for_one(name: str) -> None:
    assert build.is_an_example(name) == ""


@pytest.mark.parametrize("package", ["lib/python3.13/site-packages/ctctl", "lib/ctctl/ctctl"])
def test_they_are_below_share_of_where_it_is_installed(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an environment, in a user's own packages, in Debian's places."""
    monkeypatch.setattr(build, "_PACKAGE", tmp_path / package)
    assert main(["version", "--examples"]) == 1
    assert capsys.readouterr().err.startswith("ctctl: this ctctl came without examples")
    folder = tmp_path / "share/ctctl/examples"
    folder.mkdir(parents=True)
    (folder / "workload.yaml").touch()
    assert main(["version", "--examples"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert build.is_an_example("examples/workload.yaml") == f"; ctctl came with {folder}/workload.yaml"
