"""Broken node files of every kind: a ConfigError in one line, or a node file, and never anything else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ctctl.errors import ConfigError
from ctctl.node.tables import rodata, table_records
from ctctl.simulate.scenario_file import scenario_of
from tests.support.nodefile import parse_node_file

ROOT = Path(__file__).parents[2]
EXAMPLES = [path.read_text() for path in sorted((ROOT / "examples").glob("*.yaml"))]
SERVICES = (ROOT / "tests" / "data" / "kubernetes" / "services.yaml").read_text().replace("\n", "\n  ")
TEXTS = [*EXAMPLES, f"node: {{name: node-a, ip: 10.1.0.1}}\nservices:\n  {SERVICES}"]
TOKENS = ("[]", "{}", "null", "-1", "99999999999", "true", "'x'", "*a", "&a", "!!python/name:x", "10.0.0.1")
TOKENS += ("\0", "é", "0x", "1:2:3", "~", "-", "?", ":", "|", "<<:", "%")


def mutated(chance: random.Random) -> str:
    text = chance.choice(TEXTS)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text))
        match chance.randrange(4):
            case 0:
                text = text[:start] + text[start + chance.randint(1, 20) :]
            case 1:
                text = text[:start] + chance.choice(TOKENS) + text[start + chance.choice((0, 10)) :]
            case 2:
                lines = text.splitlines() or [""]
                lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                text = "\n".join(lines)
            case 3:
                words = text.split(" ")
                words[chance.randrange(len(words))] = chance.choice(TOKENS)
                text = " ".join(words)
        text = text or " "
    return text


@pytest.mark.parametrize("seed", range(4))
def test_broken_files(seed: int) -> None:
    chance = random.Random(seed)
    messages = []
    for _ in range(400):
        try:
            node = parse_node_file(mutated(chance), "broken.yaml")
            scenario_of(node)
        except ConfigError as error:
            messages.append(str(error))
        else:
            assert table_records(node)
            assert rodata(node)
    assert 200 < len(messages) < 400
    assert [message for message in messages if not message.startswith("broken.yaml") or "\n" in message] == []
