from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from inkfold.augment.views import IDENTITY, parse_view
from inkfold.features import bank as bank_module
from inkfold.features.bank import FeatureBank
from inkfold.images.preprocess import ImageOptions
from inkfold.models.weights import BackboneSpec, resolve_backbone
from inkfold.storage.pixels import ImageStore
from toy_bank import OPTIONS, expected, named

KEY = {"name": "toy", "image_size": 8, "precision": "float32"}


def new_bank(home: Path, key=KEY, options: ImageOptions = OPTIONS, view=IDENTITY) -> FeatureBank:
    return FeatureBank(home / "features", key, ImageStore(home / "pixels", options), view)


def filled_bank(home: Path, ids) -> FeatureBank:
    bank = new_bank(home)
    bank.shards.create()
    bank.shards.append(named(ids), expected(ids))
    assert not bank.shards.missing(named(ids)).any()
    return bank


def test_more_features_than_fit_well_into_memory_stay_on_disk_and_leave_no_file(tmp_path, monkeypatch):
    digests, bank, ids = named(range(40)), filled_bank(tmp_path, range(40)), np.random.default_rng(0).permutation(40)
    before = sorted(bank.shards.directory.iterdir())
    monkeypatch.setattr(bank_module, "MAPPED_FROM_BYTES", 40 * 3 * 2)
    in_memory = bank.read(named(ids))
    monkeypatch.setattr(bank_module, "MAPPED_FROM_BYTES", 40 * 3 * 2 - 1)
    on_disk, others = bank.read(named(ids)), bank.read(digests)
    assert [isinstance(rows, np.memmap) for rows in (in_memory, on_disk, others)] == [False, True, True]
    assert sorted(bank.shards.directory.iterdir()) == before
    for rows, expected_rows in ((in_memory, expected(ids)), (on_disk, expected(ids)), (others, expected(range(40)))):
        assert rows.dtype == np.float16
        np.testing.assert_array_equal(rows, expected_rows)
    on_disk[:] = 0
    np.testing.assert_array_equal(bank.read(named(ids)), expected(ids))


def test_features_on_disk_outlive_their_bank(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_module, "MAPPED_FROM_BYTES", 0)
    digests, bank = named(range(5)), filled_bank(tmp_path, range(5))
    rows = bank.read(digests)
    for path in bank.shards.directory.iterdir():
        path.unlink()
    np.testing.assert_array_equal(rows, expected(range(5)))


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_room_of_every_shape_can_be_filled(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(bank_module, "MAPPED_FROM_BYTES", limit)
    bank = new_bank(tmp_path)
    bank.shards.create()
    for shape, dtype in (((3, 4), np.float16), ((7,), np.uint8), ((0, 4), np.float16)):
        room = bank.empty(shape, np.dtype(dtype))
        assert (room.shape, room.dtype) == (shape, dtype)
        room[:] = 1
        assert (room == 1).all()


def test_the_rate_is_that_of_the_last_extraction_of_many_drawings(tmp_path):
    bank = filled_bank(tmp_path, range(2))
    assert bank.rate() is None
    bank.note_rate(63, 1.0, "cpu")
    bank.note_rate(640, 0.0, "cpu")
    assert bank.rate() is None, "fewer than 64 say little, and no time says nothing"
    bank.note_rate(100, 2.0, "cpu")
    bank.note_rate(7, 7.0, "cpu")
    assert new_bank(tmp_path).rate() == 50
    for text in ("", "[]", "{}", '{"images_per_s": null}'):
        (bank.shards.directory / "rate.json").write_text(text, encoding="utf-8")
        assert bank.rate() is None


def spec_with_weights(directory: Path, first: int = 0, **options: object) -> BackboneSpec:
    directory.mkdir(parents=True, exist_ok=True)
    save_file({"weights": np.arange(first, first + 3)}, directory / "a.safetensors")
    return BackboneSpec(name="test_resnet", weights=str(directory / "a.safetensors"), **options)


@pytest.mark.parametrize(
    ("backbone", "image"),
    [
        ({"first": 1}, {}),
        ({"mean": (0.1, 0.2, 0.3)}, {}),
        ({"std": (0.1, 0.2, 0.3)}, {}),
        ({"precision": "bfloat16"}, {}),
        ({"model_args": {"drop_rate": 0.1}}, {}),
        ({"image_size": 64}, {}),
        ({}, {"size_px": 64}),
        ({}, {"resize": "squash"}),
        ({}, {"colour": "rgb"}),
        ({}, {"invert": "never"}),
        ({}, {"interpolation": "lanczos"}),
    ],
)
def test_whatever_changes_a_vector_changes_the_key(tmp_path, backbone, image):
    def directory(backbone, image):
        info = resolve_backbone(spec_with_weights(tmp_path / "w", **backbone), tmp_path / "descriptions")
        return new_bank(tmp_path, info.key(), ImageOptions(**{"size_px": 8} | image)).shards.directory

    assert directory(backbone, image) != directory({}, {})
    assert directory({}, {}) == directory({}, {})


def test_every_view_has_a_key_of_its_own(tmp_path):
    texts = ["identity", "hflip", "vflip", "hflip + vflip", "vflip + hflip", "hflip@0.5", "rotate(5)", "rotate(5)@0.5"]
    views = [parse_view(text) for text in texts] + [parse_view("rotate(5)", seed, index) for seed, index in ((0, 1), (1, 0))]
    assert len({new_bank(tmp_path, view=view).shards.directory for view in views}) == len(views)
    assert new_bank(tmp_path, view=views[-1]).shards.directory == new_bank(tmp_path, view=views[-1]).shards.directory
    assert (
        new_bank(tmp_path, view=parse_view("hflip", 3, 7)).shards.directory
        == new_bank(tmp_path, view=views[1]).shards.directory
    )
    assert new_bank(tmp_path).shards.directory == new_bank(tmp_path, view=views[0]).shards.directory


def test_another_resampling_is_another_key_where_pixels_are_resampled(tmp_path, monkeypatch):
    def directories():
        cases = [
            (OPTIONS, "identity"),
            (ImageOptions(size_px=16), "identity"),
            (OPTIONS, "rotate(5)"),
            (ImageOptions(size_px=16), "rotate(5)"),
        ]
        return [new_bank(tmp_path, options=options, view=parse_view(text)).shards.directory for options, text in cases]

    before = directories()
    monkeypatch.setattr("inkfold.augment.views.AUGMENT_VERSION", -1)
    changed = [one != other for one, other in zip(before, directories(), strict=True)]
    assert changed == [False, True, True, True]


def test_a_moved_weights_file_keeps_the_features(tmp_path):
    infos = [resolve_backbone(spec_with_weights(tmp_path / name)) for name in "ab"]
    first, second = (new_bank(tmp_path, info.key()).shards.directory for info in infos)
    assert first == second


def test_a_model_s_name_with_a_slash_is_one_directory(tmp_path):
    bank = new_bank(tmp_path, {**KEY, "name": "hf-hub:ink/model" + "x" * 300})
    bank.shards.create()
    assert bank.shards.directory.parent == tmp_path / "features"


def test_a_rate_that_was_damaged_is_unknown_and_said_so(tmp_path, caplog):
    bank = filled_bank(tmp_path, range(2))
    bank.note_rate(100, 2.0, "cpu")
    path = bank.shards.directory / "rate.json"
    path.write_text(path.read_text().replace("50", "90"))
    assert bank.rate() is None
    assert f"{path}: its content isn't what was written, so the rate is measured again" in caplog.text
