"""Models that the whole suite shares, and checking of shapes and types while it runs.

The models are built here, from seeds, and loaded as a user loads them. They are shared by all tests of a session, so a
test leaves them as it found them.
"""
# ruff: noqa: E402, F401 - what is set up first decides what the imports below do, and some are for that alone

import ast
import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from hashlib import sha1
from importlib.metadata import version
from pathlib import Path

HUB_CACHE = Path(tempfile.mkdtemp(prefix="hub-cache-"))
# Read when huggingface_hub is imported: no test reaches the network, or finds what this machine happens to have.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(HUB_CACHE)}

# While the hook below imports a module, all that this one imports is compiled anew, which takes ten seconds for these.
import datasets
import plotly.graph_objects
import scipy.stats
import sklearn.linear_model
import transformer_lens
from jaxtyping import _import_hook, install_import_hook

# Modules whose signatures hold shapes. The others take arrays and frames, and answer for wrong types with errors of their own, as `positions` does.
ROOT = Path(__file__).resolve().parents[1]
SOURCES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "steerlab").rglob("*.py")}
del SOURCES["steerlab.activations.positions"]
SHAPED = [module for module, path in SOURCES.items() if "from jaxtyping import" in path.read_text(encoding="utf-8")]


class OutermostFunctions(_import_hook.JaxtypingTransformer):
    """Leaves functions within functions unchecked: every call of the outer one would compile a check for the inner one anew."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:  # noqa: N802 - the name is that of `ast`
        inner = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
        return node if inner else super().visit_FunctionDef(node)


_import_hook.JaxtypingTransformer = OutermostFunctions
# Before steerlab is imported: it checks what is imported after it. The tower: an int is a float, as everywhere in typing.
install_import_hook(SHAPED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import hypothesis
import pytest
import torch
import transformers
from configurations import FAMILIES, SPECIAL, STORIES, config, word_tokenizer

import steerlab as sl
from steerlab.tasks.arithmetic import vocabulary

# A busy machine is slow, which is no fault of what is tested. In CI this goes on from Hypothesis' own profile, which repeats its draws.
# `make test-slow` asks for `thorough`. Tests that state a number of examples of their own ask `examples` for it.
for profile, n in (("thorough", 100), ("steerlab", 25)):
    hypothesis.settings.register_profile(
        profile,
        parent=hypothesis.settings.default,
        max_examples=n,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("steerlab")

torch.set_num_threads(1)  # the models here are so small that threads only wait for each other

BACKENDS = ("hooked", "bridge") if int(version("transformer-lens").split(".")[0]) < 4 else ("bridge",)


def write_checkpoint(folder: Path, config: transformers.PretrainedConfig, seed: int = 1) -> Path:
    """A Hugging Face directory with random weights, none of them zero and no two rows alike."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    if bars:
        transformers.utils.logging.enable_progress_bar()
    return folder


# What knows a backend from another. What is built on it is tested with the other backend among the slow tests.
BACKENDS_MATTER = ("models", "test_exactness", "test_families", "test_fast_path", "test_interventions")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run again with a second backend as slow."""
    for item in items:
        backend = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if backend in BACKENDS[1:] and not {item.path.parent.name, item.path.stem} & set(BACKENDS_MATTER):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays until the end: libraries and tests."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Take the made-up Hub away."""
    shutil.rmtree(HUB_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def backends() -> tuple[str, ...]:
    """All kinds of model that the installed TransformerLens has."""
    return BACKENDS


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each kind of model that the installed TransformerLens has."""
    return request.param


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``tiny_checkpoint(family)``: a Hugging Face directory without a tokenizer; see FAMILIES. Do not change it: copy it."""
    return cache(lambda family: write_checkpoint(tmp_path_factory.mktemp("checkpoint") / family, FAMILIES[family]()))


@pytest.fixture(scope="session")
def worded_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``worded_checkpoint(family)``: the same with a tokenizer of 60 words, w0 to w59 (Qwen2 without); it ends generation with token 2. Do not change it: copy it."""

    def write(family: str) -> Path:
        shape = FAMILIES[family]()
        shape.update({"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2})
        folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint") / family, shape)
        if shape.model_type != "qwen2":  # for which transformers takes a tokenizer class of its own, whatever the files say
            word_tokenizer(tuple(f"w{i}" for i in range(60))).save_pretrained(folder)
        return folder

    return cache(write)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Callable[[str], Path]) -> Callable[[str, str], object]:
    """``tiny_model(family, backend)``: 3 blocks, d_model 32, 64 tokens, no tokenizer."""
    return cache(lambda family, backend: sl.load_model(str(tiny_checkpoint(family)), backend=backend, device="cpu"))


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    """``toy_model(backend)``: an untrained Llama of 3 blocks whose tokenizer writes the embedded arithmetic task."""
    words = tuple(vocabulary())
    shape = config(
        "llama",
        vocab_size=len(SPECIAL) + len(words),
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "toy", shape, seed=2)
    word_tokenizer(words).save_pretrained(folder)
    return cache(lambda backend: sl.load_model(str(folder), backend=backend, device="cpu"))


@pytest.fixture(scope="session")
def hub() -> Callable[[str, str], str]:
    """``hub(name, family)``: put a tiny checkpoint with a tokenizer into the Hub's cache; returns its commit."""

    def put(name: str, family: str) -> str:
        commit = sha1(f"{name} {family}".encode()).hexdigest()
        repository = HUB_CACHE / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / commit
        if not snapshot.exists():
            (repository / "refs").mkdir(parents=True)
            (repository / "refs" / "main").write_text(commit)
            write_checkpoint(snapshot, FAMILIES[family]())
            word_tokenizer(tuple(f"word{i}" for i in range(60))).save_pretrained(snapshot)
        return commit

    return put


@pytest.fixture(scope="session")
def stories() -> Callable[[str], object]:
    """``stories(backend)``: the real language model stories260K (5 blocks, d_model 64)."""
    if not STORIES.is_dir():
        pytest.skip(f"no {STORIES.parent.name}/{STORIES.name}: the folder ../shared is not here")
    return cache(lambda backend: sl.load_model(str(STORIES), backend=backend, device="cpu"))
