"""Judges of recorded histories; each says what is wrong, not only that something is."""
