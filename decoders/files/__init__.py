"""Reads and writes decoder files without running code from them."""
