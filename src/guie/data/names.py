"""File names as text that every table, log and archive can hold.

A name on disk is a sequence of bytes: it need not be UTF-8, and it may hold a line break or a tab. In manifests such a
byte is written as `%XX`, as in URLs: `caf%E9.jpg`. Where the name itself has `%` and two hexadecimal digits, this `%`
is written as `%25`. So every name has one form, and the form leads back to its file.
"""

from __future__ import annotations

import os
import re

ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|%[0-9A-Fa-f]{2}")
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def safe_name(name: str) -> str:
    """The name as it is written in manifests: UTF-8 without control characters.

    Args:
        name: A file's name or path as Python reads it from disk: bytes that are not UTF-8 are lone surrogates.
    """
    if not ODD.search(name):
        return name
    return "/".join("".join(map(_escaped, part)) if ODD.search(part) else part for part in name.split("/"))


def name_on_disk(name: str) -> str:
    """The name or path on disk: the inverse of `safe_name`."""
    if "%" not in name:
        return name
    return os.fsdecode(ESCAPE.sub(lambda code: bytes([int(code[1], 16)]), name.encode()))


def shown_name(name: str) -> str:
    """A name of a manifest for people: as on disk, where that is text without control characters.

    `50%2520off.jpg` is `50%20off.jpg`; `caf%E9.jpg`, whose byte is no UTF-8, stays as it is.
    """
    on_disk = name_on_disk(name)
    return name if CONTROL.search(on_disk) else on_disk


def _escaped(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        is_byte = "\udc80" <= character <= "\udcff"
        return "".join(
            f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
        )
    return f"%{ord(character):02X}" if character == "%" or character < " " or character == "\x7f" else character
