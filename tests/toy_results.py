from toy import (
    RECIPE,
)

VIEWS = f"""{RECIPE.replace("epochs: 5", "epochs: 6")}
curriculum:
  - {{until_epoch: 1}}
  - {{until_epoch: 3, augment: [hflip@0.5]}}
  - {{augment: ["rotate(15)", vflip@0.5], views: 2, lr_factor: 0.5}}
tta: [identity, hflip, "hflip + rotate(5,5)"]
"""


SAME = ("metrics.json", "curve.json", "submission.csv", "heads.safetensors", "predictions/test.parquet")


RESULTS = (*SAME, "predictions/out_of_fold.parquet")


def contents(out, names=RESULTS):
    return {name: (out / name).read_bytes() for name in names}
