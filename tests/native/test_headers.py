"""The public headers under every warning that gcc and clang have, in every standard."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from toolchain import INCLUDE, SANITIZE, c_compilers, compile_with, cxx_compilers

pytestmark = pytest.mark.once

STRICT = Path(__file__).resolve().parent / "strict"
C_STANDARDS = ("c11", "c17", "c2x")
CXX_STANDARDS = ("c++17", "c++20", "c++2b")

# What warns of any program of its kind, and why it is no fault of a header.
LEFT_OUT = {
    "gcc": {
        "abi": "says that a class may look otherwise in a future ABI",
        "abi-tag": "likewise",
        "aggregate-return": "of any function that returns a struct",
        "c++-compat": "of C that is no C++: uses.c is compiled as C++ as well",
        "inline": "of what the optimizer chose not to inline",
        "long-long": "of any long long",
        "multiple-inheritance": "forbids a part of the language",
        "namespaces": "likewise",
        "templates": "likewise",
        "virtual-inheritance": "likewise",
        "null-dereference": "of std::vector's own, as gcc 12 inlines it",
        "padded": "of any struct with a gap",
        "redundant-tags": "of `struct` before a name, as C wants it",
        "suggest-attribute=cold": "advice to the optimizer",
        "suggest-attribute=const": "likewise",
        "suggest-attribute=malloc": "likewise",
        "suggest-attribute=noreturn": "likewise",
        "suggest-attribute=pure": "likewise",
        "suggest-final-methods": "likewise",
        "suggest-final-types": "likewise",
        "system-headers": "of the C library's own",
        "traditional": "of C that was not there in 1978",
        "traditional-conversion": "likewise",
        "unsuffixed-float-constants": "of any 1.0",
    },
    "clang": {
        "c++98-compat": "of C++ that was not there in 1998",
        "c++98-compat-pedantic": "likewise",
        "pre-c++14-compat": "likewise, 2011",
        "pre-c++17-compat": "likewise, 2014",
        "pre-c++20-compat": "likewise, 2017",
        "pre-c++2b-compat": "likewise, 2020",
        "pre-c2x-compat": "of C that was not there in 2018",
        "padded": "of any struct with a gap",
        "unsafe-buffer-usage": "of any pointer that is added to, which C's views are",
        "weak-vtables": "of any class with a virtual function in a header-only library",
        "unknown-warning-option": "a name of this list that this clang does not have",
    },
}  # fmt: skip


def family(compiler: str) -> str:
    return "clang" if "clang" in compiler else "gcc"


@cache
def warnings(compiler: str, language: str) -> tuple[str, ...]:
    """Return the flags for all warnings of a compiler but those left out."""
    left_out = LEFT_OUT[family(compiler)]
    if family(compiler) == "clang":
        return ("-Weverything", *(f"-Wno-{name}" for name in left_out), "-Werror")
    told = ""
    for what in (f"warnings,{language}", "common,warnings"):
        command = [compiler, "-Q", f"--help={what}"]
        told += subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # those that are off; what else there is takes a number, and is on
    off = r"disabled" if language == "c" else r"(?:disabled|available in C\+\+.*)"
    names = re.findall(rf"^\s+-W([\w+=-]+)\s+\[{off}\]", told, re.MULTILINE)
    assert len(names) > 100, told
    wanted = sorted(set(names) - set(left_out))
    return ("-Wall", "-Wextra", *(f"-W{name}" for name in wanted), "-Werror")


def check(compiler: str, standard: str, language: str, source: Path, tmp_path: Path) -> None:
    flags = (f"-std={standard}", *warnings(compiler, language), f"-I{INCLUDE}", "-O2")
    compile_with(compiler, *flags, "-x", language, "-c", source, "-o", tmp_path / "uses.o")


@pytest.mark.parametrize("standard", C_STANDARDS)
@pytest.mark.parametrize("compiler", c_compilers())
def test_c_headers_have_no_warning(compiler: str, standard: str, tmp_path: Path) -> None:
    check(compiler, standard, "c", STRICT / "uses.c", tmp_path)


@pytest.mark.parametrize("standard", CXX_STANDARDS)
@pytest.mark.parametrize("compiler", cxx_compilers())
@pytest.mark.parametrize("source", ["uses.c", "uses.cpp"])
def test_headers_have_no_warning_in_cpp(
    source: str, compiler: str, standard: str, tmp_path: Path
) -> None:
    check(compiler, standard, "c++", STRICT / source, tmp_path)


@pytest.mark.parametrize("compiler", c_compilers())
def test_warnings_are_really_asked_for(compiler: str, tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text("int f(int a) { char b = (char)a; int *p = &a; return b + *(char *)p; }\n")
    with pytest.raises(AssertionError, match="Wmissing-prototypes"):
        check(compiler, "c11", "c", source, tmp_path)


SYMBOLS = r"""
#include <shmipc_events.h>
#include <stdio.h>

struct order {
    char symbol[8];
    char secret[8];
};

int main(void)
{
    struct order order;
    char full[SHMIPC_SYMBOL_LEN + 1], out[SHMIPC_SYMBOL_LEN + 1] = "before";
    memcpy(order.symbol, "BTCUSDT2", 8);
    memcpy(order.secret, "password", 8);
    memset(full, 'x', sizeof full);
    printf("%d ", shmipc_symbol_set_n(out, order.symbol, 0));
    printf("%d ", shmipc_symbol_set_n(out, full, sizeof full));
    printf("%d ", shmipc_symbol_set(out, full)); /* it stops where no symbol can go on */
    printf("%d ", shmipc_symbol_set_n(out, "", 1));
    printf("%s ", out);
    printf("%d ", shmipc_symbol_set_n(out, full, sizeof full - 1));
    printf("%s ", out);
    printf("%d ", shmipc_symbol_set_n(out, order.symbol, sizeof order.symbol));
    printf("%s ", out);
    printf("%d ", shmipc_symbol_set_n(out, "ETH\0junk", 8));
    printf("%s\n", out);
    return 0;
}
"""


@pytest.mark.parametrize("compiler", c_compilers())
def test_symbol_of_a_full_field_ends_with_the_field(compiler: str, tmp_path: Path) -> None:
    source = tmp_path / "symbols.c"
    source.write_text(SYMBOLS)
    program = tmp_path / "symbols"
    compile_with(compiler, "-std=c11", *SANITIZE, f"-I{INCLUDE}", source, "-o", program)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [
        *("-1", "-1", "-1", "-1", "before"),
        *("0", "x" * 15, "0", "BTCUSDT2", "0", "ETH"),
    ]
