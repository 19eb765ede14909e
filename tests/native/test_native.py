"""The C side of the package: where it is said to be, and that compilers find it there."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.resources
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shmipc
from shmipc import _core, _native, cli

PROGRAM = r"""
#include <shmipc.h>
#include <shmipc_events.h>
#include <stdio.h>
int main(void) {
    printf("%s %u\n", shmipc_version(), shmipc_abi_version());
    return sizeof(struct shmipc_tick) != 128 || shmipc_abi_version() != SHMIPC_ABI_VERSION;
}
"""
SPECIAL = "a b's (c) $HOME; d"  # what a directory may be called


@pytest.fixture(params=["cc", "c++"])
def compiler(request: pytest.FixtureRequest) -> list[str]:
    """A C or C++ compiler that takes no warning."""
    found = shutil.which(os.environ.get("CC" if request.param == "cc" else "CXX", request.param))
    if found is None:
        pytest.skip(f"no {request.param}: install gcc or clang")
    standard = "-std=c11" if request.param == "cc" else "-std=c++17"
    language = "c" if request.param == "cc" else "c++"
    return [found, standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", language]


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The C side of the package, in a directory with a name that shells take apart."""
    home = tmp_path / SPECIAL / "shmipc"
    shutil.copytree(_native.get_include(), home / "include")
    shutil.copytree(_native.get_library_dirs()[0], home / "lib")
    monkeypatch.setattr(_native, "_HOME", home)
    return home


def asked(*flags: str) -> str:
    """Return what ``python -m shmipc`` prints, one line."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "shmipc", *flags],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    line, end = done.stdout[:-1], done.stdout[-1:]
    assert end == "\n"
    assert "\n" not in line
    return line


def built_and_run(compiler: list[str], flags: str, where: Path) -> str:
    """Compile PROGRAM in a shell, `flags` inserted by ``eval``; return what it prints."""
    (where / "program.c").write_text(PROGRAM)
    command = f"{shlex.join([*compiler, 'program.c', '-x', 'none'])} {flags} -o program"
    subprocess.run(["sh", "-c", 'eval "$1"', "sh", command], cwd=where, timeout=60, check=True)
    clean = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        ["./program"], cwd=where, capture_output=True, text=True, timeout=60, env=clean, check=True
    )
    return done.stdout


def pkg_config(*arguments: str, path: Path | str) -> str:
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config")
    done = subprocess.run(
        ["pkg-config", *arguments, "shmipc"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PKG_CONFIG_PATH": str(path)},
    )
    return done.stdout.strip()


# ---- where things are ------------------------------------------------------------------------


def test_headers_and_library_lie_where_they_are_said_to_be() -> None:
    include = Path(shmipc.get_include())
    assert {"shmipc.h", "shmipc_events.h"} <= {path.name for path in include.iterdir()}
    for directory in shmipc.get_library_dirs():
        assert Path(directory, "libshmipc.so").is_file()
    assert Path(_native.pkgconfig_dir(), "shmipc.pc").is_file()


def test_library_is_of_the_packages_version() -> None:
    library = ctypes.CDLL(str(Path(shmipc.get_library_dirs()[0], "libshmipc.so")))
    library.shmipc_version.restype = ctypes.c_char_p
    assert library.shmipc_version().decode() == shmipc.__version__


def test_asking_where_things_are_does_not_load_numpy() -> None:
    code = "import shmipc, sys; shmipc.get_include(), shmipc.get_library_dirs()\n"
    subprocess.run(
        [sys.executable, "-c", code + "assert 'numpy' not in sys.modules"], timeout=60, check=True
    )


def test_what_is_not_there_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_native, "_HOME", tmp_path)
    for function in (_native.get_include, _native.get_library_dirs, _native.pkgconfig_dir):
        with pytest.raises(FileNotFoundError, match="install shmipc again"):
            function()
    for flag in ("--cflags", "--libs", "--pkgconfigdir"):
        assert cli.main([flag]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert str(tmp_path) in said.err


# ---- what compilers are told -----------------------------------------------------------------


def test_flags_come_in_one_line_the_compilers_first() -> None:
    include, [library] = shmipc.get_include(), shmipc.get_library_dirs()
    assert shlex.split(asked("--cflags")) == [f"-I{include}"]
    assert shlex.split(asked("--libs")) == [f"-L{library}", f"-Wl,-rpath,{library}", "-lshmipc"]
    for flags in (["--cflags", "--libs"], ["--libs", "--cflags"]):
        assert asked(*flags) == f"{asked('--cflags')} {asked('--libs')}"
    assert asked("--pkgconfigdir") == _native.pkgconfig_dir()


@pytest.mark.parametrize(
    "argv",
    [["--cflags", "list"], ["list", "--libs"], ["--pkgconfigdir", "--libs"], ["--cflags", "x"]],
)
def test_flags_go_with_nothing_else(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    assert exit_info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_program_is_built_with_what_the_package_says(compiler: list[str], tmp_path: Path) -> None:
    printed = built_and_run(compiler, asked("--cflags", "--libs"), tmp_path)
    assert printed == f"{shmipc.__version__} 1\n"


def test_paths_without_anything_special_need_no_eval() -> None:
    for path in ("/usr/lib/python3.11", "/home/jörg/é_-+~#%@,:=.x/y", "/a/b!c"):
        assert _native._quoted(f"-I{path}") == f"-I{path}"


@pytest.mark.parametrize("name", [*SPECIAL, *'"\\&|<>*?[]{}`\t', "a,b c"])
def test_special_paths_are_read_back_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path("/x") / f"a{name}b"
    monkeypatch.setattr(_native, "_HOME", home)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    flags = [*_native.compiler_flags(), *_native.linker_flags()]
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {' '.join(flags)}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    expected = [f"-I{home}/include", f"-L{home}/lib", f"-Wl,-rpath,{home}/lib", "-lshmipc"]
    if "," in name:
        expected[2:3] = ["-Xlinker", "-rpath", "-Xlinker", f"{home}/lib"]
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("compiler", ["cc"], indirect=True)
def test_program_is_built_where_the_path_has_spaces_and_quotes(
    compiler: list[str], moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--cflags", "--libs"]) == 0
    flags = capsys.readouterr().out.strip()
    assert built_and_run(compiler, flags, tmp_path) == f"{shmipc.__version__} 1\n"


# ---- pkg-config ------------------------------------------------------------------------------


def test_pkg_config_says_the_same(compiler: list[str], tmp_path: Path) -> None:
    path = _native.pkgconfig_dir()
    assert pkg_config("--modversion", path=path) == shmipc.__version__
    printed = built_and_run(compiler, pkg_config("--cflags", "--libs", path=path), tmp_path)
    assert printed == f"{shmipc.__version__} 1\n"


@pytest.mark.parametrize("compiler", ["cc"], indirect=True)
def test_pkg_config_file_can_be_moved(compiler: list[str], tmp_path: Path) -> None:
    home = tmp_path / "a b" / "elsewhere"
    shutil.copytree(_native.get_include(), home / "include")
    shutil.copytree(_native.get_library_dirs()[0], home / "lib")
    flags = pkg_config("--cflags", "--libs", path=home / "lib" / "pkgconfig")
    assert "elsewhere" in flags
    assert _native.get_include() not in flags
    assert built_and_run(compiler, flags, tmp_path) == f"{shmipc.__version__} 1\n"


def test_entry_point_leads_to_the_pkg_config_file() -> None:
    points = importlib.metadata.entry_points(group="pkg_config", name="shmipc")
    if not points:
        pytest.skip("not installed: run from a checkout")
    [directory] = {point.value for point in points}
    assert importlib.resources.files(directory).joinpath("shmipc.pc").is_file()


# ---- a library that is closed again ----------------------------------------------------------

CLOSED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <shmipc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_bus(int number) {
    (void)number;
    _exit(7);
}

static void *ask_for_an_error(void *open) {
    struct shmipc_producer *none;
    ((int (*)(void *, const char *, const void *))open)(&none, "no/name", NULL);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t thread;
    int status;
    signal(SIGBUS, on_bus);
    void *library = dlopen(argv[argc - 1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return 1;
    int (*open)(void *, const char *, const void *) =
        (int (*)(void *, const char *, const void *))dlsym(library, "shmipc_producer_open");
    void (*close)(void *) = (void (*)(void *))dlsym(library, "shmipc_producer_free");
    void *producer;
    if (open(&producer, "x", NULL) != 0) return 2;
    close(producer);
    if (pthread_create(&thread, NULL, ask_for_an_error, (void *)open) != 0) return 3;
    if (pthread_join(thread, NULL) != 0 || dlclose(library) != 0) return 4;
    pid_t child = fork(); /* through the fork handlers */
    if (child == 0) _exit(0);
    if (waitpid(child, &status, 0) != child || status != 0) return 5;
    /* a file of other code, truncated while it is mapped */
    FILE *file = tmpfile();
    if (file == NULL || ftruncate(fileno(file), 4096) != 0) return 6;
    volatile char *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (mapped == MAP_FAILED || ftruncate(fileno(file), 0) != 0) return 8;
    return mapped[0]; /* on_bus ends it */
}
"""


@pytest.mark.parametrize("compiler", ["cc"], indirect=True)
def test_library_that_was_closed_leaves_the_process_as_it_was(
    compiler: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "closed.c"
    source.write_text(CLOSED)
    flags = ["-std=gnu11", "-Wno-pedantic", f"-I{shmipc.get_include()}", "-pthread"]
    program = tmp_path / "closed"
    command = [*compiler, *flags, str(source), "-x", "none", "-ldl", "-o", str(program)]
    subprocess.run(command, timeout=60, check=True)
    library = Path(shmipc.get_library_dirs()[0], "libshmipc.so")
    done = subprocess.run([program, library], timeout=60, check=False)
    assert done.returncode == 7  # not a signal's


@pytest.mark.parametrize("built", ["library", "extension"])
def test_what_is_loaded_stays_loaded(built: str) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf: install binutils")
    library = Path(shmipc.get_library_dirs()[0], "libshmipc.so")
    path = str(library) if built == "library" else _core.__file__
    done = subprocess.run(
        ["readelf", "-dW", path], capture_output=True, text=True, timeout=60, check=True
    )
    assert "NODELETE" in done.stdout
