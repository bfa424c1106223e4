"""No setting of Safelight changes the result, or any state that a sampler can observe.

SAFELIGHT_PAIRS=1             every pair of values, instead of every value; about ten minutes
"""

import collections
import itertools
import json
import os
import random

import pytest
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.nets.mlp import Mlp
from safelight.decoders.nets.taehv import Taehv, taehv
from safelight.decoders.nets.taesd import Taesd, taesd
from safelight.decoders.nets.vae_approx import VaeApprox

PAIRS = os.environ.get("SAFELIGHT_PAIRS", "")
EVERY_PAIR = bool(PAIRS)
STEPS = 3
PREVIEW, SAMPLER = "2", "4"
FIRST, LAST, VAE = "31", "32", "33"
SETTING = "Safelight.Everywhere"
KINDS = ("polynomial", "mlp", "conv", "tiny", "tiny_video", "approx", "principal", "pixels", "timeline")
OPTIONS = {
    "decoder": ("auto", "full", *KINDS),
    "show": ("denoised", "noisy"),
    "every_n_steps": (1, 2),
    "max_side_px": (0, 40, 1024),
    "write_intermediates": (True, False),
    "file_format": ("png", "webp", "jpg"),
    "enlarge": ("off", "nearest", "bicubic", "lanczos"),
    "batch": ("grid", "first", "all files"),
    "frames": ("first", "middle", "animated", "all files"),
    "keep_latents": (False, True),
    "sheet": (False, True),
    "animation": ("off", "webp", "gif", "mp4"),
    "animation_from_step": (0, 2),
    "animation_to_step": (0, 2),
    "full_every_n_steps": (0, 1),
    "min_interval_s": (0.0, 0.05),
    "write_csv": (False, True),
}
OF_THE_MODEL = {"items": (1, 3), "everywhere": (False, True), "previews": ("none", "latent2rgb", "taesd")}
NOT_EACH_WITH_EACH = frozenset(("latent_format", "sampler"))  # about two thousand pairs of these two alone
EPS = ("SD15", "SDXL", "SDXL_Playground_2_5", "SD_X4", "SVD", "SC_Prior", "SC_B", "StableAudio1")


def every_value(factors, rng):
    """Rows in which each value of each factor occurs."""
    count = max(map(len, factors.values()))
    columns = []
    for values in factors.values():
        column = [value for value, _ in zip(itertools.cycle(values), range(count), strict=False)]
        rng.shuffle(column)
        columns.append(column)
    return [dict(zip(factors, row, strict=True)) for row in zip(*columns, strict=True)]


def every_pair(factors, rng):
    """Rows in which each pair of values of two factors occurs, except NOT_EACH_WITH_EACH."""
    names = sorted(factors, key=lambda name: -len(factors[name]))
    open_pairs = {
        (one, a, other, b)
        for one, other in itertools.combinations(names, 2)
        if {one, other} != NOT_EACH_WITH_EACH
        for a in factors[one]
        for b in factors[other]
    }
    waiting = sorted(open_pairs, key=lambda pair: (-len(factors[pair[0]]) * len(factors[pair[2]]), rng.random()))
    rows = []
    for first in waiting:
        if first not in open_pairs:
            continue
        row = {first[0]: first[1], first[2]: first[3]}
        for name in names:
            if name not in row:
                gains = collections.Counter()
                for value in factors[name]:
                    pairs = (
                        (one, row[one], name, value)
                        if names.index(one) < names.index(name)
                        else (name, value, one, row[one])
                        for one in row
                    )
                    gains[value] = sum(pair in open_pairs for pair in pairs) + rng.random() / 2
                row[name] = gains.most_common(1)[0][0]
        open_pairs -= {(one, row[one], other, row[other]) for one, other in itertools.combinations(names, 2)}
        rows.append(row)
    return rows


def test_each_pair_of_values_is_in_a_row_and_few_rows_have_each_value():
    factors = {"a": (1, 2, 3), "b": (1, 2, 3, 4), "latent_format": (1, 2, 3), "sampler": (1, 2, 3, 4)}
    rows, few = every_pair(factors, random.Random(1)), every_value(factors, random.Random(1))
    for one, other in itertools.combinations(factors, 2):
        there = {(row[one], row[other]) for row in rows}
        if {one, other} != NOT_EACH_WITH_EACH:
            assert there == set(itertools.product(factors[one], factors[other]))
    for name, values in factors.items():
        assert {row[name] for row in few} == set(values)
    assert len(few) == 4
    assert len(rows) < 30


def nets(folder):
    """Decoders with random weights, of each kind that is not shipped for all spaces."""
    made = {
        "mlp": ("mlp", {"widths": [16, 8, 3]}, Mlp((16, 8, 3))),
        "tiny": ("tiny", {"layers": taesd(4)}, Taesd(taesd(4))),
        "tiny16": ("tiny", {"layers": taesd(16)}, Taesd(taesd(16))),
        "approx": ("approx", {"channels": 4}, VaeApprox(4)),
        "taehv": ("tiny_video", {"layers": taehv(16, (16, 8, 8, 8))}, Taehv(taehv(16, (16, 8, 8, 8)))),
    }
    spaces = {"mlp": "flux1", "tiny": "sd1", "tiny16": "flux1", "approx": "sdxl", "taehv": "wan21"}
    for name, (kind, settings, net) in made.items():
        card = Card(name=f"lab-{name}", space=spaces[name], kind=kind, settings=settings)
        write_decoder(folder / f"lab_{name}.safetensors", card, dict(net.state_dict()))


@pytest.fixture(scope="module")
def laid(own_server):
    """A server with decoders of each kind."""
    nets(own_server.models / "vae_approx")
    own_server.inputs_of("SafelightPreview")
    yield own_server
    own_server.post("/api/settings", {SETTING: False})


def graphs_of(wire, row, number):
    """The prompt that `row` describes, and the same without our node."""
    name, flow = row["latent_format"], row["latent_format"] not in EPS
    preview = {key: row[key] for key in OPTIONS} | {"filename_prefix": f"never/{number:04d}", "animation_fps": 4.0}
    if row["decoder"] == "full":
        preview |= {"show": "denoised", "vae": [VAE, 0]}
    if preview["animation_from_step"] > STEPS or 0 < preview["animation_to_step"] < preview["animation_from_step"]:
        preview["animation_to_step"] = 0
    model = {"flow": flow, "height": 8, "width": 12, "frames": 3, "batch": row["items"], "again": number % 4000}
    graph = wire(name, preview=preview, steps=STEPS, sampler=row["sampler"], seed=100 + number, **model)
    if row["decoder"] == "full":
        graph[VAE] = {"class_type": "LabDecoder", "inputs": {"tiny": False, "broken": False}}
    graph[FIRST] = {"class_type": "LabState", "inputs": {"model": ["1", 0], "first": True}}
    graph[PREVIEW]["inputs"]["model"] = [FIRST, 0]
    graph[LAST] = {"class_type": "LabState", "inputs": {"model": [PREVIEW, 0], "first": False}}
    graph[SAMPLER]["inputs"]["model"] = [LAST, 0]
    bare = wire.without_preview(graph)
    bare.pop(VAE, None)
    return graph, bare


def what_is_wrong(server, wire, number, row):
    graph, bare = graphs_of(wire, row, number)
    server.post("/api/settings", {SETTING: row["everywhere"]})
    watched = server.play(graph, preview_method=row["previews"])
    with_us = server.get("/lab/state").json()
    server.post("/api/settings", {SETTING: False})
    alone = server.play(bare, preview_method=row["previews"])
    without = server.get("/lab/state").json()
    told = f"{number}: {json.dumps(row)}"
    if watched.refusal or alone.refusal or watched.ends != alone.ends:
        return [f"{told}: {watched.refusal or watched.named('execution_error') or alone.named('execution_error')}"]
    if alone.ends != ["execution_success"]:
        return []  # ComfyUI itself does not sample this format with this sampler
    checks = {
        "other latents": watched.digest == alone.digest,
        "no state was compared": bool(with_us["random"]),
        f"generators {with_us['random']}, without us {without['random']}": with_us["random"] == without["random"],
        f"changed: {with_us['changes']}, without us {without['changes']}": with_us["changes"] == without["changes"],
        f"no run was shown: {server.log[-500:]}": bool(watched.named("safelight.run")),
    }
    if watched.named("safelight.run"):
        run = watched.named("safelight.run")[-1].data
        seen = server.get(f"/safelight/runs/{run['run']}").json()
        checks[f"no step was shown: {seen['notes']}"] = bool(seen["steps"])
    return [f"{told}: {words}" for words, good in checks.items() if not good]


@pytest.mark.timeout(3000 if EVERY_PAIR else 500)
def test_no_setting_changes_a_bit_of_the_result_or_global_state(laid, wire):
    formats = laid.inputs_of("LabModel")["latent_format"][0]
    samplers = laid.inputs_of("KSampler")["sampler_name"][0]
    factors = {"latent_format": formats, "sampler": samplers, **OPTIONS, **OF_THE_MODEL}
    rows = (every_pair if EVERY_PAIR else every_value)(factors, random.Random(1))
    whole = 1
    for values in factors.values():
        whole *= len(values)
    part, _, parts = PAIRS.partition("/")
    numbered = list(enumerate(rows, 1))[int(part or 1) - 1 :: int(parts or 1)]
    wrong = []
    for number, row in numbered:
        wrong += what_is_wrong(laid, wire, number, row)
    print(
        f"{len(numbered)} of {len(rows)} combinations of {whole:,} ({len(formats)} formats, {len(samplers)} samplers, "
        f"{len(OPTIONS['decoder'])} decoders, {len(OPTIONS) - 1 + len(OF_THE_MODEL)} other options): "
        f"{'every pair of values but format with sampler' if EVERY_PAIR else 'every value'}"
    )
    print("\n".join(wrong))
    assert wrong == []
