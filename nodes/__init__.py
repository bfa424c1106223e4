"""What a person sees on the graph."""
