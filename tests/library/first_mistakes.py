"""What a newcomer may give in the place of problems, to every function that takes problems; prints what each is told, as JSON.

It runs in a process of its own, because the suite checks types before the functions themselves can.
"""

import json

import numpy as np
import pandas as pd
import torch

import steerlab as sl


def main() -> None:
    """Try everything."""
    model = sl.load_model("tiny-arithmetic", device="cpu")
    task = sl.load_task("arithmetic", limit=4)
    problems, others = task.train, task.validation
    direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
    rng = np.random.default_rng(0)
    learned = {"layer": 3, "validation": others}

    WANT_PROBLEMS = {
        "evaluate": lambda p: sl.evaluate(model, p),
        "sweep": lambda p: sl.sweep(model, p, direction),
        "sweep, other precision": lambda p: sl.sweep(model, p, direction, precision="bfloat16"),
        "random_control": lambda p: sl.random_control(model, p, direction, alpha=1.0, n=2, rng=rng),
        "successive_halving": lambda p: sl.successive_halving(model, p, direction, rng=rng, rounds=1),
        "preview": lambda p: sl.preview(model, p, direction),
        "critical_tokens": lambda p: sl.critical_tokens(model, p, direction, alpha=1.0),
        "evaluate_routed": lambda p: sl.evaluate_routed(model, p, direction),
        "coefficient_grid, validation": lambda p: sl.coefficient_grid(model, p, others, direction),
        "coefficient_grid, test": lambda p: sl.coefficient_grid(model, others, p, direction),
        "run_eas": lambda p: sl.run_eas(model, p, layer=3, rng=rng),
        "compare_eas": lambda p: sl.compare_eas(model, p, layer=3, rng=rng),
        "evolve_vector": lambda p: sl.evolve_vector(model, p, layer=3, rng=rng),
        "learn_vector": lambda p: sl.learn_vector(model, p, **learned),
        "learn_vector, validation": lambda p: sl.learn_vector(model, problems, layer=3, validation=p),
        "learn_vectors": lambda p: sl.learn_vectors(model, p, layers=[3], validation=others),
        "learn_multilayer": lambda p: sl.learn_multilayer(model, p, layers=[2, 3], validation=others),
        "learn_context_vector": lambda p: sl.learn_context_vector(model, p, **learned),
        "adaptive_aft": lambda p: sl.adaptive_aft(model, p, validation=others),
        "adaptive_aft, validation": lambda p: sl.adaptive_aft(model, problems, validation=p),
        "self_refine": lambda p: sl.self_refine(model, p, **learned),
        "recursive_vectors": lambda p: sl.recursive_vectors(model, p, direction),
        "propagated_vectors": lambda p: sl.propagated_vectors(model, p, direction),
        "compare_context_vectors": lambda p: sl.compare_context_vectors(model, p, others, task.test, layer=3, rng=rng),
        "compare_context_vectors, test": lambda p: sl.compare_context_vectors(model, problems, others, p, layer=3, rng=rng),
        "side_texts": lambda p: sl.side_texts(model, p),
    }
    TAKE_TEXTS = {
        "cache_activations": lambda p: sl.cache_activations(model, p, layers=[3]),
        "token_magnitudes": lambda p: sl.token_magnitudes(model, p, layers=[3]),
    }
    WANT_TEXTS = {
        "side_effects": lambda p: sl.side_effects(model, direction, p, alphas=[1.0]),
        "match_kl": lambda p: sl.match_kl(model, direction, [direction], p, alpha=1.0),
        "run_experiment, texts": lambda p: sl.run_experiment(model, task, seed=0, texts=p, layers=[3], alphas=[-1, 0, 1], n_controls=1),
    }
    WANT_TASK = {
        "run_experiment": lambda p: sl.run_experiment(model, p, seed=0),
        "compare_methods": lambda p: sl.compare_methods(model, p, seed=0),
        "compare_protocols": lambda p: sl.compare_protocols(model, p, rng=rng),
        "multiverse": lambda p: sl.multiverse(model, p, seed=0),
        "multiverse, template": lambda p: sl.multiverse(model, {"a": p}, seed=0),
        "seed_stability": lambda p: sl.seed_stability(model, p, rng=rng),
        "transfer": lambda p: sl.transfer(model, {"a": p, "b": p}, rng=rng),
    }
    INSTEAD = {
        "task": lambda: task,
        "problem": lambda: problems[0],
        "text": lambda: "one text",
        "texts": lambda: [p.prompt for p in problems],
        "mixture": lambda: [problems[0], "one text"],
        "generator": lambda: (p for p in problems),
        "set": set,
        "frame": lambda: pd.DataFrame({"prompt": ["a"], "target": [1]}),
        "dicts": lambda: [{"id": "a", "prompt": "a", "target": 1}],
        "none": lambda: None,
        "number": lambda: 3,
        "problems": lambda: tuple(problems),
    }
    told = {}
    for group, functions in {"problems": WANT_PROBLEMS, "texts or problems": TAKE_TEXTS, "texts": WANT_TEXTS, "task": WANT_TASK}.items():
        for name, function in functions.items():
            for given, make in INSTEAD.items():
                right = {"problems": ("problems",), "texts or problems": ("problems", "texts"), "texts": ("texts",), "task": ("task",)}[
                    group
                ]
                if given in right and group != "texts or problems":
                    continue
                if given == "none" and ("validation" in name or "texts" in name):
                    continue  # it has a meaning there
                try:
                    said = [type(function(make())).__name__, ""]
                except sl.InputError as error:
                    said = [type(error).__name__, str(error)]
                except Exception as error:  # noqa: BLE001 - what a newcomer must never see is what this looks for
                    said = [f"bug: {type(error).__name__}", str(error)]
                told[f"{group} | {name} | {given}"] = said
    elsewhere = {
        "balance": lambda: sl.balance(problems, rng=rng),
        "contrast_directions": lambda: sl.contrast_directions(model, task, rng=rng, layers=[2]),
        "failure_analysis": lambda: sl.failure_analysis(task),
        "mean_difference": lambda: sl.mean_difference(task, ["a"], layer=2),
        "cosine_table": lambda: sl.cosine_table(task),
        "a name where a model is wanted": lambda: sl.sweep("tiny-arithmetic", problems, direction),
        "a model of transformers": lambda: sl.evaluate(torch.nn.Linear(2, 2), problems),
        "a layer with a point": lambda: sl.cache_activations(model, problems, layers=[1.0]),
        "texts of texts": lambda: sl.side_effects(model, direction, [("a", "b")], alphas=[1]),
        "token ids with a point": lambda: sl.side_effects(model, direction, [(1.5, 2)], alphas=[1]),
    }
    others_told = {}
    for name, call in elsewhere.items():
        try:
            others_told[name] = [type(call()).__name__, ""]
        except Exception as error:  # noqa: BLE001 - as above
            others_told[name] = ["InputError" if isinstance(error, sl.InputError) else f"bug: {type(error).__name__}", str(error)]
    one = sl.cache_activations(model, ["Tom has 3 apples."], layers=[3])
    same = sl.cache_activations(model, [sl.Problem("p", "Tom has 3 apples.", "")], layers=[3])
    print(json.dumps({"told": told, "elsewhere": others_told, "ids": one.problem_ids, "same": bool((one.values == same.values).all())}))


if __name__ == "__main__":
    main()
