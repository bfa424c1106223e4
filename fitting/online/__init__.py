"""Fits decoders from the pictures that a host decodes anyway."""
