# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operating systems that a simulated machine may run, by the words of a world file; what they tell of themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OperatingSystem:
    """What Win32_OperatingSystem tells. ``product_type`` 1 workstation, 2 domain controller, 3 server."""

    caption: str = "Microsoft Windows Server 2022 Datacenter"
    version: str = "10.0.20348"
    build: str = "20348"
    product_type: int = 3
    sku: int = 8
    edition: str = "ServerDatacenter"
    locale: str = "en-US"
    utc_offset: int = 0
    time_zone: str = "UTC"
    family: str = "windows"


OPERATING_SYSTEMS: dict[str, OperatingSystem] = {
    "server2016": OperatingSystem(
        caption="Microsoft Windows Server 2016 Datacenter", version="10.0.14393", build="14393"
    ),
    "server2019": OperatingSystem(
        caption="Microsoft Windows Server 2019 Datacenter", version="10.0.17763", build="17763"
    ),
    "server2022": OperatingSystem(),
    "server2025": OperatingSystem(
        caption="Microsoft Windows Server 2025 Datacenter", version="10.0.26100", build="26100"
    ),
    "windows10": OperatingSystem(
        caption="Microsoft Windows 10 Pro", version="10.0.19045", build="19045", product_type=1, sku=48, edition="Pro"
    ),
    "windows11": OperatingSystem(
        caption="Microsoft Windows 11 Pro", version="10.0.22631", build="22631", product_type=1, sku=48, edition="Pro"
    ),
    "linux": OperatingSystem(
        caption="Debian GNU/Linux 12 (bookworm)",
        version="6.1.0",
        build="6.1.0-18-amd64",
        product_type=0,
        sku=0,
        family="linux",
    ),
}
