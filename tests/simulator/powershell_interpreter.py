# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a PowerShell script on a simulated machine: statements, scopes, pipelines, errors, functions, native programs.

Statements are generators, so that a script waits, takes simulated time by what it reads and dies with its process;
expressions are plain calls, and what waits inside one ends at once. Not here: the grammar (powershell_parser.py),
operators, .NET classes (powershell_dotnet.py), cmdlets (powershell_cmdlets.py), the program's switches
(programs/powershell.py). A pipeline passes on all of its input at once. Source: Language Specification 3.0, chapters 3, 7, 8.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from . import powershell_classes, powershell_files, powershell_hashes, powershell_session, powershell_streams
from . import powershell_dotnet as dotnet
from . import powershell_language as tree
from .powershell_commands import bind, redirecting, run_command
from .powershell_operators import (
    arithmetic,
    bits,
    compare,
    complement,
    equal,
    format_operator,
    negate,
    regular,
    span,
    split,
    wildcard,
)
from .powershell_scopes import Emit, Flow, Scope, Slot, Step
from .powershell_state import ScriptState
from .powershell_values import (
    Array,
    CustomObject,
    ErrorRecord,
    GenericList,
    Hashtable,
    NetException,
    PowerShellError,
    ScriptBlock,
    Thrown,
    TypeRef,
    convert,
    exception,
    is_exception,
    resolve_type,
    runtime_error,
    sequence,
    to_bool,
    to_text,
    type_of,
)
from .processes import Buffer, Handles, Input, Pause, ProgramNotFound, Wait, decode_text, wait_for

BYTES_A_SECOND = 200_000_000
STEPS_A_LOOK = 20_000
STEPS_AT_ONCE = 3_000_000
MAXIMUM_CALLS = 100


class Interpreter(ScriptState):
    """One powershell.exe process that runs one script."""

    # -- statements ----------------------------------------------------------------------------------------------------

    def block(self, block: tree.Block, emit: Emit) -> Step:
        for statement in block.statements:
            yield from self.statement(statement, emit)

    def statement(self, node: tree.Node, emit: Emit) -> Step:
        self.steps += 1
        if not self.drained and (self.worked >= self.pace or self.steps >= STEPS_A_LOOK):
            seconds = self.worked / BYTES_A_SECOND + (1.0 if self.steps >= STEPS_A_LOOK else 0.0)
            self.worked = self.steps = 0
            yield Pause(self.machine.now(), max(seconds, 0.01), 1)
        elif self.steps > STEPS_AT_ONCE:
            raise runtime_error(
                "ScriptHalted", "The script runs without end inside one expression: the simulator stops it."
            )
        try:
            yield from _STATEMENTS[type(node)](self, node, emit)
        except Thrown as problem:
            self.failed(self.from_net(problem.value, node), node)
        except PowerShellError as problem:
            self.failed(problem, node)
        except RecursionError:
            raise PowerShellError(
                ErrorRecord(
                    exception(
                        "System.Management.Automation.RuntimeException", "The script failed due to call depth overflow."
                    ),
                    "CallDepthOverflow",
                    "InvalidOperation",
                ),
                script=True,
            ) from None

    def failed(self, problem: PowerShellError, node: tree.Node) -> None:
        """A terminating error leaves a statement: it goes on up, or the script goes on with the next one."""
        record = problem.record
        if record.at < 0:
            record.at, record.end = node.at, node.end
        self.succeeded = False
        if self.tries or problem.script or self.preference() == "stop":
            problem.script = problem.script or self.preference() == "stop"
            raise problem
        self.report(record)

    def _pipeline_statement(self, node: tree.Pipeline, emit: Emit) -> Step:
        if len(node.elements) == 1 and isinstance(node.elements[0], tree.CommandExpression):
            element = node.elements[0]
            if isinstance(element.expression, tree.Step) and not element.redirections:
                self.evaluate(element.expression)
                self.succeeded = True
                return
        yield from self.pipeline(node, emit)

    def _assignment(self, node: tree.Assignment, emit: Emit) -> Step:
        value = yield from self.value_of(node.value)
        self.assign(node.target, node.operator, value)
        self.succeeded = True

    def value_of(self, node: tree.Node) -> Generator[Wait, None, Any]:
        """What a statement gives as one value: an expression unchanged, a pipeline's output gathered."""
        if isinstance(node, tree.Pipeline) and len(node.elements) == 1:
            element = node.elements[0]
            if isinstance(element, tree.CommandExpression) and not element.redirections:
                if isinstance(element.expression, tree.Parenthesised):
                    inner = element.expression.body
                    if isinstance(inner, tree.Pipeline):
                        return (yield from self.value_of(inner))
                return _nothing(self.evaluate(element.expression))
        if isinstance(node, tree.Assignment):
            yield from self._assignment(node, _ignore)
            return self.evaluate(node.target)
        found: list[Any] = []
        yield from _STATEMENTS[type(node)](self, node, found.append)
        return gathered(found)

    def _if(self, node: tree.If, emit: Emit) -> Step:
        for condition, body in node.clauses:
            value = yield from self.value_of(condition)
            if to_bool(value):
                yield from self.block(body, emit)
                return
        if node.otherwise is not None:
            yield from self.block(node.otherwise, emit)

    def _loop(self, node: tree.Loop, emit: Emit) -> Step:
        if node.initial is not None:
            yield from self.statement(node.initial, _ignore)
        skip = node.first
        while True:
            if not skip and node.condition is not None:
                value = yield from self.value_of(node.condition)
                if to_bool(value) == node.until:
                    return
            skip = False
            try:
                yield from self.block(node.body, emit)
            except Flow as flow:
                if not _mine(flow, node.label):
                    raise
                if flow.keyword == "break":
                    return
            if node.step is not None:
                yield from self.statement(node.step, _ignore)
            self.steps += 1

    def _foreach(self, node: tree.ForEach, emit: Emit) -> Step:
        items = yield from self.value_of(node.items)
        for item in sequence(items):
            self.set(node.variable.name, item, scope=node.variable.scope)
            try:
                yield from self.block(node.body, emit)
            except Flow as flow:
                if not _mine(flow, node.label):
                    raise
                if flow.keyword == "break":
                    return

    def _switch(self, node: tree.Switch, emit: Emit) -> Step:
        items = yield from self.value_of(node.items)
        keep = self.scope.variables.get("_")
        try:
            for item in sequence(items) if isinstance(items, Array | GenericList) else [items]:
                self.set_local("_", item)
                matched = False
                try:
                    for test, body in node.clauses:
                        if self.switch_matches(node, test, item):
                            matched = True
                            yield from self.block(body, emit)
                    if not matched and node.default is not None:
                        yield from self.block(node.default, emit)
                except Flow as flow:
                    if not _mine(flow, node.label):
                        raise
                    if flow.keyword == "break":
                        return
        finally:
            if keep is not None:
                self.scope.variables["_"] = keep

    def switch_matches(self, node: tree.Switch, test: tree.Node, item: Any) -> bool:
        if isinstance(test, tree.ScriptBlockLiteral):
            found: list[Any] = []
            self.drain(self.block(test.body, found.append))
            return to_bool(gathered(found))
        wanted = self.evaluate(test)
        if node.mode == "regex":
            return regular(to_text(wanted), case=node.case_sensitive).search(to_text(item)) is not None
        if node.mode == "wildcard":
            return wildcard(to_text(wanted), case=node.case_sensitive).fullmatch(to_text(item)) is not None
        return equal(item, wanted, case=node.case_sensitive)

    def _function(self, node: tree.FunctionDefinition, emit: Emit) -> Step:
        self.scope.functions[node.name.lower()] = node
        yield from ()

    def _try(self, node: tree.Try, emit: Emit) -> Step:
        pending: BaseException | None = None
        self.tries += 1
        inside = True
        try:
            yield from self.block(node.body, emit)
        except (PowerShellError, Thrown) as problem:
            self.tries -= 1
            inside = False
            error = problem if isinstance(problem, PowerShellError) else self.from_net(problem.value, node)
            try:
                handled = yield from self.catch(node, error, emit)
                pending = None if handled else error
            except (PowerShellError, Thrown, Flow) as second:
                pending = second
        except Flow as flow:
            pending = flow
        except GeneratorExit:  # the process was killed: nothing of the script runs any more
            raise
        if inside:
            self.tries -= 1
        if node.final is not None:
            yield from self.block(node.final, emit)
        if pending is not None:
            raise pending

    def catch(self, node: tree.Try, error: PowerShellError, emit: Emit) -> Generator[Wait, None, bool]:
        record = error.record
        self.remember(record)
        chosen, passed = _handler(node, record.exception)
        if chosen is None:
            return False
        if passed is not record.exception:
            record = ErrorRecord(
                passed, record.identifier, record.category, record.target, record.command, record.at, record.end
            )
        keep = self.scope.variables.get("_")
        self.set_local("_", record)
        self.set_local("psitem", record)
        try:
            yield from self.block(chosen.body, emit)
        finally:
            if keep is not None:
                self.scope.variables["_"] = keep
        return True

    def _flow(self, node: tree.Flow, emit: Emit) -> Step:
        if node.keyword in ("break", "continue"):
            raise Flow(node.keyword, node.label)
        if node.keyword == "return":
            if node.value is not None:
                yield from self.pipeline_or(node.value, emit)
            raise Flow("return")
        value = None
        if node.value is not None:
            value = yield from self.value_of(node.value)
        if node.keyword == "exit":
            code = 0 if value is None else value
            try:
                number = int(convert(code, "System.Int32"))
            except PowerShellError:
                number = 0
            raise Flow("exit", code=number)
        raise self.throw(node, value)

    def pipeline_or(self, node: tree.Node, emit: Emit) -> Step:
        yield from _STATEMENTS[type(node)](self, node, emit)

    def throw(self, node: tree.Flow, value: Any) -> PowerShellError:
        if node.value is None:
            current = self.get("_")
            if isinstance(current, ErrorRecord):
                return PowerShellError(current, script=True)
            value = "ScriptHalted"
        if isinstance(value, ErrorRecord):
            return PowerShellError(value, script=True)
        if isinstance(value, NetException):
            record = ErrorRecord(value, value.text, "OperationStopped", None, at=node.at, end=node.end)
        else:
            text = to_text(value)
            problem = exception("System.Management.Automation.RuntimeException", text)
            record = ErrorRecord(problem, text, "OperationStopped", value, at=node.at, end=node.end)
        return PowerShellError(record, script=True)

    # -- pipelines -----------------------------------------------------------------------------------------------------

    def pipeline(self, node: tree.Pipeline, emit: Emit) -> Step:
        given: list[Any] | None = None
        self.succeeded = True
        for number, element in enumerate(node.elements):
            last = number == len(node.elements) - 1
            found: list[Any] = []
            out = emit if last else found.append
            if isinstance(element, tree.CommandExpression):
                with redirecting(self, element.redirections, out) as sink:
                    result = self.evaluate(element.expression)
                    value = _nothing(result)
                    if result is not dotnet.VOID and not (value is None and _gives_nothing(element.expression)):
                        for item in [value] if not isinstance(value, Array | GenericList) else value:
                            sink(item)
            else:
                assert isinstance(element, tree.Command)
                yield from run_command(self, element, given, out)
            given = found

    def drain(self, steps: Step) -> None:
        """Runs statements inside an expression: they cannot wait, so simulated time simply passes."""
        self.drained += 1
        try:
            for wait in steps:
                if not wait.ready(self.machine.now()):
                    self.machine.world.clock.advance(1)
        finally:
            self.drained -= 1

    def invoke_block(
        self, block: ScriptBlock, arguments: list[Any], emit: Emit, *, own_scope: bool = True, item: Any = None
    ) -> Step:
        """Runs a script block: & and . and what cmdlets do with one. Its return ends it alone."""
        outer = self.scope
        if own_scope:
            self.scope = Scope(parent=outer)
        if item is not None:
            self.set_local("_", item)
            self.set_local("psitem", item)
        try:
            if own_scope:
                bind(self, "", block.parameters, arguments, None)
            yield from self.block(block.body, emit)
        except Flow as flow:
            if flow.keyword != "return":
                raise
        finally:
            self.scope = outer

    def native(self, line: str, emit: Emit, given: list[Any] | None) -> Step:
        """A program of the machine; its output comes as lines, its exit code as $LASTEXITCODE."""
        output = Buffer()
        text = "".join(f"{to_text(one)}\r\n" for one in given or [])
        errors = Buffer() if self.error_sinks else None
        handles = Handles(
            stdin=Input(text.encode(), closed=True),
            stdout=output,
            stderr=self.process.stderr if errors is None else errors,
        )
        child = self.machine.processes.start(
            line,
            token=self.process.token,
            parent=self.process,
            handles=handles,
            directory=self.process.directory,
            environment=self.process.environment,
        )
        if self.drained:
            self.machine.processes.finish_now(child)
        else:
            yield wait_for(child)
        code = int(child.exit_code or 0)
        self.scope.root().variables["lastexitcode"] = Slot(code - (1 << 32) if code > 0x7FFFFFFF else code)
        self.succeeded = code == 0
        for one in decode_text(output.take(), self.process.code_page).replace("\r\n", "\n").splitlines():
            emit(one)
        for one in decode_text(errors.take(), self.process.code_page).splitlines() if errors is not None else ():
            problem = exception("System.Management.Automation.RemoteException", one)
            self.error_sinks[-1](
                ErrorRecord(problem, "NativeCommandError", "NotSpecified", one, line.split(maxsplit=1)[0])
            )

    def knows_native(self, name: str) -> bool:
        try:
            return bool(self.machine.processes.knows_program(name, self.process))
        except ProgramNotFound:
            return False

    # -- expressions ---------------------------------------------------------------------------------------------------

    def evaluate(self, node: tree.Node) -> Any:
        return _EXPRESSIONS[type(node)](self, node)

    def _expandable(self, node: tree.Expandable) -> str:
        separator = self.separator()
        return "".join(
            part if isinstance(part, str) else to_text(_nothing(self.evaluate(part)), separator) for part in node.parts
        )

    def _unary(self, node: tree.Unary) -> Any:
        if node.operator in {"!", "-not"}:
            return not to_bool(self.evaluate(node.operand))
        value = self.evaluate(node.operand)
        if node.operator == "-":
            return negate(value)
        if node.operator == "+":
            return arithmetic("+", 0, value)
        if node.operator == "-bnot":
            return complement(value)
        if node.operator == "-join":
            return "".join(to_text(one) for one in sequence(value))
        return split(value, None)

    def _step(self, node: tree.Step) -> Any:
        old = self.evaluate(node.operand)
        if old is not None and not isinstance(old, int | float):
            word = "++" if node.operator == "++" else "--"
            raise runtime_error(
                "OperatorRequiresNumber",
                f"The '{word}' operator works only on numbers. The operand is a '{type_of(old)}'.",
            )
        new = arithmetic("+" if node.operator == "++" else "-", 0 if old is None else old, 1)
        self.store(node.operand, new)
        return new if node.prefix else (0 if old is None else old)

    def _binary(self, node: tree.Binary) -> Any:
        operator = node.operator
        if operator in ("-and", "-or", "-xor"):
            left = to_bool(self.evaluate(node.left))
            if operator == "-and":
                return left and to_bool(self.evaluate(node.right))
            if operator == "-or":
                return left or to_bool(self.evaluate(node.right))
            return left != to_bool(self.evaluate(node.right))
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        self.steps += 1
        if operator in "+-*/%":
            return arithmetic(operator, left, right)
        if operator in ("-band", "-bor", "-bxor", "-shl", "-shr"):
            return bits(operator, left, right)
        if operator == "..":
            return span(left, right)
        if operator == "-f":
            return format_operator(left, right)
        case = False
        if operator[1] in "ic" and operator[2:] in _CASED and operator[1:] not in ("in", "is", "isnot", "contains"):
            case, operator = operator[1] == "c", "-" + operator[2:]
        return compare(operator, left, right, case=case, matches=lambda groups: self.set_local("matches", groups))

    def _array_literal(self, node: tree.ArrayLiteral) -> Array:
        return Array([_nothing(self.evaluate(one)) for one in node.items])

    def _array_expression(self, node: tree.ArrayExpression) -> Array:
        statements = node.body.statements
        if len(statements) == 1:
            value = self.single(statements[0])
            if isinstance(value, Array) and value is not None and value.element == "System.Object":
                return value
        found: list[Any] = []
        self.drain(self.block(node.body, found.append))
        return Array(found)

    def single(self, node: tree.Node) -> Any:
        """The value of a statement that is one array literal, None when it is something else."""
        if isinstance(node, tree.Pipeline) and len(node.elements) == 1:
            element = node.elements[0]
            if isinstance(element, tree.CommandExpression) and isinstance(element.expression, tree.ArrayLiteral):
                return self.evaluate(element.expression)
        return None

    def _sub_expression(self, node: tree.SubExpression) -> Any:
        found: list[Any] = []
        self.drain(self.block(node.body, found.append))
        return gathered(found)

    def _parenthesised(self, node: tree.Parenthesised) -> Any:
        return self.now(node.body)

    def now(self, node: tree.Node) -> Any:
        """A statement's value at once."""
        result: list[Any] = []

        def work() -> Step:
            result.append((yield from self.value_of(node)))

        self.drain(work())
        return result[0]

    def _hash(self, node: tree.HashLiteral, *, ordered: bool = False) -> Hashtable:
        table = Hashtable(ordered=ordered)
        for key, value in node.pairs:
            name = self.evaluate(key)
            if name is None:
                raise runtime_error("InvalidNullKey", "A null key is not allowed in a hash literal.")
            if table.has(name):
                raise runtime_error(
                    "DuplicateKeyInHashLiteral", f"Item has already been added. Key in dictionary: '{to_text(name)}'"
                )
            table.set(name, self.now(value))
        return table

    def _script_block(self, node: tree.ScriptBlockLiteral) -> ScriptBlock:
        return ScriptBlock(node.parameters, node.body, node.text, self.scope)

    def type_named(self, name: str) -> TypeRef:
        found = resolve_type(name)
        if found is None:
            raise runtime_error("TypeNotFound", f"Unable to find type [{name}].", target=name)
        return found

    def _cast(self, node: tree.Cast) -> Any:
        if isinstance(node.operand, tree.HashLiteral) and node.type_name.lower() in ("ordered", "pscustomobject"):
            table = self._hash(node.operand, ordered=True)
            return table if node.type_name.lower() == "ordered" else CustomObject(table.items())
        wanted = self.type_named(node.type_name).name
        value = _nothing(self.evaluate(node.operand))
        if self.constrained:
            dotnet.allow_conversion(wanted)
        if wanted == "System.Management.Automation.PSCustomObject" and isinstance(value, Hashtable):
            return CustomObject(value.items())
        if wanted == "System.Void":
            return dotnet.VOID
        try:
            return convert(value, wanted)
        except Thrown as problem:
            raise runtime_error(
                "InvalidCastConstructorException",
                f'Cannot convert value "{to_text(value)}" to type "{wanted}". Error: "{problem.value.text}"',
                category="InvalidArgument",
            ) from problem

    def _member(self, node: tree.Member) -> Any:
        name = to_text(self.evaluate(node.name))
        target = self.evaluate(node.target)
        if node.static and isinstance(target, str):
            target = self.type_named(target)
        if node.static:
            return dotnet.static_member(self, target, name)
        return dotnet.member(self, target, name)

    def _invoke(self, node: tree.Invoke) -> Any:
        name = to_text(self.evaluate(node.name))
        target = self.evaluate(node.target)
        arguments = [_nothing(self.evaluate(one)) for one in node.arguments]
        self.steps += 1
        try:
            if node.static:
                return dotnet.static_call(self, target, name, arguments)
            return dotnet.call(self, target, name, arguments)
        except Thrown as problem:
            shown = ".ctor" if node.static and name.lower() == "new" else name
            raise dotnet.method_failed(shown, len(arguments), problem.value) from problem

    def _index(self, node: tree.Index) -> Any:
        return dotnet.index(self, self.evaluate(node.target), _nothing(self.evaluate(node.index)))

    # -- assignment ----------------------------------------------------------------------------------------------------

    def assign(self, target: tree.Node, operator: str, value: Any) -> None:
        if operator == "=":
            self.store(target, value)
            return
        self.store(target, arithmetic(operator[0], self.evaluate(target), value))

    def store(self, target: tree.Node, value: Any, type_name: str = "") -> None:
        if isinstance(target, tree.Cast):
            wanted = self.type_named(target.type_name).name
            self.store(target.operand, convert(value, wanted), wanted)
        elif isinstance(target, tree.Variable):
            self.set(target.name, value, scope=target.scope, type_name=type_name)
        elif isinstance(target, tree.ArrayLiteral):
            items = sequence(value)
            for number, part in enumerate(target.items):
                if number == len(target.items) - 1 and len(items) > len(target.items):
                    self.store(part, Array(items[number:]))
                else:
                    self.store(part, items[number] if number < len(items) else None)
        elif isinstance(target, tree.Member):
            name = to_text(self.evaluate(target.name))
            dotnet.set_member(self, self.evaluate(target.target), name, value)
        elif isinstance(target, tree.Index):
            where = self.evaluate(target.target)
            dotnet.set_index(self, where, self.evaluate(target.index), value)
        else:
            raise runtime_error("InvalidLeftHandSide", "The assignment expression is not valid.")


def _ignore(value: Any) -> None:
    return None


def _nothing(value: Any) -> Any:
    return None if value is dotnet.VOID else value


def _gives_nothing(node: tree.Node) -> bool:
    """Whether an expression statement that gave null gave no output at all: void methods and empty subexpressions."""
    return isinstance(node, tree.Invoke | tree.SubExpression | tree.Parenthesised)


def gathered(found: list[Any]) -> Any:
    """What a variable gets of a pipeline's output."""
    if not found:
        return None
    return found[0] if len(found) == 1 else Array(found)


def _mine(flow: Flow, label: str) -> bool:
    return flow.keyword in ("break", "continue") and (not flow.label or flow.label == label)


def _handler(node: tree.Try, problem: NetException) -> tuple[tree.Catch | None, NetException]:
    """The catch block for an exception: typed ones see the inner exception first, as PowerShell does."""
    for candidate in (problem.inner, problem):
        if candidate is None:
            continue
        for clause in node.catches:
            for name in clause.types:
                wanted = resolve_type(name)
                if wanted is None:
                    raise runtime_error("TypeNotFound", f"Unable to find type [{name}].", target=name)
                if is_exception(candidate.kind, wanted.name):
                    return clause, candidate
    return next((clause for clause in node.catches if not clause.types), None), problem


_CASED = {
    *("eq", "ne", "gt", "ge", "lt", "le", "like", "notlike", "match", "notmatch"),
    *("contains", "notcontains", "in", "notin", "replace", "split"),
}
_EXPRESSIONS: dict[type, Callable[[Interpreter, Any], Any]] = {
    tree.Constant: lambda _self, node: node.value,
    tree.Variable: Interpreter.read,
    tree.Expandable: Interpreter._expandable,
    tree.Unary: Interpreter._unary,
    tree.Step: Interpreter._step,
    tree.Binary: Interpreter._binary,
    tree.ArrayLiteral: Interpreter._array_literal,
    tree.ArrayExpression: Interpreter._array_expression,
    tree.SubExpression: Interpreter._sub_expression,
    tree.Parenthesised: Interpreter._parenthesised,
    tree.HashLiteral: Interpreter._hash,
    tree.ScriptBlockLiteral: Interpreter._script_block,
    tree.TypeLiteral: lambda self, node: self.type_named(node.name),
    tree.Cast: Interpreter._cast,
    tree.Member: Interpreter._member,
    tree.Invoke: Interpreter._invoke,
    tree.Index: Interpreter._index,
}
_STATEMENTS: dict[type, Callable[[Interpreter, Any, Emit], Step]] = {
    tree.Pipeline: Interpreter._pipeline_statement,
    tree.Assignment: Interpreter._assignment,
    tree.If: Interpreter._if,
    tree.Loop: Interpreter._loop,
    tree.ForEach: Interpreter._foreach,
    tree.Switch: Interpreter._switch,
    tree.FunctionDefinition: Interpreter._function,
    tree.Try: Interpreter._try,
    tree.Flow: Interpreter._flow,
}

__all__ = [
    "Interpreter",
    "powershell_classes",
    "powershell_files",
    "powershell_hashes",
    "powershell_session",
    "powershell_streams",
]
