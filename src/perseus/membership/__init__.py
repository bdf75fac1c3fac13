"""Nodes: joining, sessions and leases, capacity and load, drain, leaving (floor 5)."""
