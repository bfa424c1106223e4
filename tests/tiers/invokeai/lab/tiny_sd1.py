"""A Stable Diffusion 1 pipeline with random weights, small enough to sample on a CPU: `python tiny_sd1.py FOLDER`."""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def byte_letters() -> list[str]:
    """The 256 letters that byte-level BPE writes bytes as."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [
        chr(b) if b in seen else chr(256 + i) for i, b in enumerate([*seen, *(b for b in range(256) if b not in seen)])
    ]


def make(folder: Path) -> None:
    torch.manual_seed(0)
    letters = sorted({*map(chr, range(33, 127)), *map(chr, range(161, 173)), *map(chr, range(174, 324))})
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    spelled = folder / "spelled"
    spelled.mkdir(parents=True)
    (spelled / "vocab.json").write_text(json.dumps(vocabulary))
    (spelled / "merges.txt").write_text("#version: 0.2\n")
    try:
        tokenizer = CLIPTokenizer(str(spelled / "vocab.json"), str(spelled / "merges.txt"), model_max_length=77)
    except Exception:  # transformers 5
        tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=768,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=12,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=768,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(str(folder))
    for name in ("vocab.json", "merges.txt"):  # where transformers 4 looks
        (spelled / name).replace(folder / "tokenizer" / name)
    spelled.rmdir()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
