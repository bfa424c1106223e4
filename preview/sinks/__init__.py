"""Places where the pictures of a run appear."""
