"""What a newcomer gives instead of directions, and what is said: run without the checking of types that the other tests run under."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, warnings
import numpy as np, torch
import steerlab as sl
warnings.simplefilter("error")

model = sl.load_model("tiny-arithmetic", device="cpu")
problems = sl.load_task("arithmetic", n_train=2, n_validation=1, n_test=1).train
prompts = [problem.prompt for problem in problems]
rng, v = np.random.default_rng(0), torch.ones(128)
d = sl.Direction(v, 3)

def steer(given):
    with sl.steer(model, given):
        pass

several = {
    "steer": steer,
    "sweep": lambda given: sl.sweep(model, problems, given, alphas=[1]),
    "preview": lambda given: sl.preview(model, problems, given, alphas=[1]),
    "side_effects": lambda given: sl.side_effects(model, given, prompts, alphas=[1]),
    "successive_halving": lambda given: sl.successive_halving(model, problems, given, alphas=[-1, 1], rng=rng),
}
one = {
    "random_control": lambda given: sl.random_control(model, problems, given, alpha=1, n=2, rng=rng),
    "match_kl": lambda given: sl.match_kl(model, given, [d], prompts, alpha=1.0),
    "token_magnitudes": lambda given: sl.token_magnitudes(model, problems, layers=[1], direction=given),
    "critical_tokens": lambda given: sl.critical_tokens(model, problems, given, alpha=1.0),
    "coefficient_grid": lambda given: sl.coefficient_grid(model, problems[:1], problems[1:], given, coefficients=[1.0]),
    "evaluate_routed": lambda given: sl.evaluate_routed(model, problems, given),
    "recursive_vectors": lambda given: sl.recursive_vectors(model, problems, given),
    "average": lambda given: sl.average_directions([d, given]),
    "cosine_table": lambda given: sl.cosine_table([d, given]),
    "project_out": lambda given: sl.project_out(given, d),
    "save_direction": lambda given: sl.save_direction("nowhere.safetensors", given),
}
wrong = {"tensor": v, "array": np.ones(128), "list of numbers": [1.0, 2.0], "text": "direction", "nothing": None, "number": 3, "model": model}
more = {
    "{3: tensor}": {3: v}, "{3: array}": {3: np.ones(128)}, "pairs": [(3, d)], "items": {3: d}.items(), "text keys": {"3": d}, "swapped": {d: 3},
    "tensors": [v, v], "{3: list}": {3: [d]},
}
vectors = {
    "complex": torch.ones(128, dtype=torch.complex64), "complex array": np.ones(128) * 1j, "text": "vector", "texts": ["a", "b"], "nothing": None,
    "booleans": torch.ones(128, dtype=torch.bool), "ragged": [[1.0], [1.0, 2.0]], "nan": np.full(128, np.nan), "infinite": [float("inf")] * 128,
    "too large": np.full(128, 1e300), "batch": torch.ones(1, 2, 128), "empty": [],
}
places = {
    "negative layer": {"layer": -1}, "text layer": {"layer": "3"}, "float layer": {"layer": 3.0}, "no layer": {"layer": None}, "site": {"site": "resid_pots"},
    "model": {"model": model}, "positions": {"positions": 1.5}, "no positions": {"positions": None},
}
found = {}

def tried(name, run):
    try:
        run()
        found[name] = ["nothing", ""]
    except Exception as error:
        found[name] = [type(error).__mro__[0].__name__ if not isinstance(error, sl.InputError) else "InputError", str(error)]

for entry, run in several.items():
    for name, given in {**wrong, **more}.items():
        tried(f"{entry} {name}", lambda: run(given))
for entry, run in one.items():
    for name, given in {**wrong, "{3: direction}": {3: d}, "list": [d]}.items():
        if not (entry == "token_magnitudes" and given is None) and not (entry == "evaluate_routed" and isinstance(given, dict)):
            tried(f"{entry} {name}", lambda: run(given))
for name, given in vectors.items():
    tried(f"vector {name}", lambda: sl.Direction(given, 3))
for name, given in places.items():
    tried(f"place {name}", lambda: sl.Direction(v, **({"layer": 3} | given)))

frozen = np.ones(128, np.float32)[::-1]
frozen.flags.writeable = False
good = {
    "integers": torch.ones(128, dtype=torch.int64), "array": np.ones(128), "half": torch.ones(128, dtype=torch.bfloat16), "list": [1] * 128,
    "gradients": torch.ones(128, requires_grad=True), "read-only, reversed": frozen, "big-endian": np.ones(128, ">f8"),
}
made = {name: sl.Direction(given, np.int64(3)) for name, given in good.items()}
print(json.dumps({"found": found, "good": {k: [bool((m.vector == 1).all()), m.vector.requires_grad, str(m.vector.dtype), m.layer] for k, m in made.items()}}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("here"),
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_entry_point_says_what_to_give_instead(said):
    raw = {name: error for name, error in said["found"].items() if error[0] != "InputError"}
    assert raw == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{3: tensor}", "directions[3] is a Tensor of shape [128]; give sl.Direction(vector, layer=3)"),
        ("{3: array}", "directions[3] is a ndarray of shape [128]; give sl.Direction(vector, layer=3)"),
        ("tensor", "directions is a Tensor of shape [128]; give sl.Direction(vector, layer=…)"),
        ("tensors", "directions[0] is a Tensor of shape [128]; give sl.Direction(vector, layer=…)"),
        ("pairs", "directions[0] is a pair of a layer and a direction; give a dict, {layer: direction}, or the directions alone"),
        ("items", "directions[0] is a pair of a layer and a direction; give a dict, {layer: direction}, or the directions alone"),
        ("text keys", "directions: key '3' is no layer; give {layer: direction}, such as {3: direction}"),
        ("{3: list}", "directions[3] is a list of 1; give one steerlab Direction (of a vector at several layers, one of its `directions`)"),
        ("text", "directions is a str; give a steerlab Direction, e.g. sl.Direction(vector, layer=3)"),
    ],
)
def test_what_is_said_names_the_thing_and_the_fix(said, given, message):
    for entry in ("sweep", "preview", "side_effects"):
        assert said["found"][f"{entry} {given}"] == ["InputError", message]
    assert said["found"][f"steer {given}"] == ["InputError", message.replace("directions", "direction", 1)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vector complex", "its numbers are complex (torch.complex64), and the residual stream is real; give vector.real"),
        ("vector complex array", "its numbers are complex"),
        ("vector text", "the vector is a str; give a tensor, an array or a list of numbers"),
        ("vector booleans", "the vector is of booleans; give numbers"),
        ("vector too large", "128 of 128 values are NaN or infinite"),
        ("place negative layer", "layer=-1; use a block number from 0"),
        ("place text layer", "layer='3'; use a block number from 0"),
        ("place site", "site='resid_pots'; use one of resid_pre, resid_mid, resid_post"),
        ("place model", "give a dict (of a model, what steerlab.models.model.describe says)"),
        ("place positions", "positions=1.5; give a whole number or several"),
    ],
)
def test_a_direction_that_cannot_be_says_why(said, name, message):
    assert message in said["found"][name][1]


def test_any_array_of_real_numbers_makes_a_direction(said):
    assert said["good"]
    assert all(made == [True, False, "torch.float32", 3] for made in said["good"].values())
