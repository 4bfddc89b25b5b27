"""Re-rankers: one a room where they are large, one a file where they are small."""
