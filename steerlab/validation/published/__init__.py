"""The published audit: do the claims of a document follow from the numbers printed in it?

`audit` reads a folder of CSV files, `judge` takes frames. A printed number stands for all values that round to it, a recipe gives
the range of answers that they allow, and a claim is judged by that range; no model and no torch.
"""

from steerlab.validation.published.auditing import RECIPES, Audit, audit, judge
from steerlab.validation.published.numbers import Printed, Range, printed

__all__ = ["RECIPES", "Audit", "Printed", "Range", "audit", "judge", "printed"]
