#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lun_to_vhd
short_description: Turn a pass-through disk of a VM into a fixed virtual hard disk that fills a LUN
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - >-
    Brings a LUN online on the Hyper-V host, makes one fixed virtual hard disk (VHD) that fills it, and connects the VM to that VHD at the
    slot where the pass-through disk was. From then on one backup of the host takes the disk too.
  - >-
    Everything that stands in the way is told in one message before anything is changed, and the plan says which steps need the VM off and
    how many bytes are copied meanwhile; see it with check mode and C(--diff).
  - >-
    The host's registry remembers what is being done. A rerun continues wherever an earlier run was broken off. Any failure before the
    cut-over gives the VM its pass-through disk back within the same run, unless the host still copies; then the VM stays off, and a rerun
    attaches to that copy. Nothing and nobody starts the VM on the source meanwhile, its automatic start action is V(Nothing) until then.
  - >-
    This task is the host's side. The guest finds a disk with a new identity and may keep it offline and read-only; the role
    C(vhd_migration) brings it online with its letters, and compares the volumes.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.mutating
options:
  vm:
    description: Name or GUID of the VM. Quote names that look like numbers.
    type: str
    required: true
  state:
    description:
      - V(present) migrates, or continues a migration.
      - >-
        V(rolled_back) attaches the pass-through LUN at its slot again (after the wipe of O(mode=in_place), the staging VHD) and keeps the
        VHD. Once the VM may have written to the VHD it needs O(discard_writes_since). Without O(slot), O(lun) and O(disks) it is meant for
        all disks of the VM that were migrated.
      - V(finalized) gives up the way back. It wipes nothing, and returns what may be reclaimed.
    type: str
    choices: [present, rolled_back, finalized]
    default: present
  mode:
    description:
      - V(copy) copies the pass-through LUN to a VHD on O(destination_lun). The source stays offline and untouched.
      - >-
        V(in_place) ends with the VHD on the source LUN itself and has two halves. The first run copies the LUN to O(staging_path) and
        starts the VM from there; the state is then V(awaiting_growth). Now the array grows the LUN, not earlier. The second run, with
        O(confirm_wipe), wipes the LUN and copies the VHD to it.
      - V(new) makes an empty VHD that fills O(destination_lun) and attaches it at O(slot).
    type: str
    choices: [new, copy, in_place]
    default: copy
  slot: &slot
    description: Where the disk is in the VM. Give it or O(lun); with both, they must belong together.
    type: dict
    suboptions:
      controller_type:
        description: Kind of the controller.
        type: str
        choices: [SCSI, IDE]
        default: SCSI
      controller_number:
        description: Number of the controller among those of its kind, as M(hyperv.passthrough.disk_info) returns it.
        type: int
        default: 0
      controller_location:
        description: Location on the controller.
        type: int
        required: true
  lun: &lun
    description:
      - >-
        The pass-through LUN, by UniqueId as text or by a dictionary with C(unique_id), C(serial_number), C(guid), C(signature),
        C(size_bytes).
      - A disk number is refused, with the disk that has it now.
    type: raw
  destination_lun: &destination_lun
    description: >-
      The LUN that gets the VHD, named as O(lun). It must have no partition table, be used by nobody, and be confirmed by
      O(confirm_size_bytes).
    type: raw
  confirm_size_bytes: &confirm_size_bytes
    description: >-
      Size of O(destination_lun) in bytes. A disk without a partition table may hold data all the same, so that its size must be known.
    type: int
  drive_letter: &drive_letter
    description: Drive letter of the new volume on the host; the first free one from V(D) on if not given.
    type: str
  file_name: &file_name
    description: Name of the VHD file without extension; made of VM and slot if not given.
    type: str
  staging_path: &staging_path
    description: For O(mode=in_place), a folder of the host or the whole name of a file, on a drive with room for the whole disk.
    type: str
  growth_gib: &growth_gib
    description: >-
      For O(mode=in_place), by how many GiB the array will grow the LUN between the halves. It must be at least what the plan's RV(fit) asks
      for, and is asked before any downtime because a LUN that cannot grow cannot be migrated in place.
    type: int
  confirm_wipe: &confirm_wipe
    description: >-
      For the second half of O(mode=in_place), the UniqueId of the LUN that is wiped. Check mode does not rescan the host's storage, so
      that it may still show the size from before the array grew the LUN.
    type: str
  guest_size_bytes: &guest_size_bytes
    description: Size of the disk as the guest sees it. A difference is refused, because the LUN was resized and one side has not noticed.
    type: int
  disks:
    description: Several disks of the VM, migrated in one downtime; all copies are verified before the first is attached.
    type: list
    elements: dict
    suboptions:
      slot: *slot
      lun: *lun
      destination_lun: *destination_lun
      confirm_size_bytes: *confirm_size_bytes
      drive_letter: *drive_letter
      file_name: *file_name
      staging_path: *staging_path
      growth_gib: *growth_gib
      confirm_wipe: *confirm_wipe
      guest_size_bytes: *guest_size_bytes
  vhd_format:
    description: >-
      Format of the file. V(VHDX) if not given where Hyper-V needs it (generation 2, sectors of 4096 bytes, above 2040 GiB), else V(VHD).
    type: str
    choices: [VHD, VHDX]
  file_system:
    description: File system of the new volume on the host. V(ReFS) takes 1 to 2 GB for itself.
    type: str
    choices: [NTFS, ReFS]
    default: NTFS
  allocation_unit:
    description: Cluster size of the new volume in bytes.
    type: int
    choices: [4096, 65536]
    default: 65536
  reserve:
    description:
      - How much of the LUN the VHD does not fill, such as V(1G). Partitioning and file system are paid from it.
      - >-
        The default covers the smallest shadow storage area. A software shadow copy or a recovery checkpoint on the same LUN can need far
        more, about a tenth of the data or what changes during the backup; then raise it, keep the shadow storage on another volume, or use
        the array's snapshots.
      - With V(0) no software shadow copy can ever be made of that volume.
    type: bytes
    default: 1G
  verify:
    description:
      - >-
        V(quick) proves that Hyper-V accepts the file, that it is a fixed one of exactly the source's size, and that its partition table
        (disk GUID or signature, and every partition) is that of the source. It does not prove every byte of the content, which the copy
        job of the host vouches for.
      - >-
        V(full) besides reads every byte of the source and of the VHD on the host, compares them, and returns the SHA-256 that both have.
        The VM is off meanwhile, for about as long as the copy took. No CIM method reads a disk's bytes, so that this level alone starts
        Windows' own C(powershell.exe), as a one-off scheduled task of the SYSTEM account with a short script of this collection, which
        opens both disks for reading only. The source is the offline LUN, or the staging VHD in the second half of V(in_place), mounted
        read-only.
      - >-
        Where Windows PowerShell may not run such a script (AppLocker, constrained language mode), V(full) fails with
        C(error.kind=powershell_unavailable), and the VM gets its disk back as after any failed verification.
      - What the VM writes to the VHD later is no part of either level. An empty VHD (O(mode=new)) has no source to compare with.
    type: str
    choices: [quick, full]
    default: quick
  accept_full_allocation:
    description: Accept that a fixed VHD allocates all of its bytes on a thin LUN.
    type: bool
    default: false
  accept_full_scsi:
    description: Accept that the guest, which may send any SCSI command now, cannot do so on a VHD (persistent reservations).
    type: bool
    default: false
  accept_seen_elsewhere:
    description: Accept that another host of O(other_hosts) sees O(destination_lun), offline and unused.
    type: bool
    default: false
  discard_writes_since:
    description: >-
      For O(state=rolled_back), the time since when the VM may have written to the VHD, exactly as RV(rollback[].discard_writes_since) has
      it. All that was written since is lost for the VM.
    type: str
  force:
    description: Turn the VM off when its guest does not shut down within O(shutdown_timeout).
    type: bool
    default: false
  shutdown_timeout:
    description: Longest time in seconds for the guest to shut down.
    type: int
    default: 900
  guest:
    description: >-
      What M(hyperv.passthrough.guest_disk_info) returned of the VM's guest. With it dynamic disks, Storage Spaces, clusters of guests and
      a boot disk under BitLocker are refused, and sizes are compared.
    type: dict
  other_hosts:
    description: What M(hyperv.passthrough.disk_info) returned of other hosts, by name. A LUN that they use is refused.
    type: dict
  wait_timeout:
    description: Longest time in seconds for one copy. The host's job goes on, and a rerun attaches to it.
    type: int
    default: 86400
  poll_interval:
    description: Seconds between two looks.
    type: int
    default: 5
  lease:
    description: >-
      The lease that M(hyperv.passthrough.backup_set) returned. It is checked before every call that changes something and renewed while the
      task waits; a lost lease ends the task with C(error.kind=superseded).
    type: str
seealso:
  - module: hyperv.passthrough.disk_info
  - module: hyperv.passthrough.passthrough_disk
  - module: hyperv.passthrough.vm_state
  - module: hyperv.passthrough.guest_disk
"""

EXAMPLES = r"""
- name: Copy a pass-through disk to a VHD on another LUN
  hyperv.passthrough.lun_to_vhd:
    vm: sql01
    lun: 600A098038314F7A7A2B4E7A5A4B3131
    destination_lun: 600A098038314F7A7A2B4E7A5A4B3132
    confirm_size_bytes: 108447924224
    drive_letter: V
  delegate_to: "{{ hyperv_host }}"
  register: migrated

- name: First half in place, then let the array grow the LUN
  hyperv.passthrough.lun_to_vhd:
    vm: sql01
    lun: 600A098038314F7A7A2B4E7A5A4B3131
    mode: in_place
    staging_path: 'D:\Staging'
    growth_gib: 1
  delegate_to: "{{ hyperv_host }}"

- name: Second half in place
  hyperv.passthrough.lun_to_vhd:
    vm: sql01
    lun: 600A098038314F7A7A2B4E7A5A4B3131
    mode: in_place
    confirm_wipe: 600A098038314F7A7A2B4E7A5A4B3131
  delegate_to: "{{ hyperv_host }}"

- name: Go back to the pass-through disk
  hyperv.passthrough.lun_to_vhd:
    vm: sql01
    state: rolled_back
    discard_writes_since: "{{ migrated.rollback[0].discard_writes_since }}"
  delegate_to: "{{ hyperv_host }}"
"""

RETURN = r"""
vm:
  description: C(id) and C(name) of the VM.
  returned: always
  type: dict
state:
  description: >-
    V(migrated), V(awaiting_growth), V(rolled_back), V(finalized); V(in_progress); V(mixed) when the disks differ; V(none); V(null) in check
    mode when something would change.
  returned: always
  type: str
plan:
  description: The steps in order; empty when all is as wanted.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: Word of the step, such as V(prepare), V(shut_down), V(copy), V(cut_over).
      type: str
    sentence:
      description: The step in words.
      type: str
    slot:
      description: The slot it is about; V(null) for steps about the whole VM.
      type: dict
    needs_vm_off:
      description: Whether the VM is off meanwhile.
      type: bool
    copied_bytes:
      description: Bytes that the step copies.
      type: int
downtime:
  description: >-
    C(class) (V(none), V(short) without a copy, V(copy)), C(copied_bytes) (those that V(verify=full) compares included) while the VM is
    off, and C(estimated_hours) at 100 MiB/s.
  returned: always
  type: dict
fit:
  description: One entry for each disk whose LUN was measured.
  returned: always
  type: list
  elements: dict
  contains:
    slot:
      description: The slot.
      type: dict
    answer:
      description: >-
        V(certain) by the conservative formula; V(possible) by what was measured, so that the formatted volume has the last word (enough for
        O(mode=copy)); V(no).
      type: str
    growth_gib:
      description: By how many GiB the LUN must grow for V(certain).
      type: int
    growth_bytes:
      description: The same in bytes.
      type: int
    file_bytes:
      description: Bytes that the file allocates.
      type: int
    largest_certain_bytes:
      description: The largest disk that surely fits on this LUN.
      type: int
    largest_possible_bytes:
      description: The largest disk that can fit on this LUN.
      type: int
    snapshot_bytes:
      description: What a software shadow copy or a checkpoint on the same LUN can need beyond that.
      type: int
    notes:
      description: What else should be known.
      type: list
      elements: str
notes:
  description: What should be known and is no obstacle.
  returned: always
  type: list
  elements: str
vhd:
  description: >-
    The VHD of each disk with C(slot), C(path), C(format), C(size_bytes), C(outcome), C(stage), C(verified) (V(quick) or V(full), V(null)
    while it is not) and C(sha256) (of every byte of the source and of the VHD, after V(full)).
  returned: always
  type: list
  elements: dict
rollback:
  description: The way back of each disk.
  returned: always
  type: list
  elements: dict
  contains:
    slot:
      description: The slot.
      type: dict
    possible:
      description: Whether O(state=rolled_back) leads somewhere.
      type: bool
    back_to:
      description: UniqueId of the LUN, or path of the staging VHD.
      type: str
    discard_writes_since:
      description: What O(discard_writes_since) must be; V(null) when nothing would be lost.
      type: str
    reclaimable:
      description: After O(state=finalized), what nobody needs any more.
      type: str
"""
