"""Ports to the outside world, and the drive of pure state machines (floor 1)."""
