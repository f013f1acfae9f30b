# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions over plain numbers, texts, lists and tables: Python's syntax,
and nothing but comparisons, arithmetic, members and a few functions.

    moves > 100 and meter.phases[1].ranges.nvm.stores < 0.2 * total
"""

import ast
import operator
import re

from . import LabError

OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
    ast.Not: operator.not_, ast.USub: operator.neg}

FUNCTIONS = {"abs": abs, "min": min, "max": max, "sum": sum, "len": len,
             "round": round, "any": any, "all": all, "int": int,
             "float": float, "str": str, "sorted": sorted,
             "values": lambda table: list(dict(table).values()),
             "keys": lambda table: list(table)}


class Check:
    """One expression; evaluate() tells its value, `seen` the values that it
    looked up."""

    def __init__(self, text):
        self.text = " ".join(text.split())
        self.seen = {}
        self.names = {}
        try:
            self.tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as e:
            raise LabError(f"check '{self.text}': {e.msg}") from e

    def evaluate(self, names):
        self.names = names
        self.seen = {}
        return self._value(self.tree)

    def _wrong(self, what):
        return LabError(f"check '{self.text}': {what}")

    def _value(self, node):
        kind = type(node).__name__.lower()
        method = getattr(self, f"_{kind}", None)
        if not method:
            raise self._wrong(f"'{ast.unparse(node)}' is not allowed here")
        return method(node)

    def _constant(self, node):
        return node.value

    def _list(self, node):
        return [self._value(e) for e in node.elts]

    _tuple = _list

    def _look_up(self, node):
        value = self._member(node)
        if not isinstance(value, (dict, list)):
            self.seen[ast.unparse(node)] = value
        return value

    _name = _attribute = _subscript = _look_up

    def _member(self, node):
        if isinstance(node, ast.Name):
            return self._item(self.names, node.id, node)
        if isinstance(node, ast.Attribute):
            return self._item(self._container(node.value), node.attr, node)
        return self._item(self._container(node.value),
                          self._value(node.slice), node)

    def _container(self, node):
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            return self._member(node)
        return self._value(node)

    def _item(self, container, key, node):
        """JSON's keys have dashes, and phases may be keyed by number."""
        if isinstance(container, dict):
            for name in (key, str(key), str(key).replace("_", "-")):
                if isinstance(name, (str, int)) and name in container:
                    return container[name]
            raise self._wrong(f"there is no {ast.unparse(node)}; there are "
                              f"{', '.join(map(str, container)) or 'none'}")
        try:
            return container[key]
        except (TypeError, IndexError, KeyError) as e:
            raise self._wrong(f"there is no {ast.unparse(node)}") from e

    def _apply(self, op, *values):
        function = OPERATORS.get(type(op))
        if not function:
            raise self._wrong(f"{type(op).__name__} is not allowed here")
        try:
            return function(*values)
        except (TypeError, ArithmeticError) as e:
            raise self._wrong(str(e)) from e

    def _binop(self, node):
        return self._apply(node.op, self._value(node.left),
                           self._value(node.right))

    def _unaryop(self, node):
        return self._apply(node.op, self._value(node.operand))

    def _boolop(self, node):
        want = isinstance(node.op, ast.Or)
        value = want
        for part in node.values:
            value = self._value(part)
            if bool(value) == want:
                return value
        return value

    def _compare(self, node):
        left = self._value(node.left)
        for op, right in zip(node.ops, node.comparators):
            right = self._value(right)
            if not self._apply(op, left, right):
                return False
            left = right
        return True

    def _ifexp(self, node):
        return self._value(node.body if self._value(node.test)
                           else node.orelse)

    def _call(self, node):
        name = getattr(node.func, "id", None)
        if name not in FUNCTIONS or node.keywords:
            raise self._wrong(f"there is no function {ast.unparse(node.func)};"
                              f" there are {', '.join(FUNCTIONS)}")
        try:
            return FUNCTIONS[name](*map(self._value, node.args))
        except (TypeError, ValueError, ArithmeticError) as e:
            raise self._wrong(str(e)) from e


def judge(text, names):
    """(passed, a line with the values that decided)."""
    try:
        check = Check(text)
        passed = bool(check.evaluate(names))
    except LabError as e:
        return False, str(e)
    seen = ", ".join(f"{k} = {v}" for k, v in check.seen.items())
    # A '#' would begin a TAP directive.
    return passed, re.sub("#", "", f"{check.text} ({seen})")
