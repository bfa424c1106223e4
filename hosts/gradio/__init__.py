"""A small gradio app around a diffusers pipeline."""
