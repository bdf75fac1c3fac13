"""The public Python API behind ``import perseus`` (floor 8); see ``client.cluster``."""
