"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass

OK, CARE, BROKEN = "ok", "care", "MEND"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        name: What was looked at.
        found: What is there.
        state: ``OK``; ``CARE`` for what may slow a run down or stop another kind of run; ``BROKEN`` for what stops this one.
        mend: What to do about it, with the command.
    """

    name: str
    found: str
    state: str = OK
    mend: str | None = None


def as_text(findings: list[Finding]) -> str:
    """A line for each finding, and below it what to do."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<4}  {finding.name:<{width}}  {finding.found}")
        if finding.mend:
            lines.append(f"{'':<4}  {'':<{width}}  -> {finding.mend}")
    broken = sum(finding.state == BROKEN for finding in findings)
    lines.append("")
    lines.append("training can start" if not broken else f"{broken} to be mended before training can start")
    return "\n".join(lines)
