"""What Safelight logs appears among InvokeAI's lines: importing this sees to it, before anything is logged."""

from invokeai.backend.util.logging import InvokeAILogger

InvokeAILogger.get_logger("safelight")
