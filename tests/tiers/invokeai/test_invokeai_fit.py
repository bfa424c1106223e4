"""Fitting decoders in InvokeAI, with a VAE and contexts that look like the host's."""

from contextlib import contextmanager
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import read_card
from safelight.decoders.latents.identify import Evidence, identify
from safelight.errors import ContradictionError, FitError, SpaceError
from safelight.fitting.fit import FitOptions
from safelight.hosts.invokeai import fitting
from safelight.hosts.invokeai.fitting import FROM_VAE, FitHost, fit_decoder
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.quick_decode import quick_decode
from safelight.hosts.invokeai.watch import watched
from safelight.preview.manifest import read_manifest


class CancelledError(Exception):
    pass


HOST = FitHost(device=lambda: torch.device("cpu"), cancelled=CancelledError)


def vae(channels=4, **config):
    """An AutoencoderKL with weights drawn here, that makes latents of an eighth."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = diffusers.AutoencoderKL(
            latent_channels=channels,
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=8,
            **config,
        )
    return made.eval().requires_grad_(False)


def photographs(count, side=96):
    """Soft gradients in colour."""
    draw = np.random.default_rng(0)
    small = (Image.fromarray(draw.integers(0, 256, (5, 5, 3), np.uint8)) for _ in range(count))
    return {f"{i}.png": one.resize((side, side), Image.Resampling.BICUBIC) for i, one in enumerate(small)}


class Loaded:
    """The host's LoadedModel."""

    def __init__(self, module):
        self.module, self.on_device = module, False

    @contextmanager
    def model_on_device(self):
        self.on_device = True
        try:
            yield None, self.module
        finally:
            self.on_device = False


class Lab:
    """An InvokeAI with a VAE and some images."""

    def __init__(self, root, module, images=None, base="sd-1", cancel_after=None):
        self.root, self.loaded, self.base = root, Loaded(module), base
        self.images = photographs(6) if images is None else images
        self.signals, self.cancel_after = [], cancel_after
        self.util = self
        self.config = SimpleNamespace(
            get=lambda: SimpleNamespace(root_path=str(root), outputs_path=str(root / "outputs"))
        )
        self.models = SimpleNamespace(load=lambda _: self.loaded)

    def get_dto(self, name):
        return SimpleNamespace(width=self.images[name].width, height=self.images[name].height)

    def get_pil(self, name):
        return self.images[name]

    def is_canceled(self):
        return self.cancel_after is not None and len(self.signals) >= self.cancel_after

    def signal_progress(self, message, percentage=None):
        self.signals.append((message, percentage))

    def fit(self, **choices):
        context = SimpleNamespace(util=self, config=self.config, models=self.models, images=self)
        identifier = SimpleNamespace(base=SimpleNamespace(value=self.base))
        return fit_decoder(
            context, identifier, list(self.images), FitOptions(**{"space": FROM_VAE, "kind": "affine", **choices}), HOST
        )


@pytest.fixture(autouse=True)
def _version(monkeypatch):
    monkeypatch.setattr(fitting, "host_version", lambda: "6.0")


@pytest.fixture(autouse=True)
def _random_vaes_are_plausible(monkeypatch):
    """The VAEs of these tests are random; `test_plausibility.py` tests the check."""
    monkeypatch.setattr("safelight.fitting.fit.require_known_scores", lambda *_: None)


def folder(root):
    return sorted(path.name for path in (root / "safelight").glob("*"))


def test_what_was_fitted_is_in_the_root_and_auto_takes_it_from_the_next_run_on(tmp_path):
    lab = Lab(tmp_path, vae(), photographs(6, side=256))
    report, summary = lab.fit()
    assert folder(tmp_path) == ["sd1-affine.safetensors"]
    card = read_card(tmp_path / "safelight" / "sd1-affine.safetensors")
    assert (card.space, card.kind) == ("sd1", "polynomial")
    assert card.source == "Safelight: Fit Preview Decoder in InvokeAI 6.0, kind affine, seed 0"
    assert "sd1-affine: auto uses it from the next run on" in summary
    assert f"Saved: {tmp_path / 'safelight' / 'sd1-affine.safetensors'}" in summary
    assert report.mode == "RGB"
    assert min(report.size) > 100

    def invoke(context):
        state = SimpleNamespace(
            step=1, order=1, total_steps=1, timestep=0, latents=torch.zeros(1, 4, 6, 8), predicted_original=None
        )
        context.util.sd_step_callback(state, "sd-1")

    util = SimpleNamespace(is_canceled=lambda: False, signal_progress=lambda *_: None, sd_step_callback=None)
    context = SimpleNamespace(util=util, config=lab.config)
    watched(invoke, context, SimpleNamespace(id="d"), InvokeOptions(write_intermediates=True, filename_prefix="run"))
    assert read_manifest(tmp_path / "outputs" / "run_00001")["decoder"]["name"] == "sd1-affine"


class AutoencoderKL(torch.nn.Module):
    """One whose latents are mean colours."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor([5.0, -3.0, 2.0, 1.0]), requires_grad=False)

    def encode(self, rgb):
        colours = torch.nn.functional.avg_pool2d(rgb, 8)
        latents = torch.cat([colours, colours[:, :1]], 1) * self.gain[:, None, None] + 1
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))


def test_its_latents_are_what_the_models_sampler_holds(tmp_path):
    module = AutoencoderKL()
    lab = Lab(tmp_path, module)
    lab.fit()
    rgb = torch.from_numpy(np.array(lab.images["0.png"])).movedim(-1, 0)[None].float() / 255
    latents = module.encode(rgb * 2 - 1).latent_dist.mode() * 0.18215
    shown = np.asarray(quick_decode(latents, tmp_path, base="sd-1", wanted="sd1-affine"), np.float32)
    truth = torch.nn.functional.avg_pool2d(rgb, 8)[0].movedim(0, -1).numpy() * 255
    assert np.abs(shown - truth).max() < 3


def test_how_far_it_is_is_told_from_nothing_to_almost_all(tmp_path):
    lab = Lab(tmp_path, vae())
    lab.fit()
    shares = [share for _, share in lab.signals]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1] > 0.98) == (0.0, True)
    assert {message for message, _ in lab.signals} == {"Encoding images", "Fitting affine"}


@pytest.mark.parametrize("after", [1, 3, 6])
def test_cancelled_it_ends_with_the_hosts_exception_and_writes_nothing(tmp_path, after):
    lab = Lab(tmp_path, vae(), cancel_after=after)
    with pytest.raises(CancelledError):
        lab.fit()
    assert len(lab.signals) == after
    assert folder(tmp_path) == []
    assert not lab.loaded.on_device


def test_a_vae_in_half_precision_encodes_in_float32_and_is_left_as_it_was(tmp_path):
    module = vae().half()
    seen = set()
    module.encoder.conv_in.register_forward_hook(lambda _, inputs, __: seen.add(inputs[0].dtype))
    Lab(tmp_path, module).fit()
    assert seen == {torch.float32}
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float16}


def test_a_family_that_nobody_knows_gets_a_row_that_is_found_again(tmp_path):
    lab = Lab(tmp_path, vae(channels=12, scaling_factor=0.7, shift_factor=0.1), base="new-model")
    lab.fit()
    assert folder(tmp_path) == ["new_model-affine.safetensors"]
    catalogue = Catalogue([tmp_path / "safelight"])
    row = identify(Evidence(host="invokeai", format_name="new-model", channels=12, dims=2), catalogue.spaces())
    assert (row.name, row.scale, row.shift, row.downscale) == ("new_model", 0.7, 0.1, 8)
    assert catalogue.candidates(row)[0].name == "new_model-affine"


def test_a_name_for_a_new_family_is_the_users(tmp_path):
    Lab(tmp_path, vae(channels=12), base="new-model").fit(name="mine")
    assert folder(tmp_path) == ["mine-affine.safetensors"]


@pytest.mark.parametrize("base", ["any", "unknown", "external"])
def test_a_vae_for_any_model_asks_for_the_space(tmp_path, base):
    with pytest.raises(SpaceError, match="choose the space by name"):
        Lab(tmp_path, vae(), base=base).fit()
    Lab(tmp_path, vae(), base=base).fit(space="sdxl")
    assert folder(tmp_path) == ["sdxl-affine.safetensors"]


def test_a_vae_that_is_not_of_its_base_is_told(tmp_path):
    with pytest.raises(ContradictionError, match="channels 16 instead of 4"):
        Lab(tmp_path, vae(channels=16)).fit()


def test_two_pictures_are_too_few_and_nothing_is_written(tmp_path):
    with pytest.raises(FitError, match="at least 3 images"):
        Lab(tmp_path, vae(), photographs(2)).fit()
    assert folder(tmp_path) == []


def test_nothing_is_overwritten(tmp_path):
    for seed in (0, 1):
        Lab(tmp_path, vae()).fit(seed=seed)
    assert len(folder(tmp_path)) == 2
