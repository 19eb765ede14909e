"""Where the C side of the package is, and what a compiler must be told to use it.

Headers, ``libshmipc.so`` and its pkg-config file lie beside the extension that this process has
loaded: they were built with it. That holds for wheels, for editable installs, and for a Python
started in a checkout that has another build installed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from shmipc import _core

__all__ = ["compiler_flags", "get_include", "get_library_dirs", "linker_flags", "pkgconfig_dir"]

_HOME = Path(_core.__file__).absolute().parent
# What a shell reads as more than a letter, anywhere in a word.
_SPECIAL = re.compile(r"""[\s|&;<>()$`\\"'*?\[\]{}]""")


def get_include() -> str:
    """Return the directory of ``shmipc.h``, ``shmipc.hpp`` and ``shmipc_events.h``.

    Raises:
        FileNotFoundError: this installation has no headers.
    """
    return _existing("include", "shmipc.h")


def get_library_dirs() -> list[str]:
    """Return the directories to search for ``libshmipc.so``, for ``-L`` and for ``-rpath``.

    Raises:
        FileNotFoundError: this installation has no library: it was built before there was one.
    """
    return [_existing("lib", "libshmipc.so")]


def pkgconfig_dir() -> str:
    """Return the directory of ``shmipc.pc``, for ``PKG_CONFIG_PATH``."""
    return _existing("lib/pkgconfig", "shmipc.pc")


def compiler_flags() -> list[str]:
    """Return what a C or C++ compiler must be told, an argument each, quoted for a shell."""
    return [_quoted(f"-I{get_include()}")]


def linker_flags() -> list[str]:
    """Return what it must be told to link, an argument each, quoted for a shell.

    The run path has the program find the library where it is now, without LD_LIBRARY_PATH.
    """
    flags = []
    for directory in get_library_dirs():
        flags.append(_quoted(f"-L{directory}"))
        # gcc and clang split -Wl at commas
        word = "-Wl,-rpath," if "," not in directory else "-Xlinker -rpath -Xlinker "
        flags.append(word + _quoted(directory))
    return [*flags, "-lshmipc"]


def _existing(directory: str, file: str) -> str:
    found = _HOME / directory
    if not (found / file).is_file():
        raise FileNotFoundError(
            f"{file} is not in {found}, beside the extension: install shmipc again, from a wheel "
            "or with `pip install .`"
        )
    return str(found)


def _quoted(word: str) -> str:
    """Return `word` as a shell reads it back, and as it is where nothing in it is special.

    ``$(...)`` splits what it inserts and reads no quotes: there a path with a space in it is right
    only below ``eval``, or in a recipe of make. (``shlex.quote`` alone would quote every letter
    that is not ASCII, and so spoil paths that need no quotes.)
    """
    return shlex.quote(word) if _SPECIAL.search(word) else word
