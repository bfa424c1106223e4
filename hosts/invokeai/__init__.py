"""How InvokeAI says it."""
