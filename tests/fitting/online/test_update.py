"""Online learning from decodes: its decoder is used only if it is better, and VAEs are never mixed."""

import logging
import re
import threading

import pytest
import torch
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import build, read_card, write_decoder
from safelight.decoders.files.tensor_file import open_tensors, write_tensors
from safelight.decoders.latents.identify import Evidence, identify, unknown
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.measured_scores import read_measured
from safelight.decoders.nets.polynomial import Polynomial
from safelight.errors import FitError
from safelight.fitting.metrics import psnr_db, resize_rgb
from safelight.fitting.online import learned_files as files_module
from safelight.fitting.online import state as state_module
from safelight.fitting.online import update as update_module
from safelight.fitting.online.learned_files import LearnedFiles
from safelight.fitting.online.state import DecodedPair, NewerStateError, OnlineState
from safelight.fitting.online.update import MIN_GAIN_DB, Judged, learn_from_decode, publish_net

SDXL = SPACES["sdxl"]
VAE, OTHER_VAE = "a1b2c3d4e5f6", "0f1e2d3c4b5a"
NAME = "sdxl-learned-a1b2c3"
TABLE = "sdxl-affine-comfyui"  # the best decoder that ships

pytestmark = pytest.mark.usefixtures("_one_thread")


def saved_state(files):
    return OnlineState.load(files.state)


def auto(folder, space=SDXL, evidence=None, vae=VAE):
    return Catalogue([folder]).candidates(space, evidence=evidence, vae=vae)[0]


def on_unseen(candidate, decoded, **kwargs):
    """Returns the PSNR on pictures that were not used for learning."""
    decoder, pairs = candidate.open(), [decoded(seed, **kwargs) for seed in range(9000, 9004)]
    return sum(float(psnr_db(decoder.decode(one.latents), one.rgb)) for one in pairs) / len(pairs)


def other_decoder(path, *, weight=None, **facts):
    """Writes a decoder of another program."""
    net = Polynomial(4, kernel=1 if weight is None else weight.shape[-1])
    net.weight.data += 0.3 * torch.eye(3, 4)[:, :, None, None] if weight is None else weight
    net.bias.data += 0.5
    settings = {"channels": 4, "kernel": net.weight.shape[-1]}
    card = {"name": path.stem, "space": "sdxl", "source": "another program", "metrics": {}} | facts
    write_decoder(path, Card(kind="polynomial", settings=settings, **card), net.state_dict())


def weights_of(decode):
    """The weights of a made-up VAE."""
    kernel = torch.zeros(3, 4, 3, 3)
    for channel in range(4):
        one = torch.zeros(1, 4, 3, 3)
        one[0, channel, 1, 1] = 1
        kernel[:, channel] = (decode(one) - decode(torch.zeros(1, 4, 3, 3)))[0].flip(-1, -2)
    return kernel


# The loop


def test_twenty_decodes_give_a_better_preview_decoder(files, learn, decoded):
    before = auto(files.folder)
    texts = learn(files.folder, range(20))
    after = auto(files.folder)
    assert before.name == TABLE
    assert after.name == NAME
    assert on_unseen(after, decoded) > on_unseen(before, decoded) + 6
    assert any("auto uses it from the next run on" in text for text in texts if text)
    card = read_card(files.decoder)
    assert re.fullmatch(r"\d+ decodes, [\d,]+ latent pixels, learned while decoding", card.fitted_on)
    assert card.vae == VAE
    assert card.metrics["beside"][before.name]["psnr_latent_db"] < card.metrics["psnr_latent_db"]


def test_pairs_for_training_are_saved_and_those_for_the_test_are_not(files, learn, decoded):
    learn(files.folder, range(8))
    pairs = list(files.pairs().load(4))
    assert [int(pair.latents[0, 0, 0, 0] * 1000) for pair in pairs] == [
        int(decoded(seed).latents.half()[0, 0, 0, 0] * 1000) for seed in (0, 2, 3, 4, 6, 7)
    ]


def test_the_size_of_saved_pairs_is_limited(files, decoded):
    sizes = []
    for seed in range(12):
        learn_from_decode(files.folder, SDXL, decoded(seed), Catalogue([files.folder]), vae=VAE, store_bytes=30_000)
        sizes.append(sum(pair.size for pair in files.pairs().list()))
    assert max(sizes) <= 30_000
    assert len(files.pairs().list()) >= 2
    assert saved_state(files).pictures == 9


def test_the_scores_of_all_light_decoders_are_saved(files, learn):
    learn(files.folder, range(12))
    measured = read_measured(files.folder, "sdxl", VAE)
    state = saved_state(files)
    assert (measured.vae, measured.judged_on, measured.pictures) == (VAE, state.judged_on, 3)
    assert measured.psnr_latent_db[NAME] == state.comparison.learned_db
    shipped = {c.name: measured.psnr_latent_db[c.name] for c in Catalogue().of(SDXL)}
    assert state.comparison.in_use == max(shipped, key=shipped.get)  # for this VAE not the one that ships first
    assert state.comparison.in_use_db == max(shipped.values())
    assert auto(files.folder).card.measured["pictures"] == 3


def test_no_decoder_is_written_if_a_shipped_decoder_is_better(tmp_path, decoded):
    space, files = SPACES["flux2"], LearnedFiles(tmp_path, "flux2", VAE)
    shipped = auto(tmp_path, space).open()

    def flux2(seed):
        latents = decoded(seed, channels=32, size=(16, 16)).latents
        return DecodedPair(latents, resize_rgb(shipped.decode(latents), 16, 16))

    for seed in range(10):
        learn_from_decode(tmp_path, space, flux2(seed), Catalogue([tmp_path]), vae=VAE)
    assert auto(tmp_path, space).name == shipped.name
    assert not list(tmp_path.glob("*.safetensors"))
    comparison = saved_state(files).comparison
    assert comparison.in_use == shipped.name
    assert comparison.in_use_db > 50 > comparison.learned_db


def test_with_few_decodes_a_single_pixel_is_fitted(files, learn, monkeypatch):
    monkeypatch.setattr(state_module, "PIXELS_PER_FEATURE", 10)
    learn(files.folder, range(6), size=(8, 9))
    assert saved_state(files).pixels < 1960
    assert read_card(files.decoder).settings["kernel"] == 1


def test_seen_latents_are_not_added_again(files, learn):
    learn(files.folder, range(6))
    before = saved_state(files)
    learn(files.folder, [0, 1, 5, 3, 1])
    after = saved_state(files)
    assert after.decodes == before.decodes == 6
    assert after.pixels == before.pixels == 4 * 24 * 32
    assert after.judged_on == before.judged_on
    assert len(files.pairs().list()) == 4


def test_the_comparison_describes_the_test_pairs(files, learn):
    learn(files.folder, range(20))
    state = saved_state(files)
    assert state.judged_on.startswith("5 of the user's pictures")
    assert state.comparison.judged_on == state.judged_on


# Several VAEs


def test_two_vaes_of_a_space_are_never_mixed(tmp_path, learn, decoded):
    """24 decodes of one VAE, then 16 of another: each has its own sums, scores and decoder."""
    one, other = (LearnedFiles(tmp_path, "sdxl", vae) for vae in (VAE, OTHER_VAE))
    learn(tmp_path, range(24))
    alone = [saved_state(one), one.decoder.read_bytes()]
    learn(tmp_path, range(16), vae=OTHER_VAE, vae_seed=6)
    assert one.decoder.read_bytes() == alone[1]
    assert all(torch.equal(saved_state(one).sums[k].xy, alone[0].sums[k].xy) for k in (1, 7))
    assert [saved_state(files).decodes for files in (one, other)] == [24, 16]
    assert [len(files.pairs().list()) for files in (one, other)] == [18, 12]

    chosen = [auto(tmp_path, vae=files.vae) for files in (one, other)]
    assert [candidate.name for candidate in chosen] == [NAME, "sdxl-learned-0f1e2d"]
    assert [candidate.card.vae for candidate in chosen] == [VAE, OTHER_VAE]
    for candidate, vae_seed, wrong in zip(chosen, (5, 6), reversed(chosen), strict=True):
        assert on_unseen(candidate, decoded, vae_seed=vae_seed) > on_unseen(wrong, decoded, vae_seed=vae_seed) + 6


def test_a_vae_that_was_never_seen_has_the_shipped_decoder(files, learn):
    learn(files.folder, range(12))
    assert auto(files.folder, vae="ffffffffffff").name == TABLE
    assert auto(files.folder, vae=None).name == NAME  # if the VAE is unknown, the learned decoder is the best guess


def test_a_decoder_of_an_unknown_vae_is_for_unknown_vaes_only(tmp_path, learn):
    learn(tmp_path, range(12), vae="")
    files = LearnedFiles(tmp_path, "sdxl")
    assert files.decoder.name == "sdxl-learned-unknown.safetensors"
    assert read_card(files.decoder).vae == ""
    assert auto(tmp_path, vae="").name == "sdxl-learned-unknown"
    assert auto(tmp_path, vae=VAE).name == TABLE


def test_a_vae_whose_fingerprint_begins_alike_does_not_replace_the_decoder(files, learn):
    """Names of decoders have six digits of the fingerprint."""
    learn(files.folder, range(8))
    content = files.decoder.read_bytes()
    texts = learn(files.folder, range(8), vae=VAE[:6] + "000000", vae_seed=6)
    assert "leaves it unchanged" in texts[-1]
    assert files.decoder.read_bytes() == content


def test_a_decoder_of_an_earlier_safelight_is_compared_and_not_changed(files, learn, decode):
    """It names no VAE. Here it is the best one: then no other is written."""
    earlier = files.folder / "sdxl-learned.safetensors"
    other_decoder(earlier, weight=weights_of(decode), source=state_module.ONLINE_SOURCE)
    content = earlier.read_bytes()
    learn(files.folder, range(12))
    assert earlier.read_bytes() == content
    assert saved_state(files).comparison.in_use == "sdxl-learned"
    assert auto(files.folder).name == "sdxl-learned"
    assert not files.decoder.exists()


@pytest.mark.parametrize("vae", [VAE, ""])
def test_a_decoder_of_an_earlier_safelight_is_not_replaced_by_a_better_one(tmp_path, learn, vae):
    earlier = tmp_path / "sdxl-learned.safetensors"
    other_decoder(earlier, source=state_module.ONLINE_SOURCE)
    content = earlier.read_bytes()
    learn(tmp_path, range(12), vae=vae)
    assert earlier.read_bytes() == content
    assert "sdxl-learned" in read_measured(tmp_path, "sdxl", vae).psnr_latent_db
    assert auto(tmp_path, vae=vae).name == LearnedFiles(tmp_path, "sdxl", vae).decoder.stem


# Damage


@pytest.mark.parametrize("where", [0.001, 0.3, 0.9, 0.9999])
def test_a_damaged_state_is_renamed_and_restored_from_the_saved_pairs(files, learn, caplog, where):
    learn(files.folder, range(3))
    content = bytearray(files.state.read_bytes())
    content[int(len(content) * where)] ^= 0x10
    files.state.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        learn(files.folder, [3])
    state = saved_state(files)
    assert (state.decodes, state.pictures) == (3, 3)  # one of the first three was for the test
    assert files.state.with_suffix(".damaged").read_bytes() == content
    assert "renamed to state.damaged, learning goes on with 2 saved pictures" in caplog.text


def test_a_lost_state_does_not_cost_the_learned_decoder(files, learn, decoded):
    learn(files.folder, range(20))
    before = on_unseen(auto(files.folder), decoded)
    files.state.write_bytes(files.state.read_bytes()[:5000])
    learn(files.folder, range(20, 30))
    assert auto(files.folder).name == NAME
    assert on_unseen(auto(files.folder), decoded) > before - 1


def test_a_file_of_a_newer_version_is_not_changed(files, learn):
    learn(files.folder, range(3))
    metadata, tensors = open_tensors(files.state, files.state.read_bytes())
    write_tensors(files.state, tensors, {**metadata, "format": "safelight.learned/3"})
    content = files.state.read_bytes()
    with pytest.raises(NewerStateError, match="update"):
        learn(files.folder, [3])
    assert files.state.read_bytes() == content


def test_the_state_of_another_space_with_the_same_name_is_renamed(tmp_path, learn, caplog):
    """Its pairs and its net are in other units, so they go as well."""
    rows = [LatentSpace(name="mine", title="Mine", channels=4, scale=scale, source="a test") for scale in (1.0, 0.5)]
    files = LearnedFiles(tmp_path, "mine", VAE)
    learn(tmp_path, range(3), rows[0])
    other_decoder(files.net)
    learn(tmp_path, [3], rows[1])
    assert saved_state(files).decodes == 1
    assert len(files.pairs().list()) == 1
    assert not files.net.exists()
    assert "another latent space" in caplog.text


def test_damaged_pairs_are_removed_and_learning_goes_on(files, learn):
    learn(files.folder, range(4))
    first, second, _ = files.pairs().list()
    first.path.write_bytes(first.path.read_bytes()[:100])
    second.path.write_bytes(b"")
    assert len(list(files.pairs().load(4))) == 1
    learn(files.folder, [4])
    assert [int(pair.path.name[:8]) for pair in files.pairs().list()] == [3, 4]


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 64, b"[" * 5000])
def test_damaged_scores_are_written_again(files, learn, content):
    learn(files.folder, range(8))
    path = files.parent / "measured.json"
    path.write_bytes(content)
    assert read_measured(files.folder, "sdxl", VAE) is None
    assert auto(files.folder).name == NAME  # its card has its score beside those of the others
    learn(files.folder, [8])
    assert read_measured(files.folder, "sdxl", VAE).psnr_latent_db.keys() >= {NAME, TABLE}


def test_a_damaged_net_is_renamed_and_learning_goes_on(files, learn, caplog):
    learn(files.folder, range(8))
    files.net.write_bytes(b"half a net")
    with caplog.at_level(logging.WARNING):
        learn(files.folder, range(8, 11))
    assert caplog.text.count("renamed to net.damaged, training starts again") == 1
    assert saved_state(files).decodes == 11


def test_a_file_that_cannot_be_written_leaves_the_old_state(files, learn, monkeypatch):
    learn(files.folder, range(3))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(state_module, "write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            learn(files.folder, [3])
    assert saved_state(files).decodes == 3
    learn(files.folder, [3])
    assert saved_state(files).decodes == 4


@pytest.mark.parametrize("name", ["write_decoder", "_write_measured"])
def test_a_decoder_that_cannot_be_written_does_not_cost_the_decode(files, learn, monkeypatch, name):
    learn(files.folder, range(5))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(update_module, name, full)
        with pytest.raises(OSError, match="No space left"):
            learn(files.folder, [5])
    assert saved_state(files).decodes == 6
    learn(files.folder, [6])
    assert auto(files.folder).name == NAME


def test_two_threads_lose_no_decode(files, learn):
    threads = [
        threading.Thread(target=learn, args=(files.folder, range(start, start + 10)), daemon=True) for start in (0, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = saved_state(files)
    assert (state.decodes, state.pictures, len(files.pairs().list())) == (20, 15, 15)
    assert not list(files.folder.rglob("*.part"))


def test_partial_files_of_ended_processes_are_removed(files, learn):
    learn(files.folder, [0])
    partial = [
        files.parent.parent / ".vaes.json.0.part",
        files.parent / ".state.safetensors.0.part",
        files.parent / "pairs" / ".00000002-aa.safetensors.0.part",
        files.folder / ".sdxl-learned-a1b2c3.safetensors.0.part",
    ]
    others = files.folder / ".mine.safetensors.0.part"  # another program may be writing it
    for path in (*partial, others):
        path.write_bytes(b"half")
    learn(files.folder, [1])
    assert not any(path.exists() for path in partial)
    assert others.exists()


def test_learning_works_without_file_locks(files, learn, monkeypatch):
    def none(_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files_module, "_lock", none)
    learn(files.folder, range(2))
    assert saved_state(files).decodes == 2


def test_an_invalid_decode_changes_nothing(files, learn):
    learn(files.folder, range(2))
    content = files.state.read_bytes()
    broken = DecodedPair(torch.zeros(1, 4, 8, 8), torch.full((1, 3, 8, 8), torch.nan))
    with pytest.raises(FitError, match="NaN"):
        learn_from_decode(files.folder, SDXL, broken, Catalogue([files.folder]), vae=VAE)
    assert files.state.read_bytes() == content
    assert len(files.pairs().list()) == 1


def test_gray_pictures_give_no_decoder(files, decoded):
    gray = torch.full((1, 3, 24, 32), 0.5)
    for seed in range(8):
        learn_from_decode(files.folder, SDXL, DecodedPair(decoded(seed).latents, gray), Catalogue(), vae=VAE)
    assert not files.decoder.exists()


def test_an_unknown_space_is_refused(tmp_path, learn):
    with pytest.raises(FitError, match="latent space is unknown"):
        learn(tmp_path, [0], unknown(Evidence(host="comfyui", channels=4)))


# Comparison with other decoders


def test_a_decoder_file_of_another_program_is_not_changed(files, learn):
    other_decoder(files.decoder)
    content = files.decoder.read_bytes()
    texts = learn(files.folder, range(8))
    assert files.decoder.read_bytes() == content
    assert "leaves it unchanged" in texts[-1]
    assert saved_state(files).decodes == 8


def test_a_file_that_is_no_decoder_is_not_changed(files, learn):
    files.decoder.write_bytes(b"a note")
    assert "leaves it unchanged" in learn(files.folder, range(8))[-1]
    assert files.decoder.read_bytes() == b"a note"


def test_a_learned_decoder_that_becomes_worse_is_removed(files, learn, decode):
    """A much better decoder is installed: the learned one is compared with it and removed."""
    learn(files.folder, range(8))
    assert auto(files.folder).name == NAME
    scores = {"beside": {TABLE: {"psnr_latent_db": 1.0}}, "psnr_latent_db": 50.0}
    other_decoder(files.folder / "truth.safetensors", weight=weights_of(decode), metrics=scores)
    texts = learn(files.folder, [8])
    assert "removed, because it is now worse than truth" in texts[0]
    assert not files.decoder.exists()
    assert auto(files.folder).name == "truth"
    assert saved_state(files).comparison.in_use == "truth"
    assert NAME not in read_measured(files.folder, "sdxl", VAE).psnr_latent_db


def test_the_learned_decoder_is_not_compared_with_itself(files, learn):
    learn(files.folder, range(20))
    assert auto(files.folder).name == NAME
    files.decoder.unlink()
    assert saved_state(files).comparison.in_use == auto(files.folder).name != NAME


def test_a_decoder_without_weights_is_not_the_baseline(files, learn):
    """`auto` uses one only if there is no other, whatever its score."""
    learn(files.folder, range(20))
    scores = read_measured(files.folder, "sdxl", VAE).psnr_latent_db
    comparison = saved_state(files).comparison
    assert scores["principal"] > scores[comparison.in_use] == comparison.in_use_db


def test_a_decoder_installed_later_is_compared_as_well(files, learn):
    """Its own figures are from other pictures: after the next decode, those of the user's pictures count."""
    learn(files.folder, range(12))
    boasts = {"psnr_latent_db": 99.0, "beside": {TABLE: {"psnr_latent_db": 1.0}}}
    other_decoder(files.folder / "later.safetensors", metrics=boasts)
    learn(files.folder, [12])
    assert "later" in read_card(files.decoder).metrics["beside"]
    assert "later" in read_measured(files.folder, "sdxl", VAE).psnr_latent_db
    assert auto(files.folder).name == NAME


def test_an_unknown_space_is_stored_in_the_card(tmp_path, learn, decoded):
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
    assert chosen.name == "mystery-learned-a1b2c3"
    assert chosen.card.metrics["beside"].keys() >= {"comfyui-table"}
    assert on_unseen(chosen, decoded) > 25


# Nets


@pytest.fixture
def net(files, decode):
    """Makes a net with a score, as the training does."""

    def make(db):
        settings = {"channels": 4, "widths": (2,), "linear_kernel": 3}
        tensors = {key: tensor * 0.0 for key, tensor in build_conv(settings).items()}
        tensors["linear.weight"], tensors["linear.bias"] = weights_of(decode), torch.full((3,), 0.5)
        return Judged(db, OnlineState(SDXL, VAE).decoder_of(build("conv", settings, tensors), settings))

    def build_conv(settings):
        from safelight.decoders.nets.conv import Conv

        with torch.random.fork_rng():
            return {key: tensor.detach() for key, tensor in Conv(**settings).state_dict().items()}

    return make


def test_a_net_is_published_only_if_it_is_better(files, learn, net):
    learn(files.folder, range(12))
    measured = read_measured(files.folder, "sdxl", VAE)
    learned_db = measured.psnr_latent_db[NAME]
    assert publish_net(files, net(learned_db + 0.5 * MIN_GAIN_DB), measured.judged_on) is None
    assert read_card(files.decoder).kind == "polynomial"
    text = publish_net(files, net(learned_db + 1), measured.judged_on)
    assert f"{learned_db + 1:.1f} dB on {measured.judged_on}, before {learned_db:.1f} dB" in text
    card = read_card(files.decoder)
    assert (card.kind, card.name, card.vae) == ("conv", NAME, VAE)
    assert read_measured(files.folder, "sdxl", VAE).psnr_latent_db == {
        **measured.psnr_latent_db,
        NAME: learned_db + 1,
    }
    assert publish_net(files, net(learned_db + 2), measured.judged_on) is None  # of the same kind: nothing to report
    assert read_card(files.decoder).metrics["psnr_latent_db"] == learned_db + 2


def test_a_net_that_was_judged_on_other_pictures_is_not_published(files, learn, net):
    learn(files.folder, range(12))
    judged_on = read_measured(files.folder, "sdxl", VAE).judged_on
    learn(files.folder, [12, 13])  # one of them is for the test
    assert publish_net(files, net(59.0), judged_on) is None
    assert read_card(files.decoder).kind == "polynomial"


def test_a_net_is_not_published_if_nothing_was_compared(files, net):
    assert publish_net(files, net(59.0), "2 pictures") is None
    assert not files.decoder.exists()


def test_a_net_does_not_replace_the_file_of_another_program(files, learn, net):
    learn(files.folder, range(8))
    judged_on = read_measured(files.folder, "sdxl", VAE).judged_on
    files.decoder.write_bytes(b"a note")
    assert "leaves it unchanged" in publish_net(files, net(59.0), judged_on)
    assert files.decoder.read_bytes() == b"a note"


def test_the_next_decode_judges_the_net_in_training_as_well(files, learn, net):
    learn(files.folder, range(8))
    decoder = net(0.0).decoder
    write_decoder(files.net, decoder.card, decoder.net.state_dict())
    learn(files.folder, [8])
    card = read_card(files.decoder)
    assert card.kind == "conv"
    assert card.metrics["psnr_latent_db"] > 50
