"""Names of ComfyUI 0.33 that Safelight uses."""

import torch

class NestedTensor:
    def __init__(self, tensors: list[torch.Tensor]) -> None: ...
    def unbind(self) -> list[torch.Tensor]: ...
