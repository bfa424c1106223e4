"""The training of a net while the machine is idle: in slices of a picture, over restarts, until nothing is gained."""

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import build, read_card, read_decoder, write_decoder
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.measured_scores import MEASURED_FILE, MeasuredScores, measured_text, read_measured
from safelight.decoders.nets.conv import Conv
from safelight.errors import FitError
from safelight.fitting.least_squares import Sums
from safelight.fitting.online import net_training
from safelight.fitting.online.learned_files import LearnedFiles, forget_space
from safelight.fitting.online.net_training import LR, MIN_LR, is_due, open_training
from safelight.fitting.online.state import DecodedPair, OnlineState
from safelight.fitting.online.update import learn_from_decode
from safelight.fitting.pairs import Pairs
from safelight.fitting.presets import PRESETS

TOY = LatentSpace(name="toy", title="Toy", channels=4, downscale=2, source="a test")
VAE = "a1b2c3d4e5f6"
MIN_PICTURES, JUDGE_EVERY = 6, 8
MAX_SLICES = 5000

pytestmark = pytest.mark.usefixtures("_one_thread", "_small_training")


@pytest.fixture
def _small_training(monkeypatch):
    constants = {"PICTURES_PER_STEP": 2, "PATIENCE": 2, "WARM_UP_STEPS": 4, "MIN_SIDE": 4, "MAX_SIDE": 12}
    for name, value in (constants | {"MIN_PICTURES": MIN_PICTURES, "JUDGE_EVERY": JUDGE_EVERY}).items():
        monkeypatch.setattr(net_training, name, value)


@pytest.fixture
def files(tmp_path):
    return LearnedFiles(tmp_path, "toy", VAE)


def toy_decode(seed, side=12):
    """A decode of a made-up VAE at twice the latent size, which no closed form reads exactly."""
    generator = torch.Generator().manual_seed(seed)
    latents = F.interpolate(torch.randn(1, 4, 4, 4, generator=generator), size=(side, side), mode="bicubic")
    mixed = F.interpolate(latents, scale_factor=2, mode="bilinear")
    rgb = torch.sigmoid(2 * mixed[:, :3] * mixed[:, 1:4].tanh() + mixed[:, 3:].square() - 1)
    return DecodedPair(latents, rgb)


def teach(files, seeds, store_bytes=1 << 20):
    for seed in seeds:
        learn_from_decode(
            files.folder, TOY, toy_decode(seed), Catalogue([files.folder]), vae=files.vae, store_bytes=store_bytes
        )


def ticking(seconds):
    """A clock that advances by some seconds at each call."""
    now = [0.0]

    def clock():
        now[0] += seconds
        return now[0]

    return clock


def opened(files, seconds=0.01):
    return open_training(files, Catalogue([files.folder]), clock=ticking(seconds))


def run(training, slices=MAX_SLICES, until=lambda: False):
    """Advances until the training is finished, or `until`; returns the texts for the user."""
    texts = []
    for _ in range(slices):
        if training.is_finished or until():
            break
        texts.append(training.advance())
    return [text for text in texts if text]


def run_until_judged(files, training):
    """Advances until the net was judged once and saved."""
    before = files.net.read_bytes() if files.net.exists() else b""
    return run(training, until=lambda: files.net.exists() and files.net.read_bytes() != before)


def progress(files):
    return read_card(files.net).metrics


def on_test_pairs_db(files, decoder):
    return OnlineState.load(files.state).psnr_db(decoder)


# When it is due


def test_a_training_needs_pictures_and_a_comparison(files):
    assert not is_due(files)
    teach(files, range(7))
    assert [len(files.pairs().list()), is_due(files)] == [5, False]
    teach(files, [7])
    assert [len(files.pairs().list()), is_due(files)] == [6, True]
    measured = files.parent / MEASURED_FILE
    content = measured.read_bytes()
    measured.unlink()
    assert not is_due(files)
    measured.write_bytes(content)
    files.state.unlink()
    assert not is_due(files)


def test_too_few_pictures_that_can_be_read_are_refused(files):
    teach(files, range(8))
    files.pairs().list()[0].path.write_bytes(b"damaged")
    with pytest.raises(FitError, match="5 pictures to train on and 2 to judge on can be read"):
        opened(files)


def test_a_damaged_state_is_refused(files):
    teach(files, range(8))
    files.state.write_bytes(b"damaged")
    with pytest.raises(FitError, match=r"state\.safetensors"):
        opened(files)


# The training


def test_the_net_gains_on_pictures_that_are_held_back(files):
    teach(files, range(16))
    closed_form_db = read_measured(files.folder, "toy", VAE).psnr_latent_db[files.decoder.stem]
    training = opened(files)
    first = run_until_judged(files, training)
    start_db = progress(files)["psnr_latent_db"]
    scores = [start_db]

    def gained():
        scores.append(progress(files)["psnr_latent_db"])
        return scores[-1] > max(start_db, closed_form_db) + 2

    texts = first + run(training, until=gained)
    assert gained()
    assert sorted(scores) == scores
    assert read_card(files.decoder).kind == "conv"
    assert len(texts) == 1
    assert "a net trained while idle has" in texts[0]
    published_db = read_measured(files.folder, "toy", VAE).psnr_latent_db[files.decoder.stem]
    assert published_db > closed_form_db + 2
    decoder = read_decoder(files.decoder)
    assert decoder.scale == 2
    assert on_test_pairs_db(files, decoder) == pytest.approx(published_db, abs=1e-3)
    assert Catalogue([files.folder]).candidates(TOY, vae=VAE)[0].name == files.decoder.stem


def test_a_new_net_is_the_closed_form_of_the_training_pairs(files, monkeypatch):
    monkeypatch.setattr(net_training, "MIN_SIDE", 12)  # whole pictures
    teach(files, range(12))
    run_until_judged(files, opened(files))
    net = read_decoder(files.net).net
    sums = Sums(net_training.linear_form(net))
    for pair in files.pairs().load(4):
        sums.add(pair.latents.float(), pair.rgb(2))
    expected = Conv(**PRESETS["conv"].settings(4, 2))
    net_training.start_as_closed_form(expected, sums)
    assert torch.allclose(net.linear.weight, expected.linear.weight, atol=1e-4)
    assert not net.out.weight.any()
    assert progress(files)["psnr_latent_db"] == on_test_pairs_db(files, read_decoder(files.net))


def test_a_training_begins_at_an_installed_net_of_the_same_shape(files):
    teach(files, range(12))
    settings = PRESETS["conv"].settings(4, 2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = {key: tensor.detach() for key, tensor in Conv(**settings).state_dict().items()}
    decoder = OnlineState(TOY, VAE).decoder_of(build("conv", settings, weights), settings)
    write_decoder(files.folder / "mine.safetensors", decoder.card, weights)
    run_until_judged(files, opened(files))
    assert torch.equal(read_decoder(files.net).net.out.weight, weights["out.weight"])


def test_each_slice_uses_one_picture(files, monkeypatch):
    teach(files, range(8))
    used = []
    forward, add = Conv.forward, Sums.add
    monkeypatch.setattr(Conv, "forward", lambda net, x: used.append(("net", len(x))) or forward(net, x))
    monkeypatch.setattr(Sums, "add", lambda sums, x, rgb: used.append(("sums", len(x))) or add(sums, x, rgb))
    training = opened(files)
    assert used == []
    slices = []
    for _ in range(60):
        training.advance()
        slices.append(list(used))
        used.clear()
    pictures, test_pictures = len(files.pairs().list()), len(OnlineState.load(files.state).test_pairs)
    assert slices[:pictures] == [[("sums", 1)]] * pictures
    assert slices[pictures:] == [[("net", 1)]] * (60 - pictures)
    assert pictures + test_pictures + 2 * JUDGE_EVERY + test_pictures < 60  # closed form, judged, trained, judged


@pytest.mark.parametrize(("seconds", "sides"), [(1.0, {4}), (0.0001, {4, 8, 12})])
def test_the_crop_is_as_large_as_the_time_of_a_slice_allows(files, monkeypatch, seconds, sides):
    teach(files, range(8))
    seen, forward = set(), Conv.forward
    monkeypatch.setattr(Conv, "forward", lambda net, x: seen.add(x.shape[-1]) or forward(net, x))
    training = opened(files, seconds)
    run(training, 6 + 2)  # closed form, first judgment
    seen.clear()
    run(training, 10)
    assert seen == sides


def test_pictures_that_are_smaller_than_a_crop_are_used_whole(files):
    for seed in range(8):
        learn_from_decode(files.folder, TOY, toy_decode(seed, side=6), Catalogue([files.folder]), vae=VAE)
    run_until_judged(files, opened(files, 0.0001))
    assert files.net.exists()


def test_plain_pictures_end_the_training_with_a_reason(files):
    teach(files, range(8))
    for each in files.pairs().list():
        pair = Pairs.load(each.path)
        Pairs(pair.latents.clone(), torch.full_like(pair.pixels, 128)).save(each.path)
    with pytest.raises(FitError, match="one color"):
        run(opened(files))
    assert not files.net.exists()


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_a_host_without_gradients_can_train(files, context):
    teach(files, range(8))
    with context():
        training = opened(files)
        run(training, 100)
    assert files.net.exists()


def test_the_random_numbers_of_the_process_are_not_used_not_even_for_a_moment(files, monkeypatch):
    """A sampler may begin on another thread at any time."""
    teach(files, range(8))
    monkeypatch.setattr(torch.random, "fork_rng", None)
    before = torch.get_rng_state()
    run(opened(files), 60)
    assert torch.equal(torch.get_rng_state(), before)


# Progress


def test_the_learning_rate_is_halved_until_the_training_is_finished(files, monkeypatch):
    monkeypatch.setattr(net_training, "MIN_TRAINING_GAIN_DB", 1000.0)  # nothing but the first judgment is a gain
    teach(files, range(8))
    training, rates = opened(files), []
    while not training.is_finished:
        training.advance()
        if files.net.exists() and progress(files)["lr"] not in rates:
            rates.append(progress(files)["lr"])
    assert rates == [LR, LR / 2, LR / 4, LR / 8, LR / 16]
    assert rates[-1] < MIN_LR <= rates[-2]
    assert not is_due(files)


def test_more_pictures_make_a_finished_training_due_again_with_the_full_learning_rate(files, monkeypatch):
    monkeypatch.setattr(net_training, "MIN_TRAINING_GAIN_DB", 1000.0)
    teach(files, range(8))
    run(opened(files))
    teach(files, [8])  # 7 pictures, a sixth more
    assert not is_due(files)
    teach(files, [9, 10])  # one of them is for the test
    assert is_due(files)
    run_until_judged(files, opened(files))
    assert progress(files)["lr"] == LR
    assert progress(files)["training_pictures"] == 8


def test_new_pictures_make_it_due_again_also_if_only_the_newest_are_saved(files, monkeypatch):
    monkeypatch.setattr(net_training, "MIN_TRAINING_GAIN_DB", 1000.0)
    teach(files, [0])
    limit = 6 * files.pairs().list()[0].size + 100
    teach(files, range(1, 12), limit)
    assert len(files.pairs().list()) == 6
    run(opened(files))
    assert not is_due(files)
    teach(files, range(12, 18), limit)
    assert len(files.pairs().list()) == 6
    assert is_due(files)


def test_progress_survives_a_restart(files, monkeypatch):
    teach(files, range(12))
    training = opened(files)
    run(training, 200)
    saved, content = progress(files), files.net.read_bytes()
    assert is_due(files)
    monkeypatch.setattr(net_training, "MIN_TRAINING_GAIN_DB", 1000.0)
    again = opened(files)
    run(again, until=lambda: progress(files) != saved)
    after = progress(files)
    assert after == {**saved, "lr": saved["lr"] / 2}  # the score was not measured again
    assert read_decoder(files.net).net.state_dict().keys() == read_decoder(files.net, content).net.state_dict().keys()
    for key, tensor in read_decoder(files.net).net.state_dict().items():
        assert torch.equal(tensor, read_decoder(files.net, content).net.state_dict()[key])


def test_a_saved_net_is_judged_again_if_the_test_pictures_changed(files):
    teach(files, range(12))
    run(opened(files), 150)
    teach(files, [12, 13])
    state = OnlineState.load(files.state)
    assert progress(files)["judged_on"] != state.judged_on
    net_db = on_test_pairs_db(files, read_decoder(files.net))
    training = opened(files)
    run(training, len(state.test_pairs))
    assert progress(files)["judged_on"] == state.judged_on
    assert progress(files)["psnr_latent_db"] == pytest.approx(net_db, abs=1e-3)


def test_a_training_that_only_loses_leaves_the_saved_net(files, monkeypatch):
    teach(files, range(12))
    run(opened(files), 200)
    teach(files, [12, 13])  # other test pictures: the score of the saved net is unknown at first
    before = read_decoder(files.net).net.state_dict()
    for name in ("LR", "MIN_LR"):
        monkeypatch.setattr(net_training, name, 3.0)
    run(opened(files), 150)
    after = read_decoder(files.net).net.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("published", [True, False])
def test_a_damaged_net_starts_again_at_the_published_one_or_the_closed_form(files, published):
    teach(files, range(8))
    run(opened(files), 150)
    assert read_card(files.decoder).kind == "conv"
    if not published:
        files.decoder.unlink()
    files.net.write_bytes(files.net.read_bytes()[:3000])
    assert is_due(files)
    run_until_judged(files, opened(files))
    assert bool(read_decoder(files.net).net.out.weight.any()) == published


@pytest.mark.parametrize("metrics", [{}, {"lr": "fast", "psnr_latent_db": 1, "training_pictures": 1}])
def test_a_net_without_progress_is_trained_on(files, metrics):
    teach(files, range(8))
    run(opened(files), 100)
    decoder = read_decoder(files.net)
    card = type(decoder.card)(**{**vars(decoder.card), "metrics": metrics})
    write_decoder(files.net, card, decoder.net.state_dict())
    assert is_due(files)
    run_until_judged(files, opened(files))
    assert progress(files)["lr"] == LR


def test_after_learning_was_removed_nothing_is_written(files):
    teach(files, range(8))
    training = opened(files)
    forget_space(files.folder, "toy")
    assert run(training, 200) == []
    assert [path.name for path in files.folder.rglob("*") if path.is_file()] == [".lock"]


def test_a_full_disk_ends_the_slice_and_leaves_the_old_net(files, monkeypatch):
    teach(files, range(8))
    training = opened(files)
    run_until_judged(files, training)
    content = files.net.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(net_training, "write_decoder", full)
    with pytest.raises(OSError, match="No space left"):
        run(training)
    assert files.net.read_bytes() == content


# Publishing


def set_score(files, db, judged_on=None):
    """Says that the learned decoder in use has this score."""
    measured = read_measured(files.folder, "toy", VAE)
    scores = {**measured.psnr_latent_db, files.decoder.stem: db}
    text = measured_text(MeasuredScores(vae=VAE, judged_on=judged_on or measured.judged_on, pictures=3,
                                        psnr_latent_db=scores))  # fmt: skip
    (files.parent / MEASURED_FILE).write_text(text, encoding="utf-8")


def test_the_net_is_not_used_while_the_decoder_in_use_is_better(files):
    teach(files, range(12))
    content = files.decoder.read_bytes()
    set_score(files, 59.0)
    assert run(opened(files), 150) == []
    assert files.decoder.read_bytes() == content
    assert progress(files)["psnr_latent_db"] < 59


def test_the_net_is_not_used_if_the_test_pictures_changed_meanwhile(files):
    teach(files, range(12))
    training = opened(files)
    teach(files, [12, 13])
    kind = read_card(files.decoder).kind
    assert run(training, 200) == []
    assert read_card(files.decoder).kind == kind == "polynomial"
    assert files.net.exists()  # the next decode judges it
    teach(files, [14])
    assert read_card(files.decoder).kind == "conv"


def test_a_training_can_be_replaced_shortly_after_it_was_judged(files):
    teach(files, range(8))
    training = opened(files)
    states = []
    for _ in range(6 + 2 + 2 * JUDGE_EVERY + 2):
        training.advance()
        states.append(training.is_judged)
    assert not any(states[:7])
    assert states[7]
    assert not states[-3]  # half judged again
