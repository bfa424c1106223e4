"""Tests principal components: different regions differ, the image is stable over steps, and no input fails."""

import pytest
import torch
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.nets.pca import PrincipalComponents, follow


def make(channels):
    return Decoder(Card(name="principal", space=None, kind="principal"), PrincipalComponents(channels))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rms(x):
    return x.pow(2).mean().sqrt().item()


def waves(amplitudes, channels=8, side=32):
    """Returns three uncorrelated patterns, each along its own direction, `[1, C, H, W]`."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    along, down = torch.sin(2 * torch.pi * x / side), torch.sin(2 * torch.pi * y / side)
    patterns = torch.stack([along, down, 2**0.5 * along * down]) * torch.tensor(amplitudes)[:, None, None]
    directions = torch.linalg.qr(noise(channels, channels))[0][:, :3]
    return torch.einsum("khw,ck->chw", patterns, directions)[None]


class NoDoubles(torch.Tensor):
    """A tensor of a device that has no float64, such as Apple's MPS. On the CPU it is an ordinary tensor."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.double:
            raise TypeError("the MPS framework doesn't support float64")
        made = super().__torch_function__(func, types, args, kwargs or {})
        return made.as_subclass(torch.Tensor) if func is torch.Tensor.cpu else made


def test_a_device_without_float64_shows_the_same_components():
    steps = noise(1, 8, 12, 16), noise(1, 8, 12, 16, seed=1)
    there, here = None, None
    for latents in steps:
        there, here = follow(latents.as_subclass(NoDoubles), there), follow(latents, here)
        assert torch.equal(there.basis.as_subclass(torch.Tensor), here.basis)


@pytest.mark.parametrize("channels", [3, 4, 16, 32, 128])
def test_three_regions_get_three_clearly_different_colors(channels):
    directions = torch.linalg.qr(noise(channels, channels))[0] * 3
    latents = torch.cat([directions[:, i, None, None].expand(channels, 24, 8) for i in range(3)], dim=2)[None]
    rgb = make(channels).decode(latents + 0.1 * noise(1, channels, 24, 24))
    colors = [rgb[0, :, :, 8 * i : 8 * i + 8].mean((1, 2)) for i in range(3)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (colors[one] - colors[other]).abs().max() > 0.2
    assert all(rgb[0, :, :, 8 * i : 8 * i + 8].std((1, 2)).max() < 0.06 for i in range(3))


def test_the_first_component_is_luminance():
    latents = waves((3.0, 0.5, 0.3))
    gray = make(8).decode(latents).mean(1)[0]
    pattern = waves((3.0, 0.0, 0.0))[0, 0]
    correlation = torch.corrcoef(torch.stack([gray.flatten(), pattern.flatten()]))[0, 1].abs()
    assert correlation > 0.99


def test_a_small_change_of_the_latents_is_a_small_change_of_the_image():
    decoder = make(8)
    still = waves((2.0, 1.5, 1.0))
    last = decoder.decode(still)
    for step in range(20):
        rgb = decoder.decode(still + 0.02 * noise(1, 8, 32, 32, seed=step))
        assert rms(rgb - last) < 0.02
        last = rgb


def test_two_components_swap_over_several_steps():
    decoder, last, worst = make(8), None, 0.0
    for step in range(30):
        rgb = decoder.decode(waves((2.0 - step / 29, 1.0 + step / 29, 0.5)))
        worst = max(worst, 0.0 if last is None else rms(rgb - last))
        last = rgb
    assert 0 < worst < 0.12  # in one step it would be 0.31


def test_the_sign_of_a_component_never_flips_during_a_run():
    # A new object may choose either sign, but must keep it from step to step.
    decoder, last = make(8), None
    for step in range(25):
        turn = torch.linalg.matrix_exp(step * 0.15 * (noise(8, 8, seed=3) - noise(8, 8, seed=3).T) / 8)
        rgb = decoder.decode(torch.einsum("bchw,cd->bdhw", waves((2.0, 1.2, 0.7)), turn))
        if last is not None:
            gray, gray_before = rgb.mean(1).flatten(), last.mean(1).flatten()
            assert torch.corrcoef(torch.stack([gray, gray_before]))[0, 1] > 0.5
        last = rgb


@pytest.mark.parametrize("sign", [1, -1])
def test_a_component_keeps_its_first_sign(sign):
    generator = noise(8, 8, seed=3)
    turn = torch.linalg.matrix_exp(0.2 * (generator - generator.T))
    before = waves((3.0, 1.5, 0.7))
    after = torch.einsum("bchw,cd->bdhw", before, turn)
    now = follow(before, None)
    now = began = now._replace(basis=sign * now.basis)
    for _ in range(30):
        now = follow(after, now)
    torch.testing.assert_close(now.basis, turn.T @ began.basis, rtol=0, atol=0.02)


def test_the_same_run_gives_the_same_images():
    runs = []
    for _ in range(2):
        decoder = make(16)
        runs.append([decoder.decode(noise(2, 16, 20, 20, seed=step)) for step in range(4)])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_the_size_may_change_between_steps():
    decoder = make(4)
    for size in ((8, 8), (200, 200), (1, 1), (3, 40)):
        assert decoder.decode(noise(1, 4, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_few_channels_still_give_an_image(channels):
    rgb = make(channels).decode(noise(1, channels, 16, 16))
    assert rgb.shape == (1, 3, 16, 16)
    assert rgb.std() > 0.1


@pytest.mark.parametrize("value", [0.0, 1.0, -7.0, 1e-20, 1e5, 1e30, -3e38], ids=str)
def test_constant_latents_give_a_uniform_image(value):
    rgb = make(4).decode(torch.full((1, 4, 8, 8), value))
    assert torch.isfinite(rgb).all()
    assert (rgb - rgb[:, :, :1, :1]).abs().max() < 0.05


@pytest.mark.parametrize("scale", [1e-30, 1e20, 3e38], ids=str)
def test_latents_of_any_magnitude_give_an_image(scale):
    decoder = make(4)
    for step in range(3):
        assert torch.isfinite(decoder.decode(noise(1, 4, 8, 8, seed=step).clamp(-1, 1) * scale)).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_step_without_finite_values_does_not_affect_later_steps(bad):
    decoder = make(4)
    good = noise(1, 4, 16, 16)
    expected = decoder.decode(good)
    assert torch.isfinite(decoder.decode(torch.full((1, 4, 16, 16), bad))).all()
    for _ in range(20):
        after = decoder.decode(good)
    assert rms(after - expected) < 0.02
