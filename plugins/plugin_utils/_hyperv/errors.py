# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The errors of the Hyper-V domain: one machine word, one sentence for people, and the facts behind both.

Not here: transport and protocol errors (`_wsman`), and how a task shows an error (the glue).
"""

from __future__ import annotations

from collections.abc import Mapping


class HypervError(Exception):
    """Something about the host, a VM or a disk is not as needed.

    Args:
        kind: a machine word that tasks return as `error.kind`, for example `unknown_vm`.
        sentence: what was found, what was needed, and what to do next.
        details: JSON types only (candidates, codes); never a secret.
    """

    def __init__(self, kind: str, sentence: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence
        self.details: dict[str, object] = dict(details or {})


class NotFound(HypervError):
    """No such thing on this machine; `details` may list what there is instead."""


class Ambiguous(HypervError):
    """More than one thing has that name; `details["candidates"]` lists them."""


class Precondition(HypervError):
    """The machine is not in the state, or has not the role or rights, that the step needs."""


class MethodFailed(HypervError):
    """A CIM method answered with a code other than success; `details` has class, method, code and its name."""


class JobFailed(HypervError):
    """A job of the host ended without success; `details` has state, error code and its name."""
