# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
"""The errors of the backup layer: one machine word, one sentence for people.

They are errors of the Hyper-V domain to the glue, which shows all of them in one way.
"""

from __future__ import annotations

from .._hyperv.errors import HypervError


class BackupError(HypervError):
    """A backup, a backup set or a lease cannot be had; see `HypervError` for `kind`, `sentence` and `details`."""


class LeaseLost(BackupError):
    """Somebody else may hold what we held; the run must stop changing things. `kind` is `superseded`."""


class SetUnreadable(BackupError):
    """A backup set's record cannot be used; `kind` is `set_unreadable` or `set_too_new`."""


class TargetRefused(BackupError):
    """The backup target cannot be used; `kind` says why (`target_missing`, `target_full`, `target_is_source`...)."""
