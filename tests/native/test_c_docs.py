"""docs/c-api.md is shmipc.h, no less and no more, and what it prints compiles and runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_c import runner

from toolchain import build_library

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "shmipc" / "include"
DOCUMENT = ROOT / "docs" / "c-api.md"
# Names that are neither functions nor types of the header, and what they are.
ELSEWHERE = {"SHMIPC_DIR", "SHMIPC_SIGBUS"}  # the environment
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")

TEXT = DOCUMENT.read_text("utf-8")
C_PART, CPP_PART = TEXT.split("\n## C++\n", 1)


def header() -> str:
    """The header without comments and preprocessor."""
    text = (INCLUDE / "shmipc.h").read_text("utf-8")
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    return re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*$", "", text, flags=re.MULTILINE)


def plain(declaration: str) -> str:
    """A declaration with one space where there is any."""
    return re.sub(r"\s*([(),*])\s*", r"\1", " ".join(declaration.split()))


def declarations() -> dict[str, str]:
    """Every API function of the header: its name and its declaration."""
    found = {}
    pattern = r"SHMIPC_(?:API|CHECKED)\s+([^;]*?\b(shmipc_\w+)\([^;]*\))\s*SHMIPC_NOEXCEPT\s*;"
    for declaration, name in re.findall(pattern, header()):
        found[name] = plain(declaration)
    return found


def enums() -> dict[str, dict[str, int]]:
    """Every enumeration of the header: its constants and their values."""
    return {
        name: {
            constant: int(value) for constant, value in re.findall(r"(SHMIPC_\w+) = (\d+)", body)
        }
        for name, body in re.findall(r"enum (\w+) \{(.*?)\}", header(), re.DOTALL)
    }


def structures() -> dict[str, list[tuple[str, str]]]:
    """Every structure of the header that is not opaque: its fields and their types, in order."""
    found = {}
    for name, body in re.findall(r"struct (\w+) \{(.*?)\}", header(), re.DOTALL):
        fields = []
        for field in filter(None, map(str.strip, body.split(";"))):
            kind, field_name = re.fullmatch(r"(.*?)(\w+)", " ".join(field.split())).groups()  # type: ignore[union-attr]
            fields.append((field_name, plain(kind)))
        found[name] = fields
    return found


def section(heading: str, text: str = C_PART) -> str:
    """What stands under a heading, down to the next of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    assert text.count(f"\n{heading}\n") == 1, heading
    after = text.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{2,{level}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without the table's own."""
    table = re.search(r"(?:^\|.*\n)+", section(heading), re.MULTILINE)
    assert table is not None, heading
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def blocks(text: str, language: str = "c") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# ---- no less and no more -------------------------------------------------------------------------


def test_every_function_is_documented_as_it_is_declared_and_no_other() -> None:
    declared = declarations()
    assert len(declared) > 40
    documented = re.findall(r"^### (shmipc_\w+)$", C_PART, re.MULTILINE)
    assert sorted(documented) == sorted(declared)
    for name in documented:
        synopsis = blocks(section(f"### {name}"))[0]
        assert plain(synopsis.strip().removesuffix(";")) == declared[name]


def test_header_has_no_function_that_this_test_does_not_see() -> None:
    names = set(re.findall(r"\b(shmipc_\w+)\s*\(", header()))
    assert names == set(declarations())


@pytest.mark.parametrize("enum", sorted(enums()))
def test_every_constant_is_documented_with_its_value(enum: str) -> None:
    found = {row[0].strip("`"): int(row[1]) for row in rows(f"### enum {enum}")}
    assert found == enums()[enum]
    assert all(row[2] for row in rows(f"### enum {enum}"))


def test_every_macro_is_documented_with_its_value() -> None:
    text = (INCLUDE / "shmipc.h").read_text("utf-8")
    macros = dict(re.findall(r"^#define (SHMIPC_\w+) (?:INT64_C\()?(-?\d+)", text, re.MULTILINE))
    assert {row[0].strip("`"): row[1] for row in rows("## Constants")} == macros
    others = re.findall(r"^#define (SHMIPC_\w+)", text, re.MULTILINE)
    syntax = {"SHMIPC_H", "SHMIPC_API", "SHMIPC_CHECKED", "SHMIPC_NOEXCEPT"}
    assert set(others) - set(macros) == syntax


@pytest.mark.parametrize("name", sorted(structures()))
def test_every_field_is_documented_with_its_type(name: str) -> None:
    found = [(row[0].strip("`"), plain(row[1])) for row in rows(f"### struct {name}")]
    assert found == structures()[name]


def test_document_names_nothing_that_does_not_exist() -> None:
    text = (INCLUDE / "shmipc.h").read_text("utf-8")
    known = set(re.findall(r"\b(?:shmipc|SHMIPC)_\w+", text)) | ELSEWHERE
    assert set(re.findall(r"\b(?:shmipc|SHMIPC)_\w+", C_PART)) <= known
    cpp = "".join(path.read_text("utf-8") for path in INCLUDE.glob("*.hpp"))
    named = re.findall(r"\bshmipc::(\w+)", CPP_PART)
    named += re.findall(r"\b(?:shmipc|SHMIPC)_\w+", CPP_PART)
    assert len(named) > 20
    assert [name for name in named if not re.search(rf"\b{name}\b", cpp + text)] == []


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert target[1:] in anchors if target[0] == "#" else (DOCUMENT.parent / target).exists()


# ---- what it prints ------------------------------------------------------------------------------


def compiler() -> str:
    found: str | None = runner.find_compiler()
    if found is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")
    return found


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a libshmipc.so of this tree."""
    return build_library(compiler(), tmp_path_factory.mktemp("lib")).parent


def build(source: Path, library: Path, *flags: str) -> Path:
    program = source.with_suffix("")
    command = [compiler(), *STRICT, *flags, str(source), f"-I{INCLUDE}", f"-L{library}"]
    done = subprocess.run(
        [*command, f"-Wl,-rpath,{library}", "-lshmipc", "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


def test_the_two_programs_of_the_guide_work_as_printed(library: Path, tmp_path: Path) -> None:
    programs = {}
    for code in blocks(section("## Guide")):
        match = re.match(r"/\* (\w+)\.c \*/\n", code)
        if match is not None:
            lines = [line for line in code.splitlines() if line.strip(" {}")]
            assert len(lines) <= 25, "the guide's programs are short"
            source = tmp_path / f"{match[1]}.c"
            source.write_text(code)
            programs[match[1]] = build(source, library)
    consumer = subprocess.Popen([programs["consumer"]], stdout=subprocess.PIPE, text=True)
    try:
        subprocess.run([programs["producer"]], check=True, timeout=60)
        printed, _ = consumer.communicate(timeout=60)
    finally:
        consumer.kill()
        consumer.wait()
    assert consumer.returncode == 0
    assert printed == "".join(f"message {i}\n" for i in range(10))


@pytest.mark.parametrize("standard", ["c++17", "c++20"])
@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_the_cpp_program_works_as_printed(
    cxx: str, standard: str, library: Path, tmp_path: Path
) -> None:
    if shutil.which(cxx) is None:
        pytest.skip(f"no {cxx}")
    (code,) = blocks(CPP_PART, "cpp")
    source = tmp_path / "ticks.cpp"
    source.write_text(code)
    command = [cxx, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion"]
    command += ["-Wshadow", "-Werror", str(source), f"-I{INCLUDE}", f"-L{library}", "-lshmipc"]
    subprocess.run([*command, f"-Wl,-rpath,{library}", "-o", str(tmp_path / "ticks")], check=True)
    done = subprocess.run(
        [tmp_path / "ticks"], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("0 100.0\n1 101.0\n2 102.0\n", "")


TELLS = "static int send_and_tell("
OTHER_THREAD = r"""
#include <pthread.h>
static char text[200];
static int result;
static void *send_nowhere(void *producer)
{
    result = send_and_tell(producer, "x", 1, text, sizeof text);
    return NULL;
}
int main(void)
{
    pthread_t thread;
    struct shmipc_producer_options options;
    struct shmipc_producer *producer = NULL;
    shmipc_producer_options_init(&options);
    options.capacity = 4096;
    for (int i = 0; i < 2; i++) { /* no producer, then a full ring */
        if (pthread_create(&thread, NULL, send_nowhere, producer) != 0) return 2;
        if (pthread_join(thread, NULL) != 0) return 3;
        printf("%d %s [%s]\n", result, text, shmipc_last_error());
        if (i == 0 && shmipc_producer_open(&producer, "told", &options) != 0) return 4;
        while (shmipc_producer_send(producer, "x", 1, 1, 0, 0) == SHMIPC_SUCCESS) { }
    }
    if (shmipc_producer_unlink(producer) != SHMIPC_SUCCESS) return 5;
    shmipc_producer_free(producer);
    return 0;
}
"""


def test_text_travels_with_the_result_from_thread_to_thread(library: Path, tmp_path: Path) -> None:
    [code] = [code for code in blocks(C_PART) if TELLS in code]
    source = tmp_path / "told.c"
    headers = "".join(f"#include <{name}.h>\n" for name in ("shmipc", "stdio", "stdbool"))
    source.write_text(headers + code + OTHER_THREAD)
    program = build(source, library, "-pthread")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    none, full = done.stdout.splitlines()
    assert none == "11 the producer is NULL: was it opened? []"
    assert full.startswith("2 the ring is full: ")


def test_every_fragment_compiles(library: Path, tmp_path: Path) -> None:
    synopses = {plain(declaration) for declaration in declarations().values()}
    fragments = [
        code
        for code in blocks(C_PART)
        if "int main" not in code
        and TELLS not in code
        and plain(code.strip().removesuffix(";")) not in synopses
    ]
    assert len(fragments) >= 8
    functions = [
        f"void fragment_{number}(struct shmipc_producer *producer,\n"
        f"    struct shmipc_consumer *consumer, struct shmipc_consumer *other);\n"
        f"void fragment_{number}(struct shmipc_producer *producer,\n"
        f"    struct shmipc_consumer *consumer, struct shmipc_consumer *other)\n"
        f"{{\n(void)producer;\n(void)consumer;\n(void)other;\n{code}}}\n"
        for number, code in enumerate(fragments)
    ]
    text = "#include <shmipc.h>\n#include <stdio.h>\n#include <string.h>\n" + "".join(functions)
    source = tmp_path / "fragments.c"
    source.write_text(text + "int main(void)\n{\n    return 0;\n}\n")
    build(source, library)


def test_fragments_do_what_they_say(library: Path, tmp_path: Path, shm_dir: Path) -> None:
    """Those of reserving and of reading, one after the other, on one ring."""
    chosen = [
        blocks(section(f"### {name}"))[1]
        for name in ("shmipc_producer_reserve", "shmipc_consumer_peek", "shmipc_consumer_read")
    ]
    source = tmp_path / "run.c"
    source.write_text(
        "#include <shmipc.h>\n#include <stdio.h>\n#include <string.h>\n"
        "int main(void)\n{\n"
        "struct shmipc_producer *producer;\nstruct shmipc_consumer *consumer;\n"
        'if (shmipc_producer_open(&producer, "x", NULL) != 0) return 1;\n'
        'if (shmipc_consumer_open(&consumer, "x", NULL) != 0) return 2;\n'
        f"{{ {chosen[0]} }}\n{{ {chosen[2]} }}\n{{ {chosen[0]} }}\n"
        "shmipc_producer_free(producer);\n"
        f"{{ {chosen[1]} }}\nshmipc_consumer_free(consumer);\nreturn 0;\n}}\n"
    )
    done = subprocess.run(
        [build(source, library)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "SHMIPC_DIR": str(shm_dir)},
    )
    assert done.stdout == "20 bytes were enough1: 20 bytes were enough\n"
    assert done.stderr == ""
