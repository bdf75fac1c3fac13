"""Builds a master or an agent out of real parts; the only place that chooses them (floor 10)."""
