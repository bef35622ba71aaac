# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The network adapters of VMs and the switches that they are connected to, joined from rows: pure functions.

An adapter's connection is a row of its own whose Parent is the adapter and whose HostResource is the switch; none, or a
disabled one, means not connected (documentation of Msvm_EthernetPortAllocationSettingData).

Not here: reading the rows (`host`), connecting an adapter (`vm_settings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._wsman import CimInstance
from .cim_access import int_of, text_of, texts_of
from .host_topology import owner_of, referenced_instance_id, referenced_key
from .model import NetworkAdapter

ETHERNET_PORT = 10  # ResourceType
_DISABLED = 3
_SYNTHETIC = "microsoft:hyper-v:synthetic ethernet port"


def build_network_adapters(
    ports: Sequence[CimInstance], connections: Sequence[CimInstance], switches: Sequence[CimInstance]
) -> Mapping[str, tuple[NetworkAdapter, ...]]:
    """Adapters by the GUID of their VM (or checkpoint or template; nobody asks for these), in the host's order."""
    names = {text_of(row, "Name").casefold(): row for row in switches}
    switch_of: dict[str, str] = {}
    for row in connections:
        port_id = referenced_instance_id(text_of(row, "Parent"))
        switch_id = referenced_key(next(iter(texts_of(row, "HostResource")), ""), "Name")
        if port_id and switch_id and int_of(row, "EnabledState") != _DISABLED:
            switch_of[port_id.casefold()] = switch_id
    found: dict[str, list[NetworkAdapter]] = {}
    for row in ports:
        instance_id = text_of(row, "InstanceID")
        switch_id = switch_of.get(instance_id.casefold())
        switch = names.get(switch_id.casefold()) if switch_id is not None else None
        found.setdefault(owner_of(instance_id), []).append(
            NetworkAdapter(
                name=text_of(row, "ElementName"),
                mac_address=text_of(row, "Address").upper(),
                is_synthetic=text_of(row, "ResourceSubType").casefold() == _SYNTHETIC,
                switch_name=text_of(switch, "ElementName") if switch is not None else None,
                switch_id=text_of(switch, "Name") if switch is not None else switch_id,
            )
        )
    return {owner: tuple(adapters) for owner, adapters in found.items()}
