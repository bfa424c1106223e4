"""One line about what was learned."""

from safelight.decoders.measured_scores import MEASURED_FILE, MeasuredScores, measured_text
from safelight.fitting.online.learned_files import LearnedFiles
from safelight.fitting.online.progress_text import progress_text


def measure(files, scores):
    files.parent.mkdir(parents=True, exist_ok=True)
    scores = MeasuredScores(vae=files.vae, judged_on="6 pictures", pictures=6, psnr_latent_db=scores)
    (files.parent / MEASURED_FILE).write_text(measured_text(scores), encoding="utf-8")


def test_the_text_follows_what_was_learned(tmp_path):
    files = LearnedFiles(tmp_path, "sdxl", "0123456789ab")
    assert progress_text(files) == "Learned from 0 pictures, no decoder yet"
    measure(files, {"sdxl-affine-comfyui": 17.4})
    assert progress_text(files).endswith("no decoder yet; sdxl-affine-comfyui is better so far")
    measure(files, {"sdxl-affine-comfyui": 17.4, files.decoder.stem: 24.53})
    assert "24.5 dB on 6 of your pictures, in use; sdxl-affine-comfyui has 17.4 dB" in progress_text(files)
