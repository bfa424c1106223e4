"""Parts that differ from those of a family: functions that return them for the family's parts."""

import inspect

import diffusers
import tiny_models as models


def config_of(model):
    return {name: value for name, value in model.config.items() if not name.startswith("_")}


def unet(**config):
    """A UNet of Stable Diffusion with another configuration."""
    return lambda _: {"unet": models.unet(**config)}


def scheduler(kind, **config):
    return lambda _: {"scheduler": getattr(diffusers, kind)(**{**models.OLD, **config})}


def transformer(**config):
    """The family's transformer with another configuration."""
    return lambda parts: {"transformer": type(parts["transformer"])(**{**config_of(parts["transformer"]), **config})}


def controlnet(parts):
    """The ControlNet of the family's UNet."""
    return {
        "controlnet": diffusers.ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(4, 8))
    }


def controlnet_of(kind, part="transformer", **config):
    """A ControlNet of a class with the configuration of the family's transformer or UNet."""

    def parts(own):
        model = getattr(diffusers, kind)
        names = inspect.signature(model.__init__).parameters
        shared = {name: value for name, value in config_of(own[part]).items() if name in names}
        return {"controlnet": model(**{**shared, **config})}

    return parts
