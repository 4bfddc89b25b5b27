"""What is wrong with label files and can be lived with: an error, or a warning where the user says so."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from ipad_data.errors import DataWarning, LabelFileError

FAULTS = ("raise", "warn")
_SHOWN = 3


@dataclass
class Faults:
    """Faults of label files, collected by kind, so that one message tells of all of them.

    Args:
        policy: ``raise`` makes them an error, ``warn`` a warning.
        found: Kind of fault -> where it was found.
    """

    policy: str = "raise"
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Note a fault: what it is, as a text that goes on after a number, and where."""
        self.found.setdefault(kind, []).append(where)

    def lines(self) -> list[str]:
        """One line for each kind of fault: how many there are, what they are, where the first of them are."""
        return [
            f"{len(places)} {kind}, e.g. {'; '.join(places[:_SHOWN])}" for kind, places in sorted(self.found.items())
        ]

    def settle(self, subject: str) -> None:
        """Raise or warn about what was found, if anything.

        Args:
            subject: What the faults are of.

        Raises:
            LabelFileError: there are faults and the policy is ``raise``.
        """
        lines = self.lines()
        if not lines:
            return
        text = "\n  ".join([f"{subject}: the labels contradict themselves:", *lines])
        if self.policy == "raise":
            raise LabelFileError(
                f"{text}\n  Get the files again or mend them; faults='warn' goes on with them as they are."
            )
        warnings.warn(text, DataWarning, stacklevel=3)
