"""Files of the spectra encoder: what is saved comes back, what is foreign or damaged is refused."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from test_spectra_encoder import SCALE, blocks, both, records, tiny

from stellarbook.desa.spectra_encoder import FILE, LABELS, SpectraEncoder
from stellarbook.learn.checkpoint import CheckpointError, load_weights, save_weights


@pytest.fixture
def encoder():
    return tiny()


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-9), (True, 1e-2)])
@both
@blocks
def test_save_and_load(tmp_path, half, tolerance, input, block):
    encoder = tiny(input=input, block=block, dropout=0.3)
    encoder.save(tmp_path / "deep", {"steps": 10}, half=half)
    loaded = SpectraEncoder.load(tmp_path / "deep")
    assert loaded.settings == encoder.settings and loaded.scale == encoder.scale
    assert loaded.metadata == {"steps": 10} and not loaded.training
    np.testing.assert_array_equal(loaded.margins, encoder.margins)
    one, other = encoder.predict(records()), loaded.predict(records())
    assert (one["flag"] == other["flag"]).all()
    for label in LABELS:
        names = [f"{label}_{end}" for end in ("lo80", "lo50", "hi50", "hi80")]
        unit = np.nanmax(one[names].abs())
        np.testing.assert_allclose(other[names] / unit, one[names] / unit, atol=tolerance)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == [FILE]
    loaded.save(tmp_path / "again", half=half)  # what came with the weights stays
    assert SpectraEncoder.load(tmp_path / "again").metadata == {"steps": 10}


def test_infinite_margins_survive(encoder, tmp_path):
    encoder.margins = np.full((3, 2), np.inf)
    encoder.save(tmp_path)
    assert (SpectraEncoder.load(tmp_path).margins == np.inf).all()


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        SpectraEncoder.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, about: about["settings"].update(input="raw"),
        lambda tensors, about: about["settings"].update(block="conformer"),
        lambda tensors, about: about["settings"].update(stem=3),
        lambda tensors, about: about["settings"].update(blocks=2),
        lambda tensors, about: about["settings"].update(width=3),
        lambda tensors, about: about["settings"].update(channels=[8, 4]),
        lambda tensors, about: about.pop("settings"),
        lambda tensors, about: about.pop("scale"),
        lambda tensors, about: about["scale"].update(centre=[0.0]),
        lambda tensors, about: about["scale"].update(units="K"),
        lambda tensors, about: about.pop("margins"),
        lambda tensors, about: about.update(margins=[1.0, 2.0]),
        lambda tensors, about: about.update(margins=[["a", "b"]] * 3),
        lambda tensors, about: tensors.pop("head.0.weight"),
        lambda tensors, about: tensors.update(another=torch.zeros(2)),
        lambda tensors, about: about.clear(),
    ],
    ids="input block stem blocks unknown channels none scale few units margins two text tensor "
    "another empty".split(),
)
def test_a_file_of_another_model_is_refused(encoder, change, tmp_path):
    encoder.save(tmp_path)
    tensors, about = load_weights(tmp_path / FILE)
    change(tensors, about)
    save_weights(tmp_path / FILE, tensors, about)
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors does not hold a Spectra"):
        SpectraEncoder.load(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_named(encoder, damage, tmp_path):
    encoder.save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    bad = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello" * 99}
    (tmp_path / FILE).write_bytes(bad[damage])
    with pytest.raises(CheckpointError, match=r"spectra_encoder\.safetensors is damaged"):
        SpectraEncoder.load(tmp_path)


def test_the_file_says_what_it_is(encoder, tmp_path):
    encoder.save(tmp_path)
    tensors, about = load_weights(tmp_path / FILE)
    assert about["scale"] == asdict(SCALE) and about["settings"]["channels"] == [8, 8]
    assert set(tensors) == set(encoder.state_dict())


def test_where_others_look_for_it():
    import stellarbook.desa

    assert stellarbook.desa.SpectraEncoder is SpectraEncoder
