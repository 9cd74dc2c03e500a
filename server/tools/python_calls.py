"""Calls written as Python: `[f(a=1), g(b="x")]`. Nothing is run: only literals are read."""

import ast
import json
from collections.abc import Collection

MAX_CHARACTERS = 64 * 1024  # reading takes long beyond that
_NAMES_OF_VALUES = {"true": True, "false": False, "null": None}


def read_python_calls(text: str, names: Collection[str]) -> list[tuple[str, str]]:
    """Name and JSON arguments of each call; empty if the text is anything else than calls."""
    if len(text) > MAX_CHARACTERS:
        return []
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return []
        return [_read_call(element, names) for element in tree.elts]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _read_call(node: ast.expr, names: Collection[str]) -> tuple[str, str]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with named arguments")
    name = ast.unparse(node.func)
    if name not in names:
        raise ValueError(f"unknown function {name}")
    arguments = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("unpacking is no argument")
        arguments[keyword.arg] = _read_value(keyword.value)
    return name, json.dumps(arguments, allow_nan=False)


def _read_value(node: ast.expr) -> object:
    """A literal, or JSON's own names of values. Raises ValueError for anything else."""
    match node:
        case ast.Name(id=name) if name in _NAMES_OF_VALUES:
            return _NAMES_OF_VALUES[name]
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_read_value(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {_read_key(key): _read_value(v) for key, v in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise ValueError("not a literal")


def _read_key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError("not a text as key")
