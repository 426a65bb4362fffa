"""`make release` in a clone: the version, the changelog, the commit and the tag; and what it refuses."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def git(where: Path, *words: str) -> str:
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(("git", *identity, *words), cwd=where, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """What is in the working tree now, as a repository of its own with one commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    where = tmp_path / "clone"
    where.mkdir()
    files = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    wanted = [name for name in files if name and (ROOT / name).exists()]
    archive = subprocess.run(
        ("tar", "-cf", "-", "--no-recursion", "--null", "-T", "-"), cwd=ROOT, input="\0".join(wanted).encode(),
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    subprocess.run(("tar", "-xf", "-"), cwd=where, input=archive, check=True)
    git(where, "init", "-q", "-b", "main")
    git(where, "config", "user.name", "Tester")
    git(where, "config", "user.email", "tester@example.org")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "as it is")
    return where


def release(where: Path, version: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CTCTL_RELEASE_DIST": "no"}
    return subprocess.run(
        ("make", "release", f"VERSION={version}"),
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_releases(clone: Path) -> None:
    # The first version has a text of its own, and what changed since that was written.
    (clone / "changes" / "+since.added.md").write_text("`ctctl since`.\n")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "a change")
    done = release(clone, "0.1.0")
    assert done.returncode == 0, done.stderr
    assert "`ctctl since`." in (clone / "CHANGELOG.md").read_text().partition("## 0.1.0 (")[2]
    assert [path.name for path in (clone / "changes").iterdir()] == ["README.md"]
    assert git(clone, "tag").split() == ["v0.1.0"]
    (clone / "changes" / "+probes.fixed.md").write_text("`ctctl trace` on a kernel without TCX.\n")
    (clone / "changes" / "17.added.md").write_text("`ctctl ct list --colour-blind`.\n")
    assert "not committed" in release(clone, "0.2.0").stderr
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "two changes")
    done = release(clone, "0.2.0")
    assert done.returncode == 0, done.stderr
    changelog = (clone / "CHANGELOG.md").read_text()
    second, first = changelog.index("## 0.2.0 ("), changelog.index("## 0.1.0 (")
    assert second < changelog.index("`ctctl trace` on a kernel without TCX.") < first
    assert second < changelog.index("#17") < first
    assert "## Unreleased" not in changelog
    assert sorted(path.name for path in (clone / "changes").iterdir()) == ["README.md"]
    assert '__version__ = "0.2.0"' in (clone / "ctctl" / "__init__.py").read_text()
    assert git(clone, "log", "-1", "--format=%s").strip() == "Release 0.2.0"
    assert git(clone, "status", "--porcelain") == ""
    assert "To publish it:" in done.stdout
    # The same again, an older one, one with nothing to say, and no version at all.
    for version, why in (("0.2.0", "there already"), ("0.1.5", "older"), ("v1", "no version"), ("", "which version")):
        refused = release(clone, version)
        assert refused.returncode == 2, (version, refused.stdout)
        assert why in refused.stderr
    nothing = release(clone, "0.3.0")
    assert (nothing.returncode, "changes/ is empty" in nothing.stderr) == (2, True)
    assert git(clone, "status", "--porcelain") == ""
    # A candidate comes before what it is one of.
    for version in ("0.3.0rc1", "0.3.0"):
        (clone / "changes" / "+more.added.md").write_text("More.\n")
        git(clone, "add", "-A")
        git(clone, "commit", "-q", "-m", "more")
        done = release(clone, version)
        assert done.returncode == 0, (version, done.stderr)
    assert "0.3.0rc2 is older than 0.3.0" in release(clone, "0.3.0rc2").stderr
