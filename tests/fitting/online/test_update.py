"""Online learning from decodes: the state is saved, bounded, and its decoder is used only if it is better."""

import json
import logging
import re
import threading

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import build, read_card, read_decoder, write_decoder
from safelight.decoders.files.tensor_file import open_tensors, write_tensors
from safelight.decoders.latents.identify import Evidence, identify, unknown
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.polynomial import Polynomial
from safelight.errors import FitError
from safelight.fitting.least_squares import PolynomialForm, polynomial_features
from safelight.fitting.metrics import psnr_db, resize_rgb
from safelight.fitting.online import state as state_module
from safelight.fitting.online import update as update_module
from safelight.fitting.online.state import DecodedPair, NewerStateError, OnlineState
from safelight.fitting.online.update import forget_space, learn_from_decode, list_learned_spaces

SDXL = SPACES["sdxl"]
NAME = "sdxl-learned.safetensors"

pytestmark = pytest.mark.usefixtures("_one_thread")


def decode(latents):
    """Decodes as a made-up VAE: colors depend on a latent pixel and its neighbors."""
    generator = torch.Generator().manual_seed(5)
    kernel = torch.randn(3, latents.shape[1], 3, 3, generator=generator) * 0.02
    kernel[:, :, 1, 1] += torch.randn(3, latents.shape[1], generator=generator) * 0.06
    return (0.5 + F.conv2d(F.pad(latents, (1,) * 4, mode="replicate"), kernel)).clamp(0, 1)


def decoded(seed, size=(24, 32), channels=4, batch=1):
    """Returns a decode of smooth latents with grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, channels, 5, 5, generator=generator)
    latents = F.interpolate(coarse, size=size, mode="bicubic") + 0.1 * torch.randn(
        batch, channels, *size, generator=generator
    )
    return DecodedPair(latents, decode(latents))


def learn(folder, seeds, space=SDXL, evidence=None, **kwargs):
    return [learn_from_decode(folder, space, decoded(seed, **kwargs), Catalogue([folder]), evidence) for seed in seeds]


def saved_state(folder, space="sdxl"):
    return OnlineState.load(folder / "learned" / f"{space}.safetensors")


def auto(folder, space=SDXL, evidence=None):
    return Catalogue([folder]).candidates(space, evidence=evidence)[0]


def on_unseen(candidate, **kwargs):
    """Returns the PSNR on pictures that were not used for learning."""
    decoder = candidate.open()
    return sum(float(psnr_db(decoder.decode(one.latents), one.rgb)) for one in unseen(**kwargs)) / 4


def unseen(**kwargs):
    return [decoded(seed, **kwargs) for seed in range(9000, 9004)]


# The loop


def test_twenty_decodes_give_a_better_preview_decoder(tmp_path):
    before = auto(tmp_path)
    texts = learn(tmp_path, range(20))
    after = auto(tmp_path)
    assert before.name == "sdxl-affine-comfyui"
    assert after.name == "sdxl-learned"
    assert on_unseen(after) > on_unseen(before) + 6
    assert any("auto uses it from the next run on" in text for text in texts if text)
    card = read_card(tmp_path / NAME)
    assert re.fullmatch(r"\d+ decodes, [\d,]+ latent pixels, learned while decoding", card.fitted_on)
    assert card.metrics["beside"][before.name]["psnr_latent_db"] < card.metrics["psnr_latent_db"]


def test_no_decoder_is_written_if_a_shipped_decoder_is_better(tmp_path):
    space = SPACES["flux2"]
    shipped = auto(tmp_path, space).open()

    def flux2(seed):
        latents = decoded(seed, channels=32, size=(16, 16)).latents
        return DecodedPair(latents, resize_rgb(shipped.decode(latents), 16, 16))

    for seed in range(10):
        learn_from_decode(tmp_path, space, flux2(seed), Catalogue([tmp_path]))
    assert auto(tmp_path, space).name == shipped.name
    assert not list(tmp_path.glob("*.safetensors"))
    verdict = saved_state(tmp_path, "flux2").comparison
    assert verdict.in_use == shipped.name
    assert verdict.in_use_db > 50 > verdict.learned_db


def test_the_solution_equals_least_squares_in_numpy(tmp_path):
    numpy = pytest.importorskip("numpy")
    learn(tmp_path, range(8))
    decoder = read_decoder(tmp_path / NAME)
    kernel = decoder.card.settings["kernel"]
    form = PolynomialForm(channels=4, kernel=kernel)
    fitted = [decoded(seed) for seed in range(8) if seed % 4 != 1]
    border = (kernel // 2,) * 4
    x = torch.cat([polynomial_features(F.pad(one.latents.double(), border, mode="replicate"), form) for one in fitted])
    y = torch.cat([one.rgb.double().movedim(1, -1).flatten(0, 2) for one in fitted])
    deviation = x.std(0, unbiased=False)
    standard = (x - x.mean(0)) / deviation
    ridge = torch.eye(x.shape[1], dtype=x.dtype) * (state_module.ONLINE_RIDGE * len(x)) ** 0.5
    solved, *_ = numpy.linalg.lstsq(
        torch.cat([standard, ridge]).numpy(), torch.cat([y - y.mean(0), torch.zeros(x.shape[1], 3)]).numpy(), rcond=None
    )
    expected = torch.from_numpy(solved) / deviation[:, None]
    found = decoder.net.state_dict()["weight"].flatten(1).T.double()
    assert torch.allclose(found, expected, atol=1e-4)


# The state


def test_the_state_survives_a_restart_bit_for_bit(tmp_path, monkeypatch):
    """Saving and loading changes nothing, not even the next random choice."""
    monkeypatch.setattr(state_module, "MAX_TEST_PAIRS", 2)
    state = OnlineState(SDXL)
    for seed in range(25):
        state.add(decoded(seed))
        state.save(tmp_path / "a.safetensors")
        again = OnlineState.load(tmp_path / "a.safetensors")
        assert all(torch.equal(again.sums[k].xx, state.sums[k].xx) for k in state.sums)
        state = again
    whole = OnlineState(SDXL)
    for seed in range(25):
        whole.add(decoded(seed))
    assert all(torch.equal(whole.sums[k].xy, state.sums[k].xy) for k in state.sums)
    assert whole.judged_on == state.judged_on
    assert (state.decodes, state.pictures, len(state.test_pairs)) == (25, 19, 2)


def test_a_new_state_has_no_empty_tensors(tmp_path):
    """Safetensors before 0.4.4 cannot read one."""
    path = tmp_path / "a.safetensors"
    OnlineState(SDXL).save(path)
    assert all(tensor.numel() for tensor in open_tensors(path)[1].values())
    assert OnlineState.load(path).test_pairs == []


def test_seen_latents_are_not_added_again(tmp_path):
    learn(tmp_path, range(6))
    before = saved_state(tmp_path)
    learn(tmp_path, [0, 1, 5, 3, 1])
    after = saved_state(tmp_path)
    assert after.decodes == before.decodes == 6
    assert after.pixels == before.pixels == 4 * 24 * 32
    assert after.judged_on == before.judged_on


def test_only_new_latents_of_a_batch_are_added():
    state = OnlineState(SDXL)
    first, batch = decoded(0), decoded(1, batch=3)
    state.add(first)
    state.add(decoded(2))  # a test pair
    repeated = DecodedPair(
        torch.cat([first.latents, *([batch.latents] * 2)]), torch.cat([first.rgb, *([batch.rgb] * 2)])
    )
    assert state.add(repeated)
    assert state.pictures == 4


def test_the_second_of_four_decodes_is_for_the_test_only():
    state, held = OnlineState(SDXL), []
    for seed in range(12):
        pixels, count = state.pixels, len(state.test_pairs)
        state.add(decoded(seed))
        assert (state.pixels == pixels) != (len(state.test_pairs) == count)
        held += [seed] if len(state.test_pairs) > count else []
    assert held == [1, 5, 9]
    assert state.fitted_decodes == 9


def test_the_state_file_does_not_grow_after_many_decodes(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "MAX_SEEN", 100)
    state, sizes = OnlineState(SDXL), []
    for seed in range(500):
        state.add(decoded(seed, size=(70, 2), batch=1))
        if seed % 50 == 49:
            state.save(tmp_path / "a.safetensors")
            sizes.append((tmp_path / "a.safetensors").stat().st_size)
    assert len(state.test_pairs) == state_module.MAX_TEST_PAIRS
    assert {tuple(held.pair.latents.shape[2:]) for held in state.test_pairs} == {(64, 2)}
    assert max(sizes[2:]) - min(sizes[2:]) < 100
    assert sum(not state.add(decoded(seed, size=(70, 2))) for seed in range(440, 500)) == 60
    assert state.pixels == 375 * 70 * 2


def test_the_largest_state_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "TEST_EVERY", 1)
    monkeypatch.setattr(state_module, "FIRST_TEST", 0)
    state = OnlineState(LatentSpace(name="wide", title="Wide", channels=256, source="a test"))
    state.add(DecodedPair(torch.randn(24, 256, 64, 64), torch.rand(24, 3, 64, 64)))
    state.save(tmp_path / "a.safetensors")
    assert len(OnlineState.load(tmp_path / "a.safetensors").test_pairs) == 24


def test_test_pairs_are_a_uniform_sample_of_all_pictures():
    """Early and late pictures of 200 are among the 24 equally often."""
    early = 0
    for repeat in range(40):
        state = OnlineState(SDXL)
        state.decodes = 1
        for seed in range(200):
            picture = torch.full((1, 4, 1, 1), (repeat * 200 + seed) / 8192)
            state.decodes = 1
            state.add(DecodedPair(picture, picture[:, :3]))
        early += sum(float(held.pair.latents[0, 0, 0, 0]) < (repeat * 200 + 100) / 8192 for held in state.test_pairs)
    assert 0.45 < early / (40 * 24) < 0.55


@pytest.mark.parametrize("where", [0.001, 0.3, 0.9, 0.9999])
def test_a_damaged_file_is_renamed_and_learning_starts_again(tmp_path, caplog, where):
    learn(tmp_path, range(3))
    path = tmp_path / "learned" / "sdxl.safetensors"
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0x10
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        learn(tmp_path, [3])
    assert saved_state(tmp_path).decodes == 1
    assert path.with_suffix(".damaged").read_bytes() == content
    assert "learning starts again" in caplog.text


def test_a_truncated_file_is_renamed(tmp_path, caplog):
    learn(tmp_path, range(3))
    path = tmp_path / "learned" / "sdxl.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    assert list_learned_spaces(tmp_path)[0].problem
    learn(tmp_path, [3])
    assert saved_state(tmp_path).decodes == 1
    assert "renamed to sdxl.damaged" in caplog.text


def test_a_file_of_a_newer_version_is_not_changed(tmp_path):
    learn(tmp_path, range(3))
    path = tmp_path / "learned" / "sdxl.safetensors"
    metadata, tensors = open_tensors(path, path.read_bytes())
    write_tensors(path, tensors, {**metadata, "format": "safelight.learned/2"})
    content = path.read_bytes()
    with pytest.raises(NewerStateError, match="update"):
        learn(tmp_path, [3])
    assert path.read_bytes() == content


def test_the_state_of_another_space_with_the_same_name_is_renamed(tmp_path, caplog):
    rows = [LatentSpace(name="mine", title="Mine", channels=4, scale=scale, source="a test") for scale in (1.0, 0.5)]
    learn(tmp_path, range(3), rows[0])
    learn(tmp_path, [3], rows[1])
    assert saved_state(tmp_path, "mine").decodes == 1
    assert "another latent space" in caplog.text


def test_two_threads_lose_no_decode(tmp_path):
    threads = [
        threading.Thread(target=learn, args=(tmp_path, range(start, start + 10)), daemon=True) for start in (0, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saved_state(tmp_path).decodes == 20
    assert not list((tmp_path / "learned").glob(".*.part"))


def test_partial_files_of_ended_processes_are_removed(tmp_path):
    (tmp_path / "learned").mkdir()
    (tmp_path / "learned" / ".sdxl.safetensors.0.part").write_bytes(b"half")
    learn(tmp_path, [0])
    assert not list((tmp_path / "learned").glob(".*.part"))


def test_a_full_disk_leaves_the_old_state(tmp_path, monkeypatch):
    learn(tmp_path, range(3))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        learn(tmp_path, [3])
    assert saved_state(tmp_path).decodes == 3


# Errors


@pytest.mark.parametrize(
    ("latents", "rgb", "match"),
    [
        (torch.full((1, 4, 8, 8), torch.nan), torch.zeros(1, 3, 8, 8), "NaN"),
        (torch.zeros(1, 4, 8, 8), torch.full((1, 3, 8, 8), torch.nan), "NaN"),
        (torch.full((1, 4, 8, 8), 1e6), torch.zeros(1, 3, 8, 8), "float16"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 8, 8), "expected latents"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 9), "expected images"),
    ],
)
def test_an_invalid_decode_changes_nothing(tmp_path, latents, rgb, match):
    learn(tmp_path, range(2))
    content = (tmp_path / "learned" / "sdxl.safetensors").read_bytes()
    with pytest.raises(FitError, match=match):
        learn_from_decode(tmp_path, SDXL, DecodedPair(latents, rgb), Catalogue([tmp_path]))
    assert (tmp_path / "learned" / "sdxl.safetensors").read_bytes() == content


def test_gray_pictures_give_no_decoder(tmp_path):
    gray = torch.full((1, 3, 24, 32), 0.5)
    for seed in range(8):
        learn_from_decode(tmp_path, SDXL, DecodedPair(decoded(seed).latents, gray), Catalogue([tmp_path]))
    assert not (tmp_path / NAME).exists()


def test_an_unknown_space_and_too_many_channels_are_refused(tmp_path):
    with pytest.raises(FitError, match="latent space is unknown"):
        learn(tmp_path, [0], unknown(Evidence(host="comfyui", channels=4)))
    with pytest.raises(FitError, match="channels"):
        OnlineState(LatentSpace(name="wide", title="Wide", channels=257, source="a test"))


@pytest.mark.parametrize(("channels", "kernel"), [(4, 7), (16, 7), (24, 7), (32, 5), (48, 5), (128, 3), (256, 1)])
def test_the_neighbourhood_is_the_largest_that_can_be_solved(channels, kernel):
    sums = OnlineState(LatentSpace(name="a", title="A", channels=channels, source="a test")).sums
    assert set(sums) == {1, kernel}
    assert sums[kernel].form.features <= state_module.MAX_ONLINE_FEATURES


# Comparison with other decoders


def _other(folder, name, *, source="another program", space="sdxl", scale=1.0):
    net = Polynomial(4)
    net.weight.data += scale * torch.eye(3, 4)[:, :, None, None] * 0.3
    net.bias.data += 0.5
    card = Card(name=name.removesuffix(".safetensors"), space=space, kind="polynomial", settings={"channels": 4})
    write_decoder(folder / name, Card(**{**vars(card), "source": source}), net.state_dict())


def test_a_decoder_file_of_another_program_is_not_changed(tmp_path):
    _other(tmp_path, NAME)
    content = (tmp_path / NAME).read_bytes()
    texts = learn(tmp_path, range(8))
    assert (tmp_path / NAME).read_bytes() == content
    assert "leaves it unchanged" in texts[-1]
    assert saved_state(tmp_path).decodes == 8
    assert forget_space(tmp_path, "sdxl") == [tmp_path / "learned" / "sdxl.safetensors"]
    assert (tmp_path / NAME).exists()


def test_a_file_that_is_no_decoder_is_not_changed(tmp_path):
    (tmp_path / NAME).write_bytes(b"a note")
    assert "leaves it unchanged" in learn(tmp_path, range(8))[-1]
    assert (tmp_path / NAME).read_bytes() == b"a note"


def test_a_learned_decoder_that_becomes_worse_is_removed(tmp_path):
    """A much better decoder is installed: the learned one is compared with it and removed."""
    learn(tmp_path, range(8))
    assert auto(tmp_path).name == "sdxl-learned"
    kernel = torch.zeros(3, 4, 3, 3)
    for channel in range(4):
        one = torch.zeros(1, 4, 3, 3)
        one[0, channel, 1, 1] = 1
        kernel[:, channel] = (decode(one) - decode(torch.zeros(1, 4, 3, 3)))[0].flip(-1, -2)
    state = {"weight": kernel, "bias": torch.full((3,), 0.5)}
    settings = {"channels": 4, "kernel": 3}
    assert build("polynomial", settings, state)
    card = Card(
        name="truth",
        space="sdxl",
        kind="polynomial",
        settings=settings,
        source="another program",
        metrics={"beside": {"sdxl-affine-comfyui": {"psnr_latent_db": 1.0}}, "psnr_latent_db": 50.0},
    )
    write_decoder(tmp_path / "truth.safetensors", card, state)
    texts = learn(tmp_path, [8])
    assert "removed, because it is now worse than truth" in texts[0]
    assert not (tmp_path / NAME).exists()
    assert auto(tmp_path).name == "truth"
    assert saved_state(tmp_path).comparison.in_use == "truth"


def test_the_learned_decoder_is_not_compared_with_itself(tmp_path):
    learn(tmp_path, range(20))
    assert auto(tmp_path).name == "sdxl-learned"
    assert saved_state(tmp_path).comparison.in_use == "sdxl-affine-comfyui"


def test_a_decoder_installed_later_is_compared_as_well(tmp_path):
    """`auto` compares only decoders that a card names: a later decoder is added at the next decode."""
    learn(tmp_path, range(12))
    better = {"beside": {"sdxl-affine-comfyui": {"psnr_latent_db": 1.0}, "sdxl-learned": {"psnr_latent_db": 90.0}}}
    net = Polynomial(4)
    card = Card(name="later", space="sdxl", kind="polynomial", settings={"channels": 4}, source="a boaster")
    metrics = {"psnr_latent_db": 99.0, "beside": {"sdxl-affine-comfyui": better["beside"]["sdxl-affine-comfyui"]}}
    write_decoder(tmp_path / "later.safetensors", Card(**{**vars(card), "metrics": metrics}), net.state_dict())
    learn(tmp_path, [12])
    assert "later" in read_card(tmp_path / NAME).metrics["beside"]
    assert auto(tmp_path).name == "sdxl-learned"


def test_an_unknown_space_is_stored_in_the_card(tmp_path):
    factors = [[0.1, 0.1, 0.1], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]
    evidence = Evidence(host="comfyui", format_name="Mystery", channels=4, dims=2, scale=0.77, factors=factors)
    row = LatentSpace(
        name="mystery",
        title="Mystery",
        channels=4,
        scale=0.77,
        hosts={"comfyui": ("Mystery",)},
        source="what comfyui says",
    )
    learn(tmp_path, range(12), row, evidence)
    found = identify(evidence, Catalogue([tmp_path]).spaces())
    assert found == row
    chosen = auto(tmp_path, found, evidence)
    assert chosen.name == "mystery-learned"
    assert chosen.card.metrics["beside"].keys() >= {"comfyui-table"}
    assert on_unseen(chosen) > 25


def test_with_few_decodes_a_single_pixel_is_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "PIXELS_PER_FEATURE", 10)
    learn(tmp_path, range(6), size=(8, 9))
    assert saved_state(tmp_path).pixels < 1960
    assert read_card(tmp_path / NAME).settings["kernel"] == 1


# List and reset


def test_learned_spaces_can_be_listed_and_removed(tmp_path):
    assert list_learned_spaces(tmp_path) == []
    learn(tmp_path, range(8))
    (row,) = list_learned_spaces(tmp_path)
    assert (row.space, row.decoder, row.problem) == ("sdxl", tmp_path / NAME, None)
    assert row.file_bytes == (tmp_path / "learned" / "sdxl.safetensors").stat().st_size
    assert row.state.comparison.learned_db > row.state.comparison.in_use_db
    assert set(forget_space(tmp_path, "sdxl")) == {tmp_path / NAME, tmp_path / "learned" / "sdxl.safetensors"}
    assert list_learned_spaces(tmp_path) == []
    with pytest.raises(FitError, match="nothing was learned for 'sdxl'"):
        forget_space(tmp_path, "sdxl")


@pytest.mark.parametrize("name", ["../sdxl", "learned/sdxl", "", "."])
def test_a_name_that_is_no_learned_space_removes_nothing(tmp_path, name):
    learn(tmp_path / "models", range(2))
    _other(tmp_path, "sdxl.safetensors")
    with pytest.raises(FitError, match="learned spaces: sdxl"):
        forget_space(tmp_path / "models", name)
    assert (tmp_path / "sdxl.safetensors").exists()


def test_the_comparison_describes_the_test_pairs(tmp_path):
    learn(tmp_path, range(20))
    state = saved_state(tmp_path)
    assert state.judged_on.startswith("5 of the user's pictures")
    assert json.dumps(state.comparison.judged_on)
    assert state.comparison.judged_on == state.judged_on


def test_learning_works_without_file_locks(tmp_path, monkeypatch):
    def none(_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(update_module, "_lock", none)
    learn(tmp_path, range(2))
    assert saved_state(tmp_path).decodes == 2
