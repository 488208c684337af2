import errno
import os
import pickle
import subprocess
import sys
import textwrap
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts

from stellarbook.layers.blocks import MLP
from stellarbook.learn import checkpoint as checkpoint_module
from stellarbook.learn.checkpoint import CheckpointError, load_weights, save_weights
from stellarbook.learn.fit import epoch_order, fit
from stellarbook.learn.optim import adamw, cosine, warm_restarts
from stellarbook.learn.processes import pick_device

quiet = {"progress": False, "device": "cpu"}


def linear_problem(stars=64):
    x = torch.randn(stars, 3, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([[1.0], [-2.0], [0.5]])
    y = x @ truth + 0.3

    def step(model, index, generator):
        return (model(x[index]) - y[index]).square().mean()

    torch.manual_seed(1)
    return torch.nn.Linear(3, 1), step, truth


def sgd(model, lr, weight_decay):
    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)


# Known answers


def test_a_linear_relation_is_found():
    model, step, truth = linear_problem()
    history = fit(model, step, 64, steps=400, batch_size=16, lr=0.05, weight_decay=0, **quiet)
    torch.testing.assert_close(model.weight.detach().T, truth, atol=1e-3, rtol=0)
    assert model.bias.item() == pytest.approx(0.3, abs=1e-3)
    frame = history.to_frame()
    assert frame["loss"].iloc[-1] < 1e-5 < frame["loss"].iloc[0]
    assert frame["step"].iloc[-1] == 400
    assert not model.training


def rates(schedule_or_factory, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = schedule_or_factory(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


@pytest.mark.parametrize("final", [0.0, 0.2])
def test_cosine_agrees_with_torch(final):
    ours = [0.1 * cosine(final=final)(s, 50) for s in range(50)]
    theirs = rates(lambda o: CosineAnnealingLR(o, T_max=50, eta_min=0.1 * final), 50)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_warm_restarts_agree_with_torch():
    ours = [0.1 * warm_restarts(7, final=1e-3)(s, 50) for s in range(50)]
    theirs = rates(lambda o: CosineAnnealingWarmRestarts(o, T_0=7, eta_min=1e-4), 50)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_warm_up_is_linear_then_meets_the_cosine():
    factors = [cosine(warmup=4)(s, 20) for s in range(21)]
    np.testing.assert_allclose(factors[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[20] == pytest.approx(0)
    assert all(a > b for a, b in pairwise(factors[4:]))


def test_the_schedule_is_what_the_optimiser_sees():
    model, step, _ = linear_problem()
    history = fit(model, step, 64, steps=20, batch_size=8, lr=0.1, schedule=cosine(5), **quiet)
    expected = [0.1 * cosine(5)(s, 20) for s in range(20)]
    np.testing.assert_allclose(history.to_frame()["lr"], expected)


def test_two_steps_with_averaging_by_hand():
    # Loss w²/2 has gradient w: SGD at rate 0.1 multiplies w by 0.9 each step.
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    fit(
        model,
        lambda model, index, generator: model.weight.square().sum() / 2,
        1,
        **{"steps": 3, "batch_size": 1, "lr": 0.1, "weight_decay": 0, "optimizer": sgd},
        **{"schedule": lambda step, steps: 1.0, "clip": 100, "ema": 0.75},
        **quiet,
    )
    by_hand = 0.9  # the average starts at the weights after the first step
    by_hand = 0.75 * by_hand + 0.25 * 0.81
    by_hand = 0.75 * by_hand + 0.25 * 0.729
    assert model.weight.item() == pytest.approx(by_hand)


def test_clipping_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(10.0)
    loss = lambda model, index, generator: model.weight.square().sum() / 2  # noqa: E731
    options = {"steps": 1, "batch_size": 1, "lr": 1, "weight_decay": 0, "optimizer": sgd}
    history = fit(model, loss, 1, clip=2.0, **options, **quiet)
    assert model.weight.item() == pytest.approx(8.0, abs=1e-4)
    assert history.rows[0]["grad_norm"] == pytest.approx(10)


def test_weight_decay_spares_vectors():
    groups = adamw(MLP(3, 2, hidden=(4,)), lr=1, weight_decay=0.5).param_groups
    decays = [(p.ndim, g["weight_decay"]) for g in groups for p in g["params"]]
    assert sorted(decays) == [(1, 0.0), (1, 0.0), (2, 0.5), (2, 0.5)]


# The order of the stars


def visits(n, batch_size, steps, seed=0):
    seen = []

    def step(model, index, generator):
        seen.append(index.tolist())
        return model.weight.sum()

    options = {"steps": steps, "batch_size": batch_size, "seed": seed}
    fit(torch.nn.Linear(1, 1), step, n, **options, **quiet)
    return seen


def test_every_star_is_visited_once_an_epoch():
    seen = visits(n=12, batch_size=4, steps=6)
    first, second = list(chain(*seen[:3])), list(chain(*seen[3:]))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert seen == visits(n=12, batch_size=4, steps=6)
    assert seen != visits(n=12, batch_size=4, steps=6, seed=1)


def test_stars_that_fill_no_batch_wait_for_another_epoch():
    seen = visits(n=10, batch_size=4, steps=40)
    for a, b in zip(seen[::2], seen[1::2], strict=True):
        assert len(set(a + b)) == 8
    assert set(chain(*seen)) == set(range(10))


def test_the_order_is_a_function_of_seed_and_epoch():
    assert torch.equal(epoch_order(100, 3, 5), epoch_order(100, 3, 5))
    orders = {tuple(epoch_order(100, s, e).tolist()) for s in range(4) for e in range(4)}
    assert len(orders) == 16


# What else fit promises


def test_the_best_validated_weights_are_kept_and_patience_ends_it():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    step = lambda model, index, generator: -model.weight.sum()  # noqa: E731 the weight grows by lr
    options = {"steps": 100, "batch_size": 1, "lr": 0.1, "weight_decay": 0, "optimizer": sgd}
    history = fit(
        model,
        step,
        1,
        **options,
        schedule=lambda step, steps: 1.0,
        validate=lambda model: abs(float(model.weight) - 1.5),
        validate_every=1,
        patience=3,
        **quiet,
    )
    assert history.best_step == 5 and history.stopped and history.rows[-1]["step"] == 8
    assert model.weight.item() == pytest.approx(1.5)


def test_validating_does_not_change_the_training():
    def train(validate):
        torch.manual_seed(3)
        model = MLP(3, 1, hidden=(8,), dropout=0.5)
        x = torch.randn(32, 3)
        last = {}

        def step(model, index, generator):
            noise = torch.randn(1, generator=generator)
            loss = (model(x[index]) + noise).square().mean()
            last["loss"] = loss.item()
            return loss

        fit(model, step, 32, steps=20, batch_size=8, validate=validate, **quiet)
        return last["loss"]

    def noisy(model):
        assert not model.training and not torch.is_grad_enabled()
        return torch.rand(1)

    assert train(None) == train(noisy)


def test_the_callers_random_numbers_are_left_alone():
    model, step, _ = linear_problem()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(model, step, 64, steps=3, batch_size=8, **quiet)
    assert torch.equal(torch.rand(3), expected)


def test_several_optimisers_and_extra_terms():
    torch.manual_seed(0)
    model = MLP(4, 1, hidden=(8, 8))

    def muon_and_adamw(model, lr, weight_decay):
        weights = list(model.parameters())
        matrices = [p for p in weights if p.ndim == 2]
        vectors = [p for p in weights if p.ndim < 2]
        return [torch.optim.Muon(matrices, lr=lr), torch.optim.AdamW(vectors, lr=lr)]

    x = torch.randn(64, 4)

    def step(model, index, generator):
        error = model(x[index]).squeeze(1) - x[index, 0]
        return {"loss": error.square().mean(), "mae": error.abs().mean(), "one": 1}

    options = {"steps": 300, "batch_size": 32, "lr": 0.02}
    frame = fit(model, step, 64, optimizer=muon_and_adamw, **options, **quiet).to_frame()
    assert frame["loss"].iloc[-1] < 0.1 * frame["loss"].iloc[0]
    assert (frame["one"] == 1).all()
    assert (frame["mae"] ** 2 <= frame["loss"] * 1.001).all()


def test_the_bar_goes_to_stderr(capsys):
    model, step, _ = linear_problem()
    fit(model, step, 64, steps=5, batch_size=8, device="cpu", progress="a net")
    out, err = capsys.readouterr()
    assert out == "" and "a net" in err and "loss" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 65}, "65 is larger than the 64 stars"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"device": "cuda:99"}, "this machine has"),
        ({"patience": 3}, "patience needs validate"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    model, step, _ = linear_problem()
    with pytest.raises(ValueError, match=message):
        fit(model, step, 64, **{"steps": 5, "batch_size": 8, **quiet, **options})


def test_a_loss_that_is_no_scalar_is_refused():
    model, _, _ = linear_problem()
    with pytest.raises(ValueError, match="scalar"):
        fit(model, lambda m, i, g: m.weight, 64, steps=5, batch_size=8, **quiet)
    with pytest.raises(ValueError, match="depends on the model"):
        fit(model, lambda m, i, g: torch.tensor(1.0), 64, steps=5, batch_size=8, **quiet)


def test_pick_device():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_training(bad, tmp_path):
    model, step, _ = linear_problem()
    calls = []

    def turns_bad(model, index, generator):
        calls.append(1)
        return step(model, index, generator) * (bad if len(calls) == 137 else 1.0)

    path = tmp_path / "net.pt"
    options = {"steps": 20_000, "batch_size": 8, "checkpoint": path, "checkpoint_every": 100}
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at step 137"):
        fit(model, turns_bad, 64, **options, **quiet)
    state = torch.load(path, weights_only=True)["state"]
    assert state["step"] == 100 and state["model"]["weight"].isfinite().all()


def test_a_gradient_that_is_not_finite_stops_the_training():
    model, _, _ = linear_problem()
    step = lambda m, i, g: (m.weight * 0).abs().sqrt().sum()  # noqa: E731 slope of √ at 0
    with pytest.raises(FloatingPointError, match="gradient's norm is nan at step 1"):
        fit(model, step, 64, steps=5, batch_size=8, **quiet)


def test_a_validation_of_nan_stops_the_training():
    model, step, _ = linear_problem()
    with pytest.raises(FloatingPointError, match="validate returned NaN"):
        fit(model, step, 64, steps=5, batch_size=8, validate=lambda m: np.nan, **quiet)


# Checkpoints

TRAINING = textwrap.dedent(
    """
    import os, signal, sys
    import torch
    from stellarbook.layers.blocks import MLP
    from stellarbook.learn.checkpoint import save_weights
    from stellarbook.learn.fit import fit

    def train(path, kill_at):
        torch.set_num_threads(1)
        torch.manual_seed(0)
        x, y = torch.randn(50, 4), torch.randn(50, 2)
        model = MLP(4, 2, hidden=(16, 16), dropout=0.3)
        calls = []

        def step(model, index, generator):
            calls.append(1)
            if len(calls) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            noise = 0.1 * torch.randn(len(index), 4, generator=generator)
            error = model(x[index] + noise) - y[index]
            return {"loss": error.square().mean(), "mae": error.abs().mean()}

        history = fit(
            model, step, 50, steps=60, batch_size=8, lr=0.01, ema=0.9, seed=4,
            validate=lambda model: (model(x) - y).abs().mean() + torch.rand(1), validate_every=7,
            checkpoint=path, checkpoint_every=10, device="cpu", progress=False,
        )
        save_weights(path + ".safetensors", model, {"rows": history.rows, "calls": len(calls)})

    # Each training is a process of its own, forked to import torch only once.
    for path, kill_at in zip(sys.argv[1::2], sys.argv[2::2]):
        if not (child := os.fork()):
            train(path, int(kill_at))
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)
    """
)


def test_a_training_killed_between_saves_goes_on_bitwise(tmp_path):
    whole, torn = tmp_path / "whole.pt", tmp_path / "torn.pt"
    runs = [(whole, 0), (torn, 26), (torn, 19), (torn, 0)]  # killed in step 26, and in 39
    command = [sys.executable, "-c", TRAINING, *(str(word) for run in runs for word in run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "9", "9", "0"], done.stderr  # 9: SIGKILL

    weights, about = load_weights(f"{whole}.safetensors")
    again, about_again = load_weights(f"{torn}.safetensors")
    assert all(torch.equal(weights[k], again[k]) for k in weights)
    assert about["rows"] == about_again["rows"]
    assert (about["calls"], about_again["calls"]) == (60, 30)

    ours, theirs = (torch.load(p, weights_only=True)["state"] for p in (whole, torn))
    for part in ("model", "average"):
        assert all(torch.equal(v, theirs[part][k]) for k, v in ours[part].items())
    for name, state in ours["generators"][0].items():
        assert torch.equal(state, theirs["generators"][0][name])


def trained(path, steps=20, model=None, configuration=None, **options):
    start, step, _ = linear_problem()
    options = {"batch_size": 8, "checkpoint": path, "configuration": configuration, **options}
    model = model or start
    return model, fit(model, step, 64, steps=steps, **options, **quiet)


def test_a_finished_training_is_not_repeated(tmp_path):
    first, history = trained(tmp_path / "net.pt")
    again, history_again = trained(tmp_path / "net.pt")
    assert torch.equal(first.weight, again.weight)
    assert history == history_again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 30}, "steps: 20 there, 30 here"),
        ({"lr": 0.5}, "lr: 0.001 there, 0.5 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"ema": 0.9}, "ema: None there, 0.9 here"),
        ({"schedule": warm_restarts(5)}, "schedule: "),
        ({"optimizer": sgd}, r"optimizer: \['AdamW'\] there, \['SGD'\] here"),
        ({"model": torch.nn.Linear(3, 2)}, r"weight weight: \[1, 3\] there, \[2, 3\] here"),
        ({"configuration": {"mask": 0.3}}, "mask: absent there, 0.3 here"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(change, message, tmp_path):
    path = tmp_path / "net.pt"
    trained(path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        trained(path, **change)
    assert path.read_bytes() == before


def test_numpy_numbers_do_not_spoil_a_checkpoint(tmp_path):
    options = {"steps": np.int64(20), "lr": np.float64(0.01), "configuration": {"a": np.float32(1)}}
    options["schedule"] = lambda step, steps: np.float64(0.5)
    _, history = trained(tmp_path / "net.pt", **options)
    assert trained(tmp_path / "net.pt", **options)[1] == history


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_named(damage, tmp_path):
    path = tmp_path / "net.pt"
    trained(path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        stored = trained(tmp_path / "other.pt")[0].weight.detach().numpy().tobytes()
        content[content.index(stored)] ^= 1  # one bit of a weight
    bad = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}
    path.write_bytes(bad.get(damage, content))
    with pytest.raises(CheckpointError, match=r"net\.pt is damaged"):
        trained(path)


class Foreign:
    def __reduce__(self):
        return os.mkdir, (os.environ["FOREIGN_FOLDER"],)


def test_foreign_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("FOREIGN_FOLDER", str(tmp_path / "ran"))
    torch.save({"configuration": Foreign(), "state": {}}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        trained(tmp_path / "net.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        trained(tmp_path / "plain.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_keeps_the_earlier_checkpoint(earlier, tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    saves = []

    def full(descriptor):
        saves.append(1)
        if len(saves) > earlier:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_module.os, "fsync", full)
    said = "earlier file is intact" if earlier else "nothing was saved"
    with pytest.raises(
        OSError, match=rf"No space left on device \((the )?{said}\).*net\.pt"
    ) as caught:
        trained(path, checkpoint_every=10)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == (["net.pt"] if earlier else [])
    monkeypatch.undo()
    whole, _ = trained(tmp_path / "whole.pt", checkpoint_every=10)
    assert torch.equal(trained(path, checkpoint_every=10)[0].weight, whole.weight)


# Several processes

SHARED = textwrap.dedent(
    """
    import os, sys
    import torch
    from stellarbook.layers.blocks import MLP
    from stellarbook.learn.checkpoint import save_weights
    from stellarbook.learn.fit import fit

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(48, 4), torch.randn(48, 2)
    known = torch.rand(48, 2) > 0.3
    y[~known] = torch.nan

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.unused = MLP(4, 2, hidden=(16,)), torch.nn.Linear(3, 3)

        def error(self, index):  # no `forward`: a step may call what it likes
            error = self.net(x[index]) - y[index].nan_to_num()
            return error.square() * known[index]

    def step(model, index, generator):
        return model.error(index).mean()

    options = dict(
        steps=40, batch_size=12, lr=0.01, ema=0.8, device="cpu", progress=False,
        validate=lambda model: model.error(torch.arange(48)).mean(),
    )
    model = Model()
    history = fit(model, step, 48, checkpoint=sys.argv[1], checkpoint_every=10, **options)
    second = Model()  # a script may train several models
    fit(second, step, 48, **options)
    tensors = {**model.state_dict(prefix="a."), **second.state_dict(prefix="b.")}
    name = f"{sys.argv[1]}-{os.environ.get('RANK', 'alone')}.safetensors"
    save_weights(name, tensors, {"rows": history.rows})
    """
)


def test_two_processes_agree_with_one(tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    runs = [
        subprocess.Popen(
            [*command, str(script), str(tmp_path / name)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command, name in (([sys.executable], "one"), (torchrun, "two"))
    ]
    for run in runs:
        output, _ = run.communicate(timeout=120)
        assert run.returncode == 0, output
    one, about = load_weights(tmp_path / "one-alone.safetensors")
    for rank in (0, 1):
        two, about_two = load_weights(tmp_path / f"two-{rank}.safetensors")
        for name in one:
            torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=0)
        for a, b in zip(about["rows"], about_two["rows"], strict=True):
            assert a == pytest.approx(b, abs=1e-6)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    model, step, _ = linear_problem()
    with pytest.raises(ValueError, match="8 does not divide into 3 processes"):
        fit(model, step, 64, steps=5, batch_size=8, **quiet)


# Weights


def test_weights_come_back_with_their_metadata(tmp_path):
    model = MLP(3, 2, hidden=(4,))
    path = tmp_path / "deep" / "net.safetensors"
    save_weights(path, model, {"steps": 10, "score": [0.1, None]})
    weights, about = load_weights(path)
    assert about == {"steps": 10, "score": [0.1, None]}
    assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
    save_weights(path, model, half=True)
    weights, _ = load_weights(path)
    assert load_file(path)["0.weight"].dtype == torch.float16
    torch.testing.assert_close(weights["0.weight"], model[0].weight.data, rtol=1e-3, atol=1e-6)


def test_weights_that_do_not_fit_sixteen_bits_are_refused(tmp_path):
    with pytest.raises(OverflowError, match="scale does not fit"):
        save_weights(tmp_path / "w.safetensors", {"scale": torch.tensor([1e6])}, half=True)


def test_damaged_weights_are_named(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"w\.safetensors is damaged"):
        load_weights(path)
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "none.safetensors")
