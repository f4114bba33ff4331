"""What the values of a manifest are, as far as those who read it rely on them; a stranger may have written others."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inkfold.errors import PredictionError
from inkfold.runtime.foreign import first_problem

Text = Annotated[str, Field(max_length=10_000)]
Number = Annotated[int, Field(ge=-(2**62), le=2**62)]


class _Values(BaseModel):
    """Values whose types are taken as they are; others beside them are left alone."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Member(_Values):
    name: Text
    run: Text | None = None


class _Manifest(_Values):
    class_names: Annotated[list[Text], Field(min_length=1)]
    class_targets: list[Number] | None = None
    files: dict[str, Text]
    members: list[Text] | list[_Member] = []
    data_fingerprint: Text = ""
    warnings: list[Text] = []
    versions: dict[str, Any] = {}
    made_by: dict[str, Any] = {}
    backbone: dict[str, Any] = {}
    beside: list[dict[str, Any]] = []
    image: dict[str, Any] = {}
    tuned: list[Text] = []
    transductive: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> "_Manifest":
        names, targets = self.class_names, self.class_targets
        if len({*names}) != len(names) or (targets is not None and len(targets) != len(names)):
            raise ValueError("class_names and class_targets: expected as many of each, and no name twice")
        return self


def check_manifest(manifest: Mapping[str, Any], where: str) -> None:
    """Check the types of a manifest's values.

    Args:
        manifest: Content of a `manifest.json`.
        where: The file, for the message.

    Raises:
        PredictionError: If a value has another type than inkfold writes, or names and numbers of classes differ.
    """
    try:
        _Manifest.model_validate(dict(manifest))
    except ValidationError as error:
        whose, again = ("an ensemble's", "Vote") if manifest.get("kind") == "ensemble" else ("a", "Train")
        advice = f"{again} again into another directory."
        raise PredictionError(f"{where}: not {whose} manifest: {first_problem(error)}. {advice}") from None
