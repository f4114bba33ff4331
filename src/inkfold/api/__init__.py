"""inkfold's functions for Python: what the commands do, with drawings in any form and settings as keywords.

`training` has those that read drawings (`train`, `fit`, `tune`, `explore`, `check`, `augment`), `results` those that take
finished runs (`vote`, `audit`, `weakness`, `report`, `predict`), `deployment` has `export` and `serve`. They print nothing.
`settings` turns keywords into a recipe's keys, `inputs` drawings into a dataset. All are names of `inkfold` itself; see
docs/python.md.
"""
