"""Pretrain ink-small: names across sources, single drawings, and what larger networks find alike, under heavy views.

    python pretraining/train.py pretraining/ink-small.yaml --store STORE --out RUN [KEY=VALUE ...]

The recipe says what and how long. The state is kept every `save_every` steps, and the same command goes on from there, with the
same result as if it had not been stopped. The learning rate rises, stays and falls in the last `cool_steps`. A finished run is
trained further by more `steps` once its state.safetensors is removed: before-cooling.safetensors is from before the fall.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone knows
from pictures import MIRRORED, SOURCES, Pictures, load
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save
from torch import nn

from inkfold.config.load import load_raw
from inkfold.config.sections import Section
from inkfold.errors import InkfoldError
from inkfold.models.backbone import keep_freed_memory
from inkfold.models.ink_small import WEIGHTS, timm_name, write_state
from inkfold.storage.files import write_bytes
from views import ViewSettings, make_views

PAPER_STD = 0.5  # ink-small takes (paper - 1) / 0.5: no ink is 0


class Settings(Section):
    """What is trained on what, and how."""

    steps: int = 20_000
    """Steps in all, the falling ones among them."""
    cool_steps: int = 4_000
    """Steps at the end over which the learning rate falls to 0."""
    warm_steps: int = 500
    """Steps at the start over which the learning rate rises."""
    batch_size: int = 128
    """Pictures a step."""
    lr: float = 1.0e-3
    """Learning rate of AdamW."""
    weight_decay: float = 0.05
    """Weight decay of AdamW, on matrices and kernels."""
    ema: float = 0.999
    """Decay of the weights' moving average, which is what is kept."""
    shares: dict[str, float] = Field(
        default={"quickdraw": 0.4, "icons": 0.4, "omniglot": 0.1, "generator": 0.05, "scene": 0.05}
    )
    """Share of each source in a batch."""
    start: str | None = None
    """Weights to start from: a file, `ink-small` for those in the package, nothing for random ones."""
    names: float = 1.0
    """Weight of the classes' cross-entropy."""
    smoothing: float = 0.1
    """Label smoothing of the classes."""
    instances: float = 0.3
    """Weight of telling single drawings apart (arXiv 1805.01978), for pictures without a class."""
    temperature: float = 0.1
    """Temperature of telling drawings apart."""
    teachers: dict[str, float] = Field(default={})
    """Weight of reproducing each teacher's features, by the teacher's name."""
    views: ViewSettings = ViewSettings()
    """How strongly views differ."""
    seed: int = 0
    """Seed of all randomness."""
    save_every: int = 500
    """Steps between states that are kept."""


class Learner(nn.Module):
    """The network and the heads that are thrown away afterwards."""

    def __init__(self, settings: Settings, pictures: Pictures, targets: dict[str, torch.Tensor]) -> None:
        super().__init__()
        name = timm_name("ink-small")  # makes timm importable
        from timm import create_model

        self.network = create_model(name, num_classes=0)
        if settings.start:
            path = WEIGHTS if settings.start == "ink-small" else Path(settings.start)
            state = {name: values.float() if values.is_floating_point() else values for name, values in load_file(path).items()}
            self.network.load_state_dict(state)
        width = self.network.num_features
        self.classes = nn.Linear(width, len(pictures.names))
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128))
        self.teachers = nn.ModuleDict({name: nn.Linear(width, values.shape[1]) for name, values in targets.items()})
        self.register_buffer("bank", F.normalize(torch.randn(int(pictures.instance.max()) + 1, 128), dim=1))

    def forward(self, ink: torch.Tensor) -> torch.Tensor:
        """Return the features, float32."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.network((ink / -PAPER_STD).contiguous(memory_format=torch.channels_last))
        return features.float()


@dataclass
class Loss:
    """A step's loss and its parts."""

    total: torch.Tensor
    parts: dict[str, float]


class Trainer:
    """One pretraining, from its start or from its last kept state."""

    def __init__(self, settings: Settings, store: Path, out: Path) -> None:
        self.settings, self.out = settings, out
        self.pictures = load(store)
        self.pixels = np.array(self.pictures.pixels)
        self.targets = {
            name: torch.from_numpy(np.load(store / f"teacher-{name}.npy", allow_pickle=False)) for name in settings.teachers
        }
        torch.manual_seed(settings.seed)
        self.learner = Learner(settings, self.pictures, self.targets).to(memory_format=torch.channels_last)
        self.average = {name: values.clone() for name, values in self.learner.network.state_dict().items()}
        decayed = [values for values in self.learner.parameters() if values.ndim > 1]
        plain = [values for values in self.learner.parameters() if values.ndim <= 1]
        groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        self.rows = {source: np.flatnonzero(self.pictures.source == SOURCES.index(source)) for source in settings.shares}
        self.unnamed = torch.from_numpy(np.unique(self.pictures.instance[self.pictures.label < 0]).astype(np.int64))
        self.place = torch.full((int(self.pictures.instance.max()) + 1,), -1)
        self.place[self.unnamed] = torch.arange(len(self.unnamed))
        self.step = 0

    def chosen(self, generator: torch.Generator) -> np.ndarray:
        """Choose a step's pictures: a source by its share, then one of its pictures, each as likely."""
        shares = torch.tensor([self.settings.shares[source] for source in self.rows])
        which = torch.multinomial(shares, self.settings.batch_size, replacement=True, generator=generator).numpy()
        places = torch.rand(self.settings.batch_size, generator=generator, dtype=torch.float64).numpy()
        rows = list(self.rows.values())
        return np.array([rows[source][int(place * len(rows[source]))] for source, place in zip(which, places, strict=True)])

    def learn(self) -> Loss:
        """Take one step; all its randomness comes from the seed and its number."""
        settings = self.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        rows = self.chosen(generator)
        mirrored = np.isin(self.pictures.source[rows], [SOURCES.index(source) for source in MIRRORED])
        ink = make_views(torch.from_numpy(self.pixels[rows]), torch.from_numpy(mirrored), settings.views, generator)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.lr * self._lr_factor()
        loss = self._loss(self.learner(ink), rows)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return loss

    def _lr_factor(self) -> float:
        settings = self.settings
        rising = min(1.0, (self.step + 1) / settings.warm_steps)
        falling = (settings.steps - self.step) / settings.cool_steps if settings.cool_steps else 1.0
        return min(rising, falling, 1.0)

    def _loss(self, features: torch.Tensor, rows: np.ndarray) -> Loss:
        settings = self.settings
        labels = torch.from_numpy(self.pictures.label[rows].astype(np.int64))
        parts, total = {}, torch.zeros(())
        named = labels >= 0
        if settings.names and named.any():
            logits = self.learner.classes(features[named])
            parts["names"] = F.cross_entropy(logits, labels[named], label_smoothing=settings.smoothing)
            parts["accuracy"] = (logits.detach().argmax(1) == labels[named]).float().mean()
            total = total + settings.names * parts["names"] * named.float().mean()
        if settings.instances and not named.all():
            loss = self._instance_loss(features[~named], rows[~named.numpy()])
            parts["instances"] = loss
            total = total + settings.instances * loss * (~named).float().mean()
        for name, weight in settings.teachers.items():
            target = self.targets[name][rows].float()
            taught = target.abs().sum(1) > 0
            if taught.any():
                found = F.normalize(self.learner.teachers[name](features[taught]), dim=1)
                loss = (1 - (found * target[taught]).sum(1)).mean()
                parts[name] = loss
                total = total + weight * loss * taught.float().mean()
        return Loss(total, {name: float(value.detach()) for name, value in parts.items()})

    def _instance_loss(self, features: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Tell each drawing from all others without a class, by what is remembered of their last views."""
        instances = torch.from_numpy(self.pictures.instance[rows].astype(np.int64))
        found = F.normalize(self.learner.projection(features), dim=1)
        bank: torch.Tensor = self.learner.bank
        logits = found @ bank[self.unnamed].T / self.settings.temperature
        loss = F.cross_entropy(logits, self.place[instances])
        with torch.no_grad():
            bank[instances] = F.normalize(bank[instances] + found, dim=1)
        return loss

    def _follow(self) -> None:
        """Move the averaged weights towards the current ones, faster at the start."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for name, values in self.learner.network.state_dict().items():
            if values.is_floating_point():
                self.average[name].lerp_(values, 1 - decay)
            else:
                self.average[name].copy_(values)

    def save(self, name: str) -> None:
        """Keep the state from which a run goes on."""
        tensors = {f"learner.{key}": values for key, values in self.learner.state_dict().items()}
        tensors |= {f"average.{key}": values for key, values in self.average.items()}
        for place, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{place}.{key}": values for key, values in state.items()}
        plain = {key: values.contiguous().clone() for key, values in tensors.items()}
        write_bytes(self.out / name, save(plain, {"step": str(self.step)}))

    def resume(self, path: Path) -> None:
        """Go on from a kept state."""
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            self.step = int(file.metadata()["step"])
        tensors = load_file(path)
        part = {
            kind: {key.removeprefix(kind + "."): tensors[key] for key in tensors if key.startswith(kind + ".")}
            for kind in ("learner", "average", "optimiser")
        }
        self.learner.load_state_dict(part["learner"])
        self.average = part["average"]
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, values in part["optimiser"].items():
            place, name = key.split(".", 1)
            own = parameters[int(place)]  # the fused optimiser takes its state to lie in memory as the parameters do
            laid_out = torch.empty_like(own, requires_grad=False).copy_(values) if values.shape == own.shape else values
            state.setdefault(int(place), {})[name] = laid_out
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})


def train(settings: Settings, store: Path, out: Path) -> None:
    """Train to the end, from the last kept state if there is one."""
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(settings, store, out)
    kept = [path for path in (out / "state.safetensors", out / "before-cooling.safetensors") if path.is_file()]
    if kept:
        trainer.resume(kept[0])
        print(f"goes on from step {trainer.step}")
    began, first, sums = time.monotonic(), trainer.step, {}
    while trainer.step < settings.steps:
        loss = trainer.learn()
        for name, value in loss.parts.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value, count + 1)
        if trainer.step == settings.steps - settings.cool_steps:
            trainer.save("before-cooling.safetensors")
        if trainer.step % settings.save_every == 0 or trainer.step == settings.steps:
            trainer.save("state.safetensors")
            write_state(trainer.average, out / "ink-small.safetensors", str(out))
            rate = (trainer.step - first) * settings.batch_size / (time.monotonic() - began)
            means = {name: round(total / count, 4) for name, (total, count) in sums.items()}
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps({"step": trainer.step, "rate": round(rate), **means}) + "\n")
            print(
                f"step {trainer.step} of {settings.steps}, {rate:.0f} pictures/s, "
                + ", ".join(f"{name} {value:.3f}" for name, value in means.items()),
                flush=True,
            )
            sums = {}


def read_settings(path: Path, changes: list[str]) -> Settings:
    """Read a recipe and what the command line changes of it."""
    try:
        settings = Settings.model_validate(load_raw(path, changes))
    except (ValidationError, InkfoldError) as error:
        sys.exit(f"{path}: {error}")
    if not math.isclose(total := sum(settings.shares.values()), 1.0, abs_tol=1e-6):
        sys.exit(f"{path}: shares: got a sum of {total}, expected 1.")
    return settings


def main() -> None:
    """Pretrain by a recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--store", type=Path, required=True, help="what pictures.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="directory of the weights and the state")
    given = parser.parse_intermixed_args()
    settings = read_settings(given.recipe, given.changes)
    print(settings.model_dump_json())
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    with keep_freed_memory():
        train(settings, given.store, given.out)


if __name__ == "__main__":
    main()
