"""The published audit: do the claims of a document follow from the numbers printed in it?

`published_audit` reads a folder of CSV files, `judge` takes frames. A printed number stands for all values that round to it, a
recipe gives the range of answers that they allow, and a claim is judged by that range; no model and no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
