"""Names of ComfyUI 0.33 that Safelight uses."""

class WrappersMP:
    OUTER_SAMPLE: str
    SAMPLER_SAMPLE: str
