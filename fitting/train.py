"""Trained forms: nets by gradient descent."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..decoders.nets.base import Net
from ..decoders.nets.conv import Conv
from ..errors import FitError
from .least_squares import Form, Sums, weights
from .metrics import psnr_db
from .muon import Muon
from .pairs import Pairs

EVERY = 250  # steps between looks at the pictures held back
CHUNK = 16  # pictures judged at once
WARM_UP = 100  # steps until the learning rate is at its highest; of a short training a tenth of it
MUON_LR = 10.0  # times that of AdamW
FIRST = 256  # pictures at least that the linear path begins with, of more
BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # names of such instructions
FLOOR = 1e-5  # of a picture's squared error: 50 dB, better than anything small gets


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The same recipe gives the same net on the same machine.

    Args:
        steps: of the optimiser.
        batch: pictures a step.
        lr: at its highest, after a short warm-up; it falls to nothing along a cosine.
        weight_decay: of AdamW, which learns all but the insides of convolutions.
        seed: for the first weights and the order of pictures.

    Raises:
        FitError: there would be nothing to train with.
    """

    steps: int = 3000
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not self.lr > 0:
            raise FitError(
                f"expected steps and pictures a step from 1 up and a learning rate above 0, "
                f"got {self.steps}, {self.batch} and {self.lr}"
            )


class Progress(NamedTuple):
    """Of a fit: the step done, of `steps`; of a training also its loss, and the dB when pictures held back were last
    looked at, else NaN.
    """

    step: int
    steps: int
    loss: float
    held_db: float


Report = Callable[[Progress], None]


def train(net: Net, fit: Pairs, held: Pairs, recipe: Recipe, report: Report = lambda _: None) -> float:
    """Trains `net` in place; it ends with the weights that did best on `held`, also when interrupted by the keyboard.

    What is made small is the mean over pictures of the logarithm of their squared error: that is the mean PSNR, so a
    dark, quiet picture counts as much as a loud one.

    Args:
        net: with parameters that can be trained: not made in somebody's inference mode.
        fit: the pairs to train on.
        held: the pairs to choose by.
        recipe: how.
        report: is told of every step; what it raises, `KeyboardInterrupt` aside, ends the training and is raised.

    Returns:
        The best PSNR on `held`, in dB, at the net's own size.
    """
    # A host may run its nodes without gradients, or in inference mode.
    with torch.inference_mode(False), torch.enable_grad():
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(recipe.seed)  # `torch.manual_seed` would seed every accelerator too
            _initialise(net, fit)
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        order = torch.Generator().manual_seed(recipe.seed)
        optimisers = _optimisers(net, recipe)
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe.steps))
            for optimiser in optimisers
        ]
        truth, faster = _truth(fit, net.scale), _multiplies_bfloat16()
        now = best = evaluate(net, held)
        best_state = _copy(net)
        try:
            for step in range(1, recipe.steps + 1):
                at = torch.randint(len(fit), (recipe.batch,), generator=order)
                with torch.autocast("cpu", torch.bfloat16, enabled=faster):
                    rgb = net(fit.latents[at].float().contiguous(memory_format=torch.channels_last))
                error = (rgb.float() - truth(at)).square().mean((1, 2, 3))
                loss = torch.log(error + FLOOR).mean()
                net.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                for optimiser, schedule in zip(optimisers, schedules, strict=True):
                    optimiser.step()
                    schedule.step()
                if (step % EVERY == 0 or step == recipe.steps) and (now := evaluate(net, held)) > best:
                    best, best_state = now, _copy(net)
                report(Progress(step, recipe.steps, float(loss.detach()), now))
        except KeyboardInterrupt:
            # Up to `EVERY` steps have not been looked at; a second interrupt does without them.
            with suppress(KeyboardInterrupt):
                if (now := evaluate(net, held)) > best:
                    best, best_state = now, _copy(net)
        net.load_state_dict(best_state)
        net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return best


@torch.no_grad()
def evaluate(net: Net, pairs: Pairs) -> float:
    """The mean PSNR in dB at the net's own size."""
    scores = [psnr_db(net(pairs.latents[at].float()), pairs.rgb(net.scale, at)) for at in chunks(pairs)]
    return float(torch.cat(scores).mean())


def _optimisers(net: Net, recipe: Recipe) -> list[torch.optim.Optimizer]:
    layers = net.hidden.modules() if isinstance(net, Conv) else ()
    inside = [layer.weight for layer in layers if isinstance(layer, nn.Conv2d)]
    among = {id(weight) for weight in inside}
    rest = [parameter for parameter in net.parameters() if id(parameter) not in among]
    adam = torch.optim.AdamW(rest, recipe.lr, weight_decay=recipe.weight_decay)
    muon = [Muon(inside, MUON_LR * recipe.lr)] if inside else []
    return [adam, *muon]


def _truth(fit: Pairs, scale: int) -> Callable[[Tensor], Tensor]:
    """The pictures of some pairs at `scale`, averaged once rather than at every step where that is what takes long."""
    if scale == fit.downscale:
        return lambda at: fit.rgb(scale, at)
    averaged = torch.cat([fit.rgb(scale, at).half() for at in chunks(fit)])
    return lambda at: averaged[at].float()


def chunks(pairs: Pairs) -> list[slice]:
    """Where pairs are in bounded numbers: what is made of all of them at once may not fit into memory."""
    return [slice(i, i + CHUNK) for i in range(0, len(pairs), CHUNK)]


def _multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it: a training takes half as long, and ends as well."""
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name, False) for name in BFLOAT16)


def _initialise(net: Net, fit: Pairs) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    if isinstance(net, Conv):
        # The linear path begins as the best closed form, the other one as nothing.
        form = Form(channels=fit.channels, kernel=net.linear.kernel_size[0], subpixel=net.scale)
        sums = Sums(form)
        for at in chunks(fit)[:: max(1, len(fit) // FIRST)]:
            sums.add(fit.latents[at].float(), fit.rgb(net.scale, at))
        net.linear.load_state_dict(weights(sums.solve(1e-4), form))
        for parameter in (*net.out.parameters(), *net.overall.parameters()):
            nn.init.zeros_(parameter)


def _rate(step: int, steps: int) -> float:
    warm_up = max(1, min(WARM_UP, steps // 10))
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def _copy(net: Net) -> Mapping[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in net.state_dict().items()}
