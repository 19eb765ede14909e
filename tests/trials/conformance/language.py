"""The languages of the matrix: how each peer is built and started. A new one is a new line here.

Owns: compilers, flags, where the library is. Must not know the scenarios.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from objects import compile_objects

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BINDING = ROOT / "examples" / "csharp"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


@dataclass
class Workshop:
    """Where peers are built, from which sources, with what."""

    out: Path
    sanitize: bool = False
    sources: Path = HERE  # mutants have their own copies
    binding: Path = BINDING
    include: Path = field(default_factory=lambda: include_dir())
    library_dir: Path | None = None

    def library(self) -> Path:
        """The directory of libshmipc.so: the installed one, or one built here."""
        if self.library_dir is None:
            installed = None if self.sanitize else installed_library()
            self.library_dir = installed or build_library(self.out / "lib", self.sanitize)
        return self.library_dir

    def link_flags(self) -> list[str]:
        library = self.library()
        return [f"-L{library}", f"-Wl,-rpath,{library}", "-lshmipc", "-pthread"]


def include_dir() -> Path:
    import shmipc

    found = Path(shmipc.__file__).parent / "include"
    return found if (found / "shmipc.h").exists() else ROOT / "shmipc" / "include"


def installed_library() -> Path | None:
    import shmipc

    if not hasattr(shmipc, "get_library_dirs"):
        return None
    return next(
        (Path(d) for d in shmipc.get_library_dirs() if Path(d, "libshmipc.so").exists()), None
    )


def call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr.strip():
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def build_library(out: Path, sanitize: bool) -> Path:
    """libshmipc.so from this checkout."""
    out.mkdir(parents=True, exist_ok=True)
    import shmipc

    flags = [
        "-std=c11",
        "-g",
        f'-DSHMIPC_VERSION="{shmipc.__version__}"',
        "-fPIC",
        "-fvisibility=hidden",
        "-pthread",
    ]
    flags += ["-O1", *SANITIZE] if sanitize else ["-O2"]
    flags += [f"-I{ROOT / 'src' / 'core'}", f"-I{ROOT / 'shmipc' / 'include'}"]
    sources = sorted([*ROOT.glob("src/core/*/*.c"), *ROOT.glob("src/api/*.c")])
    objects = compile_objects([c_compiler(), *flags], sources, out)
    script = f"-Wl,--version-script={ROOT / 'src' / 'api' / 'libshmipc.map'}"
    call(
        [
            *(c_compiler(), "-shared", *(SANITIZE if sanitize else ()), *map(str, objects)),
            *("-pthread", script, "-Wl,-soname,libshmipc.so", "-Wl,-z,nodelete"),
            *("-o", str(out / "libshmipc.so")),
        ]
    )
    return out


# ---- compilers -----------------------------------------------------------------------------------


def c_compiler() -> str:
    return os.environ.get("CC", "cc")


def cxx_compiler() -> str:
    return os.environ.get("CXX", "c++")


def native(shop: Workshop, compiler: str, standard: str, folder: str) -> list[str]:
    program = shop.out / f"peer-{folder}"
    flags = [f"-std={standard}", "-O1", "-g", *(SANITIZE if shop.sanitize else ())]
    sources = sorted((shop.sources / folder).glob("*.c*"))
    command = [compiler, *flags, *WARNINGS, f"-I{shop.include}"]
    objects = compile_objects(command, sources, shop.out)
    call([compiler, *flags, *map(str, objects), "-o", str(program), *shop.link_flags()])
    return [str(program)]


def build_python(shop: Workshop) -> list[str]:
    return [sys.executable, str(shop.sources / "python" / "peer.py")]


def build_c(shop: Workshop) -> list[str]:
    return native(shop, c_compiler(), "c11", "c")


def build_cxx(shop: Workshop) -> list[str]:
    return native(shop, cxx_compiler(), "c++17", "cpp")


def build_csharp(shop: Workshop) -> list[str]:
    program = shop.out / "peer-csharp.exe"
    sources = [
        str(path)
        for folder in (shop.binding, shop.sources / "csharp")
        for path in sorted(folder.glob("*.cs"))
        if path.name != "Ticks.cs"  # the example has a Main of its own
    ]
    call(
        [
            *("mcs", "-unsafe", "-optimize", "-warnaserror", "-langversion:7.2"),
            *(f"-out:{program}", *sources),
        ]
    )
    # as examples/csharp/README.md says: where the library is, beside the program
    Path(f"{program}.config").write_text(
        f'<configuration><dllmap dll="shmipc" target="{shop.library()}/libshmipc.so"/>'
        "</configuration>\n"
    )
    return ["mono", "--debug", str(program)]


# ---- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Language:
    name: str
    build: Callable[[Workshop], list[str]]
    needs: tuple[str, ...]  # programs on the path
    sanitized: bool = False  # does it run where the library is sanitized?
    # commands that it may answer with "unsupported", results that it has not
    lacks: frozenset[str] = frozenset()

    def missing(self) -> str | None:
        """What is not installed here, in words."""
        commands = {"cc": c_compiler(), "c++": cxx_compiler()}
        absent = [n for n in self.needs if shutil.which(commands.get(n, n)) is None]
        return f"no {', '.join(absent)} here" if absent else None


def lacking(*commands: str) -> frozenset[str]:
    return frozenset(commands)


LANGUAGES = (
    Language(
        "python",
        build_python,
        (),
        sanitized=True,  # it has its own copy of the core
        # a consumer's dtype says what the ring is; there are no pointers, peeks, interrupts
        lacks=lacking(
            *("expect", "layouts", "misuse null", "misuse wrong", "misuse overrun"),
            *("misuse interrupt", "misuse disposed", "misuse types", "misuse forgotten"),
            *("TOO_LARGE", "INTERRUPTED", "OVERRUN", "ABI"),  # ValueError, and nothing of the rest
        ),
    ),
    Language(
        "c",
        build_c,
        ("cc",),
        sanitized=True,
        lacks=lacking("misuse disposed", "misuse types", "misuse forgotten"),
    ),
    Language(
        "cpp",
        build_cxx,
        ("c++", "cc"),
        sanitized=True,
        lacks=lacking("layouts", "misuse wrong", "misuse disposed", "misuse forgotten", "ABI"),
    ),
    Language("csharp", build_csharp, ("mono", "mcs", "cc"), lacks=lacking("misuse fork")),
)
