"""Jinja for templates of strangers: without Python's insides, and held to a time and to sizes.

Jinja's own sandbox keeps templates from attributes of Python objects; it does not keep them from
running for ever or filling the memory. Here loops, calls and filters look at the clock, and what
makes texts and numbers larger than its operands is measured before it is made.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import islice
from types import BuiltinMethodType
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.ext import loopcontrols
from jinja2.filters import do_join, make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_eval_context
from jinja2.visitor import NodeTransformer

from .template_limits import (
    MAX_ITEMS,
    TemplateLimitError,
    check_bits,
    check_size,
    check_time,
    check_width,
    joined,
    spend_characters,
)

_EACH, _CONCATENATED = "_each", "_concatenated"  # filters that `_Guarding` puts into templates
_FILLING_FILTERS = frozenset({"batch", "center", "indent", "round", "slice"})
_FILLING_METHODS = frozenset({"center", "expandtabs", "ljust", "rjust", "zfill"})
_SEQUENCES = (str, bytes, list, tuple)
_WIDE = re.compile(r"\d{5,}")
_WIDTH_FROM_ARGUMENT = re.compile(r"%[^%a-zA-Z]*\*|\{[^{}]*\{")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment of all chat templates. What is rendered must be so inside `limited`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        del self.globals["lipsum"]
        self.filters["join"] = _join
        for name, function in self.filters.items():
            self.filters[name] = _watched(name, function)
        self.filters[_EACH], self.filters[_CONCATENATED] = _each, _concatenated

    def concat(self, texts: Iterable[str], /) -> str:
        """What a block or a macro has put out, in one text."""
        return joined(list(texts))

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call something, when its arguments have been looked at."""
        check_time()
        if isinstance(called, BuiltinMethodType):
            _check_method(called.__self__, called.__name__, args, kwargs)
        return super().call(context, called, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Do a sum, when its result's size has been looked at."""
        if operator == "%":
            if isinstance(left, str | bytes):
                _check_format(left, (right,))
        elif isinstance(left, int) and isinstance(right, int):
            if operator == "*":
                check_bits(left.bit_length() + right.bit_length())
            elif operator == "**":
                check_bits(left.bit_length() * max(0, right))
        elif operator == "*":
            _check_repeated(left, right)
            _check_repeated(right, left)
        elif operator == "+" and isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
            check_size(len(left) + len(right), type(left))
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` in the sandbox, when the widths it is asked for have been looked at."""
        formatting = super().wrap_str_format(value)
        if formatting is None:
            return None

        @wraps(formatting)
        def checked(*args: Any, **kwargs: Any) -> str:
            _check_format(value.__self__, (*args, *kwargs.values()))
            return formatting(*args, **kwargs)

        return checked

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        guarded: nodes.Template = _Guarding().visit(tree)
        return guarded


class _Guarding(NodeTransformer):
    """Puts our filters where Jinja offers no hook: around what loops go through, and for `~`."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - Jinja's naming
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)
        node.iter = _filtered(node.iter, _EACH)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - as above
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _CONCATENATED)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _each(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        check_time()
        yield item


def _concatenated(parts: list[Any]) -> str:
    check_time()
    return joined([str(part) for part in parts])


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that looks at the clock, and at what it is asked for if it can make much of it."""
    num_before = 1 if hasattr(function, "jinja_pass_arg") else 0  # a context, before the value

    @wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        check_time()
        value, *options = args[num_before:]
        if name in _FILLING_FILTERS:
            for option in (*options, *kwargs.values()):
                check_width(option)
        elif name == "replace" and len(options) >= 2:
            _check_replace(str(value), str(options[0]), str(options[1]))
        elif name == "format":
            _check_format(str(value), (*options, *kwargs.values()))
        elif name == "sum":
            start = kwargs.get("start", options[1] if len(options) > 1 else 0)
            if not isinstance(start, int | float | Undefined):
                raise TemplateLimitError("it sums what are not numbers")
        return function(*args, **kwargs)

    return watched


@pass_eval_context
def _join(
    eval_ctx: nodes.EvalContext,
    value: Iterable[Any],
    d: str = "",
    attribute: str | int | None = None,
) -> str:
    if attribute is not None:
        value = map(make_attrgetter(eval_ctx.environment, attribute), value)
    items = list(islice(value, MAX_ITEMS + 1))
    check_size(len(items), list)
    lengths = (len(item) if isinstance(item, str) else 1 for item in items)
    spend_characters(sum(lengths) + len(d) * len(items))
    return str(do_join(eval_ctx, items, d))


def _check_method(owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not isinstance(owner, str | bytes):
        return
    if name in _FILLING_METHODS:
        for argument in (*args, *kwargs.values()):
            check_width(argument)
    elif name == "replace" and len(args) >= 2:
        _check_replace(owner, args[0], args[1])
    elif name == "join" and args:
        parts = args[0] if isinstance(args[0], list | tuple) else ()
        lengths = (len(part) for part in parts if isinstance(part, str | bytes))
        spend_characters(sum(lengths) + len(owner) * len(parts))


def _check_replace(text: Any, old: Any, new: Any) -> None:
    if isinstance(old, type(text)) and isinstance(new, type(text)):
        spend_characters(len(text) + text.count(old) * max(0, len(new) - len(old)))


def _check_repeated(sequence: Any, times: Any) -> None:
    if isinstance(sequence, _SEQUENCES) and isinstance(times, int):
        check_size(len(sequence) * max(0, times), type(sequence))


def _check_format(text: str | bytes, arguments: tuple[Any, ...]) -> None:
    """Refuse widths above `MAX_WIDTH`, written in the text or (for `*` and `{:{}}`) given to it."""
    shown = text if isinstance(text, str) else text.decode("latin-1")
    if _WIDE.search(shown):
        raise TemplateLimitError("it formats a text with a number of more than four digits")
    if _WIDTH_FROM_ARGUMENT.search(shown):
        for argument in arguments:
            for one in argument if isinstance(argument, tuple) else (argument,):
                check_width(one)
    lengths = (len(one) for one in arguments if isinstance(one, str))
    spend_characters(len(shown) + sum(lengths))
