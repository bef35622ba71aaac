# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine command: options, command lines, requests and answers; and whole runs of a product that behaves in every way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import command_exchange as exchange
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_set import run_id_for
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.command_options import (
    command_line,
    parse_options,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engines import engine as engine_named
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from simulator.mishaps import mishap
from unit.conformance.engine_site import EngineSite

TOOL = r"C:\Tools\product.exe"
RUN = run_id_for("nightly", "host", 1)
VM_ID = "285CEA9B-1111-2222-3333-000000000001"
VOLUME = "\\\\?\\Volume{0a0b0c0d-1111-2222-3333-000000000001}\\"
OPTIONS: dict[str, Any] = {
    **{
        action: [TOOL, action, "{request}", "{answer}"]
        for action in ("start", "status", "list", "restore", "stop", "delete")
    },
    "exit_codes": {0: "succeeded", 2: "warning"},
}


def kind_of(call: Any) -> str:
    with pytest.raises(BackupError) as caught:
        call()
    return str(caught.value.kind)


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "word"),
    [
        ({"strat": ["x"]}, "bad_option", "strat"),
        ({"start": None}, "bad_option", "start"),
        ({"list": None}, "bad_option", "list"),
        ({"start": "C:\\backup.cmd start {answer}"}, "bad_option", "list of arguments"),
        ({"start": []}, "bad_option", "list of arguments"),
        ({"start": ["x", 5, "{answer}"]}, "bad_option", "5"),
        ({"start": ["x", "{vm}", "{answer}"]}, "bad_option", "{vm}"),
        ({"list": ["x", "{onto}", "{answer}"]}, "bad_option", "{onto}"),
        ({"start": ["{run_id}", "{answer}"]}, "bad_option", "placeholder"),
        ({"start": ["x", "y"]}, "bad_option", "{answer}"),
        ({"start": ["x", "%TEMP%", "{answer}"]}, "command_characters", "%TEMP%"),
        ({"start": ["x", 'a"b', "{answer}"]}, "command_characters", "quote"),
        ({"start": ["x"] * 41}, "bad_option", "41"),
        ({"exit_codes": {0: "fine"}}, "bad_option", "fine"),
        ({"exit_codes": {"zero": "succeeded"}}, "bad_option", "zero"),
        ({"exit_codes": {}}, "bad_option", "exit_codes"),
        ({"incremental": "yes"}, "bad_option", "incremental"),
        ({"file_systems": "NTFS"}, "bad_option", "file_systems"),
        ({"start": ["x", "-password:hunter2", "{answer}"]}, "secret_option", "SYSTEM"),
        ({"start": ["x", "--api-key", "abc", "{answer}"]}, "secret_option", "SYSTEM"),
        ({"start": ["x", "DB_PASSWORD=abc", "{answer}"]}, "secret_option", "SYSTEM"),
        ({"start": ["x", "https://root:abc@director/", "{answer}"]}, "secret_option", "SYSTEM"),
        ({"password": "abc"}, "secret_option", "password"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_with_the_reason(changes, kind, word):
    with pytest.raises(BackupError) as caught:
        engine_named("command").options({**OPTIONS, **changes}, "host")
    assert caught.value.kind == kind
    assert word in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_exit_codes_survive_the_record_in_which_their_keys_are_texts():
    options = parse_options(json.loads(json.dumps(OPTIONS)), "host")
    assert [options.meaning(code) for code in (0, 2, 1, -4)] == ["succeeded", "warning", "failed", "failed"]


def test_a_batch_file_is_called_and_its_arguments_keep_their_backslashes():
    line = command_line(
        ["C:\\my tools\\b.cmd", "{volumes}", "{onto}", "x"], {"volumes": f"{VOLUME},{VOLUME}", "onto": ""}
    )
    assert line == f'call "C:\\my tools\\b.cmd" "{VOLUME},{VOLUME}" "" x'


def test_a_program_gets_its_arguments_as_windows_programs_read_them():
    assert command_line(["C:\\x.exe", "-n:{label}"], {"label": "my vm\\"}) == 'C:\\x.exe "-n:my vm\\\\"'


def test_what_a_command_line_cannot_carry_is_refused_and_the_request_carries_it():
    assert kind_of(lambda: command_line(["x.exe", "{vm_name}"], {"vm_name": 'the "big" one'})) == "command_characters"
    text = exchange.request_text("start", RUN, {"vm_name": 'the "big" 50% one & Größe\\'})
    assert json.loads(text)["vm_name"] == 'the "big" 50% one & Größe\\'


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_any_text_reaches_the_request_through_echo_unharmed(text, more):
    line = exchange.request_text("start", RUN, {"label": text, "volumes": more})
    assert json.loads(line)["label"] == text
    assert json.loads(line)["volumes"] == more
    assert line.isascii()
    assert not set(line) & set("&|<>()^%!\r\n")
    assert line.replace("\\\\", "").count('\\"') == 0  # no quote inside a text would switch cmd's quoting


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"", "no answer"),
        (b"done.", "no JSON"),
        (b"\xff\xfe{", "no JSON"),
        (b"[]", "not one JSON object"),
        (b'{"run_id":"another"}', "another"),
        (b'{"version":"5"}', "run_id"),
        (b'{"run_id":"nightly.host.1","verison":"5"}', "verison"),
        (b'{"run_id":"nightly.host.1","version":5}', "version"),
        (b'{"run_id":"nightly.host.1","version":"a\\nb"}', "version"),
        (b'{"run_id":"nightly.host.1","state":"fine"}', "fine"),
        (b'{"run_id":"nightly.host.1","percent":500}', "500"),
        (b'{"run_id":"nightly.host.1","snapshot_time":"yesterday"}', "yesterday"),
        (b'{"run_id":"nightly.host.1","warnings":"x"}', "warnings"),
        (b'{"run_id":"nightly.host.1","consistency":"good"}', "consistency"),
        (b" " * 10 + b'{"run_id":"nightly.host.1","message":"' + b"x" * 2000 + b'"}', "message"),
    ],
)
def test_an_answer_that_cannot_be_used_says_why(answer, word):
    with pytest.raises(exchange.AnswerUnreadable) as caught:
        exchange.read_run_answer(answer, RUN)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("versions", "word"),
    [
        ("5", "list named versions"),
        ([5], "not an object"),
        ([{"items": []}], "no version"),
        ([{"version": "1"}, {"version": "1"}], "twice"),
        ([{"version": "1", "items": [5]}], "items"),
        ([{"version": "1", "size": 5}], "size"),
    ],
)
def test_a_listing_that_cannot_be_used_says_why(versions, word):
    with pytest.raises(exchange.AnswerUnreadable) as caught:
        exchange.read_list_answer(json.dumps({"run_id": RUN, "versions": versions}).encode(), RUN)
    assert word in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_no_answer_whatever_breaks_the_reader(data):
    for read in (exchange.read_run_answer, exchange.read_list_answer):
        with pytest.raises(exchange.AnswerUnreadable):
            read(data, RUN)


def test_things_are_found_by_guid_or_by_letter():
    listed = exchange.ListedVersion(version="1", items=(f"VM {{{VM_ID.lower()}}}", "S:"))
    other = VOLUME.replace("0001}", "0002}")
    assert exchange.items_named(listed, {VM_ID: "", VOLUME: "S", other: "T"}) == {VM_ID: VM_ID, VOLUME: "S:"}


# --- whole runs -----------------------------------------------------------------------------------------------------


class Product:
    """A backup product on a simulated machine; every attribute is a way to behave."""

    def __init__(self, site: EngineSite) -> None:
        self.site = site
        self.versions: dict[str, dict[str, Any]] = {}
        self.exit_code = 0
        self.answer: bytes | None = None
        self.more: dict[str, Any] = {}
        self.hangs = ""
        self.runs_on = 0
        self.lists = True
        self.items: list[str] | None = None
        self.calls: list[str] = []
        self.requests: list[dict[str, Any]] = []
        site.machine.install_program(TOOL, self)

    def __call__(self, call: Any) -> Any:
        action, request_path, answer_path = call.arguments[-3:]
        request = json.loads(call.read(request_path))
        assert request["answer"] == answer_path
        self.calls.append(action)
        self.requests.append(request)
        if self.hangs == action:
            return call.hang()
        reply = getattr(self, f"_{action}")(request)
        data = json.dumps({"run_id": request["run_id"], **reply}).encode()
        call.write(answer_path, self.answer if self.answer is not None and action != "list" else data)
        return self.exit_code if action == "start" else 0

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        self.versions[f"v{len(self.versions) + 1}"] = {"run_id": request["run_id"], "items": request["items"]}
        if self.runs_on:
            return {"state": "running", "job": "job 7"}
        return {"version": f"v{len(self.versions)}", "snapshot_time": "2026-10-01T20:00:00Z", **self.more}

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        made = next((name for name, row in self.versions.items() if row["run_id"] == request["run_id"]), None)
        if made is None:
            return {"state": "failed", "message": "there is no such run"}
        self.runs_on -= 1
        if self.runs_on > 0:
            return {"state": "running", "job": "job 7", "percent": 50}
        return {"state": "succeeded", "version": made}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = [
            {"version": name, **row, "items": row["items"] if self.items is None else self.items}
            for name, row in self.versions.items()
        ]
        return {"versions": rows if self.lists else []}

    def _restore(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"version": request["version"], **self.more}

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        self.runs_on = 0
        return {}

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        self.versions.pop(request["version"], None)
        return {}


class Host(EngineSite):
    name = "command"
    options = OPTIONS


class Guest(Host):
    phase = "guest"
    target = "B:"


@pytest.fixture(params=[Host, Guest], ids=["host", "guest"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineSite]:
    made = request.param(tmp_path)
    made.product = Product(made)
    yield made
    made.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[EngineSite]:
    made = Host(tmp_path)
    made.product = Product(made)
    yield made
    made.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSite]:
    made = Host(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()


@pytest.fixture
def shared(world: EngineSite) -> EngineSite:
    """The same machine for many runs, each of a product of its own; for tests whose runs need no id of their own."""
    world.product = Product(world)
    world.number = getattr(world, "number", 0) + 1
    world.run_id = run_id_for(f"shared{world.number}", "host", 1)
    return world


def finish(site: EngineSite, run_id: str = RUN) -> Any:
    return site.engine().run(run_id, site.request(), site.waiting())


def test_a_run_is_good_when_the_product_lists_its_version_with_everything_in_it(site):
    result = finish(site)
    assert (result.state, result.version, result.listed) == ("succeeded", "v1", True)
    assert site.product.calls == ["list", "start", "list"]
    started = site.product.requests[1]
    assert (started["format"], started["version"], started["action"]) == ("hyperv.passthrough/command", 1, "start")
    assert started["items"] == list(site.listed_items())


def test_names_in_any_script_reach_the_product(shared):
    request = dataclasses.replace(shared.request(), vm_name='Größe 東京 "№1" 100% & <more>!^', label="x'y")
    assert shared.engine().run(shared.run_id, request, shared.waiting()).state == "succeeded"
    assert shared.product.requests[1]["vm_name"] == 'Größe 東京 "№1" 100% & <more>!^'
    assert shared.product.requests[1]["label"] == "x'y"


def test_a_run_that_goes_on_in_the_product_is_asked_for_until_it_has_ended(shared):
    shared.product.runs_on = 3
    result = finish(shared, shared.run_id)
    assert (result.state, result.version) == ("succeeded", "v1")
    asked = [row for row in shared.product.requests if row["action"] == "status"]
    assert len(asked) >= 3
    assert asked[0]["job"] == "job 7"


def test_a_warning_is_a_version_with_a_warning(shared):
    shared.product.exit_code = 2
    shared.product.more = {"warnings": ["two files were in use"]}
    result = finish(shared, shared.run_id)
    assert (result.state, result.version, result.warnings) == ("warning", "v1", ("two files were in use",))


def no_version(product: Product) -> None:
    product.more = {"version": None}


def old_version(product: Product) -> None:
    product.versions["v0"] = {"run_id": "other", "items": [VM_ID]}
    product.more = {"version": "v0"}


def of_another_run(product: Product) -> None:
    product._start = lambda request: (
        product.versions.update(  # type: ignore[method-assign]
            v9={"run_id": "somebody", "items": request["items"]}
        )
        or {"version": "v9"}
    )


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (no_version, "no_version"),
        (old_version, "old_version"),
        (of_another_run, "not_ours"),
        (lambda product: product.more.update(version="v99"), "not_listed"),
        (lambda product: setattr(product, "items", []), "items_not_listed"),
        (lambda product: setattr(product, "exit_code", 1), "command_failed"),
        (lambda product: setattr(product, "answer", b"Done!"), "answer_unreadable"),
        (lambda product: setattr(product, "answer", b""), "answer_unreadable"),
        (
            lambda product: setattr(product, "answer", b'{"run_id":"nightly.host.2","version":"v1"}'),
            "answer_unreadable",
        ),
        (lambda product: setattr(product, "answer", b"x" * (1024 * 1024 + 1)), "answer_unreadable"),
        (lambda product: product.more.update(state="failed", message="no media"), "command_failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_product_that_proves_nothing_has_not_succeeded(shared, behave, kind):
    behave(shared.product)
    result = finish(shared, shared.run_id)
    assert (result.state, result.version, result.kind) == ("failed", None, kind)
    assert result.message


def test_a_program_that_is_not_there_is_found_before_anything_and_ends_as_that(host):
    mishap(host.world, "delete_file", machine="hv01", path=TOOL)
    (refusal,) = host.engine().refusals(host.request())
    assert (refusal.kind, TOOL in refusal.sentence) == ("command_missing", True)
    assert kind_of(lambda: finish(host)) == "command_missing"
    assert host.engine().known(RUN) == "unknown"


def test_a_product_that_hangs_is_waited_for_and_found_again(host):
    host.product.hangs = "start"
    short = host.waiting(timeout_s=60.0)
    assert kind_of(lambda: host.engine().run(RUN, host.request(), short)) == "wait_timeout"
    assert host.engine().known(RUN) == "running"
    job = host.engine().start(RUN, host.request())
    assert job.attached
    assert host.product.calls.count("start") == 1


def test_a_product_that_does_not_answer_a_question_stops_the_run_from_starting(shared):
    shared.product.hangs = "list"
    place = dataclasses.replace(shared.workplace(), waiting=shared.waiting(timeout_s=60.0))
    engine = shared.entry().backup(place)
    assert kind_of(lambda: engine.run(shared.run_id, shared.request(), shared.waiting())) == "helper_timeout"
    assert "start" not in shared.product.calls


def test_after_a_restart_of_the_machine_the_product_is_asked_for_the_run(host):
    host.product.hangs = "start"
    job = host.engine().start(RUN, host.request())
    mishap(host.world, "reboot", machine="hv01", renumber=False)
    result = host.engine().result(job, host.request())
    assert (result.state, result.kind) == ("failed", "command_failed")
    host.product.hangs = ""
    host.product.versions["v1"] = {"run_id": RUN, "items": list(host.listed_items())}
    result = host.engine().result(job, host.request())
    assert (result.state, result.version) == ("succeeded", "v1")


def test_without_a_status_command_a_product_that_goes_on_is_a_failure(tmp_path):
    site = Host(tmp_path)
    site.options = {name: value for name, value in OPTIONS.items() if name != "status"}
    site.product = Product(site)
    site.product.runs_on = 3
    assert finish(site).kind == "no_status"
    site.close()


@pytest.mark.parametrize(
    ("more", "exit_code", "state", "kind"),
    [
        ({}, 0, "succeeded", ""),
        ({"state": "warning"}, 0, "failed", "restore_incomplete"),
        ({"state": "failed"}, 0, "failed", "command_failed"),
        ({"version": "v7"}, 0, "failed", "wrong_version"),
    ],
)
def test_only_a_whole_restore_of_that_version_is_a_success(site, more, exit_code, state, kind):
    recorded = site.recorded()
    made = finish(site)
    site.product.more = more
    if site.phase == "host":
        mishap(site.world, "stop_vm", vm="sql01")
    request = dataclasses.replace(site.restore_request(made, recorded), replace=True)
    result = site.restorer().run("nightly.restore.r1.1", request, site.waiting())
    assert (result.state, result.kind) == (state, kind)
    assert site.product.requests[-1]["replace"] is True


def test_an_existing_vm_ends_a_restore_that_may_not_replace_it(host):
    recorded = host.recorded()
    request = host.restore_request(finish(host), recorded)
    assert kind_of(lambda: host.restorer().start("nightly.restore.r1.1", request)) == "vm_exists"
    running = dataclasses.replace(request, replace=True)
    assert kind_of(lambda: host.restorer().start("nightly.restore.r1.1", running)) == "vm_not_off"
    assert "restore" not in host.product.calls


def test_only_a_version_of_the_run_is_deleted_and_seen_to_be_gone(shared):
    finish(shared, shared.run_id)
    restorer = shared.restorer()
    assert restorer.delete("other.host.1", "v1", "E:", "HV01").state == "kept"
    assert "v1" in shared.product.versions
    assert restorer.delete(shared.run_id, "v1", "E:", "HV01").state == "deleted"
    assert restorer.delete(shared.run_id, "v1", "E:", "HV01").state == "gone"


def test_a_version_that_is_still_listed_was_not_deleted(shared):
    finish(shared, shared.run_id)
    shared.product._delete = lambda request: {}
    assert shared.restorer().delete(shared.run_id, "v1", "E:", "HV01").state == "kept"


def test_a_listing_that_fails_is_no_answer(host):
    finish(host)
    mishap(host.world, "delete_file", machine="hv01", path=TOOL)
    assert host.restorer().listing("look", "E:", "HV01").versions is None


# --- driven by roles ------------------------------------------------------------------------------------------------

BY_ROLES: dict[str, Any] = {"roles": {"start": "site.start", "list": "site.list", "restore": "site.restore"}}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"roles": {"start": "a"}}, "list"),
        ({"roles": {"start": "a", "list": "b", "status": "c"}}, "restore"),
        ({"roles": {"start": "/tmp/a.yml", "list": "b"}}, "/tmp/a.yml"),
        ({**OPTIONS, **BY_ROLES}, "not both"),
    ],
)
def test_roles_that_cannot_be_meant_are_refused(given, word):
    with pytest.raises(BackupError) as caught:
        parse_options(given, "host")
    assert word in str(caught.value)


def by_roles(site: EngineSite, **answers: Any) -> Any:
    entry = site.entry()
    options = entry.answered(entry.options(BY_ROLES, "host"), answers)
    return entry.backup(dataclasses.replace(site.workplace(), options=options))


def listed(site: EngineSite, **changes: Any) -> dict[str, Any]:
    return {"versions": [{"version": "7", "items": list(site.listed_items()), "run_id": site.run_id, **changes}]}


def test_a_run_waits_until_its_role_has_answered_and_the_answer_stays(shared):
    job = by_roles(shared).start(shared.run_id, shared.request())
    assert by_roles(shared).known(shared.run_id) == "running"
    theirs = {"run_id": "other.host.1", "version": "6"}
    assert by_roles(shared, start=theirs).status(job, shared.request()).state == "running"
    answer = {"run_id": shared.run_id, "version": "7", "snapshot_time": "2026-10-01T20:00:00Z"}
    engine = by_roles(shared, start=answer, list=listed(shared))
    result = engine.run(shared.run_id, shared.request(), shared.waiting())
    assert (result.state, result.version) == ("succeeded", "7")
    again = by_roles(shared, start={**answer, "version": "8"}, list=listed(shared))
    assert again.known(shared.run_id) == "ended"
    assert again.result(job, shared.request()).version == "7"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"run_id": None}, "not_ours"), ({"run_id": "other"}, "not_ours"), ({"items": []}, "items_not_listed")],
)
def test_a_listing_by_a_role_has_to_name_our_run(shared, changes, kind):
    answers = {"start": {"run_id": shared.run_id, "version": "7"}, "list": listed(shared, **changes)}
    result = by_roles(shared, **answers).run(shared.run_id, shared.request(), shared.waiting())
    assert (result.state, result.kind) == ("failed", kind)


def test_without_a_listing_a_role_proves_nothing(shared):
    answers = {"start": {"run_id": shared.run_id, "version": "7"}}
    result = by_roles(shared, **answers).run(shared.run_id, shared.request(), shared.waiting())
    assert (result.state, result.kind) == ("failed", "list_failed")


def test_answers_are_for_roles_only(shared):
    entry = shared.entry()
    assert kind_of(lambda: entry.answered(entry.options(OPTIONS, "host"), {"start": {}})) == "bad_option"
    wsb = engine_named("wsb")
    assert kind_of(lambda: wsb.answered(wsb.options({}, "host"), {"start": {}})) == "bad_option"
