# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the product reads or calls beyond what the simulator knows: two schemas, written apart from the same facts."""

from __future__ import annotations

from ansible_collections.hyperv.passthrough.plugins.plugin_utils._hyperv.schema import SCHEMA
from simulator.schema import Schema


def beyond(schema: Schema) -> list[str]:
    """Names of classes, properties, methods and parameters that only the product knows."""
    found = []
    for mine in SCHEMA:
        theirs = schema.find(mine.namespace, mine.name)
        if theirs is None:
            found.append(f"{mine.namespace}:{mine.name}")
            continue
        found += [f"{mine.name}.{name}" for name in mine.properties if theirs.find_property(name) is None]
        for method in mine.methods:
            other = theirs.find_method(method.name)
            if other is None:
                found.append(f"{mine.name}.{method.name}()")
                continue
            known = {parameter.name.casefold() for parameter in other.parameters}
            found += [
                f"{mine.name}.{method.name}({parameter.name})"
                for parameter in method.parameters
                if parameter.name.casefold() not in known
            ]
    return found


def test_the_product_reads_and_calls_nothing_that_the_simulator_does_not_know() -> None:
    assert beyond(Schema.shared()) == []


def test_the_product_knows_classes_at_all() -> None:
    assert len(list(SCHEMA)) > 20
