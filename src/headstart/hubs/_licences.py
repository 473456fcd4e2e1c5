"""The licences of models, by their SPDX names."""

from __future__ import annotations

import re
from pathlib import Path

SPDX = (
    "Apache-2.0 MIT BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear CC0-1.0 CC-BY-4.0 CC-BY-3.0 CC-BY-SA-4.0 CC-BY-NC-4.0 "
    "CC-BY-NC-SA-4.0 CC-BY-NC-ND-4.0 CC-BY-ND-4.0 ISC MPL-2.0 GPL-2.0 GPL-3.0 LGPL-3.0 AGPL-3.0 Unlicense Zlib "
    "ECL-2.0 Artistic-2.0 BSL-1.0 EUPL-1.1 WTFPL AFL-3.0"
)
KNOWN = {each.casefold(): each for each in SPDX.split()} | {"apache 2.0": "Apache-2.0", "bsd": "BSD-3-Clause"}
NONE = ("", "other", "unknown", "none")


def spdx(name: str) -> str:
    """Return a licence's SPDX name; one that has none as it is, and nothing where it says nothing.

    >>> spdx("apache-2.0"), spdx("llama2"), spdx("other")
    ('Apache-2.0', 'llama2', '')
    """
    bare = name.strip().strip("\"'")
    return "" if bare.casefold() in NONE else KNOWN.get(bare.casefold(), bare)


def of_card(folder: Path) -> str:
    """Return the licence that the model card in a folder names."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    head = text.partition("---\n")[2].partition("\n---")[0] if text.startswith("---\n") else ""
    found = re.search(r"^license:[ \t]*(\S.*)$", head, flags=re.MULTILINE)
    return spdx(found[1]) if found else ""
