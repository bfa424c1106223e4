"""The nodes of InvokeAI: importing this registers them."""

from pathlib import Path

from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.shared.invocation_context import UtilInterface

from ...hosts.invokeai import everywhere, library_page
from ...hosts.invokeai.decode_nodes import installed_decode_nodes
from ...hosts.invokeai.learning import DecodeLearning
from . import logging_setup  # noqa: F401, first: the others may log
from .continue_from_step import SafelightContinueInvocation
from .denoise import WATCHED_NODES
from .fit_decoder import SafelightFitInvocation
from .load_run import SafelightLoadRunInvocation
from .quick_decode import SafelightQuickDecode
from .steps_sheet import SafelightStepsSheet

NODES = [
    *WATCHED_NODES,
    SafelightQuickDecode,
    SafelightFitInvocation,
    SafelightStepsSheet,
    SafelightLoadRunInvocation,
    SafelightContinueInvocation,
]


def is_busy() -> bool:
    """Whether InvokeAI processes a session, or is starting."""
    from invokeai.app.api.dependencies import ApiDependencies  # it imports the nodes, so not while they are loaded

    invoker = getattr(ApiDependencies, "invoker", None)
    return invoker is None or invoker.services.session_processor.get_status().is_processing


LEARNING = DecodeLearning(installed_decode_nodes(), Path(get_config().root_path), is_busy)


def heed_settings() -> None:
    """Applies the user's settings: previews on every node, learning from VAE decodes, the page with all runs."""
    config = get_config()
    if everywhere.is_wanted(Path(config.root_path)):
        everywhere.install(UtilInterface, get_config)
    else:
        everywhere.remove(UtilInterface)
    LEARNING.apply_settings(accounts=getattr(config, "multiuser", False) is True)
    library_page.apply_settings(config)
