"""``--device``, checked before anything is loaded."""

from __future__ import annotations

from llm2comp_apps.errors import UsageError

__all__ = ["check_device"]


def check_device(device: str | None) -> None:
    """Refuse a device that is not here (imports torch where one is named).

    Raises:
        UsageError: no such kind of device, or none of them on this machine.
    """
    if device is None:
        return
    import torch

    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device!r} is no device; take cpu, cuda, cuda:1, mps") from error
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(asked.type)
    if there == 0:
        raise UsageError(f"--device {device}: torch finds none here (llm2comp doctor tells more); cpu always works")
    if there is not None and (asked.index or 0) >= there:
        raise UsageError(f"--device {device}: torch finds {there} here, counted from 0 (llm2comp doctor tells more)")
