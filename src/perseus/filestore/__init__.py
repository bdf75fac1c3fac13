"""Files: namespace, chunks, replicas, streams (floor 6)."""
