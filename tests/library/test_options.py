"""Options that many functions share: listed by their signatures and their help, with one default and one meaning, and checked by name."""

import inspect

import pytest

import steerlab as sl
from steerlab._checks import InputError, options_of
from steerlab.aft.training import OneTraining
from steerlab.models.memory import PassOptions
from steerlab.steering.options import GridOptions, JobOptions, RunOptions, ScoreOptions, SteerOptions

KINDS = {
    "evaluate": PassOptions,
    "cache_activations": PassOptions,
    "sweep": RunOptions,
    "random_control": RunOptions,
    "successive_halving": GridOptions,
    "preview": ScoreOptions,
    "side_effects": SteerOptions,
    "critical_tokens": SteerOptions,
    "learn_vector": OneTraining,
    "learn_context_vector": OneTraining,
    "learn_multilayer": OneTraining,
    "run_experiment": JobOptions,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_signature_and_its_help_list_every_option_once(name):
    function = getattr(sl, name)
    parameters, said = inspect.signature(function).parameters, inspect.getdoc(function)
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option, (_, about) in options_of(KINDS[name]).items():
        assert parameters[option].default == about.default, option
        assert said.count(f"\n    {option}: ") == 1, option


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"postions": "all"}, "sweep has no option 'postions'; did you mean 'positions'?"),
        ({"layers": 3}, "sweep has no option 'layers'; did you mean 'layer'?"),
        ({"xyz": 1}, "sweep has no option 'xyz'; it takes model, problems, directions, alphas"),
    ],
)
def test_another_name_is_told_with_the_nearest_one(given, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")) as found:
        sl.sweep(None, [], [], **given)
    assert isinstance(found.value, TypeError)
