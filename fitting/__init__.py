"""Makes decoders."""
