# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators of Windows PowerShell over its values: arithmetic, comparison, strings, -f, ranges, bits.

Pure functions; the interpreter gives the case rule. Source: Windows PowerShell Language Specification 3.0, chapter 7, and
about_Operators, about_Comparison_Operators, .NET's standard and custom numeric format strings.
"""

from __future__ import annotations

import decimal
import operator
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from .powershell_values import (
    Array,
    Byte,
    Char,
    Enum,
    GenericList,
    Hashtable,
    Int16,
    Int64,
    PowerShellError,
    SByte,
    TypeRef,
    UInt16,
    UInt32,
    UInt64,
    convert,
    is_instance,
    is_number,
    number_text,
    runtime_error,
    sequence,
    thrown,
    to_bool,
    to_integer,
    to_number,
    to_text,
    type_of,
)

_SMALL = (SByte, Byte, Int16, UInt16)
MAXIMUM_ITEMS = 4_000_000


# -- arithmetic ------------------------------------------------------------------------------------------------------------


def _integer_kind(left: int, right: int) -> type | None:
    """The integer type in which two integers are reckoned; None: Decimal."""
    kinds = {type(left), type(right)}
    if UInt64 in kinds:
        return UInt64 if left >= 0 and right >= 0 else None
    if Int64 in kinds:
        return Int64
    if UInt32 in kinds:
        return UInt32 if left >= 0 and right >= 0 else Int64
    return int


def _fitting(value: int, kind: type) -> Any:
    """The result in its type, or as a Double where it does not fit, as PowerShell has it."""
    low, high = (-(1 << 31), (1 << 31) - 1) if kind is int else (kind.low, kind.high)  # type: ignore[attr-defined]
    return kind(value) if low <= value <= high else float(value)


def _numeric(symbol: str, left: Any, right: Any) -> Any:
    if isinstance(left, decimal.Decimal) or isinstance(right, decimal.Decimal):
        left = decimal.Decimal(left) if not isinstance(left, float) else decimal.Decimal(repr(left))
        right = decimal.Decimal(right) if not isinstance(right, float) else decimal.Decimal(repr(right))
        if symbol in "/%" and not right:
            raise _zero()
        return _OPERATIONS[symbol](left, right)
    if isinstance(left, float) or isinstance(right, float):
        return _floating(symbol, float(left), float(right))
    kind = _integer_kind(left, right)
    if kind is None:
        return _numeric(symbol, decimal.Decimal(int(left)), decimal.Decimal(int(right)))
    one, two = int(left), int(right)
    if symbol in "/%" and not two:
        raise _zero()
    if symbol == "/":
        quotient, rest = divmod(abs(one), abs(two))
        if rest:
            return one / two
        return _fitting(quotient if (one < 0) == (two < 0) else -quotient, kind)
    if symbol == "%":
        rest = abs(one) % abs(two)
        return kind(-rest if one < 0 else rest)
    return _fitting(_OPERATIONS[symbol](one, two), kind)


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": lambda a, b: a % b,
}


def _floating(symbol: str, left: float, right: float) -> float:
    if symbol in "/%" and right == 0:
        return float("nan") if symbol == "%" or left == 0 else float("inf") * (1 if left > 0 else -1)
    if symbol == "%":
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    try:
        return float(_OPERATIONS[symbol](left, right))
    except OverflowError:
        return float("inf")


def _zero() -> PowerShellError:
    return runtime_error("RuntimeException", "Attempted to divide by zero.", category="NotSpecified")


def _no_operation(left: Any, right: Any, symbol: str) -> PowerShellError:
    names = {"+": "op_Addition", "-": "op_Subtraction", "*": "op_Multiply", "/": "op_Division", "%": "op_Modulus"}
    return runtime_error(
        "MethodNotFound",
        f"Method invocation failed because [{type_of(left)}] does not contain a method named '{names[symbol]}'.",
    )


def _limited(count: int) -> None:
    if count > MAXIMUM_ITEMS:
        raise thrown("System.OutOfMemoryException", "Exception of type 'System.OutOfMemoryException' was thrown.")


def arithmetic(symbol: str, left: Any, right: Any) -> Any:
    if symbol == "+" and left is None:
        return right
    if isinstance(left, bool):
        left = int(left)
    if isinstance(left, Char):
        left = ord(left) if is_number(right) else str(left)
    if isinstance(left, datetime):
        if symbol == "-" and isinstance(right, datetime):
            return left - right
        if symbol in "+-" and isinstance(right, timedelta):
            return left + right if symbol == "+" else left - right
    if isinstance(left, timedelta) and isinstance(right, timedelta) and symbol in "+-":
        return left + right if symbol == "+" else left - right
    if is_number(left) or left is None:
        if symbol == "*" and isinstance(right, str) and not right.strip().lstrip("-").replace(".", "", 1).isdigit():
            return _numeric(symbol, left or 0, to_number(right))
        return _numeric(symbol, left if left is not None else 0, to_number(right))
    if isinstance(left, str):
        if symbol == "+":
            return str(left) + to_text(right)
        if symbol == "*":
            times = int(to_integer(right, "System.Int32"))
            if times < 0:
                raise thrown(
                    "System.ArgumentOutOfRangeException", "The multiplier may not be negative.", parameter="times"
                )
            _limited(len(left) * times // 64)
            return str(left) * times
        return _numeric(symbol, to_number(left), to_number(right))
    if isinstance(left, Array | GenericList) and symbol in "+*":
        if symbol == "+":
            _limited(len(left) + 1)
            return Array([*left, *sequence(right)] if right is not None else [*left, None])
        times = int(to_integer(right, "System.Int32"))
        _limited(len(left) * times)
        element = left.element if isinstance(left, Array) else "System.Object"
        return Array(list(left) * times, element)
    if isinstance(left, Hashtable) and isinstance(right, Hashtable) and symbol == "+":
        joined = Hashtable()
        for key, value in [*left.items(), *right.items()]:
            if joined.has(key):
                raise thrown(
                    "System.ArgumentException",
                    f"Item has already been added. Key in dictionary: '{to_text(key)}'  Key being added: '{to_text(key)}'",
                )
            joined.set(key, value)
        return joined
    if isinstance(left, Enum):
        return _numeric(symbol, left.value, to_number(right))
    raise _no_operation(left, right, symbol)


def negate(value: Any) -> Any:
    return _numeric("-", 0, to_number(value))


def _bit_operands(left: Any, right: Any) -> tuple[int, int, type]:
    one, two = (to_number(x) for x in (left, right))
    one, two = (to_integer(x, "System.Int64") if isinstance(x, float | decimal.Decimal) else x for x in (one, two))
    kind = _integer_kind(one, two) or Int64
    return int(one), int(two), kind


def bits(symbol: str, left: Any, right: Any) -> Any:
    if symbol in ("-shl", "-shr"):
        value, count = to_number(left), int(to_integer(right, "System.Int32"))
        kind: type = type(value) if isinstance(value, Int64 | UInt64 | UInt32) else int
        width = 64 if kind in (Int64, UInt64) else 32
        count &= width - 1
        result = int(value) << count if symbol == "-shl" else int(value) >> count
        result &= (1 << width) - 1
        if kind in (int, Int64) and result >> (width - 1):
            result -= 1 << width
        return kind(result)
    one, two, wide = _bit_operands(left, right)
    result = {"-band": one & two, "-bor": one | two, "-bxor": one ^ two}[symbol]
    if isinstance(left, Enum):
        return convert(result, left.type_name)
    return wide(result)


def complement(value: Any) -> Any:
    number = to_number(value)
    if isinstance(number, UInt64 | UInt32):
        return type(number)(number.high ^ int(number))
    return type(number)(~int(number)) if isinstance(number, Int64) else ~int(number)


def span(left: Any, right: Any) -> Array:
    first, last = int(to_integer(left, "System.Int32")), int(to_integer(right, "System.Int32"))
    _limited(abs(last - first))
    return Array(list(range(first, last + 1)) if first <= last else list(range(first, last - 1, -1)))


# -- comparison --------------------------------------------------------------------------------------------------------------


def _folded(text: str, case: bool) -> str:
    return text if case else text.upper()


def equal(left: Any, right: Any, *, case: bool = False) -> bool:
    if left is None or right is None:
        return left is None and right is None
    if isinstance(left, bool):
        return left == to_bool(right)
    if isinstance(left, str):
        return _folded(to_text(left), case) == _folded(to_text(right), case)
    if is_number(left):
        if isinstance(right, Array | GenericList | Hashtable):
            return False
        try:
            return bool(left == to_number(right))
        except PowerShellError:
            return False
    if isinstance(left, Enum):
        try:
            return bool(left.value == convert(right, left.type_name).value)
        except PowerShellError:
            return False
    if isinstance(left, TypeRef):
        return to_text(left).lower() == to_text(right).lower()
    if isinstance(left, datetime | timedelta):
        return bool(left == right)
    return left is right


def order(left: Any, right: Any, *, case: bool = False) -> int:
    """Less than, equal to, or greater than zero."""
    if isinstance(left, str):
        one, two = _folded(str(left), case), _folded(to_text(right), case)
        return (one > two) - (one < two)
    if left is None or is_number(left) or isinstance(left, bool):
        if left is None and right is not None:
            return -1 if not (is_number(right) and right < 0) else 1
        one, two = to_number(left), to_number(right)
        return bool(one > two) - bool(one < two)
    if isinstance(left, Enum):
        other = int(convert(right, left.type_name).value) if right is not None else 0
        return (left.value > other) - (left.value < other)
    if isinstance(left, datetime) and isinstance(right, datetime):
        return (left > right) - (left < right)
    if isinstance(left, timedelta) and isinstance(right, timedelta):
        return (left > right) - (left < right)
    raise runtime_error(
        "NotIcomparable", f'Cannot compare "{to_text(left)}" because it is not IComparable.', category="NotSpecified"
    )


def wildcard(pattern: str, *, case: bool) -> re.Pattern[str]:
    expression, index = "", 0
    while index < len(pattern):
        letter = pattern[index]
        if letter == "`" and index + 1 < len(pattern):
            index += 1
            expression += re.escape(pattern[index])
        elif letter == "*":
            expression += ".*"
        elif letter == "?":
            expression += "."
        elif letter == "[" and "]" in pattern[index:]:
            end = pattern.index("]", index)
            expression += pattern[index : end + 1].replace("\\", "\\\\")
            index = end
        else:
            expression += re.escape(letter)
        index += 1
    return re.compile(expression, re.DOTALL | (0 if case else re.IGNORECASE))


def regular(pattern: str, *, case: bool) -> re.Pattern[str]:
    """A .NET regular expression as Python reads it: named groups differ, ``$`` too."""
    text = re.sub(r"\(\?<([A-Za-z_]\w*)>", r"(?P<\1>", pattern).replace("\\z", "\\Z")
    try:
        return re.compile(text, 0 if case else re.IGNORECASE)
    except re.error as problem:
        raise runtime_error(
            "RuntimeException", f'parsing "{pattern}" - {problem}', category="NotSpecified"
        ) from problem


def _replace(text: str, right: Any, *, case: bool) -> str:
    parts = sequence(right)
    pattern = to_text(parts[0]) if parts else ""
    new = to_text(parts[1]) if len(parts) > 1 else ""
    if len(parts) > 2:
        raise runtime_error(
            "BadReplaceArgument", f"The -ireplace operator allows only two elements to follow it, not {len(parts)}."
        )

    def substitute(match: re.Match[str]) -> str:
        def group(reference: re.Match[str]) -> str:
            if reference[0] == "$$":
                return "$"
            name = reference[1] or reference[2]
            if name == "&":
                return match[0]
            try:
                return match[int(name) if name.isdigit() else name] or ""
            except (IndexError, KeyError):
                return reference[0]

        return re.sub(r"\$\$|\$\{(\w+)\}|\$(\d+|&)", group, new)

    return regular(pattern, case=case).sub(substitute, text)


def split(left: Any, right: Any, *, case: bool = False) -> Array:
    parts = sequence(right)
    pattern = to_text(parts[0]) if parts else r"\s+"
    limit = int(to_integer(parts[1], "System.Int32")) if len(parts) > 1 else 0
    simple = len(parts) > 2 and "simplematch" in to_text(parts[2]).lower()
    expression = re.compile(re.escape(pattern), 0 if case else re.IGNORECASE) if simple else regular(pattern, case=case)
    found: list[Any] = []
    for text in sequence(left):
        found += [x if x is not None else "" for x in expression.split(to_text(text), maxsplit=max(0, limit - 1))]
    return Array(found, "System.String")


def compare(symbol: str, left: Any, right: Any, *, case: bool, matches: Callable[[Any], None]) -> Any:
    """A comparison operator without its i or c; a collection on the left is filtered. ``matches`` gets -match's groups."""
    if symbol in ("-contains", "-notcontains"):
        found = any(equal(one, right, case=case) for one in sequence(left))
        return found == (symbol == "-contains")
    if symbol in ("-in", "-notin"):
        found = any(equal(one, left, case=case) for one in sequence(right))
        return found == (symbol == "-in")
    if symbol == "-join":
        return to_text(right).join(to_text(one) for one in sequence(left))
    if symbol == "-split":
        return split(left, right, case=case)
    if symbol in ("-is", "-isnot"):
        wanted = convert(right, "System.Type")
        return is_instance(left, wanted.name) == (symbol == "-is")
    if symbol == "-as":
        try:
            return convert(left, convert(right, "System.Type").name)
        except PowerShellError:
            return None
    if symbol == "-replace":
        if isinstance(left, Array | GenericList):
            return Array([_replace(to_text(one), right, case=case) for one in left])
        return _replace(to_text(left), right, case=case)
    if isinstance(left, Array | GenericList):
        return Array([one for one in left if _holds(symbol, one, right, case, matches)])
    return _holds(symbol, left, right, case, matches)


def _holds(symbol: str, left: Any, right: Any, case: bool, matches: Callable[[Any], None]) -> bool:
    if symbol in ("-eq", "-ne"):
        return equal(left, right, case=case) == (symbol == "-eq")
    if symbol in ("-like", "-notlike"):
        found = wildcard(to_text(right), case=case).fullmatch(to_text(left)) is not None
        return found == (symbol == "-like")
    if symbol in ("-match", "-notmatch"):
        match = regular(to_text(right), case=case).search(to_text(left))
        if match is not None:
            groups = Hashtable()
            for number, text in enumerate((match[0], *match.groups())):
                if text is not None:
                    groups.set(number, text)
            for name, text in match.groupdict().items():
                groups.set(name, text)
            matches(groups)
        return (match is not None) == (symbol == "-match")
    result = order(left, right, case=case)
    return {"-lt": result < 0, "-le": result <= 0, "-gt": result > 0, "-ge": result >= 0}[symbol]


# -- formatting ----------------------------------------------------------------------------------------------------------------


def format_operator(pattern: Any, arguments: Any) -> str:
    """The -f operator: String.Format."""
    values = sequence(arguments) if arguments is not None else [None]
    text = to_text(pattern)
    result, index = "", 0
    wrong = runtime_error(
        "FormatError",
        "Error formatting a string: Input string was not in a correct format..",
    )
    while index < len(text):
        letter = text[index]
        if letter in "{}" and text[index + 1 : index + 2] == letter:
            result += letter
            index += 2
            continue
        if letter == "}":
            raise wrong
        if letter != "{":
            result += letter
            index += 1
            continue
        item = re.compile(r"\{(\d+)\s*(?:,\s*(-?\d+))?\s*(?::([^{}]*))?\}").match(text, index)
        if item is None:
            raise wrong
        number = int(item[1])
        if number >= len(values):
            raise runtime_error(
                "FormatError",
                "Error formatting a string: Index (zero based) must be greater than or equal to zero and less than the size"
                " of the argument list..",
            )
        piece = formatted(values[number], item[3] or "")
        width = int(item[2] or 0)
        result += piece.ljust(-width) if width < 0 else piece.rjust(width)
        index = item.end()
    return result


def _grouped(text: str) -> str:
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, dot, rest = text.partition(".")
    return sign + f"{int(whole):,}" + dot + rest


def formatted(value: Any, spec: str) -> str:
    """IFormattable.ToString(spec) in the invariant (en-US) culture."""
    if not spec or value is None:
        return to_text(value)
    if isinstance(value, datetime):
        return date_text(value, spec)
    if isinstance(value, Enum):
        return str(value.value) if spec in "dD" else value.name
    if not is_number(value):
        return to_text(value)
    standard = re.fullmatch(r"([A-Za-z])(\d{0,2})", spec)
    if standard is None:
        return _custom(value, spec)
    letter, digits = standard[1], standard[2]
    places = int(digits) if digits else 2
    if letter in "xX":
        if not isinstance(value, int):
            raise runtime_error("FormatError", "Error formatting a string: Format specifier was invalid..")
        width = {Byte: 8, SByte: 8, Int16: 16, UInt16: 16, Int64: 64, UInt64: 64}.get(type(value), 32)
        text = f"{int(value) & ((1 << width) - 1):x}".rjust(int(digits or 0), "0")
        return text.upper() if letter == "X" else text
    if letter in "dD":
        if not isinstance(value, int):
            raise runtime_error("FormatError", "Error formatting a string: Format specifier was invalid..")
        return ("-" if value < 0 else "") + str(abs(int(value))).rjust(int(digits or 0), "0")
    exact = decimal.Decimal(repr(value)) if isinstance(value, float) else decimal.Decimal(value)
    rounded = (
        exact.quantize(decimal.Decimal(1).scaleb(-places), rounding=decimal.ROUND_HALF_UP)
        if letter in "fFnN"
        else exact
    )
    if letter in "fF":
        return format(rounded, "f")
    if letter in "nN":
        return _grouped(format(rounded, "f"))
    if letter in "pP":
        percent = (exact * 100).quantize(decimal.Decimal(1).scaleb(-places), rounding=decimal.ROUND_HALF_UP)
        return _grouped(format(percent, "f")) + " %"
    if letter in "gGrR":
        return number_text(value)
    if letter in "eE":
        return re.sub(
            r"e([+-])(\d+)", lambda m: f"{letter}{m[1]}{m[2].rjust(3, '0')}", f"{float(value):.{int(digits or 6)}e}"
        )
    raise runtime_error("FormatError", "Error formatting a string: Format specifier was invalid..")


def _custom(value: Any, spec: str) -> str:
    match = re.fullmatch(r"([^0#.]*)([#,]*)(0*)(?:\.(0*)(#*))?([^0#.]*)", spec)
    if match is None:
        raise runtime_error("FormatError", "Error formatting a string: Input string was not in a correct format..")
    least, fixed, more = len(match[3]), len(match[4] or ""), len(match[5] or "")
    exact = decimal.Decimal(repr(value)) if isinstance(value, float) else decimal.Decimal(value)
    text = format(exact.quantize(decimal.Decimal(1).scaleb(-(fixed + more)), rounding=decimal.ROUND_HALF_UP), "f")
    whole, dot, rest = text.partition(".")
    while more and len(rest) > fixed and rest.endswith("0"):
        rest = rest[:-1]
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    whole = whole.lstrip("0").rjust(least, "0")
    if "," in match[2]:
        whole = _grouped(whole or "0")
    return match[1] + sign + whole + (dot + rest if rest else "") + match[6]


_DATE_PARTS: dict[str, Callable[[datetime], str]] = {
    "yyyy": lambda d: f"{d.year:04}",
    "yy": lambda d: f"{d.year % 100:02}",
    "MMMM": lambda d: d.strftime("%B"),
    "MMM": lambda d: d.strftime("%b"),
    "MM": lambda d: f"{d.month:02}",
    "M": lambda d: str(d.month),
    "dddd": lambda d: d.strftime("%A"),
    "ddd": lambda d: d.strftime("%a"),
    "dd": lambda d: f"{d.day:02}",
    "d": lambda d: str(d.day),
    "HH": lambda d: f"{d.hour:02}",
    "H": lambda d: str(d.hour),
    "hh": lambda d: f"{d.hour % 12 or 12:02}",
    "h": lambda d: str(d.hour % 12 or 12),
    "mm": lambda d: f"{d.minute:02}",
    "m": lambda d: str(d.minute),
    "ss": lambda d: f"{d.second:02}",
    "s": lambda d: str(d.second),
    "tt": lambda d: "AM" if d.hour < 12 else "PM",
    "K": lambda d: "Z" if d.tzinfo is not None else "",
}


def date_text(value: datetime, spec: str) -> str:
    micro = f"{value.microsecond * 10:07}"
    if spec in {"o", "O"}:
        return value.strftime("%Y-%m-%dT%H:%M:%S") + f".{micro}" + ("Z" if value.tzinfo is not None else "")
    if spec == "s":
        return value.strftime("%Y-%m-%dT%H:%M:%S")
    if spec == "u":
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if len(spec) == 1:
        raise runtime_error("FormatError", "Error formatting a string: Input string was not in a correct format..")

    def part(match: re.Match[str]) -> str:
        word = match[0]
        if word[0] in "'\"":
            return word[1:-1]
        if word[0] == "\\":
            return word[1]
        if word[0] in "fF":
            return micro[: len(word)]
        return _DATE_PARTS[word](value) if word in _DATE_PARTS else word

    return re.sub(r"'[^']*'|\"[^\"]*\"|\\.|y+|M+|d+|H+|h+|m+|s+|t+|f+|F+|K", part, spec)
