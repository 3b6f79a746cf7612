"""Names of files as text that every table, log and archive can hold.

A name on disk is bytes: it need not be UTF-8, and it may hold a line break or a tab. In manifests such a byte stands as
`%XX`, as in URLs: `caf%E9.jpg`. A name that holds `%` and two hexadecimal digits itself has its `%` written as `%25`,
so that every name has one form and leads back to its file.
"""

from __future__ import annotations

import os
import re

ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}")
ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def safe_name(name: str) -> str:
    """The name as it stands in manifests: UTF-8 without control characters.

    Args:
        name: Of a file, or a path; as Python reads it from a disk, with bytes that are no UTF-8 as lone surrogates.
    """
    if not ODD.search(name):
        return name
    return "/".join("".join(map(_escaped, part)) if ODD.search(part) else part for part in name.split("/"))


def name_on_disk(name: str) -> str:
    """The name, or path, that `safe_name` made this one from."""
    if "%" not in name:
        return name
    return os.fsdecode(ESCAPE.sub(lambda code: bytes([int(code[1], 16)]), name.encode()))


def _escaped(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        is_byte = "\udc80" <= character <= "\udcff"
        return "".join(
            f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
        )
    return f"%{ord(character):02X}" if character == "%" or character < " " or character == "\x7f" else character
