"""Names of ComfyUI 0.33 that Safelight uses."""

class BinaryEventTypes:
    PREVIEW_IMAGE: int
    UNENCODED_PREVIEW_IMAGE: int
    PREVIEW_IMAGE_WITH_METADATA: int
