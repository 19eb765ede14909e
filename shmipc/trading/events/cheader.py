"""Write ``shmipc_events.h``, the events for C11 and C++17.

    python -m shmipc.trading.events.cheader                print the header
    python -m shmipc.trading.events.cheader --check FILE   exit 1 with a diff where FILE is another

Rules this file keeps:

- Everything in the header comes from :mod:`shmipc.trading.events.dtypes` and, for what is no event,
  from :mod:`shmipc.trading.events.control`: names, numbers, what they mean. Nothing is typed in
  here but C's own words.
- Plain C11 that is C++17 too: natural alignment, padding in the open, every offset and size
  asserted, so that a compiler with other ideas refuses the header.
- The output is as clang-format leaves it.

May import those two only: it works where the extension does not load.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from enum import IntEnum
from pathlib import Path

from shmipc.trading.events import control, dtypes

__all__ = ["HEADER", "generate", "main", "run"]

#: Where the package has the header.
HEADER = Path(__file__).resolve().parent.parent / "include" / "shmipc_events.h"

_C_TYPES = {
    "<i8": "int64_t",
    "<i4": "int32_t",
    "<u4": "uint32_t",
    "<f8": "double",
    "i1": "int8_t",
    "u1": "uint8_t",
}

_TOP = """\
/*
 * shmipc_events.h: the events of shmipc's strategy layer, and the control messages between engine
 * and strategies, as they lie in shared memory.
 *
 * Written by `python -m shmipc.trading.events.cheader` from dtypes.py and control.py beside it:
 * change it there. For C11 and C++17. docs/strategies.md says which rings they travel in, and when.
 *
 * Times are ns since 1970 (UTC). Prices are in the quote currency, sizes and quantities in the base
 * unit; one that is not known is NaN. 0 is NONE in every enumeration. Texts end with a zero byte;
 * what follows it, and all padding, is 0: start from `= {0}` or memset.
 */
#ifndef SHMIPC_EVENTS_H
#define SHMIPC_EVENTS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "events are little-endian"
#endif
"""

_SYMBOL_SET = """\
/*
 * Fill the symbol of an event with a field's text: `len` bytes, or those before a zero byte.
 * Returns 0, or -1 and leaves `out` as it is where that is empty, longer than SHMIPC_SYMBOL_LEN
 * bytes, or holds a control character. It never truncates.
 */
static inline int shmipc_symbol_set_n(char out[SHMIPC_SYMBOL_LEN + 1], const char *text, size_t len)
{
    size_t end = 0;
    for (; end < len && text[end] != '\\0'; end++) {
        unsigned char byte; /* a char may be signed, and C and C++ cast in different words */
        memcpy(&byte, text + end, 1);
        if (end == SHMIPC_SYMBOL_LEN || byte < 0x20 || byte == 0x7f) {
            return -1;
        }
    }
    if (end == 0) {
        return -1;
    }
    memmove(out, text, end);
    memset(out + end, 0, SHMIPC_SYMBOL_LEN + 1 - end);
    return 0;
}

/*
 * The same with a text that ends with a zero byte. Of a field that may be full, and so without one,
 * it could read the neighbour: shmipc_symbol_set_n(out, field, sizeof field).
 */
static inline int shmipc_symbol_set(char out[SHMIPC_SYMBOL_LEN + 1], const char *text)
{
    return shmipc_symbol_set_n(out, text, SHMIPC_SYMBOL_LEN + 1);
}

#endif
"""


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _doc(text: str) -> str:
    """Return a field's doc with the enumerations under their C names."""
    names = "|".join(enum.__name__ for enum in dtypes.ENUMS)
    return re.sub(rf"\b({names})\b", lambda found: f"enum shmipc_{_snake(found[0])}", text)


def _aligned(rows: list[tuple[str, str]], indent: str = "    ") -> list[str]:
    """Return lines of code, each with its comment in one column."""
    width = max((len(code) for code, comment in rows if comment), default=0)
    return [
        f"{indent}{code.ljust(width)} /* {comment} */" if comment else f"{indent}{code}"
        for code, comment in rows
    ]


def _defines() -> list[str]:
    rows = [
        (f"EVENTS_VERSION {dtypes.VERSION}", "of these structs"),
        (f"SYMBOL_LEN {dtypes.SYMBOL_LEN}", "bytes of UTF-8 in a symbol, at most"),
        (f"DEFAULT_LEVELS {dtypes.DEFAULT_LEVELS}", "of an order book, a side"),
        (f"MAX_LEVELS {dtypes.MAX_LEVELS}", "of any order book, a side"),
        (f"CUSTOM_KIND_FIRST {dtypes.CUSTOM_KIND_FIRST}", "kinds from here on are your own"),
        (f"ID_LEN {control.ID_LEN}", "bytes in an engine's or a strategy's name"),
        (f'EVENTS_RING "{control.EVENTS_RING}"', "printf with the engine's name"),
        (f'ORDERS_RING "{control.ORDERS_RING}"', "... and the strategy's"),
        (f'REPORTS_RING "{control.REPORTS_RING}"', "..."),
        (f"BITMAP_LEN {control.BITMAP_LEN}", "bytes at the end of a TARGETED message"),
        (f"MAX_PLACES {control.MAX_PLACES}", "of an engine's strategies"),
    ]
    return [*_aligned(rows, "#define SHMIPC_"), ""]


def _enum(enum: type[IntEnum]) -> list[str]:
    name = _snake(enum.__name__)
    rows = [
        (f"SHMIPC_{name.upper()}_{member.name} = {member.value},", member.__doc__ or "")
        for member in enum
    ]
    return [f"/* {enum.__doc__} */", f"enum shmipc_{name} {{", *_aligned(rows), "};", ""]


def _declaration(field: dtypes.Field) -> str:
    """Return the C declaration of a field, its comment apart."""
    if field.format.startswith("S"):
        return f"char {field.name}[{field.format[1:]}];"
    length = f"[{field.shape[0]}]" if field.shape else ""
    return f"{_C_TYPES[field.format]} {field.name}{length};"


def _assertions(name: str, event: dtypes.Event) -> list[str]:
    """Return the assertions of a struct's offsets and size."""
    lines = []
    for field in event.fields:
        assert event.dtype.fields is not None
        offset = event.dtype.fields[field.name][1]
        lines.append(f'static_assert(offsetof(struct {name}, {field.name}) == {offset}, "offset");')
    lines.append(f'static_assert(sizeof(struct {name}) == {event.dtype.itemsize}, "size");')
    return [*lines, ""]


def _used(event: dtypes.Event) -> int:
    """Return the bytes of an event's fields, without the padding at its end."""
    assert event.dtype.fields is not None
    dtype, offset = event.dtype.fields[event.fields[-1].name][:2]
    return int(offset + dtype.itemsize)


def _kind(event: dtypes.Event) -> str:
    """Return the C name of an event's or a control message's kind."""
    return f"SHMIPC_{_snake(type(event.kind).__name__).upper()}_{event.kind.name}"


def _heading(event: dtypes.Event) -> list[str]:
    return [f"/* {event.doc} {_kind(event)}, {event.dtype.itemsize} bytes. */"]


def _struct(event: dtypes.Event) -> list[str]:
    name = f"shmipc_{_snake(event.name)}"
    rows = [(_declaration(field), _doc(field.doc)) for field in event.fields]
    padding = event.dtype.itemsize - _used(event)
    if padding:
        rows.append((f"uint8_t padding[{padding}];", "0"))
    return [
        *_heading(event),
        f"struct {name} {{",
        *_aligned(rows),
        "};",
        *_assertions(name, event),
    ]


def _order_book(event: dtypes.Event) -> list[str]:
    """Return a macro that declares the struct for any number of levels, and its use for ours.

    The padding is an array and may not be empty: raises ValueError for dtypes where it would be
    for some number of levels.
    """
    fields = dtypes.order_book_dtype(1).fields
    assert fields is not None
    last, offset = fields[event.fields[-1].name][:2]
    step = last.itemsize * sum(1 for field in event.fields if field.shape)
    fixed = offset + last.itemsize - step
    if fixed % math.gcd(step, dtypes.LINE) == 0:
        raise ValueError("an order book of some number of levels would have no padding")
    body = ["struct name {"]
    for field in event.fields:
        code = _declaration(field).replace(f"[{dtypes.DEFAULT_LEVELS}]", "[levels]")
        body.append(f"    {code}")
    body += [
        f"    uint8_t padding[{dtypes.LINE} - ({fixed} + {step} * (levels)) % {dtypes.LINE}];",
        "};",
        'static_assert((levels) >= 1 && (levels) <= SHMIPC_MAX_LEVELS, "levels of " #name);',
        f'static_assert(sizeof(struct name) % {dtypes.LINE} == 0, "size of " #name)',
    ]
    opening = "#define SHMIPC_DECLARE_ORDER_BOOK(name, levels)"
    macro = [f"{opening} \\", *(f"    {line} \\" for line in body)]
    macro[-1] = macro[-1][:-2]
    width = max(map(len, macro[:-1])) - 2
    macro[:-1] = [f"{line[:-2].ljust(width)} \\" for line in macro[:-1]]
    name = f"shmipc_{_snake(event.name)}"
    width = max(len(field.name) for field in event.fields)
    rows = [f" *     {field.name.ljust(width)}  {_doc(field.doc)}" for field in event.fields]
    return [
        "/*",
        f" * {event.doc} {_kind(event)}.",
        " *",
        *rows,
        " *",
        f" * struct {name} has SHMIPC_DEFAULT_LEVELS a side and {event.dtype.itemsize} bytes.",
        " * For another number, which engine and strategies agree on, declare your own:",
        " *",
        " *     SHMIPC_DECLARE_ORDER_BOOK(my_order_book, 25);",
        " */",
        *macro,
        "",
        f"SHMIPC_DECLARE_ORDER_BOOK({name}, SHMIPC_DEFAULT_LEVELS);",
        *_assertions(name, event),
    ]


def generate() -> str:
    """Return the text of the header."""
    lines = _defines()
    for enum in (*dtypes.ENUMS, *control.ENUMS):
        lines += _enum(enum)
    for event in dtypes.EVENTS:
        lines += _order_book(event) if event.kind == dtypes.EventKind.ORDER_BOOK else _struct(event)
    for message in control.CONTROLS:
        lines += _struct(message)
    return "\n".join([_TOP, *lines, _SYMBOL_SET])


def run(text: str, program: str, what: str, arguments: list[str] | None) -> int:
    """Print `text`, or compare a file with it, as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog=program, description=what)
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare FILE, print a diff")
    options = parser.parse_args(arguments)
    if options.check is None:
        sys.stdout.write(text)
        return 0
    found = options.check.read_text("utf-8") if options.check.exists() else ""
    diff = difflib.unified_diff(
        found.splitlines(keepends=True),
        text.splitlines(keepends=True),
        str(options.check),
        "the schema's",
    )
    sys.stdout.writelines(diff)
    return int(found != text)


def main(arguments: list[str] | None = None) -> int:
    return run(
        generate(),
        "python -m shmipc.trading.events.cheader",
        "Print shmipc_events.h, the events for C11 and C++17.",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
