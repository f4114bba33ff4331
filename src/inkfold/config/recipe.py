"""Whole recipes, of one model and of an ensemble: what a run does, as data. `recipe` reads and writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from inkfold.augment.operations import parse_operations
from inkfold.config.sections import (
    BackboneRecipe,
    ClassMeanHeadRecipe,
    CosineHeadRecipe,
    DataRecipe,
    FinetuneRecipe,
    FitRecipe,
    FoldsRecipe,
    ImageRecipe,
    KnnHeadRecipe,
    LinearHeadRecipe,
    MemberRecipe,
    MlpHeadRecipe,
    Section,
    StageRecipe,
    TuneRecipe,
    VoteRecipe,
)

SHORTHANDS = {"data": "root"}  # `data=DIR` means `data.root=DIR`


class Recipe(Section):
    """A whole run."""

    data: DataRecipe = DataRecipe()
    """What is to be learnt."""
    image: ImageRecipe = ImageRecipe()
    """How drawings become pixels."""
    backbone: BackboneRecipe = BackboneRecipe()
    """How pixels become features."""
    head: Annotated[
        LinearHeadRecipe | MlpHeadRecipe | CosineHeadRecipe | ClassMeanHeadRecipe | KnnHeadRecipe, Field(discriminator="kind")
    ] = LinearHeadRecipe()
    """What is fitted on the features."""
    folds: FoldsRecipe = FoldsRecipe()
    """Which drawings are held out."""
    fit: FitRecipe = FitRecipe()
    """How the head is fitted."""
    finetune: FinetuneRecipe = FinetuneRecipe()
    """How the backbone is trained, where backbone.train says so."""
    curriculum: tuple[StageRecipe, ...] = ()
    """Stages of augmentation; `winner`, or {name: winner, views: 4}, stands for those of 2024. None: drawings as they are."""
    tta: tuple[str, ...] = ()
    """Views whose predictions are averaged, such as [identity, hflip, "hflip + rotate(5,5)"]. None: drawings as they are."""
    tune: TuneRecipe = TuneRecipe()
    """What `inkfold tune` tries; a run takes no notice."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Every random choice comes from it."""

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthands(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            return {
                key: _named_curriculum(raw) if key == "curriculum" else expand_shorthand(key, value)
                for key, value in raw.items()
            }
        return raw

    @field_validator("curriculum", mode="before")
    @classmethod
    def _name_is_known(cls, value: Any) -> Any:
        if isinstance(value, str | Mapping):  # what `_named_curriculum` left
            raise ValueError(f"expected stages, or a name ({', '.join(NAMED_CURRICULA)}), alone or with views and lr_factor")
        return value

    @field_validator("curriculum")
    @classmethod
    def _stages_fill_the_epochs(cls, stages: tuple[StageRecipe, ...], info: ValidationInfo) -> tuple[StageRecipe, ...]:
        if not {"backbone", "fit", "finetune"} <= {*info.data}:
            return stages
        section = info.data["backbone"].trained_by
        epochs: int = info.data[section].epochs
        ends = [stage.until_epoch or epochs for stage in stages]
        if ends and (ends != sorted(set(ends)) or ends[-1] != epochs):
            raise ValueError(
                f"its stages end at epochs {ends}, expected rising ends and the last one at {section}.epochs, {epochs}. "
                f"Change until_epoch or {section}.epochs; a named curriculum is stretched to fit"
            )
        return stages

    @model_validator(mode="after")
    def _head_can_be_trained(self) -> "Recipe":
        if self.backbone.train == "frozen":
            return self
        if self.head.kind in ("class_mean", "knn"):
            raise ValueError(f"head.kind: {self.head.kind} can't be trained with its backbone. Take linear, mlp or cosine")
        if self.fit.starts > 1:
            raise ValueError(
                "fit.starts: a fold's fine-tuned network has one head. Set it to 1, or vote over runs of other seeds"
            )
        return self

    @property
    def epochs(self) -> int:
        """That the curriculum is for."""
        section: FitRecipe | FinetuneRecipe = getattr(self, self.backbone.trained_by)
        return section.epochs

    @field_validator("tta")
    @classmethod
    def _views_are_readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        texts, problems = [], []
        for text in value:
            try:
                texts.append(" + ".join(str(operation) for operation in parse_operations(text)) or "identity")
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return tuple(texts)


class EnsembleRecipe(Section):
    """Several models that are trained on the same folds and vote."""

    data: DataRecipe = DataRecipe()
    """What is to be learnt."""
    folds: FoldsRecipe = FoldsRecipe()
    """Which drawings are held out, from all members alike."""
    members: tuple[MemberRecipe, ...] = Field(min_length=2)
    """The models."""
    vote: VoteRecipe = VoteRecipe()
    """How they become one."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Every random choice comes from it."""

    @model_validator(mode="before")
    @classmethod
    def _expand_shorthands(cls, raw: Any) -> Any:
        return {key: expand_shorthand(key, value) for key, value in raw.items()} if isinstance(raw, Mapping) else raw

    @model_validator(mode="after")
    def _names_differ(self) -> "EnsembleRecipe":
        names = self.names
        if len({*names}) < len(names):
            raise ValueError(f"members: got the names {', '.join(names)}, expected different ones. Name them: name: other")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of the members."""
        return tuple(member.name or Path(member.recipe).stem for member in self.members)


class VotedRecipe(Section):
    """What an ensemble of given runs and files was made of."""

    members: tuple[str, ...]
    """Their absolute paths."""
    vote: VoteRecipe
    """How they became one."""
    data: str | None = None
    """The data that name their classes; None where the runs do."""
    settings: tuple[str, ...] = ()
    """How these are read."""
    seed: int = Field(42, ge=0, le=2**32 - 1)
    """Of what is random in fitting a vote."""


NAMED_CURRICULA: dict[str, tuple[tuple[float, tuple[str, ...]], ...]] = {
    # The end of each stage as a share of all epochs, and what is done in it. The winner of 2024: epochs 5, 10 and 20 of 20.
    "winner": (
        (0.25, ()),
        (0.5, ("hflip@0.5", "vflip@0.5", "rotate(10)@0.5")),
        (1.0, ("hflip@0.5", "vflip@0.5", "rotate(15)@0.5", "elastic(30,4)@0.5", "grid(4,0.2)@0.5")),
    ),
}


def expand_shorthand(key: str, value: Any) -> Any:
    """Write `data: DIR` out as `data: {root: DIR}`."""
    return {SHORTHANDS[key]: str(value)} if key in SHORTHANDS and isinstance(value, str | int | float) else value


def _named_curriculum(raw: Mapping[str, Any]) -> Any:
    """Put a name's stages in its place, stretched to the epochs; anything else is left for the validation."""
    given = raw["curriculum"]
    wanted = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = wanted.pop("name", None)
    if not isinstance(name, str) or name not in NAMED_CURRICULA or not {*wanted} <= {"views", "lr_factor"}:
        return () if given is None else given
    backbone = raw.get("backbone")
    trained = isinstance(backbone, Mapping) and backbone.get("train", "frozen") != "frozen"
    try:
        section = FinetuneRecipe if trained else FitRecipe
        epochs = section.model_validate(raw.get("finetune" if trained else "fit") or {}).epochs
    except ValidationError:
        return ()  # the fit's own problems are told
    stages = [(round(share * epochs), augment) for share, augment in NAMED_CURRICULA[name]]
    starts = [0, *(end for end, _ in stages)]
    return [
        {"until_epoch": end, **(wanted if augment else {}), "augment": augment}
        for start, (end, augment) in zip(starts, stages, strict=False)
        if end > start
    ]
