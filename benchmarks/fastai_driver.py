"""Trains fastai's `vision_learner(...).fine_tune` on folders of drawings and answers for others: one side of `auto.py`.

Run by a Python that has fastai, which inkfold doesn't need:

    python3 -m venv fastai && fastai/bin/python -m pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 fastai

What its documentation recommends for drawings: `vision_learner` on a timm model with pretrained weights, `fine_tune` (one epoch
of the head alone, then all of it, one-cycle, discriminative rates), the rate by `lr_find` where that costs little,
`aug_transforms`, predictions by test-time augmentation (`tta`) where that costs little. In its favour: all drawings are trained
on, where the documentation holds out 20 % (`--held-out`); nothing is cut off (squish) and the edge's white is continued
(`pad_mode=border`); channels last and, where this processor has it, bfloat16, which fastai itself has for GPUs only. When
the time is up, the training ends early and what is trained by then answers.

    fastai/bin/python benchmarks/fastai_driver.py --train FOLDERS --test FOLDER --model NAME --size PX --out FILE --epochs N
    fastai/bin/python benchmarks/fastai_driver.py ... --measure        # prints what a drawing costs, and trains nothing
"""

import argparse
import json
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

import torch  # noqa: E402 - it belongs to the time of the start

SCHEMAS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor d, Tensor s, float t) -> Tensor")
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
if not torch.cuda.is_available():
    for schema in SCHEMAS:  # PyPI's torchvision doesn't load its own beside a CPU build of PyTorch
        LIBRARY.define(schema)  # type: ignore[no-untyped-call]

from fastai.vision import all as fastai  # noqa: E402 - needs the operators above

BATCH = 64
SMALL_SHARE = 0.05  # of the time, which lr_find and test-time augmentation may take
LR_FIND_STEPS, TTA_PASSES = 100, 5
MEASURED_STEPS, WARM_UP = 10, 3


class CpuBfloat16(fastai.Callback):  # type: ignore[misc]
    """Runs forwards in bfloat16 on a CPU, as fastai's `MixedPrecision` does on a GPU."""

    order = 10

    def before_batch(self) -> None:
        """Begin."""
        self.context = torch.autocast("cpu", dtype=torch.bfloat16)
        self.context.__enter__()  # type: ignore[no-untyped-call]

    def after_pred(self) -> None:
        """Give the loss float32."""
        self.learn.pred = fastai.to_float(self.pred)

    def after_loss(self) -> None:
        """End."""
        self.context.__exit__(None, None, None)


class Deadline(fastai.Callback):  # type: ignore[misc]
    """Ends the training when the time is up, or after some steps, and notes when steps were done."""

    def __init__(self, until_s: float, steps: float = float("inf")) -> None:
        self.until_s, self.steps, self.is_cut = until_s, steps, False
        self.times: list[float] = []

    def after_batch(self) -> None:
        """Look at the clock."""
        if not self.learn.training:
            return
        self.times.append(time.perf_counter())
        if self.times[-1] - STARTED > self.until_s or len(self.times) >= self.steps:
            self.is_cut = True
            raise fastai.CancelFitException


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; elsewhere it would be slower than float32."""
    about = Path("/proc/cpuinfo")
    return about.is_file() and "avx512_bf16" in about.read_text(encoding="utf-8")


def build(options: argparse.Namespace) -> Any:
    """Build the data's loaders and the learner."""
    files = fastai.get_image_files(options.train)
    held_out = fastai.RandomSplitter(options.held_out, seed=options.seed) if options.held_out else fastai.IndexSplitter([0])
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock),
        get_items=lambda _: files,
        get_y=fastai.parent_label,
        splitter=held_out,
        item_tfms=fastai.Resize(options.size, method=fastai.ResizeMethod.Squish),
        batch_tfms=fastai.aug_transforms(pad_mode=fastai.PadMode.Border),
    )
    fastai.set_seed(options.seed)
    loaders = block.dataloaders(
        options.train, bs=min(BATCH, len(files) - 1), num_workers=options.workers, persistent_workers=True
    )
    weights = {"pretrained_cfg_overlay": {"file": str(options.weights)}} if options.weights else {}
    learner = fastai.vision_learner(
        loaders, options.model, pretrained=bool(options.weights), metrics=fastai.accuracy, path=options.out.parent, **weights
    )
    learner.model.to(memory_format=torch.channels_last)
    if torch.cuda.is_available():
        learner.to_fp16()
    elif has_bfloat16():
        learner.add_cb(CpuBfloat16())
    return learner


def measure(learner: Any, test: list[Path]) -> dict[str, float]:
    """Measure seconds for a trained and for an answered drawing; the learner is of no use afterwards."""
    startup_s = time.perf_counter() - STARTED
    clock = Deadline(float("inf"), MEASURED_STEPS)
    with learner.no_bar(), learner.no_logging():
        learner.unfreeze()
        learner.fit_one_cycle(MEASURED_STEPS, cbs=clock)  # ends after so many steps, however few an epoch has
        steps_s = [after - before for before, after in pairwise(clock.times)][WARM_UP:]
        train_s = statistics.median(steps_s) / learner.dls.bs
        few = test[: 4 * BATCH]
        began = time.perf_counter()
        learner.get_preds(dl=learner.dls.test_dl(few))
        return {"startup_s": startup_s, "train_s": train_s, "predict_s": (time.perf_counter() - began) / len(few)}


def main() -> None:
    """Measure, or train and answer."""
    options = parse()
    learner, test = build(options), sorted(fastai.get_image_files(options.test))
    if options.measure:
        print(json.dumps(measure(learner, test)))
        return
    cheap = SMALL_SHARE * options.seconds
    is_augmented = TTA_PASSES * len(test) * options.predict_s < cheap
    clock = Deadline(options.seconds - options.predict_s * len(test) * (TTA_PASSES if is_augmented else 1))
    with learner.no_bar():
        rate = {}
        if LR_FIND_STEPS * BATCH * options.train_s < cheap:
            rate = {"base_lr": float(learner.lr_find(show_plot=False).valley)}
        if options.epochs == 0:  # the head alone
            learner.fit_one_cycle(1, rate.get("base_lr", 2e-3), cbs=clock)
        else:
            learner.fine_tune(options.epochs, cbs=clock, **rate)
        loader = learner.dls.test_dl(test)
        probs, _ = learner.tta(dl=loader) if is_augmented else learner.get_preds(dl=loader)
    names = [str(learner.dls.vocab[i]) for i in probs.argmax(1).tolist()]
    answer = {
        "answers": {path.name: name for path, name in zip(test, names, strict=True)},
        "about": {**rate, "tta": is_augmented, "cut": clock.is_cut, "epochs": options.epochs, "size": options.size},
    }
    options.out.write_text(json.dumps(answer), encoding="utf-8")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="a folder for each class")
    parser.add_argument("--test", type=Path, required=True, help="a folder of drawings")
    parser.add_argument("--model", required=True, help="timm's name of the backbone")
    parser.add_argument("--weights", type=Path, help="its pretrained weights; without them it starts untrained")
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--epochs", type=int, default=1, help="of all weights, after one of the head alone; 0: the head alone")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of this process, until the answers are written")
    parser.add_argument("--train-s", type=float, default=0.0, help="measured seconds for each trained drawing")
    parser.add_argument("--predict-s", type=float, default=0.0, help="measured seconds for each answered drawing")
    parser.add_argument("--held-out", type=float, default=0.0, help="share of the drawings that isn't trained on")
    parser.add_argument("--workers", type=int, default=1, help="processes that read drawings, at least 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the answers")
    parser.add_argument("--measure", action="store_true", help="only print what a drawing costs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
