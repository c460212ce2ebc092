"""Chat templates within bounds: a model's directory may be anybody's.

A template is a program. The sandbox of jinja2 keeps it from files and from this process; here are
bounds of its time and of what it makes. Loops and calls count, and operations that make something
large out of something small are looked at, before where the size is given, else after.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

#: Characters of a text or entries of a list that a template may make, and bits of its integers.
LARGEST, BITS = 8 << 20, 4096
#: Steps of all loops, and seconds of processor time.
STEPS, SECONDS = 1_000_000, 0.75
#: Entries, at all depths, of what is written as text.
_ENTRIES = 200_000
#: A width in a format that would be larger, or is given apart.
_WIDE = re.compile(r"\d{7}|%[^a-zA-Z%]*\*")
_CONTAINERS = (list, tuple, dict)


class BoundsError(Exception):
    """A template takes more than any conversation needs."""


class Bounds:
    """What is left to one rendering."""

    def __init__(self) -> None:
        self._steps = STEPS
        self._until = time.thread_time() + SECONDS

    def step(self) -> None:
        """Count one."""
        self._steps -= 1
        if self._steps < 0 or time.thread_time() > self._until:
            raise BoundsError("it runs on and on")

    def stepped(self, values: Iterable[Any]) -> Iterator[Any]:
        """The values, counted."""
        for value in values:
            self.step()
            yield value

    def sized(self, value: Any) -> Any:
        """The value, where it is not too large."""
        self.step()
        if isinstance(value, int) and value.bit_length() > BITS:
            raise BoundsError("it makes a number too large")
        if isinstance(value, str | list | tuple | dict) and len(value) > LARGEST:
            raise BoundsError("it makes a text or list too large")
        return value

    def shown(self, value: Any) -> Any:
        """The value, where what it holds at all depths is not too much to be written as text."""
        if isinstance(value, _CONTAINERS) and not _within(value):
            raise BoundsError("it makes a text too large")
        return self.sized(value)

    def called(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What a call or a filter makes, where neither that nor what it asks for is too large."""
        values = (*given, *named.values())
        for value in values:
            if isinstance(value, int) and abs(value) > LARGEST:
                raise BoundsError("it asks for something too large")
            self.shown(value)
        texts = (getattr(call, "__self__", None), *values[:3])
        formats = getattr(call, "__name__", "").endswith(("format", "format_map"))
        if formats and any(isinstance(text, str) and _WIDE.search(text) for text in texts):
            raise BoundsError("it asks for a text too wide")
        return self.sized(call(*given, **named))

    def operated(self, operate: Callable[..., Any], operator: str, left: Any, right: Any) -> Any:
        """What an operation makes, where that is not too large."""
        larger = max(_length(left) * _whole(right), _length(right) * _whole(left))
        if operator == "*" and larger > LARGEST:
            raise BoundsError("it makes a text or list too large")
        if operator == "**" and _whole(right) * _whole(left).bit_length() > BITS:
            raise BoundsError("it makes a number too large")
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise BoundsError("it asks for a text too wide")
        return self.sized(operate(left, right))


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _whole(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _within(value: Any) -> bool:
    """Whether containers in containers hold so many entries at most."""
    left, work = _ENTRIES, [value]
    while work:
        found = work.pop()
        entries = found.values() if isinstance(found, dict) else found
        left -= len(found)
        if left < 0:
            return False
        work += [entry for entry in entries if isinstance(entry, _CONTAINERS)]
    return True


def bounded_text(environment: Any, source: str, names: dict[str, Any]) -> str:
    """Render a template, which has the sandboxed ``environment`` (work) for itself.

    Raises
    ------
    BoundsError
        It takes too much.
    Exception
        What the template does wrong.
    """
    from jinja2 import Template, nodes
    from jinja2.visitor import NodeTransformer

    bounds = Bounds()
    _bind(environment, bounds)

    def through(method: str, node: Any) -> Any:
        attribute = nodes.EnvironmentAttribute(method)
        return nodes.Call(attribute, [node], [], None, None, lineno=node.lineno)

    class Counting(NodeTransformer):
        def visit_For(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            node.iter = through("lrc_stepped", node.iter)
            return node

        def visit_Concat(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            node.nodes = [through("lrc_shown", one) for one in node.nodes]
            return through("lrc_sized", node)

    tree = Counting().visit(environment.parse(source))
    tree.set_environment(environment)
    template = Template.from_code(environment, environment.compile(tree), environment.globals)
    pieces, size = [], 0
    for piece in template.generate(names):
        size += len(piece)
        if size > LARGEST:
            raise BoundsError("it makes a text too large")
        pieces.append(piece)
    return "".join(pieces)


def _bind(environment: Any, bounds: Bounds) -> None:
    """Let an environment's loops, calls, filters and operations count."""
    environment.lrc_stepped, environment.lrc_sized = bounds.stepped, bounds.sized
    environment.lrc_shown = environment.finalize = bounds.shown
    plain_call, table = environment.call, environment.binop_table
    environment.intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call(context: Any, target: Any, *given: Any, **named: Any) -> Any:
        def safely(*args: Any, **options: Any) -> Any:
            return plain_call(context, target, *args, **options)

        if getattr(target, "__self__", None) is bounds:  # one of those above
            return target(*given)
        safely.__name__ = getattr(target, "__name__", "")
        method = getattr(target, "__wrapped__", target)  # of `format`, which the sandbox wraps
        safely.__self__ = getattr(method, "__self__", None)  # type: ignore[attr-defined]
        return bounds.called(safely, *given, **named)

    def operate(context: Any, operator: str, left: Any, right: Any) -> Any:
        return bounds.operated(table[operator], operator, left, right)

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)  # what it is passed beside its arguments is said there
        def filtered(*given: Any, **named: Any) -> Any:
            return bounds.called(work, *given, **named)

        return filtered

    environment.call, environment.call_binop = call, operate
    environment.filters = {name: counted(work) for name, work in environment.filters.items()}
