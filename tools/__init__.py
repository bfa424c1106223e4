"""Programs that made what ships; nothing here runs in a host."""
