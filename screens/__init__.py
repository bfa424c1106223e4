"""Screens of scripts: terminals and notebooks."""
