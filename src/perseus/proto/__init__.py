"""The protocol: generated messages (floor 0)."""
