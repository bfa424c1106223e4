"""Names of InvokeAI 6.14 that Safelight uses."""

import torch

class TorchDevice:
    @classmethod
    def choose_torch_device(cls) -> torch.device: ...
