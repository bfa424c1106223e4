"""Decoders that ship. Data, not code."""
