"""What is collected: the examples in docstrings of files that need torch are left to `make test-all`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

SOURCES = Path(__file__).parent / "src/headstart"
NEEDS_TORCH = re.compile(
    r"^(import|from) (torch|torchvision|timm|keras|transformers|diffusers|accelerate|safetensors\.torch)\b"
    r"|^\w+ = require\(\"torch|^from headstart\.formats\._transformers import"
    r"|^from headstart\.formats import .*_(generator|stylegan2)\b",
    re.MULTILINE,
)

collect_ignore = (
    []
    if importlib.util.find_spec("torch")
    else [
        str(file)
        for folder in ("formats", "training")
        for file in (SOURCES / folder).glob("*.py")
        if NEEDS_TORCH.search(file.read_text(encoding="utf-8"))
    ]
)
