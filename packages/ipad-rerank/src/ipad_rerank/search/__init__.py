"""Vectors, rankings, and the exact search that leads from one to the other."""
