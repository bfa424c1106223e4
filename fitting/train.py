"""Trains nets by gradient descent."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ..decoders.nets.base import Net
from ..decoders.nets.conv import Conv
from ..errors import FitError
from .least_squares import PolynomialForm, Sums, polynomial_tensors
from .metrics import psnr_db
from .muon import Muon
from .pairs import Pairs
from .processes import ONE_PROCESS, Processes

VALIDATION_STEPS = 250  # steps between two validations
IMAGES_PER_SLICE = 16  # images decoded together in a validation
WARM_UP_STEPS = 100  # steps of rising learning rate; in a short training a tenth of its steps
MUON_LR = 10.0  # times the learning rate of AdamW
INITIAL_IMAGES = 256  # images, at least, that the linear path is solved on
BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")  # names of processor features for bfloat16 products
LINEAR_RIDGE = 1e-4  # only keeps the solution finite: training goes on from it
MAX_GRADIENT_NORM = 1.0  # of all weights together; larger ones, from a rare image, are shortened
CPU = torch.device("cpu")
NUMBERS = "numbers"  # key of the numbers of a state among its tensors
MSE_FLOOR = 1e-5  # added to an image's squared error: 50 dB, more than a small net reaches


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a training. The same recipe gives the same net on the same machine.

    Args:
        steps: number of optimizer steps.
        batch: images per step.
        lr: highest learning rate, after a short warm-up; it falls to 0 along a cosine.
        weight_decay: weight decay of AdamW, which trains all parameters but hidden convolution weights.
        seed: random seed for the first weights and the order of the images.
        device: device of the training, such as `cuda`. The finished net is on the CPU.

    Raises:
        FitError: a setting is out of range.
    """

    steps: int = 3000
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not self.lr > 0:
            raise FitError(
                f"expected steps and images per step from 1 up and a learning rate above 0, "
                f"got {self.steps}, {self.batch} and {self.lr}"
            )


class FitStep(NamedTuple):
    """A finished step of a fit. `loss` and `validation_db`, the last validation PSNR, are NaN for closed forms."""

    step: int
    steps: int
    loss: float
    validation_db: float


class TrainingState(NamedTuple):
    """A training in progress.

    Args:
        step: number of finished steps.
        now_db: last validation PSNR.
        best_db: best validation PSNR.
        tensors: weights now and at the best step, state of the optimizers and of the random numbers, by key.
    """

    step: int
    now_db: float
    best_db: float
    tensors: Mapping[str, Tensor]


OnStep = Callable[[FitStep], None]


Start = Callable[[Net, Iterable[Pairs], torch.Generator, Processes], None]


def initialize(net: Net, parts: Iterable[Pairs], random: torch.Generator, processes: Processes) -> None:
    """Draws the first weights. A `Conv` starts as the best closed form of the `parts` of all processes."""
    draw_weights(net, random)
    if isinstance(net, Conv):
        sums = Sums(linear_form(net))
        for pairs in parts:
            sums.add(pairs.latents.float(), pairs.rgb(net.scale))
        start_as_closed_form(net, sums.of_all(processes))


def train_net(
    net: Net,
    pairs: Pairs,
    validation: Pairs,
    recipe: Recipe,
    on_step: OnStep = lambda _: None,
    *,
    start: Start = initialize,
    earlier: TrainingState | None = None,
    on_state: Callable[[TrainingState], object] = lambda _: None,
    processes: Processes = ONE_PROCESS,
) -> float:
    """Trains `net` in place and restores its best weights by validation PSNR, also after a keyboard interrupt.

    The loss is the mean over images of the logarithm of their squared error. It is the mean PSNR, so that a dark, quiet
    image has the same influence as a bright, busy one.

    Args:
        net: net whose parameters were not created in inference mode.
        pairs: training pairs.
        validation: validation pairs.
        recipe: settings of the training.
        on_step: callback for each step. An exception from it ends the training and is raised again, except
            `KeyboardInterrupt`.
        start: function that sets the first weights, from the net, parts of the pairs, a random generator and the
            processes.
        earlier: state of an interrupted training with the same arguments, to go on with.
        on_state: callback for the state, after each validation and after an interrupt.
        processes: processes that train together, each on its own pairs, with `recipe.batch` images per step each.
            `earlier` is that of the first one.

    Returns:
        The best validation PSNR, in dB, at the net's own scale.
    """
    # A host may run its nodes without gradients, or in inference mode.
    with torch.inference_mode(False), torch.enable_grad():
        earlier = _state_of_first(earlier, processes)
        if earlier is None:
            parts = batch_slices(pairs)[:: max(1, len(pairs) // INITIAL_IMAGES)]
            start(net, (pairs[at] for at in parts), torch.Generator().manual_seed(recipe.seed), processes)
        device = torch.device(recipe.device)
        net.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        forward = processes.parallel(net)
        trainer = NetTrainer(net, validation, recipe, earlier, processes)
        truth, bfloat16 = _truth_of(pairs, net.scale), has_bfloat16(device)
        try:
            for step in range(trainer.step + 1, recipe.steps + 1):
                # All processes draw for all, so that one state of the generator fits each of them.
                drawn = torch.randint(len(pairs), (recipe.batch * processes.count,), generator=trainer.order)
                at = processes.share(drawn)
                latents = pairs.latents[at].to(device).float()
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    rgb = forward(latents.contiguous(memory_format=torch.channels_last))
                error = (rgb.float() - truth(at).to(device)).square().mean((1, 2, 3))
                loss = torch.log(error + MSE_FLOOR).mean()
                trainer.learn(loss)
                # Before the loss is read: a GPU that exchanges gradients with a lost process would wait for it.
                is_interrupted = processes.is_one_interrupted()
                if step % VALIDATION_STEPS == 0 or step == recipe.steps:
                    trainer.validate()
                    on_state(trainer.state())
                on_step(FitStep(step, recipe.steps, float(loss.detach()), trainer.now_db))
                if is_interrupted:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            # Up to `VALIDATION_STEPS` steps were not validated yet; a second interrupt skips this validation.
            with suppress(KeyboardInterrupt):
                on_state(trainer.state())
                trainer.validate()
        net.load_state_dict(trainer.best)
        net.to("cpu", memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return trainer.best_db


@final
class NetTrainer:
    """The optimizers of a net in training, and its best weights so far.

    Args:
        net: net with its first weights; those of `earlier` replace them.
        validation: validation pairs.
        recipe: settings of the training.
        earlier: state of an interrupted training to go on with.
        processes: processes that train together.
    """

    def __init__(
        self, net: Net, validation: Pairs, recipe: Recipe, earlier: TrainingState | None, processes: Processes
    ) -> None:
        self._net, self._validation, self._steps = net, validation, recipe.steps
        self._processes = processes
        self.order = torch.Generator().manual_seed(recipe.seed)
        self._optimizers = optimizers_of(net, recipe)
        self._schedules = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step, recipe.steps))
            for optimizer in self._optimizers
        ]
        if earlier is None:
            self.step, self.best = 0, _copy_state(net)
            self.now_db = self.best_db = mean_psnr_db(net, validation, processes)
        else:
            self.step, self.now_db, self.best_db = earlier.step, earlier.now_db, earlier.best_db
            self.best = self._restore(earlier.tensors)

    def learn(self, loss: Tensor) -> None:
        """Makes one step against `loss`."""
        self._net.zero_grad(set_to_none=True)
        with self._processes.noticing_losses():
            loss.backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), MAX_GRADIENT_NORM)
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
        self.step += 1

    def validate(self) -> None:
        """Scores the net, and copies its weights if they are the best so far."""
        self.now_db = mean_psnr_db(self._net, self._validation, self._processes)
        if self.now_db > self.best_db:
            self.best_db, self.best = self.now_db, _copy_state(self._net)

    def state(self) -> TrainingState:
        """The state, from which a later training goes on with the same results."""
        tensors = {"order": self.order.get_state()}
        tensors |= {f"net.{key}": tensor for key, tensor in _copy_state(self._net).items()}
        tensors |= {f"best.{key}": tensor for key, tensor in self.best.items()}
        for i, optimizer in enumerate(self._optimizers):
            for parameter, state in optimizer.state_dict()["state"].items():
                tensors |= {
                    f"optimizer.{i}.{parameter}.{name}": torch.as_tensor(value) for name, value in state.items()
                }
        return TrainingState(self.step, self.now_db, self.best_db, {key: value.cpu() for key, value in tensors.items()})

    def _restore(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Restores the tensors of a state; returns the best weights."""
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "best": {}}
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._optimizers]
        for key, tensor in tensors.items():
            part, _, rest = key.partition(".")
            if part == "optimizer":
                i, parameter, name = rest.split(".")
                states[int(i)].setdefault(int(parameter), {})[name] = tensor.clone()
            elif part in parts:
                parts[part][rest] = tensor.clone()
        self._net.load_state_dict(parts["net"])
        self.order.set_state(tensors["order"].clone())
        for optimizer, schedule, state in zip(self._optimizers, self._schedules, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
            schedule.last_epoch = self.step
            for group, lr in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = lr * _learning_rate(self.step, self._steps)
        return parts["best"]


@torch.no_grad()
def mean_psnr_db(net: Net, pairs: Pairs, processes: Processes = ONE_PROCESS) -> float:
    """Computes the mean PSNR in dB over the pairs of all processes, at the net's own scale, on the net's device."""
    device = next((parameter.device for parameter in net.parameters()), CPU)
    scores = [
        psnr_db(net(pairs.latents[at].to(device).float()), pairs.rgb(net.scale, at).to(device))
        for at in batch_slices(pairs)
    ]
    return processes.mean(torch.cat(scores))


def optimizers_of(net: Net, recipe: Recipe) -> list[torch.optim.Optimizer]:
    layers = net.hidden.modules() if isinstance(net, Conv) else ()
    hidden = [layer.weight for layer in layers if isinstance(layer, nn.Conv2d)]
    hidden_ids = {id(weight) for weight in hidden}
    rest = [parameter for parameter in net.parameters() if id(parameter) not in hidden_ids]
    adam = torch.optim.AdamW(rest, recipe.lr, weight_decay=recipe.weight_decay)
    muon = [Muon(hidden, MUON_LR * recipe.lr)] if hidden else []
    return [adam, *muon]


def _truth_of(pairs: Pairs, scale: int) -> Callable[[Tensor], Tensor]:
    """Returns a function from indices to images at `scale`; averages all images once, not at every step."""
    if scale == pairs.downscale:
        return lambda at: pairs.rgb(scale, at)
    averaged = torch.cat([pairs.rgb(scale, at).half() for at in batch_slices(pairs)])
    return lambda at: averaged[at].float()


def batch_slices(pairs: Pairs) -> list[slice]:
    """Slices of bounded length: results for all pairs together may not fit into memory."""
    return [slice(i, i + IMAGES_PER_SLICE) for i in range(0, len(pairs), IMAGES_PER_SLICE)]


def has_bfloat16(device: torch.device = CPU) -> bool:
    """Whether a device multiplies bfloat16: a training then takes half the time for the same quality."""
    if device.type != "cpu":
        return getattr(getattr(torch, device.type, None), "is_bf16_supported", bool)()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in BFLOAT16_FEATURES)


@torch.no_grad()
def draw_weights(net: Net, random: torch.Generator) -> None:
    """Draws the first weights, as PyTorch does by default.

    `reset_parameters` would draw from the generator of the process: a sampler on another thread needs its numbers.

    Source: PyTorch 2.11 `torch/nn/init.py`, `kaiming_uniform_` with a² = 5.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            inputs = math.sqrt(module.weight[0].numel())
            bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / inputs)
            module.weight.uniform_(-bound, bound, generator=random)
            if module.bias is not None:
                module.bias.uniform_(-1 / inputs, 1 / inputs, generator=random)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif any(True for _ in module.parameters(recurse=False)):  # else its weights would be whatever was in memory
            raise TypeError(f"no first weights are known for a {type(module).__name__}")


def linear_form(net: Conv) -> PolynomialForm:
    """The form of the linear path of a net."""
    return PolynomialForm(channels=net.linear.in_channels, kernel=net.linear.kernel_size[0], subpixel=net.scale)


def start_as_closed_form(net: Conv, sums: Sums) -> None:
    """Sets the linear path of a net to the solution of sums of its `linear_form`, and the other path to zero.

    Raises:
        FitError: as for `Sums.solve`.
    """
    net.linear.load_state_dict(polynomial_tensors(sums.solve(LINEAR_RIDGE), sums.form))
    for parameter in (*net.out.parameters(), *net.overall.parameters()):
        nn.init.zeros_(parameter)


def _state_of_first(state: TrainingState | None, processes: Processes) -> TrainingState | None:
    """The state that the first process has."""
    numbers = {} if state is None else {NUMBERS: torch.tensor(state[:3], dtype=torch.float64)}
    tensors = processes.tensors_of_first(state and {**state.tensors, **numbers})
    if tensors is None:
        return None
    step, now_db, best_db = tensors[NUMBERS].tolist()
    return TrainingState(int(step), now_db, best_db, tensors)


def _learning_rate(step: int, steps: int) -> float:
    warm_up = max(1, min(WARM_UP_STEPS, steps // 10))
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def _copy_state(net: Net) -> Mapping[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in net.state_dict().items()}
