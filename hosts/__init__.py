"""How each host says it. With `nodes`, the only room that may import a host."""
