# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""powershell.exe of the simulator: tables of scripts and what they print, how they end, what the language refuses."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.powershell_language import SyntaxFault
from simulator.powershell_operators import arithmetic, formatted
from simulator.powershell_parser import parse
from simulator.powershell_values import to_text
from simulator.programs.powershell import read_switches
from simulator.world import Machine
from unit.simulator.windows_machines import ADMINISTRATOR, Outcome, make_world, read_file, run, write_file


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Shared by tests that use files of their own."""
    world = make_world(tmp_path_factory.mktemp("powershell"))
    yield world.machine("hv01")
    world.close()


def encoded(script: str) -> str:
    return base64.b64encode(script.encode("utf-16-le")).decode()


def powershell(host: Machine, script: str) -> Outcome:
    """Through -EncodedCommand with 2>&1, so that no quoting of cmd.exe is in between."""
    host.world.switches.choose("powershell-encoded-stderr", "text")
    return run(host, f"powershell.exe -NoProfile -NonInteractive -EncodedCommand {encoded(script)}")


@pytest.mark.parametrize(
    ("script", "out"),
    [
        # numbers: types, overflow to Double, division, conversions
        ("(2147483647 + 1).GetType().Name", "Double"),
        ("([long]2147483647 + 1).GetType().Name", "Int64"),
        ("(7 / 2); (6 / 2).GetType().Name; 7 % 3; -7 % 3", "3.5\nInt32\n1\n-1"),
        ("4GB.GetType().Name; 4MB", "Int64\n4194304"),
        ("0xFFFFFFFF; 0x7F; 1e3; 1.5d.GetType().Name", "-1\n127\n1000\nDecimal"),
        ("[int]2.5; [int]3.5; [int]'0x1F'; [byte]255; [uint64]5 + 1", "2\n4\n31\n255\n6"),
        ("'5' + 3; 5 + '3'; '5' * 3; 2 * '3'", "53\n8\n555\n6"),
        ("1 -shl 4; 255 -band 15; 8 -bor 1; 6 -bxor 3; -bnot 0", "16\n15\n9\n5\n-1"),
        ("$i = 5; $i += 2; $i *= 3; $i /= 3; $i -= 1; $i++; $i; ($i++) + $i; --$i; $i", "7\n15\n7"),
        # comparison and logic
        ("'A' -eq 'a'; 'A' -ceq 'a'; 'abc' -like 'A*'; 'abc' -match 'B(.)'; $matches[1]", "True\nFalse\nTrue\nTrue\nc"),
        ("1,2,3,2 -eq 2; @(1,2,3) -contains 2; 2 -in 1,2; 'x' -notin 'y','z'", "2\n2\nTrue\nTrue\nTrue"),
        ("$null -eq 0; !'' -and -not $false; $true -xor $true; 10 -gt 9; '10' -gt '9'", "False\nTrue\nFalse\nTrue\nFalse"),
        ("5 -is [int]; 5 -isnot [string]; '7' -as [int]; 'q' -as [int]; 'end'", "True\nTrue\n7\nend"),
        # strings
        ("$x = 5; \"a $x $($x * 2) ${x}b `$x `\"q`\" $x.y\"; 'a $x ''q'''", "a 5 10 5b $x \"q\" 5.y\na $x 'q'"),
        ("@'\na $x \"b\"\n'@\n@\"\n1 $(1 + 1) \"q\"\n\"@", 'a $x "b"\n1 2 "q"'),
        ("'{0:X4}|{1,5}|{2:N2}|{3:d3}|{{}}' -f 255, 'ab', 1234.5, 7", "00FF|   ab|1,234.50|007|{}"),
        ("-join ('a', 'b'); 'a', 'b' -join '-'; 'a1b2' -replace '\\d', '#'; ('a,b' -split ',')[1]", "ab\na-b\na#b#\nb"),
        ("'abc'.Substring(1, 1); 'abc'[-1]; 'abc'.Length; ' x '.Trim(); 'a-b'.Replace('-', '').ToUpper()", "b\nc\n3\nx\nAB"),
        # arrays and tables
        ("$a = 1, 2, 3; $a[1..2] -join ','; $a[-1]; $a.Count; ($a + 4).Length; @().Count; @(5).Count", "2,3\n3\n3\n4\n0\n1"),
        ("$h = @{ A = 1; 'b c' = 2 }; $h.a; $h['B C']; $h.x = 3; $h.Count; $h.ContainsKey('X')", "1\n2\n3\nTrue"),
        ("$o = [pscustomobject]@{ n = 1; t = 'x' }; $o.N; $o.t = 'y'; \"$o\"", "1\n@{n=1; t=y}"),
        ("$a, $b = 1, 2, 3; \"$a|$b\"; ,@(1, 2) | ForEach-Object { $_.Count }", "1|2 3\n2"),
        ("$l = New-Object System.Collections.Generic.List[string]; $l.Add('q'); $l.Count; $l[0]", "1\nq"),
        # statements
        ("if ($false) { 1 } elseif (2 -gt 1) { 2 } else { 3 }", "2"),
        ("for ($i = 0; $i -lt 3; $i++) { if ($i -eq 1) { continue }; $i }", "0\n2"),
        ("$i = 0; do { $i++ } until ($i -ge 3); $i; while ($true) { if (++$i -gt 5) { break } }; $i", "3\n6"),
        (":out foreach ($i in 1, 2) { foreach ($j in 1, 2) { if ($j -eq 2) { continue out }; \"$i$j\" } }", "11\n21"),
        ("switch ('b') { 'a' { 1 } 'B' { 2 } default { 3 } }; switch -Regex ('xy') { '^x' { 'r' } }", "2\nr"),
        ("function F([int]$a, $b = 4) { return $a + $b; 'never' }; F 1; F -b 1 -a 2; (F 5 5) * 2", "5\n3\n20"),
        ("function G { param([switch]$On, [string]$S) \"$On$S\" }; G; G -On -S x; $args.Count", "False\nTruex\n0"),
        ("$x = if ($true) { 'v' }; $x; $y = foreach ($i in 1..3) { $i * 2 }; $y -join ','", "v\n2,4,6"),
        ("& { param($n) $n * 2 } 4; $s = { 'blk' }; & $s; 1..4 | Where-Object { $_ % 2 } | % { $_ * 10 }", "8\nblk\n10\n30"),
        ("function S { $v = 2 }; $v = 1; S; $v; function T { $script:v = 3 }; T; $v", "1\n3"),
        # errors
        ("try { throw 'bad' } catch { \"got $_\" } finally { 'fin' }", "got bad\nfin"),
        ("try { [IO.File]::OpenRead('C:\\no') } catch [IO.FileNotFoundException] { $_.Exception.Message }",
         "Could not find file 'C:\\no'."),
        ("try { [int]'x' } catch { $_.FullyQualifiedErrorId }", "InvalidCastFromStringToInteger"),
        ("try { throw [InvalidOperationException]::new('q') } catch [IO.IOException] { 1 } catch { $_.Exception.Message }", "q"),
        ("try { [IO.File]::ReadAllText('C:\\no') } catch { $_.Exception.GetType().Name; $_.Exception.InnerException.GetType().Name }",
         "MethodInvocationException\nFileNotFoundException"),
        ("try { try { throw 'a' } finally { 'f' } } catch { \"c $_\" }", "f\nc a"),
        # cmdlets
        ("[ordered]@{ b = 1; a = @(1, 'x'); c = $null; d = $true } | ConvertTo-Json -Compress", '{"b":1,"a":[1,"x"],"c":null,"d":true}'),
        ("@{ a = \"q`\"<'\" } | ConvertTo-Json -Compress; ('{\"x\": [1, {\"y\": 2}]}' | ConvertFrom-Json).x[1].y",
         '{"a":"q\\"\\u003c\\u0027"}\n2'),
        ("$null = 5; [void]6; 7 | Out-Null; Write-Output 1 2; Write-Host 'h'", "1\n2\nh"),
        ("cmd /c exit 3; $LASTEXITCODE; (cmd /c echo native).Trim()", "3\nnative"),
        ("$w = [Diagnostics.Stopwatch]::StartNew(); Start-Sleep -Seconds 5; $w.Elapsed.TotalSeconds; [DateTime]::UtcNow.Year", "5\n2026"),
        # bytes
        ("$b = New-Object byte[] 3; $b[1] = 200; [BitConverter]::ToString($b); [Convert]::ToBase64String($b)", "00-C8-00\nAMgA"),
        ("[Linq.Enumerable]::SequenceEqual([byte[]](1, 2), [byte[]](1, 2)); [BitConverter]::ToInt32([byte[]](1, 1, 0, 0), 0)", "True\n257"),
        ("[Math]::Min([long]5, 3).GetType().Name; [Math]::Floor(7 / 2); [Math]::Max(1, 2.5)", "Int64\n3\n2.5"),
        ("$s = [Security.Cryptography.SHA256]::Create(); $d = [Text.Encoding]::UTF8.GetBytes('abc');"
         "[void]$s.TransformBlock($d, 0, 1, $null, 0); [void]$s.TransformFinalBlock($d, 1, 2); -join ($s.Hash | % { $_.ToString('x2') })",
         hashlib.sha256(b"abc").hexdigest()),
    ],
)  # fmt: skip
def test_a_script_prints_what_windows_powershell_prints(host: Machine, script: str, out: str) -> None:
    ended = powershell(host, script)
    assert (ended.out.rstrip("\n"), ended.err) == (out, "")


@pytest.mark.parametrize(
    ("script", "code", "identifier"),
    [
        ("'abc'.Nope()", 1, "MethodNotFound"),
        ("[IO.File]::Nope(1)", 1, "MethodNotFound"),
        ("[No.Such]::Type()", 1, "TypeNotFound"),
        ("[IO.File]::ReadAllText()", 1, "MethodCountCouldNotFindBest"),
        ("Get-Nothing -Really", 1, "CommandNotFoundException"),
        ("Get-Content -Nope x", 1, "NamedParameterNotFound"),
        ("Get-Content C:\\nosuch.txt", 1, "PathNotFound,Microsoft.PowerShell.Commands.GetContentCommand"),
        ("$null.Method()", 1, "InvokeMethodOnNull"),
        ("1 / 0", 1, "RuntimeException"),
        ("throw 'why'", 1, "why"),
        ("Set-StrictMode -Version 2.0; $nothing + 1", 1, "VariableIsUndefined"),
        ("Set-StrictMode -Version Latest; (New-Object PSObject).x", 1, "PropertyNotFoundStrict"),
        ("if (1 { 2 }", 1, "MissingEndParenthesisAfterStatement"),
        ("{ 'open'", 1, "MissingEndCurlyBrace"),
        ("'open", 1, "TerminatorExpectedAtEndOfString"),
        ("1 +", 1, "ExpectedValueExpression"),
        ("$a b", 1, "UnexpectedToken"),
        ("class A { }", 1, "NotSimulated"),
        ("Add-Type -TypeDefinition 'public class A {}'", 1, "NotSimulated"),
        ("function R { R }; R", 1, "CallDepthOverflow"),
        ("New-Object byte[] 1800000000", 1, "OutOfMemoryException"),
        ("(New-Object Security.Cryptography.SHA256Managed).TransformBlock($null, 0, 0, $null, 0)", 1, "ArgumentNullException"),
    ],
)  # fmt: skip
def test_what_powershell_does_not_know_or_refuses_is_an_error_with_its_identifier(
    host: Machine, script: str, code: int, identifier: str
) -> None:
    ended = powershell(host, script)
    assert ended.code == code
    assert f"FullyQualifiedErrorId : {identifier}" in ended.err


@pytest.mark.parametrize(
    ("script", "code", "out"),
    [
        ("[IO.File]::ReadAllText('C:\\nosuch.txt'); 'after'", 0, "after\n"),
        ("$ErrorActionPreference = 'Stop'; [IO.File]::ReadAllText('C:\\nosuch.txt'); 'after'", 1, ""),
        ("Write-Error 'x' -ErrorAction Stop; 'after'", 1, ""),
        ("Get-Item C:\\nosuch -ErrorAction SilentlyContinue; $Error.Count", 0, "1\n"),
        ("exit 7", 7, ""),
        ("exit -1", 0xFFFFFFFF, ""),
        ("'out'; [Environment]::Exit(4)", 4, "out\n"),
        ("try { [int]'x' ; 'no' } finally { 'fin' }; 'next'", 0, "fin\nnext\n"),
    ],
)  # fmt: skip
def test_errors_end_the_statement_or_the_script_and_the_exit_code_says_so(
    host: Machine, script: str, code: int, out: str
) -> None:
    ended = powershell(host, script)
    assert (ended.code, ended.out) == (code, out)


def test_an_error_is_shown_with_its_place(host: Machine) -> None:
    ended = powershell(host, "$a = 1\n  $a.Nope(2)")
    assert ended.err.split("\n")[:4] == [
        "Method invocation failed because [System.Int32] does not contain a method named 'Nope'.",
        "At line:2 char:3",
        "+   $a.Nope(2)",
        "+   ~~~~~~~~~~",
    ]


def test_errors_of_an_encoded_command_are_clixml_by_default(host: Machine) -> None:
    host.world.switches.choose("powershell-encoded-stderr", "clixml")
    ended = run(host, f"powershell -enc {encoded('throw 1')}")
    assert ended.err.startswith("#< CLIXML\n<Objs Version=")
    assert '<S S="Error">At line:1 char:1_x000D__x000A_</S>' in ended.err


def test_switches_may_be_cut_short_and_the_rest_is_the_command() -> None:
    options = read_switches(["-nop", "-NonI", "-ep", "Bypass", "-c", "echo", "a b"])
    assert (options.kind, options.command, options.policy, options.interactive) == (
        "command",
        "echo a b",
        "Bypass",
        False,
    )
    assert read_switches(["-File", "x.ps1", "-Name", "v"]).arguments == ["-Name", "v"]
    assert "not properly encoded" in read_switches(["-EncodedCommand", "%%%"]).fault


def test_a_script_file_gets_parameters_and_its_exit_code_is_its_own(host: Machine) -> None:
    write_file(host, "C:\\s\\a.ps1", b'param([int]$N = 1, [switch]$Go)\r\n"$($N + 1) $Go"\r\nexit $N\r\n')
    ended = run(host, "powershell -NoProfile -File C:\\s\\a.ps1 -N 4 -Go")
    assert (ended.code, ended.out) == (4, "5 True\n")
    assert run(host, "powershell -File C:\\s\\none.ps1").code == 0xFFFD0000
    write_file(host, "C:\\s\\b.ps1", b"throw 'x'")
    failed = run(host, "powershell -File C:\\s\\b.ps1")
    assert failed.code == 1
    assert "At C:\\s\\b.ps1:1 char:1" in failed.err


def test_scripts_by_file_obey_the_execution_policy(host: Machine) -> None:
    write_file(host, "C:\\s\\p.ps1", b"'ran'")
    host.world.switches.choose("powershell-execution-policy", "Restricted")
    try:
        assert "UnauthorizedAccess" in run(host, "powershell -File C:\\s\\p.ps1").err
        assert run(host, "powershell -ExecutionPolicy Bypass -File C:\\s\\p.ps1").out == "ran\n"
        assert run(host, "powershell -Command 5").out == "5\n"
    finally:
        host.world.switches.choose("powershell-execution-policy", "RemoteSigned")


def test_constrained_language_refuses_methods_of_other_than_core_types(host: Machine) -> None:
    host.world.switches.choose("powershell-language-mode", "ConstrainedLanguage")
    try:
        ended = powershell(host, "[IO.File]::Exists('C:\\x'); 'abc'.Length; [string]::Join(',', @('a'))")
        assert "Method invocation is supported only on core types in this language mode." in ended.err
        assert ended.out == "3\na\n"
        assert "CannotCreateTypeConstrainedLanguage" in powershell(host, "New-Object IO.FileStream 'C:\\x', 'Open'").err
    finally:
        host.world.switches.choose("powershell-language-mode", "FullLanguage")


def test_a_blocked_powershell_says_so_and_runs_nothing(host: Machine) -> None:
    host.world.switches.choose("powershell-blocked", "yes")
    try:
        ended = powershell(host, "Set-Content C:\\blocked.txt x")
        assert ended.code == 1
        assert ended.err.startswith("This program is blocked by group policy.")
        assert run(host, "if exist C:\\blocked.txt echo there").out == ""
    finally:
        host.world.switches.choose("powershell-blocked", "no")


def test_files_are_written_in_the_encodings_of_5_1(host: Machine) -> None:
    powershell(
        host,
        "Set-Content C:\\e1.txt 'é'; 'b' | Out-File C:\\e2.txt; 'c' > C:\\e3.txt; [IO.File]::WriteAllText('C:\\e4.txt', 'é')",
    )
    assert read_file(host, "C:\\e1.txt") == "é\r\n".encode("cp1252")
    assert read_file(host, "C:\\e2.txt") == b"\xff\xfe" + "b\r\n".encode("utf-16-le")
    assert read_file(host, "C:\\e3.txt") == b"\xff\xfe" + "c\r\n".encode("utf-16-le")
    assert read_file(host, "C:\\e4.txt") == "é".encode()
    assert (
        powershell(host, "Get-Content C:\\e2.txt; (Get-Content C:\\e4.txt -Raw -Encoding UTF8) -eq 'é'").out
        == "b\nTrue\n"
    )


def test_json_is_indented_as_5_1_does(host: Machine) -> None:
    out = powershell(host, "[ordered]@{ a = 1; b = @(1, 2) } | ConvertTo-Json").out
    assert out == '{\n    "a":  1,\n    "b":  [\n              1,\n              2\n          ]\n}\n'
    assert json.loads(out) == {"a": 1, "b": [1, 2]}


def test_a_script_takes_simulated_time_and_dies_with_its_process(host: Machine) -> None:
    processes = host.processes
    script = encoded("Start-Sleep 600; Set-Content C:\\late.txt done")
    process = processes.start(f"powershell -EncodedCommand {script}", token=ADMINISTRATOR)
    processes.pump()
    assert process.alive
    processes.kill(process)
    for _look in range(5):
        processes.look()
    assert run(host, "if exist C:\\late.txt echo there").out == ""


def test_an_endless_loop_leaves_the_machine_usable(host: Machine) -> None:
    processes = host.processes
    process = processes.start(f"powershell -EncodedCommand {encoded('while ($true) { $i++ }')}", token=ADMINISTRATOR)
    processes.pump()
    assert process.alive
    assert run(host, "echo works").out == "works\n"
    processes.kill(process)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="$'\"`@(){}[];|&,.-+*/%=!<>#\n ab1", max_size=40))
def test_any_text_parses_or_is_a_syntax_error(text: str) -> None:
    try:
        tree = parse(text)
    except SyntaxFault as fault:
        assert 0 <= fault.at <= len(text) + 1
        assert fault.identifier
    else:
        assert tree.text == text


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.sampled_from("+-*"))
def test_int32_arithmetic_is_exact_or_becomes_a_double(left: int, right: int, symbol: str) -> None:
    exact = {"+": left + right, "-": left - right, "*": left * right}[symbol]
    result = arithmetic(symbol, left, right)
    if -(2**31) <= exact < 2**31:
        assert (type(result), result) == (int, exact)
    else:
        assert (type(result), result) == (float, float(exact))


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=30))
def test_a_single_quoted_string_is_its_text(text: str) -> None:
    tree = parse("'" + text.replace("'", "''") + "'")
    assert tree.body.statements[0].elements[0].expression.value == text  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255))
def test_a_byte_as_hex_has_two_digits_and_reads_back(value: int) -> None:
    assert formatted(value, "x2") == f"{value:02x}"
    assert to_text(value) == str(value)


def words(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split())


_ATOMS = words(
    "1 -5 2.5 'a' \"x$a\" $a $null $true @(1,2) @{k=1} [byte]7 [long]9 '0x1F' {$a} [int] [IO.File] @() [decimal]1.5"
    " 'abc','b' [ordered]@{z=2} [uint64]3 $_ [Text.Encoding]::UTF8 [IO.FileMode]::Open [DateTime]::UtcNow"
    " ([Security.Cryptography.SHA256]::Create()) ([pscustomobject]@{n=1}) (,(1,2)) [char]'c'"
)
_OPERATORS = words(
    "+ - * / % -eq -ne -lt -gt -like -match -contains -in -band -bor -shl -f -join -split -replace -is -as .. -and , -ceq"
)
_MEMBERS = words(
    ".Length .Count .x .Keys .ToString() .ToString('x2') .Trim() .Substring(1) .Add(1) .Add(1,2) .Hash [0] [-1] ['k'] [1..2] .n"
    " .Split(',') .ComputeHash($a) .TransformBlock($a,0,1,$null,0) .Contains('a') .Invoke() .GetBytes('q') .Remove(0)"
)
_PIPES = st.sampled_from(
    [
        *(
            "| % { $_ }",
            "| ? { $_ -gt 1 }",
            "| ConvertTo-Json",
            "| Out-String",
            "| Select-Object -First 1",
            "| Sort-Object",
        ),
        *(
            "| Measure-Object",
            "| Out-Null",
            "| % Length",
            "| ConvertFrom-Json",
            "| Set-Content C:\\z.txt",
            "| Get-Content",
        ),
        *("| Select-Object n", "| Write-Error", "| Test-Path", ""),
    ]
)
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, _OPERATORS, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, _MEMBERS).map(lambda t: f"({t[0]}){t[1]}"),
        st.tuples(inner, _PIPES).map(lambda t: f"$({t[0]} {t[1]})"),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "$a = ", "$a += "]), _EXPRESSIONS, _PIPES).map("".join), min_size=1, max_size=3
    )
)
def test_any_script_ends_as_a_script_ends(host: Machine, lines: list[str]) -> None:
    """Values or PowerShell's own errors; never an error of the simulator."""
    processes = host.processes
    process = processes.start(f"powershell -EncodedCommand {encoded(chr(10).join(lines))}", token=ADMINISTRATOR)
    assert processes.run_to_end(process) in (0, 1)
