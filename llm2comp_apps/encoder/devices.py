"""The device that a person or a program asks for, checked before anything is loaded."""

from __future__ import annotations

from llm2comp_apps.errors import UsageError

__all__ = ["check_device"]


def check_device(device: str | None) -> None:
    """Refuse a device that this machine does not have (imports torch where it must ask).

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``None`` for the best there is.

    Raises:
        UsageError: an unknown kind of device, or none of that kind on this machine.
    """
    if device in (None, "cpu"):
        return
    import torch

    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"must be cpu, cuda, cuda:1 or mps, not {device!r}", field="device") from error
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(asked.type)
    if count == 0:
        reason = f"{device}: torch finds none here (llm2comp doctor says more); cpu always works"
        raise UsageError(reason, field="device")
    if count is not None and (asked.index or 0) >= count:
        reason = f"{device}: torch finds {count} here, counted from 0 (llm2comp doctor says more)"
        raise UsageError(reason, field="device")
