"""``ipad-train doctor``: whether this machine can train, and what to mend."""
