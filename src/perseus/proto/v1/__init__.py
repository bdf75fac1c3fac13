"""Generated from proto/perseus/v1 by tools/generate_protos.py; do not edit."""
