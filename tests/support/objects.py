"""Compile each source once: object files shared by tests, workers and CI stages.

TEST_OBJECTS names the folder that keeps them; without it every call compiles. An object is found by
what decides its content: the compiler, the flags and the preprocessed source. What fails to compile
or makes the compiler say anything is not kept.

Must not import anything but the standard library: the C tests run without the package.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

ENVIRONMENT = "TEST_OBJECTS"


def compile_object(command: Sequence[str], source: Path, target: Path) -> Path:
    """Compile `source` to `target`. `command` is a compiler and its flags.

    Raises RuntimeError with what the compiler says if it fails or says anything.
    """
    folder = os.environ.get(ENVIRONMENT)
    if not folder:
        return _compile(command, source, target)
    kept = Path(folder) / f"{_key(command, source)}.o"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:  # one compiles, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            # Renamed once it is whole: whoever is killed here leaves no half of an object.
            partial = _compile(command, source, kept.with_suffix(".partial"))
            partial.rename(kept)
    shutil.copyfile(kept, target)
    return target


def compile_objects(command: Sequence[str], sources: Iterable[Path], folder: Path) -> list[Path]:
    """Compile each source into `folder`, on all cores; return the objects in the same order."""
    folder.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> Path:
        return compile_object(command, source, folder / f"{source.parent.name}-{source.stem}.o")

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def _compile(command: Sequence[str], source: Path, target: Path) -> Path:
    _run([*command, "-c", str(source), "-o", str(target)])
    return target


def _key(command: Sequence[str], source: Path) -> str:
    compiler = os.path.realpath(shutil.which(command[0]) or command[0])
    stamp = os.stat(compiler)
    # -P leaves out the paths of the headers: the same text elsewhere is the same object.
    text = _run([*command, "-E", "-P", str(source)])
    flags = [flag for flag in command[1:] if not flag.startswith(("-D", "-I"))]
    parts = (compiler, stamp.st_size, stamp.st_mtime_ns, source.name, flags)
    return hashlib.sha256(f"{parts!r}\n".encode() + text).hexdigest()


def _run(command: Sequence[str]) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        said = (done.stdout if done.returncode else b"") + done.stderr
        raise RuntimeError(f"{' '.join(command)}\n{said.decode(errors='replace')}")
    return done.stdout
