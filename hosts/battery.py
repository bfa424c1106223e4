"""Says whether the machine runs on battery."""


def on_battery() -> bool:
    """Whether a battery powers the machine; False where psutil or the sensor is missing."""
    try:
        import psutil  # ComfyUI and InvokeAI bring it

        battery = psutil.sensors_battery()
    except (ImportError, AttributeError, OSError, RuntimeError):  # a system without this sensor
        return False
    return battery is not None and not battery.power_plugged
