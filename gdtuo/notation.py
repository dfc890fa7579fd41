"""The notation of towers, the paper's Adam^alpha / SGD: ``Adam^lr / SGD(1e-05)`` <-> a rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

from gdtuo.errors import GdtuoError
from gdtuo.rule import Rule

T = TypeVar("T")

TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:inf|nan)\b)"
    r"|(?P<name>[^\W\d]\w*)|(?P<sign>[][/^(){},=:])|(?P<end>$))"
)


def text(rule: Rule) -> str:
    """The text of a tower, level 0 first; `parse` reads it back. Also ``str(rule)``.

    ``Name^learned(lr, name=value)``: what is learned stands only where ``learn`` was given, and
    values only where they are not the default.
    """
    return " / ".join(_level(level) for level in rule.levels)


def _level(rule: Rule) -> str:
    learn, arguments = "", []
    if rule.learn is not None:
        names = tuple(rule.learn)
        learn = f"^{names[0]}" if len(names) == 1 else f"^{{{','.join(names)}}}"
    positional = next((field.name for field in fields(rule) if not field.kw_only), None)
    for field in fields(rule):
        value = getattr(rule, field.name)
        if field.name in rule.specs and value != field.default:
            by_name = rule.lr_by_name if field.name == "lr" else None
            shown = repr(value) if by_name is None else _braces(by_name)
            is_first = field.name == positional == "lr"
            arguments.append(shown if is_first else f"{field.name}={shown}")
    for name in ("coordinates", "bounds"):
        if getattr(rule, name) is not None:
            arguments.append(f"{name}={_braces(dict(getattr(rule, name)))}")
    if rule.trace is not None:
        arguments.append(f"trace={rule.trace!r}")
    return type(rule).__name__ + learn + (f"({', '.join(arguments)})" if arguments else "")


def _braces(values: dict[str, Any]) -> str:
    """``{lr: 0.1, momentum: log, lr: [0.1, 1.0]}``: numbers, names, and pairs of numbers."""
    shown = {
        name: value
        if isinstance(value, str)
        else repr(list(value) if isinstance(value, tuple) else value)
        for name, value in values.items()
    }
    return "{" + ", ".join(f"{name}: {value}" for name, value in shown.items()) + "}"


def parse(text: str) -> Rule:
    """Read a tower from its text: the inverse of ``str(rule)``.

    ``rule ("/" rule)*``, level 0 first; a rule is ``Name``, then ``^name`` or ``^{name,name}`` for
    ``learn``, then ``(value, name=value)``. An upper level's ``lr`` may be ``{name: value}``;
    ``coordinates={name: log}`` and ``bounds={name: [low, high]}`` are as in Python. Rules
    of your own are known as soon as their class exists; of two with one name, the later.

    Raises:
        GdtuoError: the text is no tower; the message points at the place.

    Example:
        >>> import gdtuo
        >>> gdtuo.parse("Adam^lr / SGD(1e-05)")
        Adam(optimizer=SGD(lr=1e-05), learn=('lr',))
    """
    if not isinstance(text, str):
        raise GdtuoError(f"parse takes a text such as 'Adam / SGD(1e-05)', not {text!r}.")
    return _Parser(text).tower()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.advance()

    def advance(self) -> None:
        """Read one token: its kind, its value, and where it starts."""
        match = TOKEN.match(self.text, self.place)
        if match is None or match.lastgroup is None:
            self.start = len(self.text) - len(self.text[self.place :].lstrip())
            self.fail("this character has no meaning here")
        self.kind, self.value = match.lastgroup, match.group(match.lastgroup)
        self.start, self.place = match.start(match.lastgroup), match.end()

    def fail(self, problem: str, start: int | None = None) -> NoReturn:
        start = self.start if start is None else start
        raise GdtuoError(
            f"Not a tower: {problem}, at character {start + 1}:\n  {self.text}\n  {' ' * start}^\n"
            "Expected a text such as 'Adam^lr(0.001, beta1=0.9) / SGD(1e-05)'."
        )

    def take(self, sign: str) -> bool:
        """Step over ``sign`` if it comes next."""
        found = self.kind == "sign" and self.value == sign
        if found:
            self.advance()
        return found

    def expect(self, sign: str) -> None:
        if not self.take(sign):
            self.fail(f"expected {sign!r}")

    def name(self, what: str) -> str:
        if self.kind != "name":
            self.fail(f"expected {what}")
        name = self.value
        self.advance()
        return name

    def number(self) -> float:
        if self.kind != "number":
            self.fail("expected a number")
        value = float(self.value)
        self.advance()
        return value

    def listed(self, item: Callable[[], T], close: str) -> list[T]:
        """Items with commas between them, up to ``close``; none is fine."""
        items: list[T] = []
        while not self.take(close):
            if items:
                self.expect(",")
            items.append(item())
        return items

    def tower(self) -> Rule:
        levels = [self.level()]
        while self.take("/"):
            levels.append(self.level())
        if self.kind != "end":
            self.fail("expected '/' and a rule, or the end")
        rule: Rule | None = None
        for start, cls, positional, named in reversed(levels):
            try:
                rule = cls(*positional, **named, optimizer=rule)
            except GdtuoError as error:
                self.fail(str(error).rstrip("."), start)
        assert rule is not None  # there is at least one level
        return rule

    def level(self) -> tuple[int, type[Rule], list[Any], dict[str, Any]]:
        start = self.start
        known = _rules()
        name = self.name("the name of a rule")
        if name not in known:
            self.fail(f"{name!r} is no rule; the rules are {', '.join(sorted(known))}", start)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        if self.take("^"):
            if self.take("{"):
                named["learn"] = tuple(self.listed(lambda: self.name("a hyperparameter"), "}"))
            else:
                named["learn"] = (self.name("a hyperparameter or '{'"),)
        if self.take("("):
            self.listed(lambda: self.argument(positional, named), ")")
        return start, known[name], positional, named

    def argument(self, positional: list[Any], named: dict[str, Any]) -> None:
        if self.kind == "name":
            start, name = self.start, self.name("a hyperparameter")
            if name in named or name in ("optimizer", "learn", "self"):
                self.fail(f"{name!r} is given twice, or can't be given here", start)
            self.expect("=")
            named[name] = self.argument_value()
        elif set(named) - {"learn"}:
            self.fail("expected name=value after another name=value")
        else:
            positional.append(self.argument_value())

    def argument_value(self) -> float | dict[str, Any]:
        if self.kind == "name":
            if self.value not in ("True", "False"):
                self.fail("expected a number, True or False")
            return self.name("a switch") == "True"
        start = self.start
        if not self.take("{"):
            return self.number()
        entries = self.listed(self.entry, "}")
        if len(dict(entries)) < len(entries):
            self.fail("a name is given twice", start)
        return dict(entries)

    def entry(self) -> tuple[str, Any]:
        name = self.name("the name of a hyperparameter")
        self.expect(":")
        if self.take("["):
            return name, tuple(self.listed(self.number, "]"))
        return name, self.name("a number or coordinates") if self.kind == "name" else self.number()


def _rules(base: type[Rule] = Rule) -> dict[str, type[Rule]]:
    """Every rule that exists by its name."""
    known: dict[str, type[Rule]] = {}
    for cls in base.__subclasses__():
        known |= {cls.__name__: cls} | _rules(cls)
    return known
