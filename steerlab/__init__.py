"""steerlab: does this direction in a language model's residual stream cause that behaviour?

Functions take a plain TransformerLens model first, then data, then options; results are frozen dataclasses around tidy
pandas frames.

    import steerlab as sl

    model = sl.load_model("tiny-arithmetic")
    task = sl.load_task("arithmetic")
    evaluation = sl.evaluate(model, task.train)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
