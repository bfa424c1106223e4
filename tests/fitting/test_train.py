"""Training on a toy space: repeatable, restores the best weights, survives an interrupt."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safelight.decoders.nets.conv import LINEAR_KERNEL, Conv
from safelight.decoders.nets.mlp import Mlp
from safelight.errors import FitError
from safelight.fitting import train as training
from safelight.fitting.least_squares import PolynomialForm, Sums
from safelight.fitting.metrics import psnr_db
from safelight.fitting.pairs import Pairs
from safelight.fitting.processes import ONE_PROCESS
from safelight.fitting.train import IMAGES_PER_SLICE, FitStep, Recipe, mean_psnr_db, train_net
from safetensors.torch import save

pytestmark = pytest.mark.usefixtures("_one_thread")
SHORT = Recipe(steps=30, batch=4)


def conv(subpixel=1):
    with torch.random.fork_rng():
        return Conv(4, (8, 8), subpixel=subpixel)


def trained(toy_pairs, recipe=SHORT, make=conv):
    net = make()
    train_net(net, toy_pairs(12), toy_pairs(4, seed=1), recipe)
    return save(net.state_dict())


@pytest.mark.parametrize("make", [conv, lambda: Mlp((4, 8, 3))], ids=["conv", "mlp"])
def test_the_same_seed_gives_the_same_bytes_for_any_initial_weights(toy_pairs, make):
    torch.rand(7)
    assert trained(toy_pairs, make=make) == trained(toy_pairs, make=make)


def test_the_first_weights_are_those_that_pytorch_draws():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = Conv(4, (8, 8), overall=True)
    drawn = Conv(4, (8, 8), overall=True)
    training.draw_weights(drawn, torch.Generator().manual_seed(7))
    assert save(drawn.state_dict()) == save(net.state_dict())


def test_another_seed_gives_another_net(toy_pairs):
    assert trained(toy_pairs) != trained(toy_pairs, replace(SHORT, seed=1))


def test_training_does_not_change_the_global_random_state(toy_pairs, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)  # the random state of accelerators as well
    net = conv()
    before = torch.get_rng_state()
    train_net(net, toy_pairs(12), toy_pairs(4, seed=1), SHORT)
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded


@pytest.mark.parametrize("subpixel", [1, 2])
def test_a_conv_starts_as_the_best_closed_form_and_improves(toy_pairs, subpixel):
    fit, held = toy_pairs(100), toy_pairs(6, seed=1)
    form = PolynomialForm(channels=4, kernel=LINEAR_KERNEL, subpixel=subpixel)
    sums = Sums(form)
    sums.add(fit.latents, fit.rgb(subpixel))
    net = conv(subpixel)
    steps = []
    best = train_net(net, fit, held, Recipe(steps=200, batch=8, lr=1e-2), steps.append)
    assert steps[0].validation_db == pytest.approx(
        evaluate_solution(sums.solve(1e-4), form, held), abs=1e-3
    )  # before the first step
    assert best > steps[0].validation_db + 3
    assert mean_psnr_db(net, held) == pytest.approx(best, abs=1e-5)


def evaluate_solution(solution, form, pairs):
    x = torch.nn.functional.pad(pairs.latents, (2, 2, 2, 2), mode="replicate")
    kernel = solution[:-1].T.reshape(form.outputs, 4, 5, 5).float()
    rgb = torch.nn.functional.conv2d(x, kernel, solution[-1].float())
    rgb = torch.nn.functional.pixel_shuffle(rgb, form.subpixel)
    return float(psnr_db(rgb, pairs.rgb(form.subpixel)).mean())


def test_a_network_for_each_pixel_learns(toy_pairs):
    net = Mlp((4, 12, 3))
    steps = []
    assert train_net(net, toy_pairs(24), toy_pairs(6, seed=1), Recipe(steps=200, batch=8, lr=1e-2), steps.append) > 15
    assert steps[0].validation_db < 12


def test_every_step_is_reported(toy_pairs, monkeypatch):
    monkeypatch.setattr(training, "VALIDATION_STEPS", 4)
    steps = []
    train_net(conv(), toy_pairs(12), toy_pairs(4, seed=1), replace(SHORT, steps=10), steps.append)
    assert [progress.step for progress in steps] == list(range(1, 11))
    assert {progress.steps for progress in steps} == {10}
    assert all(math.isfinite(progress.loss) for progress in steps)
    validations = [progress.validation_db for progress in steps]
    assert len(set(validations[:3])) == len(set(validations[3:7])) == len(set(validations[7:9])) == 1
    assert len(set(validations)) == 4


def test_the_best_weights_are_restored_not_the_last(toy_pairs, monkeypatch):
    """Validations get worse, except for one in the middle."""
    monkeypatch.setattr(training, "VALIDATION_STEPS", 1)
    validations, states = iter([10.0, 9.0, 12.0, 11.0, 8.0]), []

    def validate(net, *_):
        states.append({key: tensor.clone() for key, tensor in net.state_dict().items()})
        return next(validations)

    monkeypatch.setattr(training, "mean_psnr_db", validate)
    net = conv()
    assert train_net(net, toy_pairs(12), toy_pairs(4, seed=1), replace(SHORT, steps=4)) == 12.0
    assert all(torch.equal(tensor, states[2][key]) for key, tensor in net.state_dict().items())
    assert not torch.equal(states[2]["out.weight"], states[4]["out.weight"])


def test_a_keyboard_interrupt_ends_the_training_with_the_best_so_far(toy_pairs, monkeypatch):
    monkeypatch.setattr(training, "VALIDATION_STEPS", 10)
    held, steps = toy_pairs(4, seed=1), []

    def report(progress):
        steps.append(progress)
        if progress.step == 25:
            raise KeyboardInterrupt

    net = conv()
    best = train_net(net, toy_pairs(12), held, replace(SHORT, steps=1000), report)
    assert steps[-1].step == 25
    assert best >= max(progress.validation_db for progress in steps)
    assert mean_psnr_db(net, held) == pytest.approx(best, abs=1e-5)


def test_an_interrupted_training_validates_its_last_steps(toy_pairs):
    held, net, validations = toy_pairs(4, seed=1), Mlp((4, 8, 3)), []

    def report(progress):
        validations.append(progress.validation_db)
        if progress.step == 25:
            raise KeyboardInterrupt

    best = train_net(net, toy_pairs(12), held, Recipe(steps=1000, batch=4, lr=1e-1), report)
    assert best > max(validations) + 0.5
    assert mean_psnr_db(net, held) == pytest.approx(best, abs=1e-5)


def test_other_exceptions_of_the_callback_are_raised(toy_pairs):
    class CancelledError(Exception):
        pass

    def report(progress):
        raise CancelledError

    with pytest.raises(CancelledError):
        train_net(conv(), toy_pairs(12), toy_pairs(4, seed=1), SHORT, report)


def test_a_diverging_training_ends_with_its_initial_weights(toy_pairs):
    held = toy_pairs(4, seed=1)
    steps, net = [], conv()
    best = train_net(net, toy_pairs(12), held, replace(SHORT, lr=1e30), steps.append)
    assert math.isnan(steps[-1].validation_db) or steps[-1].validation_db < best
    assert best == steps[0].validation_db
    assert mean_psnr_db(net, held) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_works_in_a_host_without_gradients(toy_pairs, mode):
    with mode():
        fit, held = toy_pairs(12), toy_pairs(4, seed=1)
    net, expected = conv(), trained(toy_pairs)
    with mode():
        train_net(net, fit, held, SHORT)
    assert save(net.state_dict()) == expected


@pytest.mark.parametrize("subpixel", [1, 2])
def test_a_score_is_the_mean_over_images(toy_pairs, subpixel):
    net, pairs = conv(subpixel), toy_pairs(IMAGES_PER_SLICE + 3)
    with torch.no_grad():
        expected = [
            float(psnr_db(net(pairs.latents[i : i + 1]), pairs.rgb(subpixel, slice(i, i + 1))))
            for i in range(len(pairs))
        ]
    assert mean_psnr_db(net, pairs) == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_half_precision_latents_are_trained_on_in_single_precision(toy_pairs):
    fit, held = (Pairs(pairs.latents.half(), pairs.pixels) for pairs in (toy_pairs(12), toy_pairs(4, seed=1)))
    net = conv()
    train_net(net, fit, held, SHORT)
    assert {tensor.dtype for tensor in net.parameters()} == {torch.float32}


def test_too_few_pixels_for_the_linear_path_are_refused(toy_pairs):
    with pytest.raises(FitError, match="64 latent pixels are too few for 100 features"):
        train_net(conv(), toy_pairs(1), toy_pairs(1, seed=1), SHORT)


@pytest.mark.parametrize("steps", [1, 20, 3000])
def test_the_learning_rate_peaks_within_a_tenth_of_the_steps(steps):
    rates = [training._learning_rate(step, steps) for step in range(steps)]
    assert rates.index(max(rates)) <= steps / 10
    assert max(rates) > 0.9


@pytest.mark.parametrize("setting", [{"steps": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}], ids=str)
def test_an_invalid_recipe_is_refused(setting):
    with pytest.raises(FitError, match="steps and images per step from 1 up and a learning rate above 0"):
        Recipe(**setting)


def test_a_fit_step_has_step_loss_and_psnr():
    assert FitStep(3, 10, -4.5, 20.0)._asdict() == {"step": 3, "steps": 10, "loss": -4.5, "validation_db": 20.0}


def test_the_overall_path_starts_at_zero_and_is_trained(toy_pairs):
    with torch.random.fork_rng():
        net = Conv(4, (8, 8), overall=True)
    training.initialize(net, [toy_pairs(12)], torch.Generator(), ONE_PROCESS)
    assert not any(float(weight.detach().abs().max()) for weight in net.overall.parameters())
    train_net(net, toy_pairs(12), toy_pairs(4, seed=1), SHORT)
    assert all(float(weight.detach().abs().max()) for weight in net.overall.parameters())


@pytest.mark.parametrize("scale", [1, 2])
def test_images_averaged_once_equal_those_averaged_on_demand(toy_pairs, scale):
    pairs, at = toy_pairs(IMAGES_PER_SLICE + 3), torch.tensor([IMAGES_PER_SLICE + 2, 0, 5, 5])
    assert pairs.downscale == 2
    torch.testing.assert_close(training._truth_of(pairs, scale)(at), pairs.rgb(scale, at), atol=5e-4, rtol=0)


@pytest.mark.parametrize(
    ("known", "expected"), [({}, False), ({"avx2": True, "avx512_bf16": False}, False), ({"amx_bf16": True}, True)]
)
def test_bfloat16_is_used_on_processors_that_support_it(monkeypatch, known, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert training.has_bfloat16() is expected


def test_bfloat16_is_used_on_devices_that_report_it_whatever_their_name(monkeypatch):
    for reports, expected in ((lambda: True, True), (lambda: False, False)):
        monkeypatch.setattr(torch, "npu", SimpleNamespace(is_bf16_supported=reports), raising=False)
        assert training.has_bfloat16(SimpleNamespace(type="npu")) is expected
    assert training.has_bfloat16(torch.device("mps")) is False


def test_training_without_bfloat16_reaches_about_the_same_psnr(toy_pairs, monkeypatch):
    pairs, held = toy_pairs(12), toy_pairs(4, seed=1)
    scores = []
    for has in (False, True):
        monkeypatch.setattr(training, "has_bfloat16", lambda _device, has=has: has)
        scores.append(train_net(conv(), pairs, held, SHORT))
    assert scores[0] == pytest.approx(scores[1], abs=0.3)
    assert scores[0] != scores[1]
