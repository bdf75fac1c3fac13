"""Algorithms of ``perseus.algo`` run for real on a cluster; see DESIGN.md (floor 9)."""
