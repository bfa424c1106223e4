"""The table of latent spaces that Safelight knows, with a source for each number.

Hosts that share a VAE share a row. A row has a host's name only if the code of that host confirms it:
InvokeAI's in `app/util/step_callback.py` and in the `*_denoise.py` and `*_latents_to_image.py` of its nodes
(https://github.com/invoke-ai/InvokeAI/tree/8e71a8a519399d6db32054ae9afc7c6c4e2355af/invokeai/app), diffusers' in its
autoencoders' defaults and in the pipelines that use them. Whether a VAE is causal is in diffusers' autoencoders; for
SeedVR2, whose videos have 4n + 1 frames, in ComfyUI's `comfy_extras/nodes_seedvr.py`.
"""

from .space import AUDIO, VIDEO, LatentSpace, Spaces

COMFYUI = "patientx/ComfyUI-Zluda@8622f33e8dedf079fe5cedab15b3d2284113c555:comfy/latent_formats.py"  # ComfyUI 0.33.0
# After 0.33.0
COMFYUI_NEWER = "Comfy-Org/ComfyUI@75399d78ddcc01f46f9b94521b29f1fe8a90ed53:comfy/latent_formats.py"
DIFFUSERS = "huggingface/diffusers@v0.42.1:src/diffusers/models/autoencoders"
PIXEL_SPACE = "pixels"

# One value per line would hide the rows.
# fmt: off
PLAYGROUND25_MEAN = (
    -1.6574, 1.886, -1.383, 2.5155,
)
PLAYGROUND25_STD = (
    8.4927, 5.9022, 6.5498, 5.2299,
)
MOCHI_MEAN = (
    -0.06730895953510081, -0.038011381506090416, -0.07477820912866141, -0.05565264470995561,
    0.012767231469026969, -0.04703542746246419, 0.043896967884726704, -0.09346305707025976,
    -0.09918314763016893, -0.008729793427399178, -0.011931556316503654, -0.0321993391887285,
)
MOCHI_STD = (
    0.9263795028493863, 0.9248894543193766, 0.9393059390890617, 0.959253732819592,
    0.8244560132752793, 0.917259975397747, 0.9294154431013696, 1.3720942357788521,
    0.881393668867029, 0.9168315692124348, 0.9185249279345552, 0.9274757570805041,
)
WAN21_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)
WAN21_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)
WAN22_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
    -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
    -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
    -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
    0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
WAN22_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
    0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
    0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
    0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
    0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
TRELLIS2_SHAPE_MEAN = (
    0.781296, 0.018091, -0.495192, -0.558457, 1.060530, 0.093252, 1.518149, -0.933218,
    -0.732996, 2.604095, -0.118341, -2.143904, 0.495076, -2.179512, -2.130751, -0.996944,
    0.261421, -2.217463, 1.260067, -0.150213, 3.790713, 1.481266, -1.046058, -1.523667,
    -0.059621, 2.220780, 1.621212, 0.877230, 0.567247, -3.175944, -3.186688, 1.578665,
)
TRELLIS2_SHAPE_STD = (
    5.972266, 4.706852, 5.445010, 5.209927, 5.320220, 4.547237, 5.020802, 5.444004,
    5.226681, 5.683095, 4.831436, 5.286469, 5.652043, 5.367606, 5.525084, 4.730578,
    4.805265, 5.124013, 5.530808, 5.619001, 5.103930, 5.417670, 5.269677, 5.547194,
    5.634698, 5.235274, 6.110351, 5.511298, 6.237273, 4.879207, 5.347008, 5.405691,
)
TRELLIS2_TEXTURE_MEAN = (
    3.501659, 2.212398, 2.226094, 0.251093, -0.026248, -0.687364, 0.439898, -0.928075,
    0.029398, -0.339596, -0.869527, 1.038479, -0.972385, 0.126042, -1.129303, 0.455149,
    -1.209521, 2.069067, 0.544735, 2.569128, -0.323407, 2.293000, -1.925608, -1.217717,
    1.213905, 0.971588, -0.023631, 0.106750, 2.021786, 0.250524, -0.662387, -0.768862,
)
TRELLIS2_TEXTURE_STD = (
    2.665652, 2.743913, 2.765121, 2.595319, 3.037293, 2.291316, 2.144656, 2.911822,
    2.969419, 2.501689, 2.154811, 3.163343, 2.621215, 2.381943, 3.186697, 3.021588,
    2.295916, 3.234985, 3.233086, 2.260140, 2.874801, 2.810596, 3.292720, 2.674999,
    2.680878, 2.372054, 2.451546, 2.353556, 2.995195, 2.379849, 2.786195, 2.775190,
)
QWEN_IMAGE21_MEAN = (
    0.5126, 0.7721, -0.0631, 1.3506, -0.7855, -2.1025, -0.3458, 1.3722,
    1.8873, -1.7177, -0.6510, 0.2732, 0.7562, -0.6163, -1.0277, 3.8363,
    2.0210, 0.0472, 0.9320, 2.0087, 2.4954, -0.1391, -1.4249, 1.8464,
    -0.5236, 1.2826, 3.7046, -1.3035, 2.7286, -1.4518, -1.9036, -1.9955,
    -0.0342, -1.0265, -0.7636, 3.0555, 0.0746, -3.0751, -0.1076, 1.7376,
    -1.0914, -1.9435, -0.2784, -1.3680, 0.4809, -0.4433, 0.3764, 0.5729,
    -2.0595, 1.0960, -1.3260, -2.0211, -5.0179, 0.5275, 4.0162, 1.8505,
    0.3026, 1.9373, 1.4937, 0.2632, 0.5547, -1.7121, -0.1562, 0.0304,
)
QWEN_IMAGE21_STD = (
    3.2001, 3.2936, 3.4321, 3.0091, 3.1061, 4.0379, 4.0705, 3.7910,
    3.0785, 3.6500, 3.9308, 3.0904, 2.8778, 3.7675, 3.7320, 5.0756,
    3.2864, 4.0397, 3.1317, 4.0443, 2.9249, 3.9454, 3.0988, 4.2489,
    3.4896, 3.8513, 3.9323, 3.4719, 3.7498, 4.2830, 3.5694, 4.2467,
    3.9037, 3.2947, 5.0770, 3.5075, 3.2700, 3.4767, 2.8063, 5.1125,
    3.5327, 4.7833, 3.1286, 4.1819, 3.8527, 3.8312, 3.5605, 4.3875,
    3.9624, 4.0168, 3.5643, 4.0550, 5.5614, 4.2963, 4.4080, 3.4959,
    3.8747, 3.7608, 3.5735, 3.1490, 3.7662, 3.6746, 3.4563, 3.8161,
)
# fmt: on

SPACES = Spaces(
    (
        # Images
        LatentSpace(
            name="sd1",
            title="Stable Diffusion 1 and 2",
            channels=4,
            scale=0.18215,
            hosts={
                # Hunyuan3D's painter packs its views along the axis of time.
                "comfyui": ("SD15", "Hunyuan3Dv2_1Paint"),
                "invokeai": ("sd-1", "sd-2"),
                # Stable Video Diffusion, and the asymmetric and the consistency decoder, use the same latents.
                "diffusers": (
                    "AutoencoderKL",
                    "AsymmetricAutoencoderKL",
                    "AutoencoderKLTemporalDecoder",
                    "ConsistencyDecoderVAE",
                ),
            },
            files=("taesd_decoder",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="sdxl",
            title="Stable Diffusion XL",
            channels=4,
            scale=0.13025,
            hosts={"comfyui": ("SDXL",), "invokeai": ("sdxl", "sdxl-refiner"), "diffusers": ("AutoencoderKL",)},
            files=("taesdxl_decoder", "vaeapprox-sdxl"),
            source=COMFYUI,
        ),
        LatentSpace(
            name="playground25",
            title="Playground 2.5",
            channels=4,
            scale=0.5,
            mean=PLAYGROUND25_MEAN,
            std=PLAYGROUND25_STD,
            hosts={"comfyui": ("SDXL_Playground_2_5",), "diffusers": ("AutoencoderKL",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="sd_x4",
            title="Stable Diffusion x4 upscaler",
            channels=4,
            downscale=4,  # comfy_extras/nodes_sdupscale.py; the format inherits 8
            scale=0.08333,
            hosts={"comfyui": ("SD_X4",), "diffusers": ("AutoencoderKL",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="cascade_prior",
            title="Stable Cascade, stage C",
            channels=16,
            downscale=42,
            hosts={"comfyui": ("SC_Prior",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="cascade_b",
            title="Stable Cascade, stage B",
            channels=4,
            downscale=4,
            scale=1.0 / 0.43,
            hosts={"comfyui": ("SC_B",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="sd3",
            title="Stable Diffusion 3",
            channels=16,
            scale=1.5305,
            shift=0.0609,
            hosts={"comfyui": ("SD3",), "invokeai": ("sd-3",), "diffusers": ("AutoencoderKL",)},
            files=("taesd3_decoder", "vaeapprox-sd3"),
            source=COMFYUI,
        ),
        LatentSpace(
            name="flux1",
            title="FLUX.1",
            channels=16,
            scale=0.3611,
            shift=0.1159,
            hosts={"comfyui": ("Flux",), "invokeai": ("flux", "z-image"), "diffusers": ("AutoencoderKL",)},
            files=("taef1_decoder",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="flux2",
            title="FLUX.2",
            channels=32,
            layout="patched",
            packed=128,
            # In all three hosts, model space is the output of the VAE's batch norm.
            hosts={
                "comfyui": ("Flux2",),
                "invokeai": ("flux2", "ernie-image", "ideogram-4"),
                "diffusers": ("AutoencoderKLFlux2",),
            },
            files=("taef2_decoder",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="sana",
            title="Sana",
            channels=32,
            downscale=32,
            scale=0.41407,
            hosts={"diffusers": ("AutoencoderDC",)},
            files=("taesana_decoder",),
            source="huggingface/diffusers@f7c4706f7992142a8afe61a6d7e1349527c41cce:scripts/convert_dcae_to_diffusers.py",
        ),
        LatentSpace(
            name="cogview4",
            title="CogView 4",
            channels=16,
            hosts={
                "invokeai": ("cogview4",),
                # A scale of 1 is no evidence, so the class alone cannot identify the space.
                "diffusers": ("AutoencoderKL:CogView4",),
            },
            source=(
                "huggingface/diffusers@2640bcf60b17a54d20e68430cdf9cccb9c0a648a:scripts/convert_cogview4_to_diffusers.py"
            ),
        ),
        LatentSpace(
            name="hunyuan_image21",
            title="HunyuanImage 2.1",
            channels=64,
            downscale=32,
            scale=0.75289,
            hosts={"comfyui": ("HunyuanImage21",), "diffusers": ("AutoencoderKLHunyuanImage",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="hunyuan_image21_refiner",
            title="HunyuanImage 2.1 refiner",
            channels=32,
            dims=VIDEO,
            downscale=16,  # AutoencoderKLHunyuanImageRefiner; ComfyUI's format inherits 8 and has no stride
            frame_stride=4,
            layout="frame_pairs",
            packed=64,
            scale=1.03682,
            hosts={"comfyui": ("HunyuanImage21Refiner",), "diffusers": ("AutoencoderKLHunyuanImageRefiner",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="qwen_image21",
            title="Qwen-Image 2.1",
            channels=64,
            downscale=16,
            mean=QWEN_IMAGE21_MEAN,
            std=QWEN_IMAGE21_STD,
            hosts={"comfyui": ("QwenImage21",), "diffusers": ("AutoencoderKLQwenImage21",)},
            files=("taeqi2_1_decoder", "taeqi2_1."),
            source=f"{DIFFUSERS}/autoencoder_kl_qwenimage21.py",
        ),
        LatentSpace(
            name="kvae",
            title="KVAE",
            channels=16,
            hosts={"diffusers": ("AutoencoderKLKVAE",)},
            source=f"{DIFFUSERS}/autoencoder_kl_kvae.py",
        ),
        LatentSpace(
            name="rae",
            title="RAE",
            channels=768,
            downscale=16,
            # Each model has its own mean and deviation of every latent pixel, in its configuration.
            hosts={"diffusers": ("AutoencoderRAE",)},
            source=f"{DIFFUSERS}/autoencoder_rae.py",
        ),
        LatentSpace(
            name=PIXEL_SPACE,
            title="Pixels, without a VAE",
            channels=3,
            downscale=1,
            hosts={"comfyui": ("ChromaRadiance", "ZImagePixelSpace", "HiDreamO1Pixel", "PixelDiTPixel")},
            source=COMFYUI,
        ),
        # Videos
        LatentSpace(
            name="mochi",
            title="Mochi",
            channels=12,
            dims=VIDEO,
            frame_stride=6,
            causal=True,
            fps=30,  # https://huggingface.co/docs/diffusers/api/pipelines/mochi
            mean=MOCHI_MEAN,
            std=MOCHI_STD,
            hosts={"comfyui": ("Mochi",), "diffusers": ("AutoencoderKLMochi",)},
            files=("taem1",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="ltxv",
            title="LTX-Video",
            channels=128,
            dims=VIDEO,
            downscale=32,
            frame_stride=8,
            causal=True,
            fps=25,  # comfy/model_base.py, LTXV; diffusers pipelines/ltx
            hosts={"comfyui": ("LTXV",), "diffusers": ("AutoencoderKLLTXVideo",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="ltx2",
            title="LTX-2",
            channels=128,
            dims=VIDEO,
            downscale=32,
            frame_stride=8,
            causal=True,
            fps=24,  # diffusers pipelines/ltx2/pipeline_ltx2.py
            hosts={"comfyui": ("LTXAV",), "diffusers": ("AutoencoderKLLTX2Video", "LTX2VideoDiffusionDecoderModel")},
            files=("taeltx",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="minimax_h3",
            title="MiniMax H3",
            channels=24,
            dims=VIDEO,
            downscale=16,
            frame_stride=4,
            causal=True,
            fps=24,  # comfy_extras/nodes_minimax_h3.py
            packed=32,  # MiniMaxH3AV gives the larger of its two streams: 24 channels of video, 32 of audio
            hosts={"comfyui": ("MiniMaxH3Video", "MiniMaxH3AV"), "diffusers": ("AutoencoderKLMiniMaxH3",)},
            files=("taeh3",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="hunyuan_video",
            title="HunyuanVideo",
            channels=16,
            dims=VIDEO,
            frame_stride=4,
            causal=True,
            fps=24,  # https://github.com/Tencent/HunyuanVideo/blob/719c5db/sample_video.py
            scale=0.476986,
            hosts={"comfyui": ("HunyuanVideo",), "diffusers": ("AutoencoderKLHunyuanVideo",)},
            files=("taehv.",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="hunyuan_video15",
            title="HunyuanVideo 1.5",
            channels=32,
            dims=VIDEO,
            downscale=16,
            frame_stride=4,
            causal=True,
            fps=24,  # diffusers pipelines/hunyuan_video1_5/pipeline_hunyuan_video1_5_image2video.py
            scale=1.03682,
            hosts={"comfyui": ("HunyuanVideo15",), "diffusers": ("AutoencoderKLHunyuanVideo15",)},
            files=("taehv1_5", "lighttaehy1_5"),
            source=COMFYUI,
        ),
        LatentSpace(
            name="cosmos1",
            title="Cosmos 1",
            channels=16,
            dims=VIDEO,
            frame_stride=8,
            causal=True,
            fps=24,  # comfy/ldm/cosmos/position_embedding.py, base_fps
            hosts={"comfyui": ("Cosmos1CV8x8x8",), "diffusers": ("AutoencoderKLCosmos",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="wan21",
            title="Wan 2.1",
            channels=16,
            dims=VIDEO,
            frame_stride=4,
            causal=True,
            fps=16,  # diffusers pipelines/wan/pipeline_wan.py
            mean=WAN21_MEAN,
            std=WAN21_STD,
            hosts={
                "comfyui": ("Wan21",),
                "invokeai": ("wan", "qwen-image", "anima", "krea-2"),
                "diffusers": ("AutoencoderKLWan", "AutoencoderKLQwenImage"),
            },
            files=("taew2_1", "lighttaew2_1"),
            source=COMFYUI,
        ),
        LatentSpace(
            name="wan22",
            title="Wan 2.2 5B",
            channels=48,
            dims=VIDEO,
            downscale=16,
            frame_stride=4,
            causal=True,
            fps=24,  # Wan-Video/Wan2.2: wan/configs/wan_ti2v_5B.py, sample_fps
            mean=WAN22_MEAN,
            std=WAN22_STD,
            hosts={"comfyui": ("Wan22",), "invokeai": ("wan",), "diffusers": ("AutoencoderKLWan",)},
            files=("taew2_2", "lighttaew2_2"),
            source=COMFYUI,
        ),
        LatentSpace(
            name="ming_image",
            title="Ming-Image",
            channels=16,
            dims=VIDEO,  # its VAE is one of videos; its models make images
            frame_stride=4,
            scale=8.0064,
            hosts={"comfyui": ("MingImage",)},
            source=COMFYUI_NEWER,
        ),
        LatentSpace(
            name="cogvideox",
            title="CogVideoX 2B",
            channels=16,
            dims=VIDEO,
            frame_stride=4,
            causal=True,
            fps=8,  # diffusers pipelines/cogvideo/pipeline_cogvideox.py
            scale=1.15258426,
            hosts={"comfyui": ("CogVideoX",), "diffusers": ("AutoencoderKLCogVideoX",)},
            files=("taecvx",),
            source=COMFYUI,
        ),
        LatentSpace(
            name="cogvideox15",
            title="CogVideoX 5B and 1.5",
            channels=16,
            dims=VIDEO,
            frame_stride=4,
            causal=True,
            # No fps: 5B generates 8 frames a second, 1.5 generates 16.
            scale=0.7,
            hosts={"comfyui": ("CogVideoX1_5",), "diffusers": ("AutoencoderKLCogVideoX",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="seedvr2",
            title="SeedVR2",
            channels=16,
            dims=VIDEO,
            frame_stride=4,  # comfy_extras/nodes_seedvr.py; the format inherits 1
            causal=True,
            hosts={"comfyui": ("SeedVR2",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="allegro",
            title="Allegro",
            channels=4,
            dims=VIDEO,
            frame_stride=4,
            fps=15,  # diffusers pipelines/allegro/pipeline_allegro.py
            scale=0.13,
            hosts={"diffusers": ("AutoencoderKLAllegro",)},
            source=f"{DIFFUSERS}/autoencoder_kl_allegro.py",
        ),
        LatentSpace(
            name="easyanimate",
            title="EasyAnimate",
            channels=16,
            dims=VIDEO,
            frame_stride=4,
            causal=True,
            fps=8,  # diffusers pipelines/easyanimate/pipeline_easyanimate.py
            scale=0.7125,
            hosts={"diffusers": ("AutoencoderKLMagvit",)},
            source=f"{DIFFUSERS}/autoencoder_kl_magvit.py",
        ),
        LatentSpace(
            name="kandinsky6_sr",
            title="Kandinsky 6 super-resolution",
            channels=64,
            dims=VIDEO,
            downscale=16,
            frame_stride=4,
            causal=True,
            fps=24,  # diffusers pipelines/kandinsky6/pipeline_kandinsky6_sr.py
            scale=0.910344004631042,
            hosts={"diffusers": ("Kandinsky6SRVAE",)},
            source=f"{DIFFUSERS}/autoencoder_kandinsky6_sr.py",
        ),
        LatentSpace(
            name="kvae_video",
            title="KVAE, video",
            channels=16,
            dims=VIDEO,
            frame_stride=4,
            causal=True,
            hosts={"diffusers": ("AutoencoderKLKVAEVideo",)},
            source=f"{DIFFUSERS}/autoencoder_kl_kvae_video.py",
        ),
        LatentSpace(
            name="vidtok",
            title="VidTok",
            channels=4,
            dims=VIDEO,
            frame_stride=4,
            causal=True,
            hosts={"diffusers": ("AutoencoderVidTok",)},
            source=f"{DIFFUSERS}/autoencoder_vidtok.py",
        ),
        # Audio, without a size in pixels
        LatentSpace(
            name="stable_audio1",
            title="Stable Audio 1",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            hosts={"comfyui": ("StableAudio1",), "diffusers": ("AutoencoderOobleck", "AutoencoderOobleck:StableAudio")},
            source=COMFYUI,
        ),
        LatentSpace(
            name="stable_audio3",
            title="Stable Audio 3",
            channels=256,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            hosts={"comfyui": ("StableAudio3",), "diffusers": ("AutoencoderSAME",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="ace_audio",
            title="ACE-Step",
            channels=8,
            dims=AUDIO,  # the format has 2, but one axis is 16 frequency bands
            downscale=1,
            layout="bands",
            hosts={"comfyui": ("ACEAudio",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="ace_audio15",
            title="ACE-Step 1.5",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            hosts={"comfyui": ("ACEAudio15",), "diffusers": ("AutoencoderOobleck", "AutoencoderOobleck:AceStep")},
            source=COMFYUI,
        ),
        LatentSpace(
            name="minimax_music3",
            title="MiniMax Music 3",
            channels=128,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            hosts={"comfyui": ("MiniMaxMusic3",), "diffusers": ("MiniMaxMusic3Vocoder",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="yue2",
            title="YuE 2",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            hosts={"comfyui": ("YuE2",)},
            source=COMFYUI_NEWER,
        ),
        LatentSpace(
            name="ltx2_audio",
            title="LTX-2, sound",
            channels=128,  # a token has 8 channels of 16 frequency bands
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            hosts={"diffusers": ("AutoencoderKLLTX2Audio",)},
            source=f"{DIFFUSERS}/autoencoder_kl_ltx2_audio.py",
        ),
        LatentSpace(
            name="minimax_h3_audio",
            title="MiniMax H3, sound",
            channels=32,
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            hosts={"diffusers": ("AutoencoderKLMiniMaxH3Audio",)},
            source=f"{DIFFUSERS}/autoencoder_kl_minimax_h3_audio.py",
        ),
        LatentSpace(
            name="kvae_audio",
            title="KVAE, sound",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            hosts={"diffusers": ("AutoencoderKLKVAEAudio",)},
            source=f"{DIFFUSERS}/autoencoder_kl_kvae_audio.py",
        ),
        LatentSpace(
            name="cosmos3_audio",
            title="Cosmos 3, sound",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            hosts={"diffusers": ("Cosmos3AVAEAudioTokenizer",)},
            source=f"{DIFFUSERS}/autoencoder_cosmos3_audio.py",
        ),
        LatentSpace(
            name="longcat_audio",
            title="LongCat audio",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            hosts={"diffusers": ("LongCatAudioDiTVae",)},
            source=f"{DIFFUSERS}/autoencoder_longcat_audio_dit.py",
        ),
        LatentSpace(
            name="mmaudio",
            title="MMAudio, the sound of Kandinsky 6",
            channels=40,
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            scale=0.417,
            hosts={"diffusers": ("MMAudioVAE",)},
            source=f"{DIFFUSERS}/autoencoder_mmaudio.py",
        ),
        # 3D shapes: sets of tokens, or grids too coarse for an image
        LatentSpace(
            name="hunyuan3d2",
            title="Hunyuan3D 2",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            scale=0.9990943042622529,
            hosts={"comfyui": ("Hunyuan3Dv2",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="hunyuan3d2_1",
            title="Hunyuan3D 2.1",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            scale=1.0039506158752403,
            hosts={"comfyui": ("Hunyuan3Dv2_1",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="hunyuan3d2_mini",
            title="Hunyuan3D 2 mini",
            channels=64,
            dims=AUDIO,
            downscale=1,
            layout="sequence",
            scale=1.0188137142395404,
            hosts={"comfyui": ("Hunyuan3Dv2mini",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="triposplat",
            title="TripoSplat",
            channels=16,
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            hosts={"comfyui": ("TripoSplat",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="trellis2",
            title="TRELLIS.2",
            channels=32,
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            # ComfyUI samples all three stages under the first name; the second name has no numbers of its own.
            hosts={"comfyui": ("Trellis2", "Trellis2SLAT")},
            source=COMFYUI,
        ),
        LatentSpace(
            name="trellis2_shape",
            title="TRELLIS.2, shape",
            channels=32,
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            mean=TRELLIS2_SHAPE_MEAN,
            std=TRELLIS2_SHAPE_STD,
            hosts={"comfyui": ("Trellis2ShapeSLAT",)},
            source=COMFYUI,
        ),
        LatentSpace(
            name="trellis2_texture",
            title="TRELLIS.2, texture",
            channels=32,
            dims=AUDIO,
            downscale=1,
            layout="tokens",
            mean=TRELLIS2_TEXTURE_MEAN,
            std=TRELLIS2_TEXTURE_STD,
            hosts={"comfyui": ("Trellis2TexSLAT",)},
            source=COMFYUI,
        ),
    )
)
