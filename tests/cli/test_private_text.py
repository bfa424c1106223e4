"""What `safelight report` removes from messages."""

import pytest
from safelight.cli.private_text import HIDDEN, MAX_CHARS, PrivateText

hide = PrivateText(
    ["Anna Smith", "anna", "lumen-corp", "al"], ["A Lighthouse at night, oil on canvas", "灯台の夜明け"]
).hide


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        ("step 3: the decoder ran out of memory; shown with flux2-affine", None),
        ("InvokeAI's own previews are shown for the rest of this run: RuntimeError: it can't", None),
        ("steps 3/20 and 4 / 20 are missing", "steps 3/20 and 4/20 are missing"),
        ("the sheet took 12.5 s; torch 2.13.0 was used", None),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", None),
        (
            "OSError: [Errno 28] No space left on device: '/home/anna/x y.png'",
            f"OSError: [Errno 28] No space left on device: {HIDDEN}",
        ),
        ("/srv/My Own Work/new client/a b: no space is left", f"{HIDDEN}: no space is left"),
        (r"C:\Users\Anna Smith\Geheim.png: the disk is full", f"{HIDDEN}: the disk is full"),
        (r"\\server\share\client\x", HIDDEN),
        ("~/secret/place is read-only", HIDDEN),
        ("file:///srv/secret or https://user:pw@example.org/x?token=1", HIDDEN),
        ("decoder taesd_of_client.safetensors is damaged", f"decoder {HIDDEN} is damaged"),
        ('expected one of "a", got “b c”', f"expected one of {HIDDEN}, got {HIDDEN}"),
        ("anna_face and LUMEN-CORP and al, but final", f"{HIDDEN}_face and {HIDDEN} and {HIDDEN}, but final"),
        ("mail anna.smith@example.org from 192.168.2.17:8188", f"mail {HIDDEN} from {HIDDEN}"),
        ("Invalid token hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123", f"Invalid token {HIDDEN}"),
        (
            "key AKIAIOSFODNN7EXAMPLE is unknown; shown with flux2-conv-small",
            f"key {HIDDEN} is unknown; shown with flux2-conv-small",
        ),
        ("lighthouse_00001 and my_canvas are gone", f"{HIDDEN}_00001 and my_{HIDDEN} are gone"),
        ("A Lighthouse at Night, oil on CANVAS", HIDDEN),
        ("the tokenizer failed at lighthouse, canvas", f"the tokenizer failed at {HIDDEN}"),
        ("the tokenizer failed at 夜明け", f"the tokenizer failed at {HIDDEN}"),
        ("失敗:灯台の夜明けでした", f"失敗:{HIDDEN}"),
        ("画像が小さい", None),
        ("ask @everyone ``` about it", f"ask {HIDDEN} about it"),
        ("the tokenizer failed at 灯台の夜明け", f"the tokenizer failed at {HIDDEN}"),
        ("line one\nline two\x1b[31m\u202egnp", "line one line two [31m gnp"),
    ],
)
def test_private_parts_of_a_message_are_hidden_and_the_rest_stays(note, shown):
    assert hide(note) == (shown or note)


@pytest.mark.parametrize("text", ["", " ", "'", "/", "\\", "a'b'c", "''''", "((()", "(…)(…)", "%s %d {}", "\x00"])
def test_any_text_becomes_one_line(text):
    assert "\n" not in hide(text)


def test_a_long_message_is_cut_off():
    assert len(hide("the sampler failed and " * 200)) == MAX_CHARS


def test_without_secrets_and_prompts_ordinary_messages_are_unchanged():
    assert (
        PrivateText([""], ["", "  "]).hide("the sampler failed: ValueError: empty")
        == "the sampler failed: ValueError: empty"
    )
