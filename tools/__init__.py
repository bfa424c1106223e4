"""Programs that created shipped files; no host runs them."""
