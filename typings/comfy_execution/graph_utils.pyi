"""Names of ComfyUI 0.33 that Safelight uses."""

class ExecutionBlocker:
    def __init__(self, message: str | None) -> None: ...
