"""The star transformer: its tokens, its network, its questions, its training, its relations."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from astropy.stats import mad_std
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from stellarbook.data import xp_basis
from stellarbook.learn.checkpoint import CheckpointError
from stellarbook.learn.fit import fit
from stellarbook.learn.metrics import scatter
from stellarbook.learn.optim import adamw, muon
from stellarbook.star_transformer import relations, training
from stellarbook.star_transformer.layers import Attention, Block, Embedding
from stellarbook.star_transformer.model import PAPER, SMALL, WINDOW, StarTransformer
from stellarbook.star_transformer.plain import PlainBlock, PlainStarTransformer
from stellarbook.star_transformer.sampling import (
    BP,
    FAMILIES,
    RP,
    SETTINGS,
    Batch,
    Sampler,
    context,
)
from stellarbook.star_transformer.tokens import COLOURS, LABELS, NAMES, WITHHELD, Scales
from stellarbook.star_transformer.training import batch_loss, robust_loss, train, validation

FEW = (*BP[:6], *RP[:6], *COLOURS, "teff", "logg", "feh", "g")
TINY = {"d": 16, "encoder": (32,), "encoder_heads": (4,), "decoder": (32,), "decoder_heads": (2,)}
TINY |= {"head": (32,), "dropout": 0.0}
PAPERS = {"full": 0, "requests": 1, "ask_labels": False, "label_weight": 1, "hide": None}
PAPERS |= {"families": {"any": 1.0}}
quick = {"device": "cpu", "progress": False, "bf16": False}
seeds = st.integers(0, 2**31 - 1)


def stars(n, seed=0, names=NAMES, noise=0.02):
    """Stars whose every token is a mixture of two hidden numbers, with a little noise."""
    mixture = np.random.default_rng(99).normal(size=(2, len(NAMES)))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2)) @ mixture + noise * rng.normal(size=(n, len(NAMES)))
    table = pd.DataFrame(values, columns=list(NAMES))
    table["teff"] = 10 ** (3.7 + 0.04 * table["teff"])
    errors = {"teff_error": 15.0, "logg_error": 0.02, "feh_error": 0.02}
    wanted = [*names, *(e for e in errors if e.removesuffix("_error") in names)]
    return table.assign(**errors)[wanted]


def shaken(model, seed=0):
    """Weights off their first values: gains are one and biases zero, which would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def tiny(names=FEW, **size):
    torch.manual_seed(0)
    return shaken(StarTransformer(Scales.of(stars(200, names=names), names), **{**TINY, **size}))


def contexts(seed, model, stars=6, longest=12):
    """Random tokens and values, (stars, longest), padded at the end to random lengths."""
    generator = torch.Generator().manual_seed(seed)
    n = len(model.scales)
    token = torch.rand(stars, n, generator=generator).argsort(1)[:, :longest] + 1
    length = torch.randint(0, longest + 1, (stars, 1), generator=generator)
    token = torch.where(torch.arange(longest) < length, token, 0)
    value = torch.randn(stars, longest, generator=generator)
    request = torch.randint(1, n + 1, (stars, 5), generator=generator)
    return token, value, request


def same(ours, theirs, atol=1e-5):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


@pytest.fixture(scope="module")
def model():
    return tiny(encoder=(32, 24), encoder_heads=(4, 2), decoder=(32, 24), decoder_heads=(2, 8))


# Scales


def test_the_vocabulary():
    assert len(NAMES) == len(set(NAMES)) == 119
    assert set(WITHHELD) < set(COLOURS) and set(LABELS) < set(NAMES)


def test_scales_are_astropys():
    table = stars(301)
    rng = np.random.default_rng(1)
    table = table.where(rng.random(table.shape) > 0.1)
    scales = Scales.of(table)
    values = table[list(NAMES)].assign(teff=np.log10(table["teff"])).to_numpy()
    np.testing.assert_allclose(scales.centre, np.nanmedian(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(scales.scale, mad_std(values, axis=0, ignore_nan=True), rtol=1e-9)
    np.testing.assert_array_equal(scales.low, np.nanmin(values, axis=0))
    np.testing.assert_array_equal(scales.high, np.nanmax(values, axis=0))


def test_standardised_by_hand():
    table = pd.DataFrame({"teff": [1e3, 1e4, 1e5], "logg": [1.0, 2, 4], "other": "a star"})
    scales = Scales.of(table, ("logg", "teff"))
    assert scales.centre == (2, 4)
    mad = 1.4826022
    expected = np.arcsinh(np.array([[-1, -1], [0, 0], [2, 1]]) / mad)
    np.testing.assert_allclose(scales.standardise(table), expected, atol=1e-6)
    alone = scales.standardise(table[["teff"]])
    assert np.isnan(alone[:, 0]).all() and alone.dtype == np.float32
    np.testing.assert_allclose(alone[:, 1], expected[:, 1], atol=1e-6)
    assert scales.tokens(["teff", "logg"]).tolist() == [2, 1]


@given(seeds, st.permutations(["teff", "logg", "g"]))
def test_values_come_back_missing_ones_stay_missing(seed, order):
    names = ("teff", "logg", "g")
    table = stars(30, seed, names)
    scales = Scales.of(table, names)
    table = table.mask(np.random.default_rng(seed).random(table.shape) < 0.2)
    z = scales.standardise(table)
    np.testing.assert_array_equal(np.isnan(z), table[list(names)].isna())
    back, _ = scales.restore(z[:, scales.tokens(order) - 1], np.zeros((30, 3)), order)
    np.testing.assert_allclose(back, table[order], rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_errors_are_slopes(seed):
    """σ_z = σ dz/dv and back, by finite differences, for teff through its logarithm."""
    names = ("teff", "logg")
    table = stars(20, seed, names)
    scales = Scales.of(table, names)
    h = {name: table[f"{name}_error"] for name in names}
    up, down = (table.assign(**{n: table[n] + s * h[n] for n in names}) for s in (0.5, -0.5))
    slope = scales.standardise(up).astype(float) - scales.standardise(down)
    np.testing.assert_allclose(scales.errors(table), slope, rtol=2e-2, atol=1e-6)

    z, sigma = np.random.default_rng(seed).normal(size=(2, 20, 2))
    sigma = 1e-3 * np.abs(sigma)
    _, error = scales.restore(z, sigma, names)
    steps = [scales.restore(z + s * sigma, sigma, names)[0] for s in (0.5, -0.5)]
    np.testing.assert_allclose(error, steps[0] - steps[1], rtol=1e-4)


def test_unknown_errors_are_zero():
    table = stars(5, names=FEW)
    scales = Scales.of(table, FEW)
    table.loc[1, "logg_error"] = np.nan
    table.loc[2, "logg"] = np.nan
    sigma = dict(zip(FEW, scales.errors(table).T, strict=True))
    assert (sigma["logg"] > 0).tolist() == [True, False, False, True, True]
    assert (sigma["g"] == 0).all() and (sigma["teff"] > 0).all()
    without = scales.errors(table.drop(columns="feh_error"))
    assert (without[:, FEW.index("feh")] == 0).all() and np.isfinite(without).all()


def test_a_negative_error_is_refused():
    table = stars(20)
    scales = Scales.of(table)
    table["teff_error"] = -9999.0
    with pytest.raises(ValueError, match="'teff_error' holds a negative value"):
        scales.errors(table)


def test_a_table_is_read_as_tokens_and_values():
    table = stars(5)[["feh", "teff"]]
    scales = Scales.of(stars(20))
    table.iloc[2, 0] = np.nan
    token, value = scales.read(table, ["teff", "feh", "jh"])  # the table has no jh
    known = [NAMES.index("teff") + 1, NAMES.index("feh") + 1, 0]
    assert token.tolist() == [known, known, [known[0], 0, 0], known, known]
    z = scales.standardise(table)[:, [NAMES.index("teff"), NAMES.index("feh")]]
    np.testing.assert_array_equal(value[:, :2], np.nan_to_num(z))
    assert (value[:, 2] == 0).all()


def test_outside_the_training_range():
    table = stars(50, names=FEW)
    scales = Scales.of(table, FEW)
    assert not scales.outside(table).any()
    far = table.iloc[:3][["g", "teff"]].copy()
    far.iloc[0, 0], far.iloc[1, 1], far.iloc[2, 0] = 1e3, 40_000, np.nan
    outside = scales.outside(far)
    assert outside.sum() == 2
    assert outside[0, FEW.index("g")] and outside[1, FEW.index("teff")]


def test_a_little_beyond_the_range_is_not_outside():
    """A tenth of the range is allowed: rounding must not refuse the most extreme training star."""
    table = stars(50, names=FEW)
    scales = Scales.of(table, FEW)
    for name in ("g", "teff"):
        i = FEW.index(name)
        ends, width = np.array([scales.low[i], scales.high[i]]), scales.high[i] - scales.low[i]
        for beyond, expected in ((0.0, False), (0.09, False), (0.11, True)):
            value = ends + beyond * width * np.array([-1, 1])
            value = 10**value if name == "teff" else value
            outside = scales.outside(pd.DataFrame({name: value}))
            assert (outside[:, i] == expected).all() and outside.sum() == 2 * expected
    assert not scales.outside(table.astype(np.float32)).any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logg", np.inf, "'logg' holds an infinite"),
        ("logg", -np.inf, "'logg' holds an infinite"),
        ("teff", 0.0, "'teff' holds a value that is not positive"),
        ("teff", -5000.0, "'teff' holds a value that is not positive"),
        ("logg", "2.x", "logg"),
    ],
)
def test_bad_values_are_named(name, value, message):
    table = stars(9, names=FEW)
    scales = Scales.of(table, FEW)
    table[name] = table[name].astype(object)
    table.loc[4, name] = value
    for function in (scales.standardise, scales.errors, partial(Scales.of, names=FEW)):
        with pytest.raises(ValueError, match=message):
            function(table)


def test_scales_need_every_column():
    table = stars(9, names=FEW)
    with pytest.raises(ValueError, match="no column logg, feh"):
        Scales.of(table.drop(columns=["logg", "feh"]), FEW)
    with pytest.raises(ValueError, match="'logg' has no finite value"):
        Scales.of(table.assign(logg=np.nan), FEW)
    with pytest.raises(ValueError, match="'logg' does not vary"):
        Scales.of(table.assign(logg=2.0), FEW)
    with pytest.raises(ValueError, match=r"unknown: parallax, ra; the vocabulary is .*bp0.*teff"):
        Scales.of(table, FEW).tokens(["teff", "parallax", "ra"])


# The network


def test_the_papers_number_of_weights():
    zero, one = (0.0,) * 118, (1.0,) * 118
    with torch.device("meta"):
        model = StarTransformer(Scales(NAMES[:118], zero, one, zero, one), **PAPER)
        small = StarTransformer(Scales(NAMES[:118], zero, one, zero, one), **SMALL)
    assert sum(p.numel() for p in model.parameters()) == 8_845_529
    assert 0.8e6 < sum(p.numel() for p in small.parameters()) < 1.3e6


def test_equation_1():
    embedding = Embedding(3, 8)
    token, value = torch.tensor([[2, 0, 3]]), torch.tensor([[0.5, 9.0, -2.0]])
    x = embedding(token, value)
    for i, (t, v) in enumerate(zip(token[0], value[0], strict=True)):
        torch.testing.assert_close(x[0, i], F.gelu(embedding.weight[t] * v) + embedding.bias[t])
    torch.testing.assert_close(embedding.request(token)[0, 2], embedding.weight[3])


def test_the_plain_network_gives_the_same_answers(model):
    plain = PlainStarTransformer(model).eval()
    token, value, request = contexts(0, model, stars=20)
    token[3], token[4] = 0, torch.arange(1, 13)  # nothing known; nothing padded
    mean, log_variance = model(token, value, request)
    assert mean.isfinite().all() and log_variance.isfinite().all()
    for r in range(request.shape[1]):
        asked = request[:, r : r + 1]
        same(plain(token, value, asked), (mean[:, r : r + 1], log_variance[:, r : r + 1]))
    full = slice(4, 5)  # without a mask
    same(
        plain(token[full], value[full], request[full, :1]),
        model(token[full], value[full], request[full, :1]),
    )


def test_the_plain_network_learns_the_same(model):
    token, value, request = contexts(1, model)
    plain = PlainStarTransformer(model).eval()
    gradients = []
    for network in (model, plain):
        model.zero_grad()
        network(token, value, request[:, :1])[0].square().sum().backward()
        gradients.append(model.embedding.weight.grad.clone())
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    model.zero_grad()


@pytest.mark.parametrize("heads", [1, 4, 16])
def test_attention_weights_are_torchs(heads):
    torch.manual_seed(0)
    block = shaken(Block(16, heads, 8, 0.0))
    query, key = torch.randn(3, 2, 16), torch.randn(3, 5, 16)
    known = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    c, weights = PlainBlock(block).attention(query, key, key, key_padding_mask=~known)
    ours = block.attention.weights(query, key, known)
    assert ours.shape == (3, heads, 2, 6)
    torch.testing.assert_close(ours.mean(1), weights)
    torch.testing.assert_close(block.attention(query, key, key, known), c, atol=1e-6, rtol=1e-5)
    assert (ours[2, :, :, -1] == 1).all()


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide a width of 16"):
        Attention(16, 3)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(0, 8))
def test_neither_order_nor_padding_matters(model, seed, more):
    token, value, request = contexts(seed, model)
    expected = model(token, value, request)
    generator = torch.Generator().manual_seed(seed)
    # Padding holds any value, and may stand anywhere.
    token = F.pad(token, (0, more))
    value = torch.where(token > 0, F.pad(value, (0, more)), 1e3 * torch.randn(token.shape))
    order = torch.rand(token.shape, generator=generator).argsort(1)
    same(model(token.gather(1, order), value.gather(1, order), request), expected)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_requests_do_not_see_one_another(model, seed):
    token, value, request = contexts(seed, model)
    mean, log_variance = model(token, value, request)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    same(model(token, value, request[:, order]), (mean[:, order], log_variance[:, order]))
    for r in range(5):
        one = slice(r, r + 1)
        same(model(token, value, request[:, one]), (mean[:, one], log_variance[:, one]))


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_stars_do_not_see_one_another(model, seed):
    token, value, request = contexts(seed, model)
    mean, log_variance = model(token, value, request)
    for i in range(len(token)):
        one = slice(i, i + 1)
        same(model(token[one], value[one], request[one]), (mean[one], log_variance[one]))


def test_without_values_in_the_keys_attention_is_blind_to_them():
    """The ablation of section 7.1: kinds decide where to look, values are what is seen there."""
    blind, seeing = tiny(value_in_keys=False), tiny()
    table = stars(4, names=FEW)[["bp0", "teff", "g"]]
    other = stars(4, seed=1, names=FEW)[["bp0", "teff", "g"]]
    for model, alike in ((blind, True), (seeing, False)):
        looks = [model.attention(t, ["logg"])[0] for t in (table, other)]
        assert np.allclose(*looks, atol=1e-6) == alike
        answers = [model.predict(t, ["logg"], extrapolate=True)["logg"] for t in (table, other)]
        assert (np.abs(answers[0] - answers[1]) > 1e-4).all()


def test_what_a_request_looks_at(model):
    table = stars(4, names=FEW)[["g", "bp0", "teff"]]
    table.loc[1, "bp0"] = np.nan
    table.loc[2] = np.nan
    looks = model.attention(table, ["logg", "feh"])
    assert looks.shape == (2, 4, 2, 4)  # decoder blocks, stars, requests, columns + 1
    np.testing.assert_allclose(looks.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(looks[:, 1, :, 1], 0)
    np.testing.assert_allclose(looks[:, 2, :, 3], 1, atol=1e-6)
    turned = model.attention(table[["teff", "g", "bp0"]], ["feh", "logg"])
    np.testing.assert_allclose(turned[:, :, ::-1][..., [1, 2, 0, 3]], looks, atol=1e-6)


# The loss


def test_the_loss_by_hand():
    mean, log_variance, target, sigma = torch.tensor([1.0, np.log(3.0), 3.0, 1.0])
    # variance 3 + 1, residual 2: 4 / (2 · 4) + ln 4 / 2
    expected = 0.5 + np.log(4) / 2
    assert robust_loss(mean, log_variance, target, sigma).item() == pytest.approx(expected)


@given(seeds)
def test_the_loss_is_torchs(seed):
    mean, log_variance, target, sigma = torch.randn(
        4, 10, generator=torch.Generator().manual_seed(seed)
    )
    variance = log_variance.exp() + sigma**2
    expected = F.gaussian_nll_loss(mean, target, variance, eps=1e-12, reduction="none")
    torch.testing.assert_close(robust_loss(mean, log_variance, target, sigma), expected)


def test_the_loss_is_least_at_the_true_variance():
    residual, log_variance = torch.randn(20_000), torch.zeros(1, requires_grad=True)
    loss = robust_loss(2 * residual, log_variance, torch.tensor(0.0), torch.tensor(1.0))
    (gradient,) = torch.autograd.grad(loss.mean(), log_variance)
    assert gradient < 0, "variance 1 + 1 of 4 explained: it should grow"
    loss = robust_loss(2 * residual, log_variance + np.log(3), torch.zeros(1), torch.ones(1))
    (gradient,) = torch.autograd.grad(loss.mean(), log_variance)
    assert abs(gradient) < 0.01


def test_padding_requests_count_nothing(model):
    token, value, request = contexts(2, model)
    target, sigma, weight = torch.randn(3, *request.shape)
    asked = (request, target, sigma.abs(), weight.abs())
    whole = batch_loss(model, Batch(token, value, *asked))
    padded = [F.pad(x, (0, 3)) for x in asked]
    padded[1][:, -3:] = 1e6
    again = batch_loss(model, Batch(token, value, *padded))
    torch.testing.assert_close(again, whole)
    again.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad()


def test_requests_weigh_what_they_should(model):
    token, value, request = contexts(2, model)
    target, sigma, weight = torch.rand(3, *request.shape)
    mean, log_variance = model(token, value, request)
    each = robust_loss(mean, log_variance, target, sigma).detach().numpy()
    loss = batch_loss(model, Batch(token, value, request, target, sigma, weight))
    assert loss.item() == pytest.approx(np.average(each, weights=weight), rel=1e-5)


# What is asked


def sample(n=400, holes=0.1, seed=0):
    """Numbers (stars, 119) with holes, and errors; a number says which token it belongs to."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.arange(1.0, 120) + 0.5 * torch.rand(n, 119, generator=generator)
    z[torch.rand(z.shape, generator=generator) < holes] = torch.nan
    return z, 1e-3 * z.nan_to_num()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(names):
    return torch.tensor([NAMES.index(n) + 1 for n in names])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hide", [None, 0.0, 0.8])
def test_contexts_and_requests_are_sound(family, hide):
    z, sigma = sample()
    sampler = Sampler(z, sigma, families={family: 1.0}, hide=hide)
    index = torch.randperm(400)[:64]
    allowed = torch.zeros(120).bool().index_fill(0, numbers(FAMILIES[family]), True)
    askable = torch.ones(120).bool().index_fill(0, numbers(WITHHELD), False)
    draw = generator()
    for _ in range(20):
        batch = sampler(index, draw)
        used, asked = batch.token > 0, batch.request > 0
        assert used.shape[1] <= min(WINDOW, len(FAMILIES[family]))
        if len(FAMILIES[family]) >= WINDOW:
            assert used.shape[1] >= 5 and used.sum(1).min() >= 5
        # Values are the tokens' own, known, of the family; padding is at the end and zero.
        assert torch.equal(batch.value[used].floor().long(), batch.token[used])
        stars_z = z[index].gather(1, (batch.token - 1).clamp(min=0))
        assert torch.equal(batch.value[used], stars_z[used]) and (batch.value[~used] == 0).all()
        assert allowed[batch.token[used]].all()
        assert (used.int().diff(dim=1) <= 0).all()
        # Requests likewise; errors come along.
        assert asked.all() and batch.request.shape == (64, 16 + 5)
        assert torch.equal(batch.target.floor().long(), batch.request)
        given = (batch.request[..., None] == batch.token[:, None]).any(-1)
        assert torch.equal(batch.sigma, torch.where(given, 0, 1e-3 * batch.target))
        assert torch.equal(batch.target, z[index].gather(1, batch.request - 1))
        assert askable[batch.request].all()
        for token in (batch.token, batch.request):
            token = token.sort(1).values
            assert ((token.diff(dim=1) > 0) | (token[:, 1:] == 0)).all(), "a token is repeated"
        # All labels that a star has are asked for.
        has = (~z[index][:, numbers(LABELS) - 1].isnan()).sum(1)
        assert torch.equal(torch.isin(batch.request, numbers(LABELS)).sum(1), has)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_weigh_more_where_there_is_a_spectrum(family):
    z, sigma = sample()
    sampler = Sampler(z, sigma, families={family: 1.0}, label_weight=4.0, requests=500)
    batch = sampler(torch.arange(400), generator())
    label = torch.isin(batch.request, numbers(LABELS))
    whole = family in ("any", "low orders", "high orders")
    assert (batch.weight[label] == (4.0 if whole else 1.0)).all() and label.any()
    assert (batch.weight[batch.request == 0] == 0).all() and (batch.request == 0).any()
    assert (batch.weight[~label & (batch.request > 0)] == 1).all()


def test_draws_are_the_generators():
    sampler, index = Sampler(*sample()), torch.arange(32)
    one, again, other = (sampler(index, generator(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert one.token.shape != other.token.shape or not torch.equal(one.token, other.token)
    draw = generator(1)
    assert not torch.equal(sampler(index, draw).request, sampler(index, draw).request)


def test_the_papers_task():
    """5 to 64 tokens, any of them; one request, any but the withheld, be it in the context."""
    z, sigma = sample(64, holes=0)
    sampler, draw = Sampler(z, sigma, **PAPERS), generator()
    lengths, tokens, requests, copies = [], torch.zeros(120), torch.zeros(120), 0
    for _ in range(1200):
        token, _, request, *_ = sampler(torch.arange(64), draw)
        assert request.shape == (64, 1) and (token > 0).all()
        lengths.append(token.shape[1])
        tokens += token.flatten().bincount(minlength=120)
        requests += request.flatten().bincount(minlength=120)
        copies += (token == request).sum().item()
    counts = np.bincount(lengths, minlength=65)
    assert counts[:5].sum() == 0 and len(counts) == 65 and chisquare(counts[5:]).pvalue > 1e-3
    assert chisquare(tokens[1:]).pvalue > 1e-3
    withheld = numbers(WITHHELD)
    assert requests[0] == 0 and (requests[withheld] == 0).all() and (tokens[withheld] > 0).all()
    asked = np.delete(requests.numpy(), [0, *withheld])
    assert chisquare(asked).pvalue > 1e-3
    assert copies / 64 / 1200 == pytest.approx(np.mean(lengths) / 119, rel=0.03)


@pytest.mark.parametrize("full", [0.0, 0.5, 1.0])
def test_full_contexts_are_as_frequent_as_they_should(full):
    z, sigma = sample(4, holes=0)
    sampler, draw = Sampler(z, sigma, full=full, hide=None, families={"any": 1.0}), generator()
    lengths = np.array([sampler(torch.arange(4), draw).token.shape[1] for _ in range(2000)])
    assert (lengths == WINDOW).mean() == pytest.approx(full + (1 - full) / 60, abs=0.04)


@pytest.mark.parametrize("hide", [0.0, 0.6, 1.0])
def test_labels_hide_as_often_as_they_should(hide):
    z, sigma = sample(2000, holes=0)
    sampler, draw = Sampler(z, sigma, hide=hide, families={"low orders": 1.0}), generator()
    found = [torch.isin(numbers(LABELS), t).float() for t in sampler(torch.arange(2000), draw)[0]]
    shown = torch.stack(found)  # (stars, labels)
    np.testing.assert_allclose(shown.mean(0), (1 - hide) / 2, atol=0.05)
    # They hide together: no label at all in this share of the contexts.
    expected = hide + (1 - hide) / 32
    assert (shown.sum(1) == 0).float().mean() == pytest.approx(expected, abs=0.04)


def test_labels_do_not_hide_where_there_is_nothing_else():
    z, sigma = sample(100, holes=0)
    for family in ("labels", "no spectrum"):
        sampler = Sampler(z, sigma, hide=1.0, families={family: 1.0})
        draw = generator()
        seen = torch.cat([sampler(torch.arange(100), draw).token.flatten() for _ in range(20)])
        assert torch.isin(numbers(LABELS), seen).all()


def test_families_have_their_share_of_the_steps():
    z, sigma = sample(4, holes=0)
    sampler, draw = Sampler(z, sigma, families={"bp": 1, "rp": 3}, hide=1.0), generator()
    first = [sampler(torch.arange(4), draw).token[0, 0].item() for _ in range(2000)]
    counts = np.bincount(np.isin(first, numbers(RP)), minlength=2)
    assert chisquare(counts, [500, 1500]).pvalue > 1e-3
    only = Sampler(z, sigma, families={"bp": 0, "rp": 1}, hide=1.0)
    assert all(torch.isin(only(torch.arange(4), draw).token, numbers(RP)).all() for _ in range(50))


def test_stars_with_few_tokens_are_padded():
    z, sigma = torch.full((3, 119), torch.nan), torch.zeros(3, 119)
    z[0, :3] = 1.0  # a star of three tokens, one of a withheld one, one of none
    z[1, NAMES.index("jk")] = 1.0
    batch = Sampler(z, sigma, families={"any": 1.0})(torch.arange(3), generator())
    assert batch.token.sort(1, descending=True).values[0, :4].tolist() == [3, 2, 1, 0]
    assert (batch.token > 0).sum(1).tolist() == [3, 1, 0]
    assert (batch.request > 0).sum(1).tolist() == [3, 0, 0]
    assert batch.request.shape == (3, 21)
    loss = batch_loss(tiny(NAMES), batch)
    assert loss.isfinite()


def test_more_requests_than_there_are_tokens():
    z, sigma = sample(5, holes=0)
    batch = Sampler(z, sigma, requests=500)(torch.arange(5), generator())
    assert batch.request.shape == (5, 117) and (batch.request > 0).all()


def test_the_six_settings():
    table = stars(40)
    for name, columns in SETTINGS.items():
        chosen = context(table, name)
        assert list(chosen.columns) == list(columns) and set(columns) <= set(NAMES)
        assert chosen.notna().sum(axis=1).between(3, WINDOW).all()
        assert not set(columns) & {"alpha_m", "a_k"}
    assert len(SETTINGS["30 + 30 coefficients, colours"]) == 63


def test_64_at_random():
    table = stars(3000)
    chosen = context(table, "64 at random", seed=3)
    assert (chosen.notna().sum(axis=1) == 64).all()
    pd.testing.assert_frame_equal(chosen, context(table, "64 at random", seed=3))
    other = context(stars(3000, seed=1), "64 at random", seed=3)
    assert (other.notna() == chosen.notna()).all(axis=None), "the choice looks at the values"
    assert (context(table, "64 at random", seed=4).notna() != chosen.notna()).any(axis=None)
    known = chosen.notna().to_numpy()
    assert (chosen.to_numpy()[known] == table[chosen.columns].to_numpy()[known]).all()
    assert chisquare(known.sum(axis=0)).pvalue > 1e-3


# Training


@pytest.fixture(scope="module")
def trained():
    return train(
        *(stars(n, seed, FEW) for n, seed in ((1000, 1), (200, 2))),
        **{"names": FEW, "size": TINY, "steps": 600, "lr": 5e-3, **quick},
    )


def test_it_learns_what_the_tokens_have_in_common(trained):
    model, history = trained
    assert history.best < 0 < history.to_frame()["loss"].iloc[0]
    test = stars(400, 3, FEW)
    spectrum = test[[*BP[:6], *RP[:6]]]
    requests = ["teff", "logg", "feh", "g", "jh"]
    predicted = model.predict(spectrum, requests, extrapolate=True)
    for name in requests:
        assert scatter(predicted[name] - test[name]) < 0.3 * scatter(test[name]), name
        error = np.hypot(predicted[f"{name}_error"], test.get(f"{name}_error", 0))
        # 0.67 of a Gaussian's; its errors are honest to a factor of two or so by now.
        assert 0.25 < (np.abs(predicted[name] - test[name]) / error).median() < 1.2, name


def test_more_is_known_from_more(trained):
    model, _ = trained
    test = stars(300, 4, FEW)
    few, many = (
        model.predict(test[list(BP[:n])], ["logg"], extrapolate=True)["logg_error"] for n in (1, 6)
    )
    assert few.median() > 2 * many.median()


def test_what_is_given_comes_back(trained):
    model, _ = trained
    test = stars(300, 5, FEW)
    for name in ("teff", "logg", "feh"):
        given = model.predict(test[["g", name]], [name], extrapolate=True)
        blind = model.predict(test[["g"]], [name], extrapolate=True)
        off, error = np.abs(given[name] - test[name]), given[f"{name}_error"]
        assert (off < 3 * np.hypot(error, test[f"{name}_error"])).mean() > 0.95, name
        assert off.median() < 0.3 * scatter(test[name]), name
        assert error.median() < 0.65 * blind[f"{name}_error"].median(), name


def test_it_beats_knowing_nothing(trained):
    """The prior predicts the median with the MAD for an error: asinh z has about unit variance."""
    model, _ = trained
    validate = validation(model.scales, stars(200, 6, FEW))
    with torch.no_grad():
        loss = validate(model)
        # The draws are the same at every call, and its own.
        torch.rand(3)
        assert validate(model) == loss
    assert loss < -0.3
    z = model.scales.standardise(stars(200, 6, FEW))
    prior = 0.5 * np.mean(z**2 / z.var() + np.log(z.var()))
    assert loss < prior - 0.5


short = {"names": FEW, "size": TINY, "steps": 20, "lr": 5e-3, **quick}


def brief(**options):
    return train(stars(120, 1, FEW), stars(40, 2, FEW), **{**short, **options})


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def equal(one, other):
    return all(torch.equal(v, other[k]) for k, v in one.items())


def test_a_training_is_its_seeds():
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    first = weights(brief()[0])
    assert torch.equal(torch.rand(2), expected), "the caller's random numbers were used"
    assert equal(first, weights(brief()[0]))
    assert not equal(first, weights(brief(seed=1)[0]))


def test_a_training_torn_apart_goes_on_bitwise(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", partial(fit, checkpoint_every=10))
    size = TINY | {"dropout": 0.2}
    options = {"size": size, "ema": 0.9, "steps": 30}
    whole, history = brief(checkpoint=tmp_path / "whole.pt", **options)

    calls = []

    def torn(model, batch):
        calls.append(model.training)
        if sum(calls) == 27:
            raise InterruptedError
        return batch_loss(model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(training, "batch_loss", torn)
        with pytest.raises(InterruptedError):
            brief(checkpoint=tmp_path / "torn.pt", **options)
    again, history_again = brief(checkpoint=tmp_path / "torn.pt", **options)
    assert equal(weights(whole), weights(again))
    assert history.rows == history_again.rows and history.best_step == history_again.best_step
    # Without a checkpoint nothing is different.
    assert equal(weights(whole), weights(brief(**options)[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"size": TINY | {"head": (24,)}},
        {"size": TINY | {"encoder_heads": (2,)}},
        {"size": TINY | {"value_in_keys": False}},
        {"requests": 3},
        {"hide": None},
        {"optimizer": adamw},
        {"names": FEW[::-1]},
    ],
    ids=["width", "heads", "keys", "requests", "hide", "optimiser", "names"],
)
def test_a_checkpoint_of_another_training_is_refused(change, tmp_path):
    brief(checkpoint=tmp_path / "st.pt")
    with pytest.raises(CheckpointError, match="another training"):
        brief(checkpoint=tmp_path / "st.pt", **change)


def test_a_training_goes_on_from_a_trained_model(tmp_path):
    first, early = brief()
    before = weights(first)
    assert early.best_step is not None
    later = stars(120, 3, FEW) * 1.01  # its own scales stay, whatever the stars
    more = {**short, "start": first, "lr": 1e-3, "checkpoint": tmp_path / "more.pt"}
    second, history = train(later, stars(40, 2, FEW), **more)
    assert equal(before, weights(first)) and not equal(before, weights(second))
    assert second.scales == first.scales and second.size == first.size
    still, _ = train(later, stars(40, 2, FEW), **{**short, "start": first, "lr": 1e-9, "steps": 1})
    assert all((v - before[k]).abs().max() < 1e-6 for k, v in weights(still).items())
    both = early.then(history)
    assert [row["step"] for row in both.rows] == [
        *(row["step"] for row in early.rows),
        *(20 + row["step"] for row in history.rows),
    ]
    assert both.best == history.best and both.best_step == 20 + history.best_step
    assert both.seconds == early.seconds + history.seconds
    # What it started from belongs to its checkpoint.
    with torch.no_grad():
        first.mean.bias += 1
    with pytest.raises(CheckpointError, match="start: "):
        train(later, stars(40, 2, FEW), **more)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"families": {"uv": 1.0}}, "unknown families .'uv'.*any, low orders"),
        ({"families": {"any": 0.0}}, "no family has a share"),
        ({"families": {}}, "no family has a share"),
        ({"shortest": 7, "longest": 6}, "contexts of 7 to 6 tokens"),
        ({"shortest": 0}, "contexts of 0 to 64 tokens"),
        ({"requests": 0, "ask_labels": False}, "nothing is asked"),
        ({"requests": -1}, "nothing is asked"),
        ({"names": ("teff", "logg"), "families": {"bp": 1.0}}, "'bp' has no token"),
    ],
)
def test_a_sampler_that_cannot_work_says_so(dials, message):
    z = torch.zeros(3, len(dials.get("names", NAMES)))
    with pytest.raises(ValueError, match=message):
        Sampler(z, z, **dials)


def test_a_finished_training_is_read_on_a_machine_without_16_bits(tmp_path, monkeypatch):
    options = {"checkpoint": tmp_path / "st.pt", "bf16": True}
    monkeypatch.setattr(training, "bf16_is_fast", lambda device: True)
    model, _ = brief(**options)
    monkeypatch.setattr(training, "bf16_is_fast", lambda device: False)
    assert equal(weights(model), weights(brief(**options)[0]))


def test_the_papers_way_of_training_runs_too():
    _, history = brief(**PAPERS, optimizer=adamw, size=TINY | {"dropout": 0.1})
    assert np.isfinite(history.to_frame()["loss"]).all()


def test_missing_values_everywhere_do_not_hurt():
    table = stars(120, 1, FEW)
    holes = np.random.default_rng(0).random(table.shape) < 0.5
    table = table.mask(holes)
    table.loc[3] = np.nan
    model, history = train(table, table, **short)
    assert np.isfinite(history.to_frame()["loss"]).all()
    assert all(p.isfinite().all() for p in model.parameters())


# Muon


def test_muon_gets_hidden_matrices_and_adamw_the_rest():
    model = tiny()
    first, second = muon(model, 0.01, 0.1)
    assert isinstance(first, torch.optim.Muon) and isinstance(second, torch.optim.AdamW)
    name_of = {id(p): name for name, p in model.named_parameters()}
    groups = [
        {name_of[id(p)] for g in o.param_groups for p in g["params"]} for o in (first, second)
    ]
    assert not groups[0] & groups[1] and groups[0] | groups[1] == set(name_of.values())
    assert sum(len(g["params"]) for o in (first, second) for g in o.param_groups) == len(name_of)
    attention = [f"attention.{part}.weight" for part in ("query", "key", "value", "out")]
    parts = [*attention, "dense.0.weight", "dense.3.weight"]
    hidden = [f"{coder}.0.{part}" for coder in ("encoder", "decoder") for part in parts]
    assert sorted(groups[0]) == sorted([*hidden, "head.0.0.weight"])
    assert {g["weight_decay"] for g in second.param_groups} == {0.0}
    assert {g["weight_decay"] for g in first.param_groups} == {0.1}


def test_muon_leaves_frozen_weights_alone():
    model = tiny()
    model.embedding.requires_grad_(False)
    held = {id(p) for o in muon(model, 0.01, 0) for g in o.param_groups for p in g["params"]}
    assert not held & {id(p) for p in model.embedding.parameters()}


def test_a_step_of_muon_is_orthogonal_and_goes_downhill():
    """All directions move alike, by 0.2 √(larger side) learning rates (match_rms_adamw)."""
    torch.manual_seed(0)
    layer, lr = torch.nn.Linear(16, 12), 0.01
    target = torch.randn(12, 16)
    before = layer.weight.detach().clone()
    optimizers = muon(layer, lr, 0.0)
    loss = (layer.weight - target).square().sum()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    assert (layer.weight - target).square().sum() < loss
    moved = torch.linalg.svdvals(layer.weight.detach() - before) / (0.2 * lr * 16**0.5)
    assert ((moved > 0.6) & (moved < 1.3)).all()  # five Newton–Schulz steps are not exact


# Relations


def test_equation_12():
    teff = [3000, 5000, 5800, 6300, 6300 - 1e-9, 9000]
    expected = [4.6, 4.6, 4.2, 3.95, 3.95, 3.95]
    np.testing.assert_allclose(relations.dwarf_logg(teff), expected, atol=1e-9)
    near = np.array([5000.0, 6300.0])
    np.testing.assert_allclose(
        relations.dwarf_logg(near - 1e-6), relations.dwarf_logg(near), atol=1e-8
    )
    assert np.isnan(relations.dwarf_logg(np.nan)) and relations.dwarf_logg(5800).shape == ()


def test_equation_13():
    logg = [1.0, 3.65, 4.15, 2.65]
    expected = [5200 - 441.86 * 2.65, 5200, 5900, 5200 - 441.86]
    np.testing.assert_allclose(relations.giant_teff(logg), expected)
    assert relations.giant_teff(3.65 - 1e-9) == pytest.approx(5200, abs=1e-5)
    assert np.isnan(relations.giant_teff(np.nan))


def test_extinction_is_fitzpatricks():
    # Fitzpatrick (1999), Table 3: the anchors of R = 3.1, A(λ) / E(B−V) at wavelengths in Å.
    anchors = {12_200: 0.829, 6000: 2.688, 5470: 3.055, 4670: 3.806, 4110: 4.315, 2700: 6.265}
    ours = relations.fitzpatrick99(np.array(list(anchors)) / 10)
    np.testing.assert_allclose(ours, list(anchors.values()), rtol=0.005)
    for r_v in (2.5, 3.1, 5.0):
        assert relations.fitzpatrick99(550.0, r_v) == pytest.approx(r_v, rel=0.03)
    wave = np.linspace(336, 1020, 50)
    assert (np.diff(relations.fitzpatrick99(wave)) < 0).all()


@pytest.mark.parametrize("r_v", [2.5, 3.1, 4.0])
def test_reddening_undoes_extinction(r_v):
    ebv = np.array([0.0, 0.1, 1.0, np.nan])
    a_k = ebv * relations.fitzpatrick99(2159.0, r_v)
    np.testing.assert_allclose(relations.reddening(a_k, r_v), ebv)
    assert relations.reddening(0.35) == pytest.approx(1.0, abs=0.05)


def test_spectra_of_predicted_coefficients():
    scales = xp_basis.token_scales().loc[list(xp_basis.NAMES)]
    draw = np.random.default_rng(0).normal(size=(3, 110))
    coefficients = scales["median"].to_numpy() + 0.1 * draw * scales["mad_std"].to_numpy()
    table = pd.DataFrame(coefficients, columns=list(xp_basis.NAMES)).iloc[:, ::-1].assign(flag="")
    found = relations.spectrum(table)
    np.testing.assert_allclose(found, coefficients @ xp_basis.design_matrix().T, rtol=1e-9)
    g = np.array([10.0, 12, 14])
    np.testing.assert_allclose(
        found * xp_basis.g_flux(g)[:, None], xp_basis.synthesise(coefficients, g), rtol=1e-9
    )
    with pytest.raises(KeyError, match="rp54"):
        relations.spectrum(table.drop(columns="rp54"))
