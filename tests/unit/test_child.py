"""This program once more, as a process of its own."""

import subprocess
from pathlib import Path

import pytest

from ctctl.kernel.child import own_command


def test_a_module_is_found_where_only_this_process_was_told_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_room.py").write_text("import sys\n\ndef main():\n    print(sys.argv[1:])\n    return 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = subprocess.run(own_command("own_room", "a b", "'c'"), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("""['a b', "'c'"]\n""", "", 3)
