"""The nodes of InvokeAI: importing this registers them."""

from pathlib import Path

from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.shared.invocation_context import UtilInterface

from ...hosts.invokeai import everywhere
from . import logging_setup  # noqa: F401, first: the others may log
from .denoise import WATCHED_NODES
from .fit_decoder import SafelightFitInvocation
from .quick_decode import SafelightQuickDecode
from .steps_sheet import SafelightStepsSheet

NODES = [*WATCHED_NODES, SafelightQuickDecode, SafelightFitInvocation, SafelightStepsSheet]


def heed_settings() -> None:
    """Shows Safelight's previews on every node if the user's settings say so; otherwise InvokeAI's own."""
    if everywhere.is_wanted(Path(get_config().root_path)):
        everywhere.install(UtilInterface, get_config)
    else:
        everywhere.remove(UtilInterface)
