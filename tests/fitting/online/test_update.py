"""A decoder learned from decodes: what is known is kept, bounded, and used only where it is better."""

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
from safelight.fitting.least_squares import Form, features
from safelight.fitting.metrics import at_size, psnr_db
from safelight.fitting.online import state as knowing
from safelight.fitting.online import update as learning
from safelight.fitting.online.state import DecodedPair, NewerError, OnlineState
from safelight.fitting.online.update import inspect, learn, reset

SDXL = SPACES["sdxl"]
NAME = "sdxl-learned.safetensors"

pytestmark = pytest.mark.usefixtures("_one_thread")


def decode(latents):
    """A made-up VAE: colours of a latent pixel and its neighbours, in a basis that no published table has."""
    generator = torch.Generator().manual_seed(5)
    kernel = torch.randn(3, latents.shape[1], 3, 3, generator=generator) * 0.02
    kernel[:, :, 1, 1] += torch.randn(3, latents.shape[1], generator=generator) * 0.06
    return (0.5 + F.conv2d(F.pad(latents, (1,) * 4, mode="replicate"), kernel)).clamp(0, 1)


def lesson(seed, size=(24, 32), channels=4, batch=1):
    """A decode of latents that are smooth with grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, channels, 5, 5, generator=generator)
    latents = F.interpolate(coarse, size=size, mode="bicubic") + 0.1 * torch.randn(
        batch, channels, *size, generator=generator
    )
    return DecodedPair(latents, decode(latents))


def teach(folder, seeds, space=SDXL, evidence=None, **made):
    return [learn(folder, space, lesson(seed, **made), Catalogue([folder]), evidence) for seed in seeds]


def known(folder, space="sdxl"):
    return OnlineState.load(folder / "learned" / f"{space}.safetensors")


def auto(folder, space=SDXL, evidence=None):
    return Catalogue([folder]).candidates(space, evidence=evidence)[0]


def on_unseen(candidate, **made):
    """dB on pictures that nothing was learned of."""
    decoder = candidate.open()
    return sum(float(psnr_db(decoder.decode(one.latents), one.rgb)) for one in unseen(**made)) / 4


def unseen(**made):
    return [lesson(seed, **made) for seed in range(9000, 9004)]


# The loop


def test_twenty_decodes_end_with_a_better_preview_than_they_began_with(tmp_path):
    before = auto(tmp_path)
    told = teach(tmp_path, range(20))
    after = auto(tmp_path)
    assert before.name == "sdxl-affine-comfyui"
    assert after.name == "sdxl-learned"
    assert on_unseen(after) > on_unseen(before) + 6
    assert any("auto takes it from the next run on" in text for text in told if text)
    card = read_card(tmp_path / NAME)
    assert re.fullmatch(r"\d+ decodes, [\d,]+ latent pixels, learned while decoding", card.fitted_on)
    assert card.metrics["beside"][before.name]["psnr_latent_db"] < card.metrics["psnr_latent_db"]


def test_where_what_ships_is_better_nothing_is_offered(tmp_path):
    space = SPACES["flux2"]
    shipped = auto(tmp_path, space).open()

    def flux2(seed):
        latents = lesson(seed, channels=32, size=(16, 16)).latents
        return DecodedPair(latents, at_size(shipped.decode(latents), 16, 16))

    for seed in range(10):
        learn(tmp_path, space, flux2(seed), Catalogue([tmp_path]))
    assert auto(tmp_path, space).name == shipped.name
    assert not list(tmp_path.glob("*.safetensors"))
    verdict = known(tmp_path, "flux2").verdict
    assert verdict.in_use == shipped.name
    assert verdict.in_use_db > 50 > verdict.learned_db


def test_a_solution_is_the_least_squares_of_numpy(tmp_path):
    numpy = pytest.importorskip("numpy")
    teach(tmp_path, range(8))
    decoder = read_decoder(tmp_path / NAME)
    kernel = decoder.card.settings["kernel"]
    form = Form(channels=4, kernel=kernel)
    fitted = [lesson(seed) for seed in range(8) if seed % 4 != 1]
    border = (kernel // 2,) * 4
    x = torch.cat([features(F.pad(one.latents.double(), border, mode="replicate"), form) for one in fitted])
    y = torch.cat([one.rgb.double().movedim(1, -1).flatten(0, 2) for one in fitted])
    deviation = x.std(0, unbiased=False)
    standard = (x - x.mean(0)) / deviation
    ridge = torch.eye(x.shape[1], dtype=x.dtype) * (knowing.RIDGE * len(x)) ** 0.5
    solved, *_ = numpy.linalg.lstsq(
        torch.cat([standard, ridge]).numpy(), torch.cat([y - y.mean(0), torch.zeros(x.shape[1], 3)]).numpy(), rcond=None
    )
    expected = torch.from_numpy(solved) / deviation[:, None]
    found = decoder.net.state_dict()["weight"].flatten(1).T.double()
    assert torch.allclose(found, expected, atol=1e-4)


# What is kept


def test_what_is_known_survives_a_restart_bit_for_bit(tmp_path, monkeypatch):
    """Nothing is kept in memory between two decodes; a save and a load change nothing, not even what is drawn next."""
    monkeypatch.setattr(knowing, "MOST_HELD", 2)
    one = OnlineState(SDXL)
    for seed in range(25):
        one.add(lesson(seed))
        one.save(tmp_path / "a.safetensors")
        again = OnlineState.load(tmp_path / "a.safetensors")
        assert all(torch.equal(again.sums[k].xx, one.sums[k].xx) for k in one.sums)
        one = again
    whole = OnlineState(SDXL)
    for seed in range(25):
        whole.add(lesson(seed))
    assert all(torch.equal(whole.sums[k].xy, one.sums[k].xy) for k in one.sums)
    assert whole.judged_on == one.judged_on
    assert (one.decodes, one.pictures, len(one.held)) == (25, 19, 2)


def test_while_little_is_known_no_tensor_is_empty(tmp_path):
    """Safetensors before 0.4.4 cannot read one."""
    path = tmp_path / "a.safetensors"
    OnlineState(SDXL).save(path)
    assert all(tensor.numel() for tensor in open_tensors(path)[1].values())
    assert OnlineState.load(path).held == []


def test_the_same_latents_teach_nothing_twice_and_stay_on_their_side(tmp_path):
    teach(tmp_path, range(6))
    before = known(tmp_path)
    teach(tmp_path, [0, 1, 5, 3, 1])
    after = known(tmp_path)
    assert after.decodes == before.decodes == 6
    assert after.pixels == before.pixels == 4 * 24 * 32
    assert after.judged_on == before.judged_on


def test_of_a_batch_only_what_is_new_is_learned():
    one = OnlineState(SDXL)
    first, batch = lesson(0), lesson(1, batch=3)
    one.add(first)
    one.add(lesson(2))  # held back
    repeated = DecodedPair(
        torch.cat([first.latents, *([batch.latents] * 2)]), torch.cat([first.rgb, *([batch.rgb] * 2)])
    )
    assert one.add(repeated)
    assert one.pictures == 4


def test_the_second_of_each_four_decodes_is_held_back_and_never_fitted_on():
    one, held = OnlineState(SDXL), []
    for seed in range(12):
        pixels, count = one.pixels, len(one.held)
        one.add(lesson(seed))
        assert (one.pixels == pixels) != (len(one.held) == count)
        held += [seed] if len(one.held) > count else []
    assert held == [1, 5, 9]
    assert one.fitted_decodes == 9


def test_five_hundred_decodes_take_no_more_room_than_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(knowing, "MOST_SEEN", 100)
    one, sizes = OnlineState(SDXL), []
    for seed in range(500):
        one.add(lesson(seed, size=(70, 2), batch=1))
        if seed % 50 == 49:
            one.save(tmp_path / "a.safetensors")
            sizes.append((tmp_path / "a.safetensors").stat().st_size)
    assert len(one.held) == knowing.MOST_HELD
    assert {tuple(held.pair.latents.shape[2:]) for held in one.held} == {(64, 2)}
    assert max(sizes[2:]) - min(sizes[2:]) < 100
    assert sum(not one.add(lesson(seed, size=(70, 2))) for seed in range(440, 500)) == 60
    assert one.pixels == 375 * 70 * 2


def test_the_largest_that_is_written_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(knowing, "EVERY", 1)
    monkeypatch.setattr(knowing, "SECOND", 0)
    one = OnlineState(LatentSpace(name="wide", title="Wide", channels=256, source="a test"))
    one.add(DecodedPair(torch.randn(24, 256, 64, 64), torch.rand(24, 3, 64, 64)))
    one.save(tmp_path / "a.safetensors")
    assert len(OnlineState.load(tmp_path / "a.safetensors").held) == 24


def test_what_is_held_back_is_a_fair_choice_of_all():
    """Each of 200 pictures is among the 24 about as often, early or late."""
    early = 0
    for repeat in range(40):
        one = OnlineState(SDXL)
        one.decodes = 1
        for seed in range(200):
            picture = torch.full((1, 4, 1, 1), (repeat * 200 + seed) / 8192)
            one.decodes = 1
            one.add(DecodedPair(picture, picture[:, :3]))
        early += sum(float(held.pair.latents[0, 0, 0, 0]) < (repeat * 200 + 100) / 8192 for held in one.held)
    assert 0.45 < early / (40 * 24) < 0.55


@pytest.mark.parametrize("where", [0.001, 0.3, 0.9, 0.9999])
def test_a_damaged_file_is_moved_aside_and_learning_begins_anew(tmp_path, caplog, where):
    teach(tmp_path, range(3))
    path = tmp_path / "learned" / "sdxl.safetensors"
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0x10
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        teach(tmp_path, [3])
    assert known(tmp_path).decodes == 1
    assert path.with_suffix(".damaged").read_bytes() == content
    assert "learning begins anew" in caplog.text


def test_half_a_file_is_moved_aside(tmp_path, caplog):
    teach(tmp_path, range(3))
    path = tmp_path / "learned" / "sdxl.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    assert inspect(tmp_path)[0].problem
    teach(tmp_path, [3])
    assert known(tmp_path).decodes == 1
    assert "moved to sdxl.damaged" in caplog.text


def test_what_a_newer_version_wrote_is_left_alone(tmp_path):
    teach(tmp_path, range(3))
    path = tmp_path / "learned" / "sdxl.safetensors"
    metadata, tensors = open_tensors(path, path.read_bytes())
    write_tensors(path, tensors, {**metadata, "format": "safelight.learned/2"})
    content = path.read_bytes()
    with pytest.raises(NewerError, match="update"):
        teach(tmp_path, [3])
    assert path.read_bytes() == content


def test_what_was_learned_of_another_space_of_the_same_name_is_moved_aside(tmp_path, caplog):
    rows = [LatentSpace(name="mine", title="Mine", channels=4, scale=scale, source="a test") for scale in (1.0, 0.5)]
    teach(tmp_path, range(3), rows[0])
    teach(tmp_path, [3], rows[1])
    assert known(tmp_path, "mine").decodes == 1
    assert "another space" in caplog.text


def test_two_at_once_lose_nothing(tmp_path):
    threads = [
        threading.Thread(target=teach, args=(tmp_path, range(start, start + 10)), daemon=True) for start in (0, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known(tmp_path).decodes == 20
    assert not list((tmp_path / "learned").glob(".*.part"))


def test_what_an_ended_process_left_half_written_is_cleared(tmp_path):
    (tmp_path / "learned").mkdir()
    (tmp_path / "learned" / ".sdxl.safetensors.0.part").write_bytes(b"half")
    teach(tmp_path, [0])
    assert not list((tmp_path / "learned").glob(".*.part"))


def test_a_full_disk_leaves_what_was_known(tmp_path, monkeypatch):
    teach(tmp_path, range(3))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(knowing, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        teach(tmp_path, [3])
    assert known(tmp_path).decodes == 3


# What is refused


@pytest.mark.parametrize(
    ("latents", "rgb", "match"),
    [
        (torch.full((1, 4, 8, 8), torch.nan), torch.zeros(1, 3, 8, 8), "NaN"),
        (torch.zeros(1, 4, 8, 8), torch.full((1, 3, 8, 8), torch.nan), "NaN"),
        (torch.full((1, 4, 8, 8), 1e6), torch.zeros(1, 3, 8, 8), "float16"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 8, 8), "expected latents"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 9), "expected pictures"),
    ],
)
def test_what_is_no_pair_of_the_space_changes_nothing(tmp_path, latents, rgb, match):
    teach(tmp_path, range(2))
    content = (tmp_path / "learned" / "sdxl.safetensors").read_bytes()
    with pytest.raises(FitError, match=match):
        learn(tmp_path, SDXL, DecodedPair(latents, rgb), Catalogue([tmp_path]))
    assert (tmp_path / "learned" / "sdxl.safetensors").read_bytes() == content


def test_grey_pictures_are_learned_of_but_offer_nothing(tmp_path):
    grey = torch.full((1, 3, 24, 32), 0.5)
    for seed in range(8):
        learn(tmp_path, SDXL, DecodedPair(lesson(seed).latents, grey), Catalogue([tmp_path]))
    assert not (tmp_path / NAME).exists()


def test_a_space_without_a_name_and_one_of_too_many_channels_are_refused(tmp_path):
    with pytest.raises(FitError, match="without a name"):
        teach(tmp_path, [0], unknown(Evidence(host="comfyui", channels=4)))
    with pytest.raises(FitError, match="channels"):
        OnlineState(LatentSpace(name="wide", title="Wide", channels=257, source="a test"))


@pytest.mark.parametrize(("channels", "kernel"), [(4, 7), (16, 7), (24, 7), (32, 5), (48, 5), (128, 3), (256, 1)])
def test_the_neighbourhood_is_the_largest_that_can_be_solved(channels, kernel):
    sums = OnlineState(LatentSpace(name="a", title="A", channels=channels, source="a test")).sums
    assert set(sums) == {1, kernel}
    assert sums[kernel].form.features <= knowing.MOST_FEATURES


# Beside other decoders


def _other(folder, name, *, source="somebody", space="sdxl", scale=1.0):
    net = Polynomial(4)
    net.weight.data += scale * torch.eye(3, 4)[:, :, None, None] * 0.3
    net.bias.data += 0.5
    card = Card(name=name.removesuffix(".safetensors"), space=space, kind="polynomial", settings={"channels": 4})
    write_decoder(folder / name, Card(**{**vars(card), "source": source}), net.state_dict())


def test_a_file_of_that_name_that_something_else_made_is_never_touched(tmp_path):
    _other(tmp_path, NAME)
    content = (tmp_path / NAME).read_bytes()
    told = teach(tmp_path, range(8))
    assert (tmp_path / NAME).read_bytes() == content
    assert "left alone" in told[-1]
    assert known(tmp_path).decodes == 8
    assert reset(tmp_path, "sdxl") == [tmp_path / "learned" / "sdxl.safetensors"]
    assert (tmp_path / NAME).exists()


def test_what_is_no_decoder_at_all_is_not_touched_either(tmp_path):
    (tmp_path / NAME).write_bytes(b"a note")
    assert "left alone" in teach(tmp_path, range(8))[-1]
    assert (tmp_path / NAME).read_bytes() == b"a note"


def test_what_falls_behind_on_more_pictures_is_removed(tmp_path):
    """A far better decoder comes along: it is told of the learned one, and the learned one goes."""
    teach(tmp_path, range(8))
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
        source="somebody",
        metrics={"beside": {"sdxl-affine-comfyui": {"psnr_latent_db": 1.0}}, "psnr_latent_db": 50.0},
    )
    write_decoder(tmp_path / "truth.safetensors", card, state)
    told = teach(tmp_path, [8])
    assert "removed, it has fallen behind" in told[0]
    assert not (tmp_path / NAME).exists()
    assert auto(tmp_path).name == "truth"
    assert known(tmp_path).verdict.in_use == "truth"


def test_the_learned_decoder_is_not_its_own_rival(tmp_path):
    teach(tmp_path, range(20))
    assert auto(tmp_path).name == "sdxl-learned"
    assert known(tmp_path).verdict.in_use == "sdxl-affine-comfyui"


def test_one_that_came_later_is_told_of(tmp_path):
    """`auto` compares only what was compared: a decoder that comes later is, at the next decode."""
    teach(tmp_path, range(12))
    better = {"beside": {"sdxl-affine-comfyui": {"psnr_latent_db": 1.0}, "sdxl-learned": {"psnr_latent_db": 90.0}}}
    net = Polynomial(4)
    card = Card(name="later", space="sdxl", kind="polynomial", settings={"channels": 4}, source="a boaster")
    metrics = {"psnr_latent_db": 99.0, "beside": {"sdxl-affine-comfyui": better["beside"]["sdxl-affine-comfyui"]}}
    write_decoder(tmp_path / "later.safetensors", Card(**{**vars(card), "metrics": metrics}), net.state_dict())
    teach(tmp_path, [12])
    assert "later" in read_card(tmp_path / NAME).metrics["beside"]
    assert auto(tmp_path).name == "sdxl-learned"


def test_a_space_that_we_have_no_row_for_travels_with_the_decoder(tmp_path):
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
    teach(tmp_path, range(12), row, evidence)
    found = identify(evidence, Catalogue([tmp_path]).spaces())
    assert found == row
    chosen = auto(tmp_path, found, evidence)
    assert chosen.name == "mystery-learned"
    assert chosen.card.metrics["beside"].keys() >= {"comfyui-table"}
    assert on_unseen(chosen) > 25


def test_early_on_a_pixel_alone_is_learned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(knowing, "ENOUGH", 10)
    teach(tmp_path, range(6), size=(8, 9))
    assert known(tmp_path).pixels < 1960
    assert read_card(tmp_path / NAME).settings["kernel"] == 1


# Looking and forgetting


def test_it_can_be_looked_at_and_forgotten(tmp_path):
    assert inspect(tmp_path) == []
    teach(tmp_path, range(8))
    (row,) = inspect(tmp_path)
    assert (row.space, row.decoder, row.problem) == ("sdxl", tmp_path / NAME, None)
    assert row.file_bytes == (tmp_path / "learned" / "sdxl.safetensors").stat().st_size
    assert row.learned.verdict.learned_db > row.learned.verdict.in_use_db
    assert set(reset(tmp_path, "sdxl")) == {tmp_path / NAME, tmp_path / "learned" / "sdxl.safetensors"}
    assert inspect(tmp_path) == []
    with pytest.raises(FitError, match="nothing was learned of 'sdxl'"):
        reset(tmp_path, "sdxl")


@pytest.mark.parametrize("name", ["../sdxl", "learned/sdxl", "", "."])
def test_only_what_was_learned_is_forgotten(tmp_path, name):
    teach(tmp_path / "models", range(2))
    _other(tmp_path, "sdxl.safetensors")
    with pytest.raises(FitError, match="there is: sdxl"):
        reset(tmp_path / "models", name)
    assert (tmp_path / "sdxl.safetensors").exists()


def test_the_cards_digest_tells_the_pictures_held_back(tmp_path):
    teach(tmp_path, range(20))
    one = known(tmp_path)
    assert one.judged_on.startswith("5 of the user's pictures")
    assert json.dumps(one.verdict.judged_on)
    assert one.verdict.judged_on == one.judged_on


def test_lock_trouble_costs_no_lesson(tmp_path, monkeypatch):
    def none(_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(learning, "_lock", none)
    teach(tmp_path, range(2))
    assert known(tmp_path).decodes == 2
