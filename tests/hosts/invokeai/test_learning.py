"""Learning from decode nodes that look like InvokeAI's."""

import logging
import math
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting.online.learned_files import LearnedFiles
from safelight.fitting.online.state import OnlineState
from safelight.hosts.invokeai.decode_nodes import DecodeNode
from safelight.hosts.invokeai.learning import DecodeLearning, remember_run, vae_of_run
from safelight.hosts.invokeai.preferences import catalogue
from safelight.hosts.known_vaes import KnownVaes
from safelight.hosts.online_learning import fingerprint_of
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.sinks.truth import TruthMeter
from safelight.preview.step import StepInfo
from torch import nn

SETTINGS = '{"learn": true}'
SIDE = 12


class TinyVae(nn.Module):
    """A VAE with a picture for each latent."""

    def __init__(self, channels=4):
        super().__init__()
        self.mix = nn.Conv2d(channels, 3, 1)

    def decode(self, latents):
        return nn.functional.interpolate(self.mix(latents), scale_factor=8)


class FakeLatentsToImage:
    """A decode node, as InvokeAI's are."""

    def __init__(self, base="sd-1", name="latents"):
        self.id = "decode"
        self.latents = SimpleNamespace(latents_name=name)
        self.vae = SimpleNamespace(vae=model(base))

    def invoke(self, context):
        latents = context.tensors.load(self.latents.latents_name)
        vae = context.models.load(self.vae.vae).model
        images = vae.decode(latents.float()).detach().clamp(-1, 1)
        pixels = (127.5 * (images[0] + 1)).byte().movedim(0, -1).numpy()
        return context.images.save(image=Image.fromarray(pixels))


class FakeLatentsToVideo(FakeLatentsToImage):
    """A node that writes a video frame by frame."""

    def invoke(self, context):
        latents = context.tensors.load(self.latents.latents_name)
        vae = context.models.load(self.vae.vae).model
        frames = torch.stack([vae.decode(frame) for frame in latents.unbind(2)], 2)[0].detach()
        return list(video_module.iter_frames(frames))


def iter_frames(decoded):
    for i in range(decoded.shape[1]):
        yield decoded[:, i]


video_module = SimpleNamespace(iter_frames=iter_frames)
IMAGE = DecodeNode("fake", "FakeLatentsToImage", None)
VIDEO = DecodeNode("fake", "FakeLatentsToVideo", "wan", frames="iter_frames")
NODES = [(IMAGE, None, FakeLatentsToImage), (VIDEO, video_module, FakeLatentsToVideo)]


def model(base="sd-1", key="k"):
    return SimpleNamespace(key=key, hash="h", name="n", base=base, type="vae", submodel_type=None)


def edge(source, output, target, field):
    ends = SimpleNamespace(node_id=source, field=output), SimpleNamespace(node_id=target, field=field)
    return SimpleNamespace(source=ends[0], destination=ends[1])


def session_of(nodes, edges, results=()):
    """A session whose nodes run under the names that they have in the graph."""
    graph = SimpleNamespace(nodes={node.id: node for node in nodes}, edges=edges)
    return SimpleNamespace(
        graph=graph,
        execution_graph=graph,
        prepared_source_mapping={},
        source_prepared_mapping={node.id: {node.id} for node in nodes},
        results=dict(results),
    )


class Host:
    """An InvokeAI whose root is a folder."""

    def __init__(self, root, vae):
        self.root, self.vae, self.tensors, self.session = root, vae, {}, None
        (root / "safelight").mkdir()
        self.settings.write_text(SETTINGS)

    @property
    def settings(self):
        return self.root / "safelight" / "settings.json"

    @property
    def context(self):
        return SimpleNamespace(
            tensors=SimpleNamespace(load=self.tensors.__getitem__),
            models=SimpleNamespace(load=lambda _: SimpleNamespace(model=self.vae)),
            images=SimpleNamespace(save=lambda image: image.tobytes()),
            _data=SimpleNamespace(queue_item=SimpleNamespace(session=self.session)),
        )

    def decode(self, latents, base="sd-1", kind=FakeLatentsToImage):
        self.tensors["latents"] = latents
        return kind(base).invoke(self.context)

    def state(self, space="sd1"):
        files = LearnedFiles(self.root / "safelight", space, fingerprint_of(self.vae))
        return OnlineState.load(files.state) if files.state.exists() else None


@pytest.fixture
def host(tmp_path):
    torch.manual_seed(0)
    return Host(tmp_path, TinyVae())


@pytest.fixture
def learning(host):
    learning = DecodeLearning(NODES, host.root, is_busy=lambda: True)
    learning.apply_settings(accounts=False)
    yield learning
    learning.learner.close()
    host.settings.unlink()
    learning.apply_settings(accounts=False)


def watched_run(vae):
    """A run whose last preview shows what `vae` decodes, 4 levels too bright."""
    meter = TruthMeter(Run(), 8)
    image = (127.5 * (vae.decode(latents_of(1))[0].detach().clamp(-1, 1) + 1)).movedim(0, -1).numpy()
    step = StepInfo(index=1, total=1)
    card = Card(name="tiny", space="sd1", kind="conv")
    pixels = (image + 4).clip(0, 255).astype("uint8")[None, None]
    meter.show(DecodedPicture(step=step, pixels=pixels, shown=(8 * SIDE, 8 * SIDE), card=card, decode_ms=1.0))
    return meter


def test_a_decode_says_how_true_the_run_of_its_latents_was(host, learning, monkeypatch):
    monkeypatch.setattr("safelight.hosts.invokeai.learning.WATCHED", watched := OrderedDict())
    node, decoding = SimpleNamespace(id="denoise"), FakeLatentsToImage()
    host.session = session_of([node, decoding], [edge("denoise", "latents", "decode", "latents")])
    other, meter = SimpleNamespace(id="elsewhere"), watched_run(host.vae)
    remember_run(other, TruthMeter(Run(), 8))
    remember_run(node, meter)
    host.decode(latents_of(1))
    learning.learner.wait()
    assert meter._run.truth["psnr_db"] == pytest.approx(-20 * math.log10(4 / 255), abs=1)
    assert list(watched) == ["elsewhere"]


def latents_of(seed, batch=1, channels=4, times=()):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *times, SIDE, SIDE, generator=generator)


def test_a_decode_teaches_and_its_result_stays_as_it_was(host, learning):
    latents = latents_of(1)
    image = host.decode(latents)
    learning.learner.wait()
    assert (host.state().decodes, host.state().pictures) == (1, 1)
    assert torch.equal(latents, latents_of(1))
    host.settings.write_text("{}")
    learning.apply_settings(accounts=False)
    assert host.decode(latents) == image


def test_the_pair_is_the_first_image_of_the_batch_in_model_space(host, learning):
    latents = latents_of(1, batch=2)
    image = torch.frombuffer(bytearray(host.decode(latents)), dtype=torch.uint8).view(SIDE * 8, SIDE * 8, 3)
    learning.learner.wait()
    sums = host.state().sums[1]
    rows = latents[0].flatten(1).double()
    assert sums.rows == SIDE**2
    assert torch.allclose(sums.xx[:4, :4], rows @ rows.T, rtol=1e-5)
    rgb = image.double().div(255).sum((0, 1)) / 64
    assert torch.allclose(sums.xy[-1], rgb, rtol=1e-5)


def test_the_same_latents_teach_once(host, learning):
    for _ in range(3):
        host.decode(latents_of(1))
    learning.learner.wait()
    assert host.state().decodes == 1


def test_invokeais_own_method_is_back_when_the_setting_is_off(host):
    own, frames = FakeLatentsToImage.invoke, video_module.iter_frames
    learning = DecodeLearning(NODES, host.root, is_busy=lambda: True)
    learning.apply_settings(accounts=False)
    learning.apply_settings(accounts=False)  # the packs were loaded again
    assert FakeLatentsToImage.invoke.__wrapped__ is own
    assert video_module.iter_frames.__wrapped__ is frames
    host.settings.write_text('{"learn": "yes"}')
    learning.apply_settings(accounts=False)
    assert FakeLatentsToImage.invoke is own
    assert video_module.iter_frames is frames
    learning.learner.close()


def test_nothing_is_learned_with_user_accounts_and_the_log_says_so(host, caplog):
    own = FakeLatentsToImage.invoke
    learning = DecodeLearning(NODES, host.root, is_busy=lambda: True)
    with caplog.at_level(logging.WARNING, "safelight.invokeai"):
        learning.apply_settings(accounts=True)
    assert FakeLatentsToImage.invoke is own
    assert "InvokeAI has user accounts" in caplog.text
    host.decode(latents_of(1))
    assert host.state() is None


def test_a_variable_switches_it_on_and_off(host, monkeypatch):
    own = FakeLatentsToImage.invoke
    learning = DecodeLearning(NODES, host.root, is_busy=lambda: True)
    monkeypatch.setenv("SAFELIGHT_INVOKEAI_LEARN", "0")
    learning.apply_settings(accounts=False)
    assert FakeLatentsToImage.invoke is own
    host.settings.unlink()
    monkeypatch.setenv("SAFELIGHT_INVOKEAI_LEARN", "1")
    learning.apply_settings(accounts=False)
    assert FakeLatentsToImage.invoke is not own
    monkeypatch.delenv("SAFELIGHT_INVOKEAI_LEARN")
    learning.apply_settings(accounts=False)
    assert FakeLatentsToImage.invoke is own
    learning.learner.close()


def test_the_model_that_made_the_latents_says_their_space(host, learning):
    node = FakeLatentsToImage("sd-1")
    denoise = SimpleNamespace(id="denoise", type="denoise_latents", unet=SimpleNamespace(unet=model("sdxl")))
    resize = SimpleNamespace(id="resize", type="lresize")
    edges = [edge("denoise", "latents", "resize", "latents"), edge("resize", "latents", "decode", "latents")]
    host.session = session_of([denoise, resize, node], edges)
    host.tensors["latents"] = latents_of(1)
    node.invoke(host.context)
    learning.learner.wait()
    assert host.state("sd1") is None
    assert host.state("sdxl").decodes == 1


def test_latents_of_no_known_model_teach_nothing_and_the_log_says_why_once(host, learning, caplog):
    with caplog.at_level(logging.INFO, "safelight.learning"):
        for seed in range(2):
            host.decode(latents_of(seed), base="any")
    learning.learner.wait()
    assert caplog.text.count("no known model") == 1
    assert not (host.root / "safelight" / "learned").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_latents_without_a_picture_teach_nothing(host, learning, value):
    latents = latents_of(1)
    latents[0, 0, 3, 3] = value
    host.decode(latents)
    learning.learner.wait()
    assert host.state() is None
    host.decode(latents_of(2))
    learning.learner.wait()
    assert host.state().decodes == 1


def test_grey_pictures_are_harmless(host, learning):
    with torch.no_grad():
        host.vae.mix.weight.zero_()
    for seed in range(9):
        host.decode(latents_of(seed))
        learning.learner.wait()
    assert host.state().decodes == 9
    for candidate in candidates(host, fingerprint_of(host.vae)):
        assert torch.isfinite(candidate.open().decode(latents_of(1))).all()


def test_a_video_teaches_with_its_first_frame(host, learning):
    torch.manual_seed(1)
    host.vae = TinyVae(16)
    latents = latents_of(1, channels=16, times=(3,))
    frames = host.decode(latents, base="wan", kind=FakeLatentsToVideo)
    assert len(frames) == 3
    learning.learner.wait()
    assert host.state("wan21").pictures == 1
    rows = latents[0, :, 0].flatten(1).double()
    assert torch.allclose(host.state("wan21").sums[1].xx[:16, :16], rows @ rows.T, rtol=1e-5)


def test_the_batch_norm_of_the_vae_is_applied_where_latents_lack_it(host):
    class AutoencoderKLFlux2(TinyVae):
        def __init__(self):
            super().__init__(32)
            self.bn = nn.BatchNorm2d(128, affine=False)
            self.config = {"batch_norm_eps": self.bn.eps}
            self.bn.running_mean.uniform_(-1, 1)
            self.bn.running_var.uniform_(0.5, 4)

    torch.manual_seed(2)
    host.vae = AutoencoderKLFlux2()
    row = IMAGE._replace(base="flux2", lacks_norm=True)
    learning = DecodeLearning([(row, None, FakeLatentsToImage)], host.root, is_busy=lambda: True)
    learning.apply_settings(accounts=False)
    try:
        latents = latents_of(1, channels=32)
        host.decode(latents, base="flux2")
        learning.learner.wait()
    finally:
        learning.learner.close()
        host.settings.unlink()
        learning.apply_settings(accounts=False)
    mean, variance = host.vae.bn.running_mean.view(1, -1, 1, 1), host.vae.bn.running_var.view(1, -1, 1, 1)
    normed = (nn.functional.pixel_unshuffle(latents, 2) - mean) / (variance + host.vae.bn.eps).sqrt()
    rows = nn.functional.pixel_shuffle(normed, 2)[0].flatten(1).double()
    assert torch.allclose(host.state("flux2").sums[1].xx[:32, :32], rows @ rows.T, rtol=1e-4)


def test_what_the_node_raises_is_raised_and_teaches_nothing(host, learning):
    with pytest.raises(KeyError):
        FakeLatentsToImage(name="gone").invoke(host.context)
    learning.learner.wait()
    assert host.state() is None


def test_a_training_waits_while_a_session_runs(host):
    busy = [True]
    learning = DecodeLearning(NODES, host.root, is_busy=lambda: busy[0])
    assert not learning.idle_work.is_idle()
    busy[0] = False
    assert learning.idle_work.is_idle()


@pytest.mark.parametrize(
    ("settings", "battery", "trains"),
    [
        (SETTINGS, False, True),
        (SETTINGS, True, False),
        ('{"learn": true, "learn_idle": false}', False, False),
        ("{}", False, False),
    ],
)
def test_nets_are_trained_only_where_it_is_switched_on_and_not_on_battery(host, monkeypatch, settings, battery, trains):
    monkeypatch.setattr("safelight.hosts.invokeai.learning.on_battery", lambda: battery)
    host.settings.write_text(settings)
    learning = DecodeLearning(NODES, host.root, is_busy=lambda: False)
    assert learning.idle_work.may_train() is trains


class LatentsToImageInvocation:
    """A node of the name that InvokeAI's has."""

    id, type = "decode", "l2i"


def preview_session(loader, results):
    denoise = SimpleNamespace(id="denoise", type="denoise_latents", steps=3)
    edges = [edge("denoise", "latents", "decode", "latents"), edge("loader", "vae", "decode", "vae")]
    return denoise, session_of([denoise, loader, LatentsToImageInvocation()], edges, results)


@pytest.mark.parametrize("has_run", [True, False])
def test_a_preview_knows_the_vae_that_will_decode_its_latents(host, learning, has_run):
    host.decode(latents_of(1))
    learning.learner.wait()
    if has_run:
        loader = SimpleNamespace(id="loader", type="main_model_loader")
        output = {"loader": SimpleNamespace(vae=SimpleNamespace(vae=model()))}
    else:
        loader, output = SimpleNamespace(id="loader", type="vae_loader", vae_model=model()), {}
    denoise, host.session = preview_session(loader, output)
    assert vae_of_run(host.context, denoise, host.root) == fingerprint_of(host.vae)


def test_a_vae_that_has_not_decoded_or_does_not_follow_is_unknown(host, learning):
    loader = SimpleNamespace(id="loader", type="vae_loader", vae_model=model())
    denoise, host.session = preview_session(loader, {})
    assert vae_of_run(host.context, denoise, host.root) is None
    KnownVaes(host.root / "safelight").remember("another", "abc")
    assert vae_of_run(host.context, denoise, host.root) is None
    host.session = None
    assert vae_of_run(host.context, denoise, host.root) is None


def candidates(host, vae):
    return catalogue(host.root).candidates(SPACES["sd1"], vae=vae)


def test_the_learned_decoder_shows_the_next_run_of_its_vae(host, learning):
    with torch.no_grad():
        host.vae.mix.weight.mul_(0.3)
    for seed in range(9):
        host.decode(latents_of(seed))
        learning.learner.wait()
    assert candidates(host, fingerprint_of(host.vae))[0].name.startswith("sd1-learned")
    assert not candidates(host, fingerprint_of(TinyVae()))[0].name.startswith("sd1-learned")
