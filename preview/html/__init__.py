"""HTML pages that contain the viewer."""
