"""Trains a small net on the pairs that were learned from, while the machine is idle, in slices of a few milliseconds.

The net starts as a closed form, as a decoder that ships for the space, or as the net of the last training. It is judged
on the test pairs before it is trained. The weights that are judged and written are a running mean of those in training.
If they stop to gain on the test pairs, the learning rate is halved; at its lowest the training is finished, until there
are more pictures.

Settings were chosen on FLUX.2, 18 training pairs of 512 px and 6 test pairs (ImageNet), one thread for 150 s: with a
learning rate of 8e-4 31.3 dB on the test pairs, with 2e-3 29.6 dB.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ...decoders.catalogue import Catalogue
from ...decoders.decoder import Card, Decoder
from ...decoders.files.decoder_file import build, read_card, read_decoder, write_decoder
from ...decoders.measured_scores import read_measured
from ...decoders.nets.base import Net
from ...decoders.nets.conv import Conv
from ...errors import DecoderFileError, FitError, SafelightError
from ..least_squares import Sums
from ..metrics import psnr_db, resize_rgb
from ..pairs import Pairs
from ..presets import PRESETS
from ..train import (
    MAX_GRADIENT_NORM,
    MSE_FLOOR,
    Recipe,
    draw_weights,
    has_bfloat16,
    linear_form,
    optimizers_of,
    start_as_closed_form,
)
from .learned_files import LearnedFiles
from .state import OnlineState
from .update import MIN_TEST_PAIRS, Judged, publish_net

PRESET = "conv"
MIN_PICTURES = 12  # three quarters of 16 decodes
PICTURES_PER_STEP = 4
LR, MIN_LR = 8e-4, 1e-4
LATENT_NOISE = 0.05  # standard deviation; half-way latents of a sampler are never as clean as finished ones
MEAN_DECAY = 0.997  # of the running mean of the weights: of the last 330 steps
WARM_UP_STEPS = 30
JUDGE_EVERY = 200  # steps between two scores on the test pairs
MAX_UNJUDGED_STEPS = 20  # steps that may be lost
PATIENCE = 4  # scores without a gain until the learning rate is halved
MIN_TRAINING_GAIN_DB = 0.02
MORE_PICTURES = 1.25  # a finished training goes on with so many times the pictures
SLICE_S = 0.025  # target; a prompt that begins waits for the end of a slice
MIN_SIDE, MAX_SIDE = 32, 64  # latent pixels of a training crop: the mean of a smaller one is far from the picture's


@final
class NetTraining:
    """The training of one net. Each `advance` uses one picture: for the closed form, to train, or to judge.

    Args:
        files: files of the space and the VAE.
        state: state of online learning, with the test pairs.
        pairs: training pairs of any sizes.
        pictures: number of training pairs so far, with those that are no longer saved.
        net: net to train; its weights change.
        closed_form: empty sums for the closed form that a new net starts as; None for a net that was trained before.
        lr: learning rate to begin with.
        best_db: score of the net, if it was judged on these test pairs.
        clock: function that returns the seconds that this thread computed.
    """

    def __init__(
        self,
        files: LearnedFiles,
        state: OnlineState,
        pairs: Sequence[Pairs],
        pictures: int,
        net: Conv,
        closed_form: Sums | None = None,
        *,
        lr: float = LR,
        best_db: float = -torch.inf,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._files, self._state, self._pairs, self._pictures, self._clock = files, state, pairs, pictures, clock
        self._net, self._closed_form, self._lr, self._best_db = net, closed_form, lr, best_db
        self._bfloat16 = has_bfloat16()
        net.requires_grad_(True).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._optimizers = optimizers_of(net, Recipe(lr=lr))
        self._full_lrs = [group["lr"] / lr for each in self._optimizers for group in each.param_groups]
        self._mean = self._weights()
        self._random = torch.Generator().manual_seed(state.decodes)
        self._side = MIN_SIDE
        self._summed = self._steps = self._in_step = self._without_gain = 0
        self._scores: list[Tensor] | None = [] if best_db == -torch.inf else None  # while the mean is judged

    @property
    def is_finished(self) -> bool:
        """Whether the net gains no more from these pictures."""
        return self._lr < MIN_LR

    @property
    def is_judged(self) -> bool:
        """Whether the net has just been judged, so that little is lost if another training replaces this one."""
        return self._scores is None and self._steps % JUDGE_EVERY < MAX_UNJUDGED_STEPS

    def advance(self) -> str | None:
        """Uses one picture, in about `SLICE_S`. Returns a text for the user if a decoder changed.

        Raises:
            FitError: the pictures are too few or too plain for a closed form.
            OSError: a file cannot be written.
        """
        with torch.inference_mode(False):
            if self._closed_form is not None:
                with torch.no_grad():
                    self._sum_one(self._closed_form)
                return None
            if self._scores is None:
                with torch.enable_grad():
                    self._train_on_one()
                return None
            with torch.no_grad():
                return self._judge_on_one(self._scores)

    def _sum_one(self, sums: Sums) -> None:
        began = self._clock()
        latents, rgb = self._crop(self._pairs[self._summed])
        sums.add(latents, rgb)
        self._adapt_side(latents, began)
        self._summed += 1
        if self._summed == len(self._pairs):
            start_as_closed_form(self._net, sums)
            self._mean, self._closed_form, self._side = self._weights(), None, MIN_SIDE

    def _train_on_one(self) -> None:
        began = self._clock()
        latents, rgb = self._crop(self._pairs[self._draw(len(self._pairs))])
        latents = latents + LATENT_NOISE * torch.randn(latents.shape, generator=self._random)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            out = self._net(latents.contiguous(memory_format=torch.channels_last))
        loss = torch.log((out.float() - rgb).square().mean() + MSE_FLOOR)
        (loss / PICTURES_PER_STEP).backward()
        self._in_step += 1
        if self._in_step == PICTURES_PER_STEP:
            self._in_step = 0
            self._step()
        self._adapt_side(latents, began)

    def _adapt_side(self, latents: Tensor, began: float) -> None:
        """Chooses the size of the next crop: the time of a slice grows with the area of its crop."""
        spent = max(1e-6, self._clock() - began)
        side = int(latents.shape[-1] * (SLICE_S / spent) ** 0.5)
        self._side = max(MIN_SIDE, min(MAX_SIDE, side, 2 * self._side))

    def _crop(self, pair: Pairs) -> tuple[Tensor, Tensor]:
        scale, sizes = self._net.scale, pair.latents.shape[2:]
        sides = [min(self._side, size) for size in sizes]
        top, left = (self._draw(size - side + 1) for size, side in zip(sizes, sides, strict=True))
        latents = pair.latents[:, :, top : top + sides[0], left : left + sides[1]].float()
        r = pair.downscale
        pixels = pair.pixels[:, :, top * r : (top + sides[0]) * r, left * r : (left + sides[1]) * r]
        return latents, Pairs(latents, pixels).rgb(scale)

    def _draw(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self._random))

    def _step(self) -> None:
        self._steps += 1
        nn.utils.clip_grad_norm_(self._net.parameters(), MAX_GRADIENT_NORM)
        groups = [group for each in self._optimizers for group in each.param_groups]
        for group, full in zip(groups, self._full_lrs, strict=True):
            group["lr"] = full * self._lr * min(1.0, self._steps / WARM_UP_STEPS)
        for optimizer in self._optimizers:
            optimizer.step()
        self._net.zero_grad(set_to_none=True)
        decay = min(MEAN_DECAY, (1 + self._steps) / (10 + self._steps))
        for key, tensor in self._net.state_dict().items():
            self._mean[key].lerp_(tensor.detach(), 1 - decay)
        if self._steps % JUDGE_EVERY == 0:
            self._scores = []

    def _weights(self) -> dict[str, Tensor]:
        return {key: tensor.detach().clone() for key, tensor in self._net.state_dict().items()}

    def _judge_on_one(self, scores: list[Tensor]) -> str | None:
        pair = self._state.test_pairs[len(scores)].pair
        rgb = self._decoder().decode(pair.latents.float())
        scores.append(psnr_db(resize_rgb(rgb, *pair.latents.shape[2:]), pair.rgb(1)))
        if len(scores) < len(self._state.test_pairs):
            return None
        self._scores = None
        db = round(float(torch.cat(scores).mean()), 4)
        if db > self._best_db + MIN_TRAINING_GAIN_DB:
            self._best_db, self._without_gain = db, 0
            return self._save(db)
        self._without_gain += 1
        if self._without_gain >= PATIENCE:
            self._lr, self._without_gain = self._lr / 2, 0
            self._save_progress()
        return None

    def _decoder(self) -> Decoder:
        settings = PRESETS[PRESET].settings(self._state.space.channels, self._net.scale)
        return self._state.decoder_of(build(PRESET, settings, self._mean), settings)

    def _save(self, db: float) -> str | None:
        decoder = self._decoder()
        self._write(decoder)
        return publish_net(self._files, Judged(db, decoder), self._state.judged_on)

    def _save_progress(self) -> None:
        """Saves the learning rate with the best net, so that a restart does not begin at the highest one."""
        try:
            self._write(read_decoder(self._files.net))
        except (DecoderFileError, OSError):  # none was saved yet, or it was removed meanwhile
            return

    def _write(self, decoder: Decoder) -> None:
        progress = {
            "psnr_latent_db": self._best_db,
            "judged_on": self._state.judged_on,
            "lr": self._lr,
            "training_pictures": self._pictures,
        }
        with self._files.locked():
            if self._files.state.exists():  # else what was learned was removed meanwhile
                write_decoder(self._files.net, replace(decoder.card, metrics=progress), decoder.net.state_dict())


def is_due(files: LearnedFiles) -> bool:
    """Whether there are enough pictures to train a net, and new ones since the last training finished."""
    pairs = files.pairs()
    if len(pairs.list()) < MIN_PICTURES or not files.state.is_file():
        return False
    if read_measured(files.folder, files.space, files.vae) is None:  # no decoder of the space was compared
        return False
    progress = _progress(files)
    return progress.get("lr", LR) >= MIN_LR or _grew(pairs.added, progress)


def open_training(
    files: LearnedFiles, catalogue: Catalogue, clock: Callable[[], float] = time.thread_time
) -> NetTraining:
    """Begins a training, or continues the last one.

    Args:
        files: files of the space and the VAE.
        catalogue: installed decoders, to begin at one that ships.
        clock: function that returns the seconds that this thread computed.

    Raises:
        FitError: the state cannot be read, or there are too few pictures.
        OSError: a file cannot be read.
    """
    state, store = OnlineState.load(files.state), files.pairs()
    pictures, pairs = store.added, list(store.load(state.space.channels))
    if len(pairs) < MIN_PICTURES or len(state.test_pairs) < MIN_TEST_PAIRS:
        raise FitError(
            f"{files.parent}: {len(pairs)} pictures to train on and {len(state.test_pairs)} to judge on can be read; "
            f"the training of a net begins with {MIN_PICTURES} and {MIN_TEST_PAIRS}"
        )
    progress = _progress(files)
    with torch.inference_mode(False):
        net = _saved_net(files, state, pairs, catalogue)
        is_last = net is not None and progress.get("judged_on") == state.judged_on
        closed_form = None
        if net is None:
            with torch.device("meta"):  # draws no weights
                net = Conv(**_settings(state, pairs))
            draw_weights(net.to_empty(device="cpu"), torch.Generator().manual_seed(0))
            closed_form = Sums(linear_form(net))
        return NetTraining(
            files,
            state,
            pairs,
            pictures,
            net,
            closed_form,
            lr=LR if _grew(pictures, progress) else max(MIN_LR, progress.get("lr", LR)),
            best_db=progress["psnr_latent_db"] if is_last else -torch.inf,
            clock=clock,
        )


def _saved_net(files: LearnedFiles, state: OnlineState, pairs: Sequence[Pairs], catalogue: Catalogue) -> Conv | None:
    """The net of the last training, or else an installed one of the same settings."""
    settings = _plain(_settings(state, pairs))
    for found in (
        files.net,
        *(c.file for c in catalogue.of(state.space, vae=state.vae) if c.card.kind == PRESET and c.file),
    ):
        try:
            decoder = read_decoder(found)
        except (SafelightError, OSError):
            continue
        if _plain(dict(decoder.card.settings)) == settings:
            return _conv(decoder.net)
    return None


def _settings(state: OnlineState, pairs: Sequence[Pairs]) -> dict[str, Any]:
    return PRESETS[PRESET].settings(state.space.channels, min(pair.downscale for pair in pairs))


def _grew(pictures: int, progress: Mapping[str, float]) -> bool:
    return pictures >= MORE_PICTURES * progress.get("training_pictures", pictures)


def _conv(net: Net) -> Conv:
    assert isinstance(net, Conv)  # noqa: S101  the kind is `conv`
    return net


def _plain(value: object) -> object:
    """A value as JSON has it: tuples are lists."""
    return json.loads(json.dumps(value))


def _progress(files: LearnedFiles) -> dict[str, float]:
    """The progress that is saved with the net in training; empty if there is none."""
    try:
        card: Card = read_card(files.net)
    except DecoderFileError:
        return {}
    numbers = ("psnr_latent_db", "lr", "training_pictures")
    if not all(isinstance(card.metrics.get(name), float | int) for name in numbers):
        return {}
    return dict(card.metrics)
