"""What shmipc.h declares, what the version script lists, what a library shows and what it needs.

Needs nm for the latter two, and nothing else.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
INCLUDE = ROOT / "shmipc" / "include"
HEADER = INCLUDE / "shmipc.h"
VERSION_SCRIPT = ROOT / "src" / "api" / "libshmipc.map"

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_FUNCTION = re.compile(
    r"^(?:SHMIPC_API|SHMIPC_CHECKED)\s+([^;{}()]*?)(\w+)\(([^;{}]*)\)\s*(\w*);", re.MULTILINE
)
_ENUMERATOR = re.compile(r"^\s+(SHMIPC_\w+) = ", re.MULTILINE)
_MACRO = re.compile(r"^#define (SHMIPC_\w+) (?!__attribute__|SHMIPC_API|noexcept)\S", re.MULTILINE)
_NODE = re.compile(r"^SHMIPC_[\d.]+ \{\s*global:(.*?)\}", re.DOTALL | re.MULTILINE)


class Function(NamedTuple):
    """One declaration, its white space narrowed to single spaces."""

    returns: str
    name: str
    parameters: str


def declared(header: str) -> list[Function]:
    """Return the API functions of the header's text, in its order.

    Raises:
        ValueError: a function's mark is there that is not read as one.
    """
    text = _COMMENT.sub(" ", header)
    found = [
        Function(*(" ".join(part.split()) for part in match.groups()[:3]))
        for match in _FUNCTION.finditer(text)
    ]
    marks = len(re.findall(r"^(?:SHMIPC_API|SHMIPC_CHECKED)\b", text, re.MULTILINE))
    if len(found) != marks:
        raise ValueError(f"{marks} functions are marked, {len(found)} were understood")
    return found


def constants(header: str) -> list[str]:
    """Return the names of the enumerators and of the macros that have a value."""
    text = _COMMENT.sub(" ", header)
    return [*_MACRO.findall(text), *_ENUMERATOR.findall(text)]


def listed(version_script: str) -> list[str]:
    """Return the names that a version script shows, over all its nodes."""
    text = _COMMENT.sub(" ", version_script)
    names = []
    for node in _NODE.findall(text):
        shown = node.partition("local:")[0]
        names += [name.strip() for name in shown.split(";") if name.strip()]
    return names


def exported(library: Path) -> list[str]:
    """Return the names that a library defines for others, without its version nodes."""
    return [name.partition("@")[0] for kind, name in _nm(library, "--defined-only") if kind != "A"]


def needed(library: Path) -> list[str]:
    """Return what a library cannot do without, each with its version: ``free@GLIBC_2.2.5``."""
    return [name for kind, name in _nm(library, "--undefined-only") if kind == "U"]


def _nm(library: Path, which: str) -> list[tuple[str, str]]:
    done = subprocess.run(
        ["nm", "-D", which, str(library)], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    return [(row[-2], row[-1]) for row in rows]
