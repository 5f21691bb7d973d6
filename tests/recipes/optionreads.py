"""Which options and calibrations the body of a recipe asks for, read off its code.

A body reaches the functions it names, those the functions it names name, and so on; classes count with all
their methods.  Where a function passes one of its parameters on to ``option`` (or to another such function),
the texts its callers give for that parameter count.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

PACKAGE = "apero_dask.recipes"
Place = tuple[str, str]
"""Module and name of a function or class."""


@dataclass
class Unit:
    """A function or class and what its code names."""

    node: ast.AST
    names: dict[str, Place] = field(default_factory=dict)
    """What the names it uses stand for."""


@cache
def _module(name: str) -> tuple[ModuleType, ast.Module]:
    module = importlib.import_module(name)
    return module, ast.parse(Path(inspect.getsourcefile(module) or "").read_text(encoding="utf-8"))


def _imports(tree: ast.AST) -> Iterator[tuple[str, Place]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for alias in node.names:
                name = alias.asname or alias.name
                if node.module == PACKAGE:
                    yield name, (f"{PACKAGE}.{alias.name}", "")
                else:
                    yield name, (str(node.module), alias.name)


@cache
def _units(name: str) -> dict[str, Unit]:
    """Functions and classes of a module."""
    _, tree = _module(name)
    known = {**{n.name: (name, n.name) for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}}
    known |= dict(_imports(tree))
    return {
        n.name: Unit(n, {**known, **dict(_imports(n))})
        for n in tree.body
        if isinstance(n, ast.FunctionDef | ast.ClassDef)
    }


def reached(body: Callable[..., object]) -> dict[Place, Unit]:
    """Everything a body may call inside the package of recipes."""
    found: dict[Place, Unit] = {}
    open_places: list[Place] = [(body.__module__, body.__name__)]
    while open_places:
        place = open_places.pop()
        if place in found or not place[1]:
            continue
        unit = _units(place[0]).get(place[1])
        if unit is None:
            continue
        found[place] = unit
        for node in ast.walk(unit.node):
            if isinstance(node, ast.Name) and node.id in unit.names:
                open_places.append(unit.names[node.id])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module, inside = unit.names.get(node.value.id, ("", "x"))
                if module and not inside:
                    open_places.append((module, node.attr))
    return found


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def asked(body: Callable[..., object], method: str) -> set[str]:
    """Texts that reach the first argument of ``method`` of a context."""
    units = reached(body)
    asks: dict[str, int] = {method: 0}
    texts: set[str] = set()
    grown = True
    while grown:
        grown = False
        for (_, name), unit in units.items():
            function = unit.node
            own = [a.arg for a in function.args.args] if isinstance(function, ast.FunctionDef) else []
            for node in ast.walk(function):
                if not isinstance(node, ast.Call) or _called(node) not in asks:
                    continue
                at = asks[_called(node)]
                if len(node.args) <= at:
                    continue
                value = node.args[at]
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    texts.add(value.value)
                elif isinstance(value, ast.Name) and value.id in own:
                    if name not in asks:
                        asks[name] = own.index(value.id)
                        grown = True
                elif isinstance(value, ast.Name):
                    texts |= _values(function, value.id)
    return texts


def _values(function: ast.AST, name: str) -> set[str]:
    """Texts a local variable may hold: all in what it is set to or runs over."""
    sources: list[ast.AST] = []
    for node in ast.walk(function):
        if isinstance(node, ast.For | ast.comprehension):
            targets, source = [node.target], node.iter
        elif isinstance(node, ast.Assign):
            targets, source = node.targets, node.value
        else:
            continue
        if any(isinstance(n, ast.Name) and n.id == name for target in targets for n in ast.walk(target)):
            sources.append(source)
    return {
        n.value
        for source in sources
        for n in ast.walk(source)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
