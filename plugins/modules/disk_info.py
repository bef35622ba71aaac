#!/usr/bin/python

# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_info
short_description: Every LUN, VM and VM disk of a Hyper-V host, and what the Hyper-V VSS writer takes of each
version_added: 0.1.0
author:
  - The hyperv.passthrough authors (@hyperv-passthrough)
description:
  - Lists the physical disks (LUNs) of a Hyper-V host, its VMs and each VM's disks with their slots, identities and sizes.
  - >-
    Says for every disk whether a host backup captures it. The Hyper-V VSS writer silently leaves out pass-through disks,
    virtual Fibre Channel LUNs, shared virtual disks and LUNs that a guest's own iSCSI initiator logs into.
  - >-
    A guest's own iSCSI disks cannot be seen from the host. Ask the guest with M(hyperv.passthrough.guest_disk_info) and join both with
    P(hyperv.passthrough.coverage#filter) before you believe that a VM is covered.
extends_documentation_fragment:
  - hyperv.passthrough.connection
  - hyperv.passthrough.connection.read_only
options:
  vms:
    description:
      - Names or GUIDs of the VMs to look at. The host filters, so the cost is that of these VMs and the LUNs.
      - Without it all VMs of the host are listed.
      - A name that two VMs share is refused with both GUIDs; give the GUID then.
      - Names that YAML would read as numbers must be quoted.
    type: list
    elements: str
  query:
    description:
      - A JMESPath expression, applied to the list of VMs; its result is returned as RV(vms).
      - Needs the Python library jmespath on the controller.
    type: str
  include_vhd_details:
    description:
      - Also read each virtual hard disk's own header (type, virtual size, parent, disk id) through the image service.
      - Costs one call for each virtual hard disk.
    type: bool
    default: false
seealso:
  - module: hyperv.passthrough.guest_disk_info
  - plugin: hyperv.passthrough.coverage
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Which disks of any VM does a host backup leave out?
  hyperv.passthrough.disk_info:
    query: "[].{vm: name, disks: disks[?captured_by=='guest'].{slot: slot, lun: unique_id, size: size_bytes}}"
  register: left_out

- name: Look at one VM from a play over the guests
  hyperv.passthrough.disk_info:
    vms: ["{{ hyperv_vm }}"]
  delegate_to: "{{ hyperv_host }}"
  register: host_view
"""

RETURN = r"""
host:
  description: The Hyper-V host.
  returned: success
  type: dict
  contains:
    name:
      description: Computer name.
      type: str
    os_caption:
      description: Name of the operating system, in the host's language.
      type: str
    os_version:
      description: Version of the operating system.
      type: str
    os_build:
      description: Build number of the operating system.
      type: int
    is_server:
      description: Whether it is a server edition; client editions have no Hyper-V VSS writer.
      type: bool
    utc:
      description: The host's own clock, ISO 8601 in UTC.
      type: str
    cluster:
      description: Whether the host is a node of a failover cluster, and of which.
      type: dict
    disk_policy:
      description: The SAN policy for disks that were not seen before.
      type: str
luns:
  description: Physical disks of the host.
  returned: success
  type: list
  elements: dict
  contains:
    unique_id:
      description: The disk's identity. The only thing that other tasks accept for naming a disk.
      type: str
    number:
      description: The disk's number at this moment. Windows renumbers disks at reboot; never use it as an identity.
      type: int
    size_bytes:
      description: Size in bytes.
      type: int
    bus_type:
      description: How the host reaches the disk.
      type: str
    is_offline:
      description: Whether the disk is offline on the host, which it must be while it is attached to a VM.
      type: bool
    weak_identity:
      description: True when the identity is not unique or not global; no destructive step is done with such a disk.
      type: bool
    attached_to:
      description: The VMs and slots that this disk is attached to.
      type: list
      elements: dict
vms:
  description: The VMs, or the result of O(query).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: GUID of the VM.
      type: str
    name:
      description: Display name; not unique.
      type: str
    state:
      description: State of the VM.
      type: str
    generation:
      description: Generation 1 or 2.
      type: int
    fibre_channel_ports:
      description: Virtual Fibre Channel ports; LUNs behind them are invisible from the host.
      type: list
      elements: dict
    network_adapters:
      description: >-
        The VM's network adapters with C(name), C(mac_address), C(is_synthetic), C(switch_name) and C(switch_id); both V(null) when it is
        not connected.
      type: list
      elements: dict
    disks:
      description: Every drive of the VM.
      type: list
      elements: dict
      contains:
        slot:
          description: Controller type, controller number and controller location.
          type: dict
        attachment:
          description: >-
            One of V(virtual_hard_disk), V(shared_virtual_hard_disk), V(pass_through), V(unresolved_pass_through), V(dvd),
            V(empty).
          type: str
        path:
          description: Path of the virtual hard disk or image on the host.
          type: str
        unique_id:
          description: Identity of the disk, where it is known from the host.
          type: str
        size_bytes:
          description: Size in bytes, where it is known from the host.
          type: int
        captured_by:
          description: V(host) when a host backup takes the disk, V(guest) when only a backup inside the guest can, V(none) otherwise.
          type: str
        reason:
          description: Why, in one sentence.
          type: str
problems:
  description: What could not be read and therefore may be missing above, one sentence each; also shown as warnings.
  returned: success
  type: list
  elements: str
"""
