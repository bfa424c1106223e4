"""Training on a toy space: the same seed gives the same net, the best is kept, an interruption loses nothing."""

import math
from dataclasses import replace

import pytest
import torch
from safelight.decoders.nets.conv import LINEAR_KERNEL, Conv
from safelight.decoders.nets.mlp import Mlp
from safelight.errors import FitError
from safelight.fitting import train as training
from safelight.fitting.least_squares import Form, Sums
from safelight.fitting.metrics import psnr_db
from safelight.fitting.pairs import Pairs
from safelight.fitting.train import CHUNK, Progress, Recipe, evaluate, train
from safetensors.torch import save

pytestmark = pytest.mark.usefixtures("_one_thread")
SHORT = Recipe(steps=30, batch=4)


def conv(subpixel=1):
    with torch.random.fork_rng():
        return Conv(4, (8, 8), subpixel=subpixel)


def trained(toy_pairs, recipe=SHORT, make=conv):
    net = make()
    train(net, toy_pairs(12), toy_pairs(4, seed=1), recipe)
    return save(net.state_dict())


@pytest.mark.parametrize("make", [conv, lambda: Mlp((4, 8, 3))], ids=["conv", "mlp"])
def test_the_same_seed_gives_the_same_bytes_whatever_the_net_was_before(toy_pairs, make):
    torch.rand(7)
    assert trained(toy_pairs, make=make) == trained(toy_pairs, make=make)


def test_another_seed_gives_another_net(toy_pairs):
    assert trained(toy_pairs) != trained(toy_pairs, replace(SHORT, seed=1))


def test_the_global_random_state_is_left_alone(toy_pairs, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)  # an accelerator's counts as well
    net = conv()
    before = torch.get_rng_state()
    train(net, toy_pairs(12), toy_pairs(4, seed=1), SHORT)
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded


@pytest.mark.parametrize("subpixel", [1, 2])
def test_a_conv_begins_as_the_best_closed_form_and_ends_better(toy_pairs, subpixel):
    fit, held = toy_pairs(100), toy_pairs(6, seed=1)
    form = Form(channels=4, kernel=LINEAR_KERNEL, subpixel=subpixel)
    sums = Sums(form)
    sums.add(fit.latents, fit.rgb(subpixel))
    net = conv(subpixel)
    shown = []
    best = train(net, fit, held, Recipe(steps=200, batch=8, lr=1e-2), shown.append)
    assert shown[0].held_db == pytest.approx(
        evaluate_solution(sums.solve(1e-4), form, held), abs=1e-3
    )  # before the first step
    assert best > shown[0].held_db + 3
    assert evaluate(net, held) == pytest.approx(best, abs=1e-5)


def evaluate_solution(solution, form, pairs):
    x = torch.nn.functional.pad(pairs.latents, (2, 2, 2, 2), mode="replicate")
    kernel = solution[:-1].T.reshape(form.outputs, 4, 5, 5).float()
    rgb = torch.nn.functional.conv2d(x, kernel, solution[-1].float())
    rgb = torch.nn.functional.pixel_shuffle(rgb, form.subpixel)
    return float(psnr_db(rgb, pairs.rgb(form.subpixel)).mean())


def test_a_network_for_each_pixel_learns(toy_pairs):
    net = Mlp((4, 12, 3))
    shown = []
    assert train(net, toy_pairs(24), toy_pairs(6, seed=1), Recipe(steps=200, batch=8, lr=1e-2), shown.append) > 15
    assert shown[0].held_db < 12


def test_every_step_is_reported(toy_pairs, monkeypatch):
    monkeypatch.setattr(training, "EVERY", 4)
    shown = []
    train(conv(), toy_pairs(12), toy_pairs(4, seed=1), replace(SHORT, steps=10), shown.append)
    assert [progress.step for progress in shown] == list(range(1, 11))
    assert {progress.steps for progress in shown} == {10}
    assert all(math.isfinite(progress.loss) for progress in shown)
    looks = [progress.held_db for progress in shown]
    assert len(set(looks[:3])) == len(set(looks[3:7])) == len(set(looks[7:9])) == 1
    assert len(set(looks)) == 4


def test_the_best_net_is_kept_not_the_last(toy_pairs, monkeypatch):
    """Seen as the judge sees it: worse and worse, but for one look in the middle."""
    monkeypatch.setattr(training, "EVERY", 1)
    looks, states = iter([10.0, 9.0, 12.0, 11.0, 8.0]), []

    def judge(net, _):
        states.append({key: tensor.clone() for key, tensor in net.state_dict().items()})
        return next(looks)

    monkeypatch.setattr(training, "evaluate", judge)
    net = conv()
    assert train(net, toy_pairs(12), toy_pairs(4, seed=1), replace(SHORT, steps=4)) == 12.0
    assert all(torch.equal(tensor, states[2][key]) for key, tensor in net.state_dict().items())
    assert not torch.equal(states[2]["out.weight"], states[4]["out.weight"])


def test_a_keyboard_interrupt_ends_the_training_with_the_best_so_far(toy_pairs, monkeypatch):
    monkeypatch.setattr(training, "EVERY", 10)
    held, shown = toy_pairs(4, seed=1), []

    def report(progress):
        shown.append(progress)
        if progress.step == 25:
            raise KeyboardInterrupt

    net = conv()
    best = train(net, toy_pairs(12), held, replace(SHORT, steps=1000), report)
    assert shown[-1].step == 25
    assert best >= max(progress.held_db for progress in shown)
    assert evaluate(net, held) == pytest.approx(best, abs=1e-5)


def test_an_interrupted_training_keeps_steps_that_nobody_had_looked_at(toy_pairs):
    held, net, looks = toy_pairs(4, seed=1), Mlp((4, 8, 3)), []

    def report(progress):
        looks.append(progress.held_db)
        if progress.step == 25:
            raise KeyboardInterrupt

    best = train(net, toy_pairs(12), held, Recipe(steps=1000, batch=4, lr=1e-1), report)
    assert best > max(looks) + 0.5
    assert evaluate(net, held) == pytest.approx(best, abs=1e-5)


def test_what_else_a_report_raises_is_raised(toy_pairs):
    class CancelledError(Exception):
        pass

    def report(progress):
        raise CancelledError

    with pytest.raises(CancelledError):
        train(conv(), toy_pairs(12), toy_pairs(4, seed=1), SHORT, report)


def test_a_training_that_goes_astray_ends_where_it_began(toy_pairs):
    held = toy_pairs(4, seed=1)
    shown, net = [], conv()
    best = train(net, toy_pairs(12), held, replace(SHORT, lr=1e30), shown.append)
    assert math.isnan(shown[-1].held_db) or shown[-1].held_db < best
    assert best == shown[0].held_db
    assert evaluate(net, held) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_host_that_runs_without_gradients_is_no_hindrance(toy_pairs, mode):
    with mode():
        fit, held = toy_pairs(12), toy_pairs(4, seed=1)
    net, expected = conv(), trained(toy_pairs)
    with mode():
        train(net, fit, held, SHORT)
    assert save(net.state_dict()) == expected


@pytest.mark.parametrize("subpixel", [1, 2])
def test_a_score_is_the_mean_of_the_pictures_scores(toy_pairs, subpixel):
    net, pairs = conv(subpixel), toy_pairs(CHUNK + 3)
    with torch.no_grad():
        expected = [
            float(psnr_db(net(pairs.latents[i : i + 1]), pairs.rgb(subpixel, slice(i, i + 1))))
            for i in range(len(pairs))
        ]
    assert evaluate(net, pairs) == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_half_precision_latents_are_trained_on_in_single_precision(toy_pairs):
    fit, held = (Pairs(pairs.latents.half(), pairs.pixels) for pairs in (toy_pairs(12), toy_pairs(4, seed=1)))
    net = conv()
    train(net, fit, held, SHORT)
    assert {tensor.dtype for tensor in net.parameters()} == {torch.float32}


def test_too_few_pixels_for_the_linear_path_are_told(toy_pairs):
    with pytest.raises(FitError, match="64 latent pixels are too few for 100 features"):
        train(conv(), toy_pairs(1), toy_pairs(1, seed=1), SHORT)


@pytest.mark.parametrize("steps", [1, 20, 3000])
def test_the_learning_rate_is_at_its_highest_within_a_tenth_of_the_steps(steps):
    rates = [training._rate(step, steps) for step in range(steps)]
    assert rates.index(max(rates)) <= steps / 10
    assert max(rates) > 0.9


@pytest.mark.parametrize("setting", [{"steps": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}], ids=str)
def test_a_recipe_that_trains_nothing_is_refused(setting):
    with pytest.raises(FitError, match="steps and pictures a step from 1 up and a learning rate above 0"):
        Recipe(**setting)


def test_progress_says_how_far_it_is():
    assert Progress(3, 10, -4.5, 20.0)._asdict() == {"step": 3, "steps": 10, "loss": -4.5, "held_db": 20.0}


def test_the_overall_view_begins_as_nothing_and_is_learnt(toy_pairs):
    with torch.random.fork_rng():
        net = Conv(4, (8, 8), overall=True)
    training._initialise(net, toy_pairs(12))
    assert not any(float(weight.detach().abs().max()) for weight in net.overall.parameters())
    train(net, toy_pairs(12), toy_pairs(4, seed=1), SHORT)
    assert all(float(weight.detach().abs().max()) for weight in net.overall.parameters())


@pytest.mark.parametrize("scale", [1, 2])
def test_pictures_averaged_once_are_those_that_were_asked_for(toy_pairs, scale):
    pairs, at = toy_pairs(CHUNK + 3), torch.tensor([CHUNK + 2, 0, 5, 5])
    assert pairs.downscale == 2
    torch.testing.assert_close(training._truth(pairs, scale)(at), pairs.rgb(scale, at), atol=5e-4, rtol=0)


@pytest.mark.parametrize(
    ("known", "expected"), [({}, False), ({"avx2": True, "avx512_bf16": False}, False), ({"amx_bf16": True}, True)]
)
def test_bfloat16_is_for_processors_that_have_it(monkeypatch, known, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert training._multiplies_bfloat16() is expected


def test_without_such_a_processor_training_ends_about_as_well(toy_pairs, monkeypatch):
    pairs, held = toy_pairs(12), toy_pairs(4, seed=1)
    scores = []
    for has in (False, True):
        monkeypatch.setattr(training, "_multiplies_bfloat16", lambda has=has: has)
        scores.append(train(conv(), pairs, held, SHORT))
    assert scores[0] == pytest.approx(scores[1], abs=0.3)
    assert scores[0] != scores[1]
