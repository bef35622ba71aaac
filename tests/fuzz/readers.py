# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every reader of what comes from outside, with texts that it is made for and the errors that it may raise.

Responsible for the table `READERS`: name, seeds, what is called with damaged bytes, allowed errors. A new reader is one more
entry. Not responsible for: damaging (`mutation.py`), counting and reporting (`__main__.py`).
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import itertools
import json
import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup import (
    backup_set,
    restore_plan,
    retention,
    set_choice,
    set_copy,
    set_recording,
    wbadmin_text,
    wsb,
    wsb_recovery,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.backup_events import (
    EventsUnreadable,
    bind_version,
    read_events,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.detached_job import DetachedJobs, JobLook
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.engine import BackupRequest, RestoreRequest
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.errors import BackupError
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.lease import Leases
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._backup.target import parse_target, run_target
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv import (
    SCHEMA,
    HypervError,
    observe_guest,
    observe_host,
    utc_now,
)
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_record import MigrationStore
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.registry import Registry, RegistryValue
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.scheduled_tasks import ScheduledTasks
from ansible_collections.hyperv.passthrough.plugins.plugin_utils._wsman import (
    CimPath,
    RequestNotSent,
    ShellResult,
    WsmanClient,
    WsmanError,
    decode_embedded_instance,
)
from simulator.assumed import import_everything
from simulator.content import SparseFile
from simulator.door_memory import memory_door
from simulator.partition_table import read_table
from simulator.vhd import ImageError
from simulator.world import World

from .mutation import any_bytes, other_json

TESTS = Path(__file__).resolve().parents[1]
V2 = "root/virtualization/v2"
NOW = datetime(2026, 10, 1, 20, 0, tzinfo=timezone.utc)
OURS = (WsmanError, HypervError, BackupError)
MAX_SENTENCE = 4000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader.

    Attributes:
        seeds: texts as they really come, made when first asked for.
        read: called with (seed, dice): damages it and reads it. It may look at what it gets and raise AssertionError.
        errors: what may come out besides a value.
    """

    name: str
    seeds: Callable[[], Sequence[Any]]
    read: Callable[[Any, random.Random], object]
    errors: tuple[type[Exception], ...] = ()

    def try_once(self, number: int) -> None:
        """The case of that number. Raises whatever the reader must not raise."""
        dice = random.Random(f"{self.name}/{number}")
        seeds = _seeds(self)
        try:
            self.read(seeds[number % len(seeds)], dice)
        except Exception as error:
            if not isinstance(error, self.errors):
                raise
            text = str(error)
            if not text or len(text) > MAX_SENTENCE or "Traceback" in text:
                raise AssertionError(f"no sentence for people: {text[:200]!r} ({len(text)} characters)") from error


_made: dict[str, Sequence[Any]] = {}


def _seeds(reader: Reader) -> Sequence[Any]:
    if reader.name not in _made:
        _made[reader.name] = list(reader.seeds())
    return _made[reader.name]


# -- WS-Management ---------------------------------------------------------------------------------------------------------


def _answers() -> Sequence[bytes]:
    """Answers of real hosts, where they are at hand, then ours."""
    folders = [TESTS / "unit" / "wsman" / "answers", TESTS / "unit" / "simulator" / "answers"]
    recorded = os.environ.get("HYPERV_PASSTHROUGH_RECORDINGS")
    if recorded:
        folders += [one for one in sorted(Path(recorded).iterdir()) if one.is_dir()]
    return [file.read_bytes() for folder in folders for file in sorted(folder.glob("*.xml"))]


def _client(send: Callable[[bytes], bytes]) -> WsmanClient:
    ids = (f"{number:08X}-0000-4000-8000-000000000000" for number in itertools.count())
    return WsmanClient(send, schema=SCHEMA, new_id=lambda: next(ids))


_QUESTIONS: Sequence[Callable[[WsmanClient], object]] = (
    lambda client: client.query(V2, "Msvm_ComputerSystem"),
    lambda client: client.query(V2, "Msvm_StorageJob", where="Name = 'x'", with_paths=True, limit=2),
    lambda client: client.query("root/microsoft/windows/storage", "MSFT_Disk", limit=5),
    lambda client: client.get(CimPath(V2, "Msvm_StorageJob", {"InstanceID": "x"})),
    lambda client: client.invoke(
        CimPath(V2, "Msvm_VirtualSystemManagementService", {"Name": "x"}),
        "AddResourceSettings",
        {"ResourceSettings": ["x"]},
    ),
    lambda client: client.run("ver", keep_waiting=lambda: False),
)


def _ask(seed: bytes, dice: random.Random) -> None:
    data = any_bytes(seed, dice)
    left = itertools.count()

    def send(_request: bytes) -> bytes:
        if next(left) > 20:
            raise RequestNotSent("The host is tired.", repeatable=False)
        return data

    dice.choice(_QUESTIONS)(_client(send))


def _embedded_seeds() -> Sequence[bytes]:
    names = (("ElementName", "string", "sql01"), ("VirtualQuantity", "uint64", "1"), ("InstanceID", "string", "x"))
    inner = "".join(f'<PROPERTY NAME="{n}" TYPE="{t}"><VALUE>{v}</VALUE></PROPERTY>' for n, t, v in names)
    path = (
        '<PROPERTY.ARRAY NAME="HostResource" TYPE="string"><VALUE.ARRAY><VALUE>x</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>'
    )
    row = f'<INSTANCE CLASSNAME="Msvm_StorageAllocationSettingData">{inner}{path}</INSTANCE>'
    nested = (
        '<INSTANCE CLASSNAME="Msvm_ConcreteJob"><PROPERTY NAME="StartTime" TYPE="datetime"><VALUE>20261001200000.000000-000'
        f'</VALUE></PROPERTY><PROPERTY NAME="Caption" TYPE="string"><VALUE>{escape(row)}</VALUE></PROPERTY></INSTANCE>'
    )
    return [row.encode(), nested.encode()]


def _embedded(seed: bytes, dice: random.Random) -> None:
    text = any_bytes(seed, dice).decode("utf-8", dice.choice(("replace", "surrogateescape")))
    decode_embedded_instance(text, schema=SCHEMA, namespace=V2)


# -- a whole machine whose answers are damaged -------------------------------------------------------------------------------

_WORLD = """
name: fuzz
seed: fuzz
clock: 2026-10-01T20:00:00Z
luns: [{id: data, size: 8M, bus: iscsi}]
hosts:
  - name: hv01
    address: 127.47.0.1
    os: server2022
    volumes: [{letter: C, size: 40G}, {letter: D, size: 60G}, {letter: E, size: 20G}]
    luns: [data]
    switches: [External]
vms:
  - name: sql01
    host: hv01
    networks: [External]
    disks:
      - {slot: "scsi 0:0", vhd: 'D:\\VMs\\sql01\\os.vhdx', size: 4M}
      - {slot: "scsi 0:1", lun: data}
    guest:
      address: 127.47.1.1
      disks:
        - {slot: "scsi 0:0", partitions: [{letter: C, boot: true}]}
        - {slot: "scsi 0:1", partitions: [{letter: S, label: Data}]}
"""


@functools.lru_cache(maxsize=1)
def _world() -> World:
    os.environ["HYPERV_PASSTHROUGH_NTFS"] = "no"
    import_everything()
    folder = tempfile.TemporaryDirectory(prefix="hyperv-fuzz-")
    atexit.register(folder.cleanup)
    return World.from_yaml(_WORLD, Path(folder.name) / "world")


_LOOKS: Sequence[tuple[str, Callable[[WsmanClient], object]]] = (
    ("hv01", lambda client: observe_host(client, vhd_details=True).to_dict()),
    ("sql01", lambda client: observe_guest(client).to_dict()),
    ("hv01", utc_now),
    ("hv01", lambda client: ScheduledTasks(client).state("\\hyperv.passthrough\\", "x")),
    ("hv01", lambda client: Registry(client, "SOFTWARE\\hyperv.passthrough").list_values("Leases")),
    ("hv01", lambda client: DetachedJobs(client).look("a.host.1", ["rc.txt"])),
    ("hv01", wsb.windows_server_backup),
)


def _look(seed: tuple[str, Callable[[WsmanClient], object]], dice: random.Random) -> None:
    """One of the answers of a simulated machine is damaged, the others are as they are."""
    machine, look = seed
    door = memory_door(_world().machine(machine), next(iter(_world().machine(machine).accounts)))
    broken, seen = dice.randrange(1, 40), itertools.count(1)

    def send(request: bytes) -> bytes:
        data = door(request)
        if next(seen) != broken:
            return data
        if dice.random() < 0.6:
            return _other_values(data, dice)
        return any_bytes(data, dice)

    look(_client(send))


def _other_values(data: bytes, dice: random.Random) -> bytes:
    """A well-formed answer with values of a few elements replaced, emptied or removed."""
    pieces = data.split(b"<")
    for _unused in range(dice.choice((1, 2, 5))):
        place = dice.randrange(len(pieces))
        head, mark, _text = pieces[place].partition(b">")
        if not mark or head.endswith(b"/") or head.startswith(b"/"):
            continue
        text = dice.choice(
            (b"", b"0", b"1", b"x", b"18446744073709551615", b"true", b"-1", b"\\\\.\\PHYSICALDRIVE9", b"{}")
        )
        pieces[place] = head + mark + text
        if dice.random() < 0.3 and place + 1 < len(pieces) and pieces[place + 1].startswith(b"/"):
            del pieces[place : place + 2]
            if not pieces:
                return b""
    return b"<".join(pieces)


# -- what programs print and jobs leave ----------------------------------------------------------------------------------------

_EVENTS = "".join(
    "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
    f"<EventID>{event}</EventID><EventRecordID>{record}</EventRecordID></System><EventData>"
    "<Data Name='BackupTemplateID'>{aaaaaaaa-1111-2222-3333-000000000001}</Data><Data Name='HRESULT'>0x0</Data>"
    "<Data Name='DetailedHRESULT'>0x0</Data><Data Name='BackupState'>14</Data><Data Name='BackupTarget'>E:</Data>"
    "<Data Name='BackupTime'>2026-10-01T20:00:00.123Z</Data><Data Name='ComponentInfo'>&lt;a/&gt;</Data></EventData></Event>"
    for record, event in ((7, 1), (8, 4), (9, 14))
).encode()
_VERSIONS = (
    b"wbadmin 1.0\r\nBackup time: 10/1/2026 12:26 PM\r\nVersion identifier: 10/01/2026-20:00\r\n"
    b"Log of files successfully backed up:\r\nC:\\Windows\\Logs\\WindowsServerBackup\\Backup-01-10-2026_20-00-00.log\r\n"
)
_GUID = "285cea9b-1111-2222-3333-000000000001"
_ITEMS = f"VM identifier: {_GUID}\r\nName: sql01 (Online)\r\nVolume: S: \\\\?\\Volume{{{_GUID}}}\\\r\n".encode()
_LOG = b"Creating a backup of volume (C:), copied (43%).\r\nsql01 (Online)\r\nThe backup operation completed.\r\n"
_FILES: Mapping[str, bytes] = {
    **dict.fromkeys(("baseline-rc.txt", "before-rc.txt", "rc.txt", "events-rc.txt", "after-rc.txt"), b"0\r\n"),
    "baseline.xml": _EVENTS.replace(b">7<", b">3<").replace(b">8<", b">4<").replace(b">9<", b">5<"),
    "events.xml": _EVENTS,
    "before.txt": b"",
    "after.txt": _VERSIONS,
    "items.txt": _ITEMS,
    "items-rc.txt": b"0\r\n",
    "log.txt": _LOG,
}
_BACKUP = BackupRequest(
    phase="host", target="E:", label="sql01", vm_id=_GUID, vm_name="sql01", vm_state="running", left_out_disks=1
)
_IN_GUEST = BackupRequest(
    phase="guest",
    target="B:",
    label="sql01",
    volumes=(f"\\\\?\\Volume{{{_GUID}}}\\",),
    volume_letters={f"\\\\?\\Volume{{{_GUID}}}\\": "S"},
)
_RESTORE = RestoreRequest(kind="vm", version="10/01/2026-20:00", target="E:", machine="HV01", item=_GUID, label="sql01")


def _events(seed: bytes, dice: random.Random) -> None:
    events = read_events(any_bytes(seed, dice))
    binding = bind_version(events, baseline=0, limit=40, exit_code=0, before=(), after=("10/01/2026-20:00",))
    assert binding.state in ("succeeded", "warning", "failed")
    assert (binding.version is None) == (binding.state == "failed")


def _text(seed: bytes, dice: random.Random) -> None:
    data = any_bytes(seed, dice)
    assert len(wbadmin_text.last_lines(data)) < 1000
    assert len(wbadmin_text.log_paths(data)) < 100
    wbadmin_text.version_ids(data)
    percent = wbadmin_text.percent(data)
    assert percent is None or 0 <= percent <= 100
    wbadmin_text.says_busy(data), wbadmin_text.says_syntax_error(data)
    name = dice.choice(("sql01", "Größe 東京 №1", "a b (Online)", "x" * 100, ".*", "[", "\ud800"))
    wbadmin_text.lists_name(data, name), wbadmin_text.lists_guid(data, _GUID), wbadmin_text.lists_letter(data, "S")
    assert wbadmin_text.consistency_of(data, name) in ("online", "saved_state", "off", "unknown")
    wsb.items_found(data, _BACKUP), wsb.items_found(data, _IN_GUEST)
    wsb_recovery.items_named(data, {_GUID: "", f"\\\\?\\Volume{{{_GUID}}}\\": "S"})


def _files(_seed: object, dice: random.Random) -> None:
    """The files of a finished run, one or two of them damaged or missing."""
    files = dict(_FILES)
    for name in dice.sample(sorted(files), dice.choice((1, 1, 2))):
        if dice.random() < 0.15:
            del files[name]
        else:
            files[name] = any_bytes(files[name], dice)
    look = JobLook(run_id="a.host.1", task=None, is_done=True, files=files)
    for request in (_BACKUP, _IN_GUEST):
        binding = wsb.judge(look, request)
        assert binding.state in ("succeeded", "warning", "failed")
        assert (binding.version is None) == (binding.state == "failed")
        assert len(binding.message) < MAX_SENTENCE
        json.dumps(wsb._evidence(look, binding))
    proof = wsb_recovery.judge_recovery(look, _RESTORE)
    assert len(proof.message) < MAX_SENTENCE
    json.dumps(wsb_recovery._evidence(look, proof))


class _Printed:
    """A machine whose shell prints what it is told to."""

    def __init__(self, output: bytes) -> None:
        self._output = output

    def run(self, _command: str, *, max_output_bytes: int = 0) -> ShellResult:
        return ShellResult(exit_code=0, stdout=self._output[: max_output_bytes or None], stderr=b"")


def _job_files(seed: bytes, dice: random.Random) -> None:
    client: Any = _Printed(any_bytes(seed, dice))
    found = DetachedJobs(client).read("a.host.1", ["done.txt", "rc.txt", "log.txt"])
    assert set(found) <= {"done.txt", "rc.txt", "log.txt"}
    JobLook(run_id="a.host.1", task=None, is_done=True, files=found).exit_code("rc.txt")


def _printed_files() -> Sequence[bytes]:
    return [
        b"".join(
            b"==a.host.1/" + n + b"==\r\n" + c + b"\r\n"
            for n, c in ((b"done.txt", b"done"), (b"rc.txt", b"0"), (b"log.txt", _LOG))
        )
    ]


# -- records -------------------------------------------------------------------------------------------------------------------


def _set_seeds() -> Sequence[Any]:
    from unit.backup.restore_world import backup_set as made

    return [made().to_dict()]


def _set_json(seed: Any, dice: random.Random) -> None:
    text = any_bytes(json.dumps(seed).encode(), dice).decode(
        "utf-8", dice.choice(("replace", "surrogateescape", "ignore"))
    )
    item = backup_set.from_json(text)
    assert backup_set.from_json(item.to_json()) == item


def _set_used(seed: Any, dice: random.Random) -> None:
    """A record in which values are others than they were, as far as it is read, is worked with."""
    from unit.backup.restore_world import view

    item = backup_set.from_dict(other_json(seed, dice))
    text = item.to_json()
    assert backup_set.from_json(text) == item
    backup_set.what_is_left(item), backup_set.skew_seconds(item), backup_set.best_pair(item)
    backup_set.guest_is_stale(item, NOW), set_recording.sentence_of(item)
    backup_set.open_or_resume([item], item.vm_id, NOW, 3600.0)
    set_choice.choose_set([item], vm_id=item.vm_id) if dice.random() < 0.5 else None
    retention.plan_retention([item], item.vm_id, retention.Policy(keep_last=1)).describe()
    json.dumps(restore_plan.restore_plan(item, {"hv01": view()}, restore_plan.RestoreOptions(target_host="hv01")))


def _reg_seeds() -> Sequence[bytes]:
    body = json.dumps(_set_seeds()[0]).replace("\\", "\\\\").replace('"', '\\"')
    text = f'Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\x]\r\n"Record"="{body}"\r\n'
    return [text.encode(), text.encode("utf-16")]


class _Values:
    """A registry that holds one text under every name."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_string(self, _name: str, _key: str = "") -> str | None:
        return self._text

    def list_values(self, _key: str = "") -> tuple[RegistryValue, ...]:
        return (RegistryValue(name="token", type="REG_SZ"),)

    def set_string(self, *_unused: object) -> None:
        raise AssertionError("a reader writes")

    def create_key(self, _key: str = "") -> None:
        raise AssertionError("a reader writes")

    def delete_value(self, _name: str, _key: str = "") -> bool:
        raise AssertionError("a reader writes")


def _lease_seeds() -> Sequence[Any]:
    expires = (NOW + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return [{"format": 1, "state": "held", "expires": expires, "ticket": "t", "owner": "o"}]


def _damaged_json(seed: Any, dice: random.Random) -> str:
    if dice.random() < 0.5:
        return json.dumps(other_json(seed, dice))
    return any_bytes(json.dumps(seed).encode(), dice).decode(
        "utf-8", dice.choice(("replace", "surrogateescape", "ignore"))
    )


def _lease(seed: Any, dice: random.Random) -> None:
    leases = Leases(_Values(_damaged_json(seed, dice)), clock=lambda: NOW, new_token=lambda: "id")
    leases.holders("vm-1")


def _migration_seeds() -> Sequence[Any]:
    from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.migration_record import (
        DiskMigration,
        MigrationRecord,
    )
    from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.model import Slot

    disk = DiskMigration(
        slot=Slot(controller_type="SCSI", controller_number=0, controller_location=1),
        mode="copy",
        leg="final",
        size_bytes=8388608,
        format="vhdx",
        path="V:\\a.vhdx",
        source={"unique_id": "6006"},
    )
    record = MigrationRecord(vm_id=_GUID, vm_name="sql01", disks=(disk,), pass_through={"SCSI 0:1": "6006"})
    return [json.loads(record.to_json())]


def _migration(seed: Any, dice: random.Random) -> None:
    registry: Any = _Values(_damaged_json(seed, dice))
    record = MigrationStore(registry=registry).read(_GUID)
    if record is not None:
        text = record.to_json()
        registry = _Values(text)
        assert MigrationStore(registry=registry).read(_GUID) == record
        for disk in record.disks:
            disk.is_past("planned"), disk.work_path, disk.is_under_way, disk.slot.describe()
            record.disk_at(disk.slot)


def _target(seed: bytes, dice: random.Random) -> None:
    target = parse_target(any_bytes(seed, dice)[:100_000].decode("utf-8", "replace"))
    run_target(target, any_bytes(b"sql01", dice).decode("utf-8", "surrogateescape")[:1000], "a.host.1")


# -- bytes of disks, which the simulated Windows reads --------------------------------------------------------------------------


def _disk_seeds() -> Sequence[bytes]:
    world = _world()
    return [world.luns["data"].content.read_at(0, 70_000), bytes(70_000)]


def _partitions(seed: bytes, dice: random.Random) -> None:
    data = any_bytes(seed, dice)[:200_000]
    with tempfile.TemporaryDirectory() as folder:
        content = SparseFile.create(Path(folder) / "disk", 8 << 20)
        content.write_at(0, data)
        table = read_table(content)
        assert all(one.size >= 0 for one in table.partitions)


READERS: Mapping[str, Reader] = {
    one.name: one
    for one in (
        Reader(name="answer", seeds=_answers, read=_ask, errors=(WsmanError,)),
        Reader(name="embedded-instance", seeds=_embedded_seeds, read=_embedded, errors=(WsmanError,)),
        Reader(name="machine", seeds=lambda: _LOOKS, read=_look, errors=OURS),
        Reader(name="events", seeds=lambda: [_EVENTS], read=_events, errors=(EventsUnreadable,)),
        Reader(
            name="wbadmin-text",
            seeds=lambda: [_VERSIONS, _ITEMS, _LOG, _VERSIONS.decode().encode("utf-16")],
            read=_text,
        ),
        Reader(name="run-files", seeds=lambda: [None], read=_files),
        Reader(name="printed-files", seeds=_printed_files, read=_job_files, errors=OURS),
        Reader(name="set-text", seeds=_set_seeds, read=_set_json, errors=(BackupError,)),
        Reader(name="set-values", seeds=_set_seeds, read=_set_used, errors=(BackupError,)),
        Reader(
            name="set-export",
            seeds=_reg_seeds,
            read=lambda seed, dice: set_copy.parse_reg_export(any_bytes(seed, dice)),
            errors=(BackupError,),
        ),
        Reader(name="lease", seeds=_lease_seeds, read=_lease, errors=(BackupError,)),
        Reader(name="migration-record", seeds=_migration_seeds, read=_migration, errors=(HypervError,)),
        Reader(
            name="target",
            seeds=lambda: [b"E:", b"\\\\nas\\share\\a", b"\\\\?\\Volume{285cea9b-1111-2222-3333-000000000001}\\"],
            read=_target,
            errors=(BackupError,),
        ),
        Reader(name="partition-table", seeds=_disk_seeds, read=_partitions, errors=(ImageError,)),
    )
}
