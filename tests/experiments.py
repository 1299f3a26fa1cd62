"""Experiments of which a test changes what was chosen."""

from dataclasses import replace

from steerlab.studies.protocol import Experiment
from steerlab.sweeps.candidates import Goal


def chosen(experiment: Experiment, layer: int, alpha: float, goal: Goal = "raise") -> Experiment:
    """The same experiment, had the direction's pipelines chosen this cell for the goal."""
    made = []
    for one in experiment.pipelines:
        frame = one.frame.copy()
        mine = ~frame["is_control"].astype(bool) & (frame["goal"] == goal)
        frame.loc[mine, "layer"], frame.loc[mine, "alpha"] = layer, alpha
        made.append(replace(one, frame=frame))
    return replace(experiment, pipelines=tuple(made))
