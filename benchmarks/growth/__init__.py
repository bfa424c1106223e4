"""Shows how the cost of previews grows with the size of a run and of a library."""
