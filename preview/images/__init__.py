"""Turns pixels into the bytes of image files."""
