"""Floor 4, the master's durable state: an ordered key-value store with group commit."""
