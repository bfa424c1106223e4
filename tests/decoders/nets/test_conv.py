"""Compares the small convolutions with the same formula in plain torch, with borders replicated by hand."""

import pytest
import torch
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import read_decoder, write_decoder
from safelight.decoders.nets.conv import LINEAR_KERNEL, Conv
from safelight.decoders.nets.polynomial import MAX_SUBPIXEL, Polynomial


def drawn(*args, seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Conv(*args, **kwargs)


def latents_of(channels, size=(5, 7)):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))


def plain(x, weight, bias):
    """Computes a convolution with replicated borders, tap by tap."""
    reach = weight.shape[-1] // 2
    rows = torch.arange(-reach, x.shape[2] + reach).clamp(0, x.shape[2] - 1)
    columns = torch.arange(-reach, x.shape[3] + reach).clamp(0, x.shape[3] - 1)
    padded = x[:, :, rows][:, :, :, columns]
    result = bias[None, :, None, None]
    for i in range(weight.shape[-2]):
        for j in range(weight.shape[-1]):
            shifted = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            result = result + torch.einsum("bchw,oc->bohw", shifted, weight[:, :, i, j])
    return result


def reference(state, latents, layers, subpixel):
    x = latents
    for i in range(layers):
        weight, bias = state[f"hidden.{i}.weight"], state[f"hidden.{i}.bias"]
        y = plain(x, weight, bias)
        if f"overall.{i}.weight" in state:
            means = x.flatten(2).sum(2) / (x.shape[2] * x.shape[3])
            y = y + torch.einsum("bc,oc->bo", means, state[f"overall.{i}.weight"])[:, :, None, None]
        y = y / (1 + torch.exp(-y))
        x = x + y if i > 0 and weight.shape[0] == weight.shape[1] else y
    z = plain(latents, state["linear.weight"], state["linear.bias"]) + plain(x, state["out.weight"], state["out.bias"])
    b, _, h, w = z.shape
    z = z.reshape(b, 3, subpixel, subpixel, h, w)  # color, row in the pixel, column in the pixel
    return z.permute(0, 1, 4, 2, 5, 3).reshape(b, 3, h * subpixel, w * subpixel)


@pytest.mark.parametrize(
    ("channels", "widths", "kernel", "subpixel", "overall"),
    [
        (4, (6,), 3, 1, False),
        (4, (6, 6, 6), 3, 1, False),
        (4, (6, 6, 6), 3, 1, True),
        (4, (6, 8, 8), 3, 1, True),
        (4, (4, 4), 3, 2, False),
        (3, (), 3, 1, True),
        (16, (5, 5), 1, 1, False),
        (4, (6, 6), 5, 4, True),
    ],
)
def test_the_net_equals_its_formula(channels, widths, kernel, subpixel, overall):
    net = drawn(channels, widths, kernel=kernel, subpixel=subpixel, overall=overall)
    latents = latents_of(channels)
    with torch.no_grad():
        torch.testing.assert_close(
            net(latents), reference(net.state_dict(), latents, len(widths), subpixel), rtol=1e-5, atol=1e-5
        )
    assert net.channels == channels
    assert net.scale == subpixel


def test_the_linear_path_alone_is_an_affine_map_of_the_neighborhood():
    net = drawn(4, (6, 6), subpixel=2)
    torch.nn.init.zeros_(net.out.weight)
    torch.nn.init.zeros_(net.out.bias)
    affine = Polynomial(4, kernel=LINEAR_KERNEL, subpixel=2)
    affine.load_state_dict(net.linear.state_dict())
    latents = latents_of(4)
    with torch.no_grad():
        torch.testing.assert_close(net(latents), affine(latents), rtol=1e-5, atol=1e-6)


def test_the_linear_path_may_have_a_smaller_kernel():
    net = drawn(4, (6, 6), linear_kernel=1, overall=True)
    torch.nn.init.zeros_(net.out.weight)
    latents = latents_of(4)
    with torch.no_grad():
        expected = torch.einsum("bchw,oc->bohw", latents, net.linear.weight[:, :, 0, 0])
        expected = expected + (net.linear.bias + net.out.bias)[:, None, None]
        torch.testing.assert_close(net(latents), expected, rtol=1e-5, atol=1e-6)


def test_the_first_layer_is_never_residual():
    net = drawn(4, (4,))
    for parameters in (net.hidden.parameters(), net.linear.parameters()):
        for parameter in parameters:
            torch.nn.init.zeros_(parameter)
    with torch.no_grad():  # silu(0) is 0, so the latents do not bypass the first layer
        expected = net.out.bias[None, :, None, None].expand(2, 3, 5, 7)
        torch.testing.assert_close(net(latents_of(4)), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_latents_smaller_than_the_kernel_are_decoded(size):
    net = drawn(4, (6, 6), subpixel=2)
    with torch.no_grad():
        assert net(latents_of(4, size)).shape == (2, 3, 2 * size[0], 2 * size[1])


def test_a_uniform_image_stays_uniform_up_to_the_border():
    rgb = drawn(4, (6, 6))(torch.full((1, 4, 9, 9), 0.7)).detach()
    torch.testing.assert_close(rgb, rgb[:, :, :1, :1].expand_as(rgb))


def test_a_file_without_overall_weights_can_still_be_read():
    assert not [key for key in drawn(4, (6, 6)).state_dict() if "overall" in key]
    assert drawn(4, (6, 6), overall=True).cost == drawn(4, (6, 6)).cost  # it is computed once per image


@pytest.mark.parametrize("overall", [False, True])
def test_distant_latents_matter_only_with_overall(overall):
    net = drawn(4, (6, 6), overall=overall)
    near = latents_of(4, size=(8, 40))
    far = near.clone()
    far[..., 30:] += 1
    with torch.no_grad():
        same = torch.allclose(net(near)[..., :20], net(far)[..., :20], atol=1e-6)
    assert same is not overall


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 2}, "odd kernels, .* got 2 and 5"),
        ({"kernel": 0}, "odd kernels, .* got 0 and 5"),
        ({"kernel": -3}, "odd kernels, .* got -3 and 5"),
        ({"linear_kernel": 4}, "odd kernels, .* got 3 and 4"),
        ({"linear_kernel": -1}, "odd kernels, .* got 3 and -1"),
        ({"subpixel": 0}, "subpixel of 1 to 64, got 0"),
        ({"subpixel": -2}, "subpixel of 1 to 64, got -2"),
        ({"subpixel": MAX_SUBPIXEL + 1}, "subpixel of 1 to 64, got 65"),
        ({"widths": (8, 0)}, r"widths of at least 1, got 4 and \(8, 0\)"),
        ({"channels": 0}, "channels and widths of at least 1, got 0"),
        ({"widths": (-8,)}, r"widths of at least 1, got 4 and \(-8,\)"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Conv(**({"channels": 4, "widths": (8,)} | settings))


def test_a_written_file_decodes_like_the_net(tmp_path):
    net = drawn(4, (6, 6), subpixel=2)
    card = Card(
        name="c", space="sd1", kind="conv", settings={"channels": 4, "widths": (6, 6), "subpixel": 2}, source="a test"
    )
    write_decoder(tmp_path / "c.safetensors", card, net.state_dict())
    decoder = read_decoder(tmp_path / "c.safetensors")
    assert decoder.scale == 2
    assert decoder.card.parameters == sum(p.numel() for p in net.parameters())
    latents = latents_of(4)
    with torch.no_grad():
        assert torch.equal(decoder.decode(latents), net(latents).clamp(0, 1))


def test_reading_does_not_change_the_global_random_state(tmp_path):
    card = Card(name="c", space="sd1", kind="conv", settings={"channels": 4, "widths": (6,)}, source="a test")
    write_decoder(tmp_path / "c.safetensors", card, drawn(4, (6,)).state_dict())
    before = torch.get_rng_state()
    read_decoder(tmp_path / "c.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def test_an_output_range_is_refused():
    with pytest.raises(ValueError, match="expected no output_range"):
        drawn(4, (6,)).rescale(-1, 1)
