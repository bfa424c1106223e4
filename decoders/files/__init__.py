"""Reads decoder files safely."""
