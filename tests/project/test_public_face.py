"""What every public name of the extension has: a docstring, a signature, a stub."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import shmipc
from shmipc import _core

#: What every named tuple made in C has, as time.struct_time: typeshed's structseq declares it.
OF_NAMED_TUPLES = {"n_fields", "n_sequence_fields", "n_unnamed_fields"}
STUB = Path(__file__).resolve().parents[2] / "shmipc" / "_core.pyi"


def public_methods() -> list[Any]:
    found = []
    for name, value in vars(_core).items():
        if name.startswith("_"):
            continue
        if isinstance(value, type) and not issubclass(value, BaseException):
            found.append(pytest.param(value, name, id=name))
            inherited = OF_NAMED_TUPLES if issubclass(value, tuple) else set()
            for member, descriptor in vars(value).items():
                if member in inherited:
                    continue
                if not member.startswith("_") or member in {"__enter__", "__exit__"}:
                    found.append(
                        pytest.param(descriptor, f"{name}.{member}", id=f"{name}.{member}")
                    )
        elif callable(value) and not isinstance(value, type):
            found.append(pytest.param(value, name, id=name))
    return found


@pytest.mark.parametrize(("member", "name"), public_methods())
def test_public_member_has_a_docstring_and_a_signature(member: Any, name: str) -> None:
    assert member.__doc__, f"{name} has no docstring"
    if callable(member):
        inspect.signature(member)


@pytest.mark.parametrize(("member", "name"), public_methods())
def test_public_member_has_a_stub(member: Any, name: str) -> None:
    owner, _, attribute = name.rpartition(".")
    body = ast.parse(STUB.read_text("utf-8")).body
    if owner:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == owner).body
    stubbed = {n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert attribute in stubbed


def test_every_exception_is_exported_with_its_doc() -> None:
    for name, value in vars(_core).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            assert getattr(shmipc, name) is value
            assert value.__doc__
            assert value is _core.Error or issubclass(value, _core.Error)


def test_package_imports_without_its_extras() -> None:
    for name in ("video", "cli", "demo", "trading.capture"):
        importlib.import_module(f"shmipc.{name}")
