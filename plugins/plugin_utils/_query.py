# Copyright (c) 2026, the hyperv.passthrough authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this file is private to the hyperv.passthrough collection and may change without notice.
"""The option `query`: a JMESPath expression over a list of a task's result.

Responsible for: compiling it before the target is asked, applying it, and refusing it in one sentence. Not responsible for:
what is in the list.
"""

from __future__ import annotations

import typing as t

from ._task import TaskError


class _Select:
    """`check` an expression early, then call with the data: an operator's typing error must not cost a host query."""

    def check(self, expression: str | None) -> None:
        self._compile(expression)

    def __call__(self, expression: str | None, data: t.Any) -> t.Any:
        compiled = self._compile(expression)
        if compiled is None:
            return data
        import jmespath.exceptions

        try:
            return compiled.search(data)
        except jmespath.exceptions.JMESPathError as err:
            raise TaskError(
                "invalid_query", f"the query cannot be applied: {_one_line(err)}; see jmespath.org"
            ) from err

    @staticmethod
    def _compile(expression: str | None) -> t.Any:
        if expression is None:
            return None
        try:
            import jmespath
        except ImportError as err:
            raise TaskError(
                "missing_library",
                "option query needs the Python library jmespath on the controller; install jmespath or leave query out",
            ) from err
        try:
            return jmespath.compile(expression)
        except jmespath.exceptions.JMESPathError as err:
            raise TaskError("invalid_query", f"the query is not JMESPath: {_one_line(err)}; see jmespath.org") from err


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split())[:300]


select = _Select()
