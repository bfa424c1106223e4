"""Identifies a VAE by a few of its weights, so that what was learned from one VAE is not mixed with another."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

MAX_TENSORS, VALUES_PER_TENSOR = 16, 64  # a thousand numbers: fine-tuning changes nearly all weights
FINGERPRINT_DIGITS = 12


@torch.no_grad()
def vae_fingerprint(vae: nn.Module, read: Callable[[str, Tensor], Tensor] = lambda _, weight: weight) -> str:
    """Computes a fingerprint of 12 hexadecimal digits from some weights of a VAE.

    Weights are rounded to bfloat16 first: the same VAE in float32 and in bfloat16 has the same fingerprint. In float16
    it may have another one; it is then learned separately.

    Args:
        vae: the VAE's module, on any device. Its weights are not changed.
        read: function that returns the values of a weight, from its name and its tensor, which may be on device "meta".

    Returns:
        The fingerprint; empty if the module has no floating point weights, or if some of those that are used hold no
        values (device "meta"), because they are elsewhere for the moment.
    """
    found = {name: tensor for name, tensor in vae.state_dict().items() if isinstance(tensor, Tensor)}
    weights = sorted(name for name, tensor in found.items() if tensor.is_floating_point() and tensor.numel())
    count = min(MAX_TENSORS, len(weights))
    names = (weights[i * len(weights) // count] for i in range(count))
    chosen = {name: read(name, found[name]) for name in names}
    if not chosen or any(tensor.is_meta for tensor in chosen.values()):
        return ""
    digest = hashlib.sha256()
    for name, tensor in chosen.items():
        flat = tensor.detach().flatten()
        values = flat[:: max(1, flat.numel() // VALUES_PER_TENSOR)][:VALUES_PER_TENSOR]
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(values.to("cpu", torch.float32).to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
