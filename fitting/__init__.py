"""Fits decoders."""
