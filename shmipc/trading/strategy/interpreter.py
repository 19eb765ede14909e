"""Which Python runs a strategy's process.

Rules this file keeps:

- Never a program that is not known to be Python: it would be started again with arguments that mean
  something else to it. In a frozen program ``sys.executable`` is that program itself, in an
  embedding server (uWSGI, mod_wsgi) the server, and it may be empty.
- What is taken instead is the interpreter of this installation, or nothing: then it is an error
  that says what to give.
"""

from __future__ import annotations

import os
import re
import shutil
import sys

__all__ = ["find_python"]

_PYTHON = re.compile(r"(python|pypy)[0-9.]*[a-z]*(\.exe)?", re.IGNORECASE)


def find_python(given: str | None = None) -> str:
    """Return the path of an interpreter: `given` (a path, or a name in PATH), or this one.

    Raises FileNotFoundError where `given` is no program, RuntimeError where none is known.
    """
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise FileNotFoundError(2, f"python={given!r} is no program that can be run")
        return os.path.abspath(found) if os.sep in found else found
    if getattr(sys, "frozen", False):
        raise RuntimeError(
            f"this program is frozen: {sys.executable!r} is the program itself, not Python. Give "
            "the path of an interpreter that has shmipc and your strategies: python='/.../python3'"
        )
    running = sys.executable or ""
    if _PYTHON.fullmatch(os.path.basename(running)):
        return running
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix)):  # a virtual environment's first
        for name in (version, f"python{sys.version_info.major}", "python"):
            path = os.path.join(prefix, "bin", name)
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path
    what = f"sys.executable is {running!r}, which is not Python" if running else "it has no name"
    raise RuntimeError(
        f"the interpreter of this program is not known ({what}), and {sys.prefix}/bin has no "
        f"{version}: give its path, python='/.../python3'"
    )
