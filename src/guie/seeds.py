"""Seeds of random numbers, made from names: the same on every machine and in every process."""

from __future__ import annotations

import hashlib
from typing import Any


def seed_of(*what: Any) -> int:
    """A seed below 2**31 from any texts and numbers, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:4], "little") >> 1
