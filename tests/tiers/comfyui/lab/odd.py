"""Nodes that do what other packs do to models, callbacks, samplers and previewers."""

import copy
import pickle
import threading

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import numpy as np
import torch

COUNTING = {
    "integers": lambda i, n: i,
    "numpy": lambda i, n: np.int64(i),
    "tensors": lambda i, n: torch.tensor(i),
    "floats": lambda i, n: float(i),
    "backwards": lambda i, n: n - 1 - i,
    "zeros": lambda i, n: 0,
    "beyond": lambda i, n: i + 7,
    "from -1": lambda i, n: i - 1,
    "texts": lambda i, n: f"step {i}",
    "nan": lambda i, n: float("nan"),
    "halves": lambda i, n: i / 2,
    "huge": lambda i, n: 10**30 + i,
    "without sigma": lambda i, n: i,
    "once more": lambda i, n: i,
    "restarts": lambda i, n: i,
    "from a thread": lambda i, n: i,
    "read-only": lambda i, n: i,
    "elsewhere": lambda i, n: i,
    "elsewhere backwards": lambda i, n: n - 1 - i,
}


class Elsewhere(torch.Tensor):
    """A tensor that seems to be on a device whose values are there only after a wait."""

    @property
    def device(self):
        return torch.device("cuda")

    def detach(self):
        return self.as_subclass(torch.Tensor)


class ReadOnlySampler(comfy.samplers.KSAMPLER):
    """A sampler whose attributes cannot be assigned, like those of a frozen dataclass."""

    def __setattr__(self, name, value):
        raise AttributeError(f"{name} is read-only")


def sampler_that_counts(way):
    """An Euler sampler that reports its steps in one of the ways of `COUNTING`."""

    @torch.no_grad()
    def sample_lab(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        count = len(sigmas) - 1
        order = [*range(count)]
        if way == "restarts":  # steps 2 and 3 are sampled again, at their own noise levels
            order = [0, 1, 2, 1, 2, *range(3, count)]
        for number, i in enumerate(order):
            if i < order[number - 1] and number:
                x = x + torch.randn_like(x) * (sigmas[i] ** 2 - sigmas[order[number - 1] + 1] ** 2) ** 0.5
            denoised = model(x, sigmas[i] * x.new_ones([len(x)]), **(extra_args or {}))
            report = {"x": x, "i": COUNTING[way](number, count), "sigma": sigmas[i], "denoised": denoised}
            if way.startswith("elsewhere"):
                report["sigma"] = sigmas[i].clone().as_subclass(Elsewhere)
            if way == "without sigma":
                del report["sigma"]
            if callback is not None and way == "from a thread":
                thread = threading.Thread(target=callback, args=(report,))
                thread.start()
                thread.join()
            elif callback is not None:
                callback(report)
            x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        if way == "once more":
            callback({"x": x, "i": count, "sigma": sigmas[-1], "denoised": x})
        return x

    return comfy.samplers.KSAMPLER(sample_lab)


def sample(model, positive, latent, sampler, steps, callback):
    """Samples as SamplerCustom does, but with a callback of the node."""
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)
    noise = torch.randn(latent["samples"].shape, generator=torch.manual_seed(1))
    samples = comfy.sample.sample_custom(
        model, noise, 1.0, sampler, sigmas, positive, positive, latent["samples"], callback=callback, seed=1
    )
    return {"samples": samples}


class LabOddSampler:
    """A sampler node with a callback of its own, which only moves a progress bar.

    The output `seen` has for each call of the callback the index and sigma that the sampler reports.
    """

    RETURN_TYPES = ("LATENT",)
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "go", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {
            "required": {
                "model": ("MODEL",),
                "positive": ("CONDITIONING",),
                "latent": ("LATENT",),
                "way": ([*COUNTING, *comfy.samplers.KSAMPLER_NAMES],),
                "steps": ("INT", {"default": 4}),
                "seed": ("INT", {"default": 0}),
            }
        }

    def go(self, model, positive, latent, way, steps, seed):
        bar, seen = comfy.utils.ProgressBar(steps), []
        sampler = sampler_that_counts(way) if way in COUNTING else comfy.samplers.ksampler(way)
        own = sampler.sampler_function

        def spied(model, noise, sigmas, **options):
            def spy(report):
                sigma = report.get("sigma")
                seen.append([str(report["i"]), None if sigma is None else float(sigma)])
                options_callback(report)

            options_callback = options.pop("callback")
            return own(model, noise, sigmas, callback=spy, **options)

        sampler.sampler_function = spied
        if way == "read-only":
            sampler.__class__ = ReadOnlySampler
        samples = sample(model, positive, latent, sampler, steps, lambda step, x0, x, total: bar.update(1))
        return {"ui": {"seen": seen, "restored": [sampler.sampler_function is spied]}, "result": (samples,)}


class LabPreviewUser:
    """A sampler node that uses ComfyUI's previewer by itself, in one of the ways of other packs."""

    RETURN_TYPES = ("LATENT",)
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "go", "lab"
    WAYS = ("indexes", "sends", "asks again", "decodes", "class")

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {
            "required": {
                "model": ("MODEL",),
                "positive": ("CONDITIONING",),
                "latent": ("LATENT",),
                "way": (cls.WAYS,),
                "steps": ("INT", {"default": 4}),
                "seed": ("INT", {"default": 0}),
            }
        }

    def go(self, model, positive, latent, way, steps, seed):
        bar, got = comfy.utils.ProgressBar(steps), []

        def previewer():
            return latent_preview.get_previewer(model.load_device, model.model.latent_format)

        first, threads = previewer(), []

        def callback(step, x0, x, total):
            if way == "indexes":
                got.append(describe(first.decode_latent_to_preview_image("JPEG", x0)[1]))
            elif way == "sends":
                preview = first.decode_latent_to_preview_image("JPEG", x0)
                bar.update_absolute(step + 1, total, preview)
                got.append(f"{preview[0]} {describe(preview[1])} {preview[2]}")
            elif way == "asks again":
                got.append(describe(previewer().decode_latent_to_preview_image("JPEG", x0)[1]))
            elif way == "decodes":
                got.append(describe(first.decode_latent_to_preview(x0)))
            else:
                kinds = latent_preview.LatentPreviewer, latent_preview.Latent2RGBPreviewer
                got.append(str([isinstance(first, kind) for kind in kinds]))
            threads.extend(thread.name for thread in threading.enumerate() if thread.name.startswith("safelight-"))

        samples = sample(model, positive, latent, comfy.samplers.ksampler("euler"), steps, callback)
        return {"ui": {"got": got, "threads": threads}, "result": (samples,)}


def describe(picture):
    return f"{type(picture).__name__} {picture.size}"


class LabCopyModel:
    """Copies a MODEL with everything that hangs on it, as loaders of quantized models do, and looks at all of it."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "go", "lab"
    WAYS = ("deep", "shallow", "pickle", "look")

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"model": ("MODEL",), "way": (cls.WAYS,)}}

    def go(self, model, way):
        if way == "deep":
            before = model.model
            memo = {id(before): before}  # the lab's model holds tensors in a form that ComfyUI cannot copy
            return (copy.deepcopy(model, memo),)
        copied = model.clone()
        if way == "shallow":
            copied.wrappers = changed(copied.wrappers, copy.copy)
        elif way == "pickle":
            copied.wrappers = changed(copied.wrappers, lambda wrapper: pickle.loads(pickle.dumps(wrapper)))
        else:
            changed(copied.wrappers, look)
            assert copied.wrappers == changed(copied.wrappers, lambda wrapper: wrapper)
        return (copied,)


def changed(wrappers, change):
    return {
        kind: {key: [change(wrapper) for wrapper in found] for key, found in by_key.items()}
        for kind, by_key in wrappers.items()
    }


def look(wrapper):
    repr(wrapper)
    hash(wrapper)
    for name in dir(wrapper):
        getattr(wrapper, name)
    assert wrapper == wrapper


class LabAny:
    """Outputs any value for any input, and lists of it."""

    RETURN_TYPES = ("*",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION, CATEGORY = "go", "lab"
    VALUES = {  # noqa: RUF012
        "0": [0],
        "-1": [-1],
        "nothing": [None],
        "text": ["a few"],
        "bmp": ["bmp"],
        "nan": [float("nan")],
        "2.0": [2.0],
        "numpy 2": [np.int64(2)],
        "three numbers": [1, 2, 3],
    }

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"value": ([*cls.VALUES],)}}

    def go(self, value):
        return (self.VALUES[value],)


class LabSeeds:
    """Outputs a list of seeds: 1, 2, 3 ..."""

    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION, CATEGORY = "go", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"count": ("INT", {"default": 3})}}

    def go(self, count):
        return ([*range(1, count + 1)],)


class LabImages:
    """Outputs for each execution of this node the average color of each image, and their number."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "go", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"images": ("IMAGE",)}}

    def go(self, images):
        return {"ui": {"last": [images[-1].mean((0, 1)).tolist()], "count": [len(images)]}}
