# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup or recovery leaves to read: events of the channel Microsoft-Windows-Backup, log files, names of items.

Not here: the jobs themselves (windows_backup.py). Facts: backup-engines 1.6 (log paths), 1.10 (events and fields).
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from .assumed import assumed
from .disks import stable_guid
from .event_log import BACKUP_CHANNEL, BACKUP_PROVIDER, ERROR, INFORMATION, WARNING
from .file_system import FileSystemError
from .processes import SYSTEM
from .windows_files import Files

if TYPE_CHECKING:
    from .backup_store import Version
    from .windows_backup import Job, Plan

assumed(
    "wsb-hresult-format",
    "HRESULT fields of the backup events are decimal or 0x-hexadecimal",
    source="backup-engines 1.10: both occur",
    values=("decimal", "hexadecimal"),
)
assumed(
    "wsb-failed-state",
    "BackupState of an event that is no success",
    source="backup-engines 9.7: only 14 = success is known",
    values=("12", "13", "16"),
)
assumed("wsb-cancelled-event", "Event 8 is the end of a cancelled job", source="backup-engines 1.10: meaning presumed")

assumed(
    "wsb-restore-state",
    "RestoreState of recovery events: 6 after success, 7 otherwise",
    source="backup-engines 9.7: the values are unknown",
)
assumed(
    "wsb-event-xml",
    "The XML inside VolumesInfo, ComponentStatus and ComponentInfo, and the GUID of the provider",
    source="backup-engines 1.10 names the fields, not their contents",
)
assumed(
    "wsb-application-event",
    "A failed backup also writes event 517 to the Application log",
    source="backup-engines 1.10 gives the range 517-528 as summaries",
)

assumed(
    "wsb-restore-set-id",
    "BackupSetId of a recovery event is the BackupTemplateID of the backup, or an identifier that nothing else tells",
    source="backup-engines 1.10 names both fields, not what joins them",
    values=("template", "other"),
)

_FIRST = ("BackupSetId", "BackupSetTime", "RestoreEventId")
_RESULT = ("RestoreState", "HRESULT", "DetailedHRESULT")
_LOGS = ("FileSuccessLogPath", "FileFailureLogPath")
# By the id of the event that ends a recovery; names and order as in the public manifest (backup-engines, source S13).
_RECOVERY_FIELDS: dict[int, tuple[str, ...]] = {
    193: (*_FIRST, *_RESULT, "ErrorMessage", "BackupTargetFriendlyName", "NumOfVolumes", "VolumesInfo",
          "PrepareRestoreTime", "RestoreTime", "WriteRestoreTime"),
    208: (*_FIRST, "FileRestoreTargetPath", *_RESULT, "NumOfFiles", "FilesInfo", "RestoreTime", *_LOGS,
          "MountVhdTime", "PreparePassTime", "WriteFilesTime", "BackupLocation", "TotalDataTransferred"),
    1025: (*_FIRST, "RecoveryFromSSB", "BackupTargetPath", "AppRestoreAlternateTargetPath", *_RESULT, "RestoreTime",
           "NumOfComponents", *_LOGS, "AppsInfo", "AlternateLocationRecovery", "RecreatePath", "ComponentInfoSummary"),
}  # fmt: skip

SUCCESS_STATE = 14
RUNNING, SUCCEEDED, WARNED, FAILED, CANCELLED = "running", "succeeded", "warning", "failed", "cancelled"

_MESSAGES = {
    1: ("The backup operation has started.", "Der Sicherungsvorgang wurde gestartet."),
    4: ("The backup operation has finished successfully.", "Der Sicherungsvorgang wurde erfolgreich abgeschlossen."),
    5: ("The backup operation has failed.", "Der Sicherungsvorgang ist fehlgeschlagen."),
    7: ("The backup operation has completed with errors.", "Der Sicherungsvorgang wurde mit Fehlern abgeschlossen."),
    8: ("The backup operation was cancelled.", "Der Sicherungsvorgang wurde abgebrochen."),
    14: ("The backup operation has completed.", "Der Sicherungsvorgang wurde beendet."),
}


class BackupReports:
    """Writes the events and logs of one machine's jobs."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine

    def code(self, hresult: int) -> str:
        if self._machine.world.assume("wsb-hresult-format") == "hexadecimal":
            return f"0x{hresult:08X}" if hresult else "0x0"
        return str(hresult)

    def event(self, event_id: int, level: int, data: dict[str, str], *, opcode: int = 0) -> None:
        """One event of the channel; its message is in the machine's language and worth nothing to a program."""
        german = str(self._machine.os.locale).lower().startswith("de")
        english_text, german_text = _MESSAGES.get(event_id, ("", ""))
        self._machine.event_log.write(
            BACKUP_CHANNEL,
            provider=BACKUP_PROVIDER,
            event_id=event_id,
            level=level,
            data=data,
            opcode=opcode,
            message=german_text if german else english_text,
        )

    def backup(self, job: Job, plan: Plan) -> None:
        good = job.state == SUCCEEDED
        state = (
            str(SUCCESS_STATE) if job.state in {SUCCEEDED, WARNED} else self._machine.world.assume("wsb-failed-state")
        )
        volumes = "".join(
            f'<VolumeInfoItem Name="{short(volume_label(volume)).strip("()")}" OriginalAccessPath="'
            f'{short(volume_label(volume)).strip("()")}" State="{state}" HResult="{job.hresult}" '
            f'DetailedHResult="{job.detailed}" IsCritical="{int(volume.is_boot)}" TotalSize="{volume.size}" />'
            for volume in plan.volumes
        )
        parts = "".join(
            f"<ComponentInfoItem ComponentName={quoteattr(part.identifier)} Caption={quoteattr(part.caption)} "
            f'HResult="{job.hresult}" DetailedHResult="{job.detailed}" />'
            for part in plan.components
        )
        data = {
            "BackupTemplateID": job.template_id,
            "HRESULT": self.code(job.hresult),
            "DetailedHRESULT": self.code(job.detailed),
            "ErrorMessage": job.message,
            "BackupState": state,
            "BackupTime": event_time(job.started),
            "BackupTarget": plan.target.label,
            "VolumesInfo": f"<VolumeInfo>{volumes}</VolumeInfo>",
            "ComponentStatus": f"<ComponentStatus>{parts}</ComponentStatus>" if parts else "<ComponentStatus/>",
            "ComponentInfo": f"<ComponentInfo>{parts}</ComponentInfo>" if parts else "<ComponentInfo/>",
            "ComponentInfoSummary": str(len(plan.components)),
            "BackupSuccessLogPath": job.log_path,
            "BackupFailureLogPath": job.error_log_path,
            "VssFullBackup": "true" if plan.request.vss_full else "false",
        }
        ids = {SUCCEEDED: (4, INFORMATION), WARNED: (7, WARNING), CANCELLED: (8, ERROR)}
        event_id, level = ids.get(job.state, (5, ERROR))
        self.event(event_id, level, data)
        self.event(14, INFORMATION, data, opcode=2)
        for item in job.items:
            key = "item_done" if good else "item_failed"
            job.failed_items += [] if good else [item]
            job.say(key, item=spoken(item))
        if not good and job.state != CANCELLED:
            self._machine.event_log.write(
                "Application",
                provider="Microsoft-Windows-Backup",
                event_id=517,
                level=ERROR,
                data={"BackupTime": event_time(job.started), "ErrorCode": self.code(job.hresult)},
                message=f"The backup operation has failed with following error code '0x{job.hresult:08X}'.",
            )

    def set_id(self, version: Version) -> str:
        """BackupSetId of a version in recovery events."""
        if self._machine.world.assume("wsb-restore-set-id") == "template":
            return version.template_id
        return "{" + stable_guid(version.template_id, "backup set") + "}"

    def recovery(self, job: Job, version: Version, ids: tuple[int, int, int, int], data: dict[str, str]) -> None:
        """`ids` are (stop, success, warning, error) of one flavour of recovery, `data` its own fields in their order."""
        facts = {
            "BackupSetId": self.set_id(version),
            "BackupSetTime": event_time(datetime.fromisoformat(version.time)),
            "RestoreEventId": "{" + stable_guid(self._machine.name, job.started.isoformat(), "restore") + "}",
            "RestoreState": "6" if job.state == SUCCEEDED else "7",
            "HRESULT": self.code(job.hresult),
            "DetailedHRESULT": self.code(job.detailed),
            "ErrorMessage": job.message,
            "RestoreTime": event_time(job.started),
            "BackupTargetFriendlyName": version.target_label,
            "BackupTargetPath": version.target_label,
            "BackupLocation": version.target_label,
            "FileSuccessLogPath": job.log_path,
            "FileFailureLogPath": job.error_log_path,
        }
        fields = {name: facts.get(name, "") for name in _RECOVERY_FIELDS[ids[0]]} | data
        stop, good, warned, bad = ids
        by_state = {SUCCEEDED: (good, INFORMATION), WARNED: (warned, WARNING)}
        event_id, level = by_state.get(job.state, (bad, ERROR))
        self.event(event_id, level, fields)
        self.event(stop, INFORMATION, fields, opcode=2)

    def write_log(self, job: Job) -> None:
        """The log files that the last lines of the output name; no C: drive, no log."""
        path = job.log_path if job.state in {SUCCEEDED, WARNED} else job.error_log_path
        text = "".join(f"{item}\r\n" for item in job.items)
        if job.hresult:
            text += f"Error code - 0x{job.hresult:08X}, 0x{job.detailed:08X}\r\n{job.message}\r\n"
        files = Files(self._machine, SYSTEM, "C:\\")
        try:
            folder = path.rpartition("\\")[0]
            if not files.exists(folder):
                files.mkdir(folder)
            files.write(path, b"\xff\xfe" + text.encode("utf-16-le"))
        except FileSystemError:
            job.log_path = job.log_path  # the output still names it, as Windows does


def volume_label(volume: Any) -> str:
    """`Data(E:)`, `(C:)` or the GUID path of a volume without letter."""
    where = f"{volume.letter}:" if volume.letter else (volume.mount_points or [volume.path])[0]
    return f"{volume.label}({where})"


_VOLUME = re.compile(r"\(([A-Za-z]:[^()]*|\\\\\?\\[^()]*)\)(?: \(Selected Files\))?$")


def short(item: str) -> str:
    """`Data(E:)` -> `(E:)`."""
    match = _VOLUME.search(item)
    return f"({match[1]})" if match else item


def spoken(item: str) -> str:
    """How progress lines name an item: `volume (E:)`, `"web01 (Online)"`, `System State`."""
    return f"volume {short(item)}" if _VOLUME.search(item) and not item.startswith('"') else item


def event_time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
