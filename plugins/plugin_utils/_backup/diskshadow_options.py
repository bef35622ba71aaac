# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this package is private to the hyperv.passthrough collection and may change without notice.
r"""What the engine `diskshadow` can be told: its options.

Responsible for their form. Not responsible for whether a provider exists or there is room (`diskshadow_plan.py`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from .errors import BackupError
from .target import parse_target

PROVIDERS = ("system", "hardware")
CONTEXTS = ("persistent", "client_accessible")
COPY_TYPES = ("differential", "plex")
DEFAULT_STORAGE = "10%"

_GUID = re.compile(r"\{?([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})\}?")
_PERCENT = re.compile(r"(\d{1,3})\s*%")
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiskShadowOptions:
    """Options of one backup with diskshadow.

    Attributes:
        provider: `system`, `hardware`, or the GUID of a provider (lower case, no braces).
        context: `persistent`; `client_accessible` copies (system provider only) can be reverted to, too.
        transportable: the set is imported elsewhere from its metadata file; hardware providers only.
        copy_type: `differential` or `plex` for providers that know both; None leaves it to the provider.
        metadata_copy: a second folder for the metadata file; None for none.
        copy_to: a folder into which the VM's files are copied out of the shadow copy; None for none.
        storage_needed: bytes, or per cent of the VM's files on a volume, that its shadow storage must have room for.
    """

    provider: str = "system"
    context: str = "persistent"
    transportable: bool = False
    copy_type: str | None = None
    metadata_copy: str | None = None
    copy_to: str | None = None
    storage_needed: str = DEFAULT_STORAGE

    def to_dict(self) -> dict[str, Any]:
        """What a backup set records; JSON types."""
        return dataclasses.asdict(self)

    def storage_bytes(self, file_bytes: int) -> int:
        match = _PERCENT.fullmatch(self.storage_needed)
        return file_bytes * int(match[1]) // 100 if match else int(self.storage_needed)


def parse_options(values: Mapping[str, Any] | None) -> DiskShadowOptions:
    """Read `engine_options`. Raises `BackupError` `bad_option` in one sentence, with the names there are."""
    given = dict(values or {})
    known = [field.name for field in dataclasses.fields(DiskShadowOptions)]
    unknown = sorted(str(name) for name in given if name not in known)
    if unknown:
        raise _bad(f"has no option {', '.join(unknown)}; it has {', '.join(known)}")
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in ("metadata_copy", "copy_to"):
        if name in found:
            found[name] = parse_target(str(found[name]), folders=True).text
    if "provider" in found:
        found["provider"] = _provider(found["provider"])
    _one_of(found, "context", CONTEXTS)
    _one_of(found, "copy_type", COPY_TYPES)
    if "transportable" in found:
        found["transportable"] = _boolean("transportable", found["transportable"])
    if "storage_needed" in found:
        found["storage_needed"] = _storage(found["storage_needed"])
    options = DiskShadowOptions(**found)
    if options.context == "client_accessible" and options.provider != "system":
        raise _bad("makes client_accessible copies with the system provider only; leave provider at system")
    if options.transportable and options.context != "persistent":
        raise _bad("makes transportable copies in context persistent only")
    if options.transportable and options.provider == "system":
        raise _bad("cannot make transportable copies with the system provider; set provider to hardware or to its GUID")
    if options.transportable and options.copy_to:
        raise _bad("cannot copy files out of a transportable set, which is readable only where it is imported")
    return options


def _provider(value: Any) -> str:
    text = str(value).strip()
    if text.casefold() in PROVIDERS:
        return text.casefold()
    match = _GUID.fullmatch(text)
    if match is None:
        raise _bad(f"takes as provider system, hardware or a provider's GUID, not {text!r}")
    return match[1].lower()


def _one_of(found: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> None:
    if name in found and found[name] not in allowed:
        raise _bad(f"takes as {name} one of {', '.join(allowed)}, not {found[name]!r}")


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().casefold()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise _bad(f"takes true or false as {name}, not {value!r}")


def _storage(value: Any) -> str:
    text = str(value).strip()
    if isinstance(value, bool) or not (_PERCENT.fullmatch(text) or re.fullmatch(r"\d{1,15}", text)):
        raise _bad(f"takes as storage_needed a number of bytes or per cent such as '10%', not {value!r}")
    return text


def _bad(what: str) -> BackupError:
    return BackupError("bad_option", f"The engine diskshadow {what}.")
