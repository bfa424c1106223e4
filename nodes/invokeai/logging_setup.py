"""Adds Safelight's log lines to InvokeAI's. Import it before anything is logged."""

from invokeai.backend.util.logging import InvokeAILogger

InvokeAILogger.get_logger("safelight")
