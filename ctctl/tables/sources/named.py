"""Which files of a folder or an archive may hold names of pods, services and nodes, and how much of them is kept."""

from __future__ import annotations

import re
from typing import Final

#: What is kept of one file, and of all of a source: who wants more names a file with --names.
MAX_OWN_FILE: Final = 16 << 20
MAX_OWN: Final = 48 << 20
#: Members that may hold names, by what sysdumps and bugtools call them.
_MEMBER = re.compile(
    r"(?:pods|services?|endpointslices?|nodes?|ciliumendpoints?|ciliumidentit(?:y|ies)|ciliumnodes?|cilium-endpoints"
    r"|cilium-identities|endpoint-list|service-list|identity-list|debuginfo)[^/]*\.(?:ya?ml|json)$"
    r"|(?:service-list|endpoint-list|identity-list|node-list)-{1,2}o-json\.(?:md|json|txt)$"
    r"|(?<!bpf-)(?:endpoint-list|identity-list|node-list)\.(?:md|txt)$",
    re.IGNORECASE,
)
_ENDINGS: Final = (".yaml", ".yml", ".json", ".md")


def is_wanted(name: str) -> bool:
    """Whether a file called so may hold names."""
    return name.lower().endswith(_ENDINGS) and _MEMBER.search(name) is not None
