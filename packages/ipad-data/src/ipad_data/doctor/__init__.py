"""``ipad-data doctor``: what a data folder holds and what to do about it."""

from __future__ import annotations

from ipad_data.doctor.diagnosis import AttributeCount, Diagnosis, ProtocolReport
from ipad_data.doctor.examination import examine

__all__ = ["AttributeCount", "Diagnosis", "ProtocolReport", "examine"]
