"""Fine-tuning the star transformer to find spectra by their labels (appendix C)."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_star_transformer import stars, tiny

from stellarbook.star_transformer.model import WINDOW
from stellarbook.star_transformer.retrieval import (
    DESCRIPTION,
    SPECTRUM,
    TEMPERATURE,
    Expert,
    Experts,
    contrastive_loss,
    fine_tune,
    recovery,
)
from stellarbook.star_transformer.tokens import NAMES

seeds = st.integers(0, 2**31 - 1)


def points(n, seed=0, width=8):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, width, generator=generator), dim=-1)


@pytest.fixture(scope="module")
def model():
    return tiny(NAMES, d=8, encoder=(16,), encoder_heads=(2,), decoder=(16,), decoder_heads=(2,))


# The loss


def softmax(z, tau):  # Eq. C2
    z = [math.exp(v / tau) for v in z]
    return [v / sum(z) for v in z]


def by_loops(spectra, descriptions, tau):
    """Eqs. C1 to C6, one number after another."""
    y_j, y_k = spectra.tolist(), descriptions.tolist()
    m = range(len(y_j))

    def dot(a, b):
        return sum(p * q for p, q in zip(a, b, strict=True))

    z = [[dot(y_j[i], y_k[h]) for h in m] for i in m]  # C1
    y = [softmax([(dot(y_j[i], y_j[h]) + dot(y_k[i], y_k[h])) / 2 for h in m], tau) for i in m]

    def cross_entropy(logits, truth):  # C3
        logits = [softmax(row, tau) for row in logits]
        return -sum(truth[i][h] * math.log(logits[i][h]) for i in m for h in m) / len(m)

    def transposed(a):
        return [[a[h][i] for h in m] for i in m]

    return (cross_entropy(z, y) + cross_entropy(transposed(z), transposed(y))) / 2  # C5, C6


@pytest.mark.parametrize("tau", [TEMPERATURE, 1.0])
def test_the_loss_is_the_papers(tau):
    spectra, descriptions = points(6), points(6, seed=1)
    expected = by_loops(spectra, descriptions, tau)
    assert contrastive_loss(spectra, descriptions, tau).item() == pytest.approx(expected, rel=1e-5)
    assert TEMPERATURE == 0.05


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_loss_knows_no_order_and_no_sides(seed):
    spectra, descriptions = points(12, seed), points(12, seed + 1)
    loss = contrastive_loss(spectra, descriptions)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(contrastive_loss(spectra[order], descriptions[order]), loss)
    # Turning the common space changes nothing.
    turn = torch.linalg.qr(points(8, seed + 2))[0]
    torch.testing.assert_close(
        contrastive_loss(spectra @ turn, descriptions @ turn), loss, rtol=1e-4, atol=1e-4
    )


def test_pairs_that_agree_lose_least():
    spectra = torch.eye(8)  # unlike one another
    agree = contrastive_loss(spectra, spectra)
    assert agree < 1e-5
    assert contrastive_loss(spectra, spectra.roll(1, 0)) > 1
    assert contrastive_loss(spectra, points(8)) > agree
    # All in one point is no escape: it costs the entropy of not knowing which star.
    one = torch.ones(8, 8) / 8**0.5
    assert contrastive_loss(one, one).item() == pytest.approx(math.log(8), rel=1e-5)


# Recovery


@pytest.mark.parametrize("n", [1, 10])
def test_identical_embeddings_find_themselves(n):
    spectra = points(2500, width=64)
    assert recovery(spectra, spectra, n) == 1


def test_chance_finds_its_share():
    stars, n = 4000, 100
    found = recovery(points(stars), points(stars, seed=1), n)
    assert found == pytest.approx(n / stars, abs=4 * (n / stars / stars) ** 0.5)


def test_recovery_by_hand():
    """Points on a circle: each description stands between its own spectrum and the next."""
    angle = torch.arange(8) * 2 * math.pi / 8
    circle = lambda a: torch.stack([a.cos(), a.sin()], dim=1)  # noqa: E731
    spectra = circle(angle)
    for shift, first in ((0.4, 1), (0.6, 2), (1.4, 3)):
        descriptions = circle(angle + shift * 2 * math.pi / 8)
        assert recovery(spectra, descriptions, first) == 1
        assert first == 1 or recovery(spectra, descriptions, first - 1) == 0


def test_ties_are_no_finds():
    """An embedding that has collapsed to a point recovers nothing."""
    one = points(1).expand(50, -1)
    assert recovery(one, one, 10) <= 0.2
    spectra = torch.eye(4)[[0, 0, 1, 2]]  # two stars alike
    assert recovery(spectra, spectra, 2) == 1


def test_more_are_asked_for_than_there_are():
    with pytest.raises(ValueError, match="the 11 most similar of 10 stars"):
        recovery(points(10), points(10), 11)
    assert recovery(points(10), points(10, seed=1), 10) == 1


# Experts


def test_the_experts_speak_in_unit_vectors():
    torch.manual_seed(0)
    expert = Expert(24, width=16)
    y = expert(100 * torch.randn(50, 24))
    assert y.shape == (50, 16)
    torch.testing.assert_close(y.norm(dim=1), torch.ones(50))


def test_what_the_experts_read_is_the_encoders(model):
    experts = Experts(model, width=16)
    table = stars(5)
    read = experts.read(table, "description").float().unflatten(1, (len(DESCRIPTION), -1))
    token = model.scales.tokens(DESCRIPTION).expand(5, -1)
    value = torch.from_numpy(model.scales.standardise(table)).gather(1, token - 1)
    with torch.no_grad():
        expected = model.encode(token, value)[0]
    torch.testing.assert_close(read, expected, atol=2e-3, rtol=2e-3)  # in 16 bits


def test_missing_columns_are_zeros_and_masked(model):
    experts = Experts(model, width=16)
    table = stars(5)
    i, width = DESCRIPTION.index("feh"), model.size["d"]
    table.loc[2, "feh"] = np.nan
    read = experts.read(table, "description").unflatten(1, (-1, width))
    assert (read[2, i] == 0).all() and (read[[0, 1, 3, 4], i] != 0).any(1).all()
    # Absent from the table or missing in every row: the same, and another star does not notice.
    without = experts.read(table.drop(columns="feh"), "description").unflatten(1, (-1, width))
    assert (without[:, i] == 0).all()
    torch.testing.assert_close(without[2], read[2], atol=2e-3, rtol=2e-3)
    whole = experts.read(stars(5), "description").unflatten(1, (-1, width))
    torch.testing.assert_close(whole[0], read[0], atol=2e-3, rtol=2e-3)
    assert not torch.allclose(whole[2, 0], read[2, 0], atol=1e-2), "nothing was masked"
    nothing = experts.embed(table[["g"]], "description")
    assert nothing.isfinite().all()


def test_points_of_a_table(model):
    experts = Experts(model, width=16)
    spectra, descriptions = (experts.embed(stars(7), kind) for kind in experts.columns)
    assert spectra.shape == descriptions.shape == (7, 16)
    torch.testing.assert_close(spectra.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(experts.embed(stars(7).iloc[3:4], "spectrum")[0], spectra[3])
    assert not spectra.requires_grad


def test_the_base_is_frozen(model):
    experts = Experts(model, width=16)
    ours = {id(p) for p in model.parameters()}
    assert not any(id(p) in ours for p in experts.parameters())
    assert all(name.startswith("experts.") for name in experts.state_dict())


def test_the_columns():
    assert len(SPECTRUM) == WINDOW and "bprp" not in DESCRIPTION
    assert set(SPECTRUM) | set(DESCRIPTION) <= set(NAMES) and not set(SPECTRUM) & set(DESCRIPTION)


def test_more_columns_than_the_window(model):
    with pytest.raises(ValueError, match="65 columns do not fit into a window of 64"):
        Experts(model, spectra=NAMES[:65], width=16)


# Fine-tuning


def test_fine_tuning_finds_stars_again(model):
    model.train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    options = {"steps": 150, "batch_size": 64, "device": "cpu", "progress": False}
    experts, history = fine_tune(model, stars(400, 1), stars(200, 2), **options)
    assert all(torch.equal(weight, before[k]) for k, weight in model.state_dict().items())
    test = stars(200, 3)
    spectra, descriptions = (experts.embed(test, kind) for kind in ("spectrum", "description"))
    assert recovery(spectra, descriptions, 10) > 0.5  # chance is 0.05
    # It has learned to read incomplete descriptions too.
    some = experts.embed(test[["teff", "logg", "feh", "jh"]], "description")
    assert recovery(spectra, some, 10) > 0.35
    torch.manual_seed(0)
    untrained = Experts(model)
    points = (untrained.embed(test, kind) for kind in ("spectrum", "description"))
    assert recovery(*points, 10) < 0.2
    assert history.best < -0.04  # of the nearest two of 200: chance is 0.01
    frame = history.to_frame()
    assert frame["loss"].iloc[-1] < frame["loss"].iloc[0]


def test_fine_tuning_is_its_seeds(model):
    options = {"steps": 3, "batch_size": 32, "device": "cpu", "progress": False}
    one, again, other = (
        fine_tune(model, stars(64, 1), stars(32, 2), seed=s, **options)[0].state_dict()
        for s in (0, 0, 1)
    )
    assert all(torch.equal(weight, again[name]) for name, weight in one.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in one.items())
