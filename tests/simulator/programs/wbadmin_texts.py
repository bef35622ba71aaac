# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What wbadmin prints, per language. English literals: backup-engines 1.4-1.6; German labels: S8 there.

Texts that no source shows are this file's own and are listed in UNSEEN: a parser may not rely on them. A language that
lacks a text falls back to English, as nothing is known of it.
"""

from __future__ import annotations

from ..assumed import assumed

UNSEEN = (
    "note_network several_computers bad_target target_not_ntfs share_failed no_target no_volume no_file client_files"
    " target_is_source volume_locked"
    " volume_not_ntfs nothing_to_back_up no_component not_installed no_rights no_version media_missing one_volume"
    " item_missing critical_volume volume_too_small volume_read_only volume_in_use one_folder"
    " alternate_needs_target no_application"
    " progress_backup_vm item_failed no_job stopped cancelled policy_none no_versions warn_recover_vm"
)

assumed(
    "wbadmin-unseen-texts",
    "Texts of refusals, of Hyper-V progress lines and of recoveries of volumes and VMs are made up",
    source="backup-engines 9.1",
)

HEAD = "wbadmin 1.0 - Backup command-line tool\n(C) Copyright 2013 Microsoft Corporation. All rights reserved.\n"

ENGLISH: dict[str, str] = {
    "head": HEAD,
    "note_network": (
        "Note: The backed up data cannot be securely protected at this destination.\n"
        "Backups stored on a remote shared folder might be accessible by other\n"
        "people on the network. You should only save your backups to a location\n"
        "where you trust the other users who have access to the location or on a\n"
        "network that has additional security precautions in place.\n"
    ),
    "retrieving": "Retrieving volume information...",
    "will_back_up": "This will back up {items} to {target}.",
    "ask_backup": "Do you want to start the backup operation?\n[Y] Yes [N] No ",
    "starting_backup": "The backup operation to {target} is starting.",
    "creating_shadow_copy": "Creating a shadow copy of the volumes specified for backup...",
    "identifying_files": "Please wait while files to backup for volume ({item}) are identified.",
    "several_minutes": "This might take several minutes.",
    "scanning": "Scanning the file system...",
    "found_files": "Found ({count}) files.",
    "progress_backup": "Creating a backup of {item}, copied ({percent}%).",
    "progress_recovery": "Running the recovery operation for {item}, copied ({percent}%).",
    "summary_backup": "Summary of the backup operation:\n------------------\n",
    "backup_ok": "The backup operation successfully completed.",
    "backup_warned": "The backup operation completed with errors.",
    "backup_failed": "The backup operation stopped before completing.\nDetailed error: {message}",
    "item_done": "The backup of {item} completed successfully.",
    "item_failed": "The backup of {item} could not be completed. Error: {message}",
    "log_ok": "Log of files successfully backed up:\n{path}\n",
    "log_failed": "Log of files for which backup failed:\n{path}\n",
    "will_recover": "You have chosen to recover {items} from the\nbackup created on {time} to {target}.",
    "preparing_files": "Preparing to recover files...",
    "ask_continue": "\nDo you want to continue?\n[Y] Yes [N] No ",
    "warn_recover_vm": (
        "Warning: a virtual machine that still exists will be deleted and overwritten.\n"
        "The virtual machines may not start when the network settings differ."
    ),
    "warn_recover_volume": "Warning: all data on volume {target} will be lost.",
    "recovered": "Successfully recovered {item} to {target}.",
    "recovery_ok": "The recovery operation completed.",
    "recovery_failed": "The recovery operation failed.\nDetailed error: {message}",
    "summary_recovery": "Summary of the recovery operation:\n--------------------\n",
    "recovered_totals": "Total bytes recovered - {bytes}\nTotal files recovered - {files}\nTotal files failed - {failed}\n",
    "log_recovery": "Log of files successfully recovered:\n{path}\n",
    "operation_ended": "The operation ended before completion.",
    "busy": "ERROR - Another backup or recovery operation is in progress.\nAnother backup or recovery operation is in progress.",
    "syntax": "ERROR - Command syntax incorrect. Error: {token}. See the command\nsyntax below.\n",
    "share_not_ntfs": (
        "ERROR - A backup cannot be done to a remote shared folder which is not hosted on a volume formatted with"
        " NTFS/ReFS."
    ),
    "system_state_removable": "You cannot save a system state backup to DVDs or other removable disks.",
    "backup_time": "Backup time: ",
    "backup_target": "Backup target: ",
    "backup_location": "Backup location: ",
    "fixed_disk": "Fixed Disk labeled {label}",
    "network_share": "Network Share labeled {label}",
    "version": "Version identifier: ",
    "can_recover": "Can recover: ",
    "snapshot": "Snapshot ID: ",
    "recover_volumes": "Volume(s)",
    "recover_files": "File(s)",
    "recover_applications": "Application(s)",
    "recover_bmr": "Bare Metal Recovery",
    "recover_state": "System State",
    "vm_name": "VM name: ",
    "vm_caption": "VM caption: ",
    "vm_identifier": "VM identifier: ",
    "vm_trailer": "Total number of virtual machines: {count}",
    "not_installed": "ERROR - The Windows Server Backup feature is not installed on this computer.",
    "no_rights": (
        "ERROR - You do not have the rights to run this command. You must be a member of the Backup Operators or the"
        " Administrators group and use an elevated command prompt."
    ),
    "no_target": "ERROR - The backup storage location was not specified. Use -backupTarget.",
    "bad_target": "ERROR - The backup storage location {target} is not valid.",
    "target_not_ntfs": "ERROR - The volume {target} is not formatted with NTFS/ReFS and cannot store backups.",
    "share_failed": "ERROR - The remote shared folder {target} cannot be accessed. {reason}",
    "target_is_source": "ERROR - The backup storage location {target} is one of the volumes of the operation.",
    "no_volume": "ERROR - The volume or path {item} was not found.",
    "no_file": "ERROR - The file or folder {item} was not found.",
    "client_files": "ERROR - Files and folders cannot be backed up on this edition of Windows: {item}.",
    "volume_locked": "ERROR - The volume {item} is locked by BitLocker Drive Encryption.",
    "volume_not_ntfs": "ERROR - The volume {item} is not formatted with NTFS/ReFS and cannot be backed up.",
    "nothing_to_back_up": "ERROR - Nothing was specified for the backup.",
    "no_component": "ERROR - The virtual machine or component {item} was not found.",
    "no_version": "ERROR - The backup version {version} was not found.",
    "media_missing": "ERROR - The backup storage location {target} does not hold this version any more.",
    "several_computers": "ERROR - {target} holds backups of several computers. Use -machine to name one.",
    "one_volume": "ERROR - Exactly one volume can be recovered at a time.",
    "item_missing": "ERROR - {item} is not in the backup {version}.",
    "critical_volume": "ERROR - {item} is a critical volume and cannot be recovered while Windows runs from it.",
    "volume_too_small": "ERROR - The volume {item} is smaller than the volume in the backup.",
    "volume_read_only": "ERROR - The volume {item} is read-only.",
    "volume_in_use": "ERROR - The volume {item} is in use by another program.",
    "one_folder": "ERROR - All files to be recovered must be in one folder.",
    "alternate_needs_target": "ERROR - -alternateLocation and -recoveryTarget must be used together.",
    "no_application": "ERROR - The application {item} was not found in the backup.",
    "no_job": "ERROR - There is no backup or recovery operation in progress.",
    "stopped": "The operation was cancelled.",
    "cancelled": "The operation was cancelled by the user.",
    "policy_none": "The scheduled backup is not configured.",
    "policy": "The scheduled backup is configured: {items} to {target} at {schedule}.",
    "policy_off": "The scheduled backup is disabled.",
    "no_versions": "ERROR - No backups were found.",
    "delete_failed": "ERROR - The backup {version} could not be deleted.",
    "deleted": "The backup {version} was deleted.",
    "catalog_deleted": "The catalog was deleted.",
    "catalog_restored": "The catalog was restored.",
    "ask_stop": "Do you want to stop the current operation?\n[Y] Yes [N] No ",
    "ask_enable": "Do you want to enable scheduled backups with these settings?\n[Y] Yes [N] No ",
    "ask_delete": "Do you want to delete the backup?\n[Y] Yes [N] No ",
}

GERMAN: dict[str, str] = {
    "head": (
        "wbadmin 1.0 - Sicherungs-Befehlszeilenprogramm\n(C) Copyright 2013 Microsoft Corporation. Alle Rechte vorbehalten.\n"
    ),
    "retrieving": "Die Volumeinformationen werden abgerufen...",
    "will_back_up": "Hierdurch wird {items} auf {target} gesichert.",
    "ask_backup": "Möchten Sie den Sicherungsvorgang starten?\n[J] Ja [N] Nein ",
    "starting_backup": "Der Sicherungsvorgang auf {target} wird gestartet.",
    "creating_shadow_copy": "Für die zur Sicherung angegebenen Volumes wird eine Schattenkopie erstellt...",
    "progress_backup": "Sicherung von {item} wird erstellt, {percent} % kopiert.",
    "progress_recovery": "Wiederherstellung von {item} wird ausgeführt, {percent} % kopiert.",
    "summary_backup": "Zusammenfassung des Sicherungsvorgangs:\n------------------\n",
    "backup_ok": "Der Sicherungsvorgang wurde erfolgreich abgeschlossen.",
    "backup_warned": "Der Sicherungsvorgang wurde mit Fehlern abgeschlossen.",
    "backup_failed": "Der Sicherungsvorgang wurde vor dem Abschluss beendet.\nDetaillierter Fehler: {message}",
    "item_done": "Die Sicherung von {item} wurde erfolgreich abgeschlossen.",
    "item_failed": "Die Sicherung von {item} konnte nicht abgeschlossen werden. Fehler: {message}",
    "log_ok": "Protokoll der erfolgreich gesicherten Dateien:\n{path}\n",
    "log_failed": "Protokoll der Dateien, deren Sicherung fehlgeschlagen ist:\n{path}\n",
    "recovery_ok": "Der Wiederherstellungsvorgang wurde abgeschlossen.",
    "busy": "FEHLER - Es wird ein weiterer Sicherungs- oder Wiederherstellungsvorgang ausgeführt.",
    "backup_time": "Sicherungszeit: ",
    "backup_target": "Sicherungsziel: ",
    "backup_location": "Sicherungsziel: ",
    "fixed_disk": "Festplatte mit der Bezeichnung {label}",
    "network_share": "Netzwerkfreigabe mit der Bezeichnung {label}",
    "version": "Versions-ID: ",
    "can_recover": "Wiederherstellbar: ",
    "snapshot": "Momentaufnahme-ID: ",
    "recover_volumes": "Volumes",
    "recover_files": "Dateien",
    "recover_applications": "Anwendungen",
    "recover_bmr": "Bare-Metal-Recovery",
    "recover_state": "Systemstatus",
}

YES = {"en": {"y", "yes"}, "de": {"j", "ja"}}
BUSY_NEEDLES = ("another backup or recovery operation", "weiterer Sicherungs")


def language(locale: str) -> str:
    return "de" if locale.lower().startswith("de") else "en"


def text(locale: str, key: str, **values: str) -> str:
    table = GERMAN if language(locale) == "de" else ENGLISH
    return (table.get(key) or ENGLISH[key]).format(**values)
