"""From an experiment to a report and a run folder.

- `evidence`: the verdict and its sentences, corrected for the number of tests.
- `secondary`: answers to questions beside the main one.
- `warnings`: what a reader must know before believing the result.
- `sections`, `blocks`: the figures, tables and methods text of a report; what sections are made of.
- `html`, `markdown`, `export`: one self-contained page, Markdown, CSV, pictures.
- `scored`: which analyses scored a test set.
- `report`, `runs`: reports of finished runs; run folders and provenance.
"""
