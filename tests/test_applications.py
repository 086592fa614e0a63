"""The applications among the examples: what they reach, what a resumed run reaches, and what they refuse."""

from __future__ import annotations

import importlib
import re
import sys

import numpy as np
import pytest

import application
import nbdl
from nbdl.utils import callbacks

PNG = b"\x89PNG\r\n"

# Program, its arguments, and bounds of the figures it prints with --quick: (at least, at most).
PROGRAMS = [
    ("char_gpt", (), {"training loss": (1, 5.3), "validation loss": (1, 5.3)}),  # 6.6 if all were likely
    ("cifar_resnet", (), {"training loss": (1, 2.2), "training accuracy": (0.15, 1)}),  # 2.3 and 0.1
    (
        "custom_op", (),
        {
            "mean squared error of sums, test": (0, 0.165),  # 1/6 without the marks
            "own operation: forward and backward pass in ms": (1e-6, 1e3),
        },
    ),
    (
        "hamiltonian_network", ("--model", "hamiltonian"),
        {
            "training loss": (0, 0.66), "change of the logarithm of volumes": (0, 1e-4),
            "error of inputs computed back": (0, 1e-5),
        },
    ),
    (
        "hamiltonian_network", ("--model", "residual"),
        {"training loss": (0, 0.66), "change of the logarithm of volumes": (0.01, 100)},
    ),
    ("hamiltonian_network", ("--model", "ode"), {"training loss": (0, 0.66)}),
    (
        "logistic_regression", (),
        {
            "test accuracy": (0.95, 1), "gradient": (0, 1e-5),
            "steps of gradient descent to a gradient of 1e-4": (100, 100),
        },
    ),
    ("lstm_sequence", (), {"training loss": (0, 0.01), "error of continuations": (0, 0.5)}),
    ("matrix_factorization", (), {"error on the test ratings": (0.3, 0.79)}),  # 0.80 for the mean
    ("physics_informed", ("--problem", "poisson"), {"relative error": (0, 0.05)}),
    ("physics_informed", ("--problem", "burgers"), {"relative error": (0, 0.45)}),
    (
        "rbf_regression", (),
        {"error at the start": (0, 0.2), "error after Levenberg-Marquardt": (0, 0.06), "R2": (0.9, 1)},
    ),
    (
        "variational_autoencoder", (),
        {"negative bound, test": (20, 28), "explained variance of test images": (0.2, 1)},
    ),
]  # fmt: skip

NEED_SKLEARN = ("digits", "logistic_regression", "variational_autoencoder")


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Where other processes compute, too, the threads of NumPy's BLAS would wait for them."""
    with application.one_blas_thread():
        yield


def run(capsys, name, *arguments):
    """The exit code, and the figures that the program printed."""
    if name in NEED_SKLEARN:
        pytest.importorskip("sklearn", reason="scikit-learn brings the data")
    code = importlib.import_module(name).main(["--quick", *arguments])
    printed = capsys.readouterr().out
    figures = {key: float(value) for key, value in re.findall(r"^(.+): ([-+.\de]+|inf|nan)$", printed, re.M)}
    figures |= dict.fromkeys(
        re.findall(r"^numpy +test accuracy [\d.]+%", printed), 0
    )  # digits has its own line
    return code, figures


@pytest.mark.parametrize(("name", "arguments", "bounds"), PROGRAMS, ids=lambda value: str(value)[:40])
def test_what_programs_reach(name, arguments, bounds, backend, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib draws")
    picture = tmp_path / "picture.png"
    code, figures = run(capsys, name, *arguments, "--backend", backend, "--out", str(picture))
    assert code == 0
    assert f"seconds ({backend})" in figures
    for key, (low, high) in bounds.items():
        assert low <= figures[key] <= high, (key, figures[key])
    assert picture.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("char_gpt", ()),
        ("physics_informed", ("--problem", "burgers")),
        ("rbf_regression", ()),
        ("digits", ()),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(name, arguments, tmp_path, capsys, monkeypatch):
    arguments = (*arguments, "--backend", "numpy", "--out", str(tmp_path / "picture.png"))
    checkpoint = ("--checkpoint", str(tmp_path / "run"))
    _, whole = run(capsys, name, *arguments)

    def save_and_stop(content, path):
        nbdl.save(content, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "save", save_and_stop)
        with pytest.raises(SystemExit, match=r"^130$"):
            run(capsys, name, *arguments, *checkpoint)
    assert capsys.readouterr().out.endswith(f"stopped; --resume goes on with {checkpoint[1]}\n")
    code, resumed = run(capsys, name, *arguments, *checkpoint, "--resume")
    assert code == 0
    times = {"seconds (numpy)": 0, "processor seconds": 0}
    assert whole
    assert resumed | times == whole | times


# ------------------------------------------------------------------------------------------------- refusals
def refusal(capsys, name, *arguments):
    """The last line that a program leaves when it refuses to work."""
    with pytest.raises(SystemExit) as info:
        importlib.import_module(name).main(["--quick", "--backend", "numpy", *arguments])
    return info.value.code if isinstance(info.value.code, str) else capsys.readouterr().err.splitlines()[-1]


REFUSALS = [
    (("--backend", "fortran"), "unknown backend 'fortran'; there are numpy, numba, cupy"),
    (("--out", "/nowhere/at/all.png"), "--out: there is no folder /nowhere/at"),
    (("--out", "."), "--out: . is a folder, and no file"),
    (("--seed", "-1"), "argument --seed: must be in [0, 2^63), got -1"),
    (("--checkpoint", "/nowhere/at/all"), "--checkpoint: there is no folder /nowhere/at"),
    (("--resume",), "--resume needs --checkpoint FILE"),
    (("--resume", "--checkpoint", "/nowhere"), "--checkpoint: there is no file /nowhere"),
]


@pytest.mark.parametrize("name", sorted({name for name, _, _ in PROGRAMS}))
def test_shared_options_are_refused_in_one_line(name, capsys):
    for arguments, message in REFUSALS:
        assert refusal(capsys, name, *arguments).endswith(message)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("char_gpt", ("--text", "/nowhere"), "No such file or directory: '/nowhere'"),
        ("char_gpt", ("--text", "{file}"), "the text has 3 characters; 331 are needed"),
        ("cifar_resnet", ("--data", "/nowhere"), "there is no file data_batch_1.bin"),
        ("cifar_resnet", ("--data", "{folder}"), "truncated or corrupt: 3 bytes are no multiple of 3073"),
        ("cifar_resnet", ("--depth", "9"), "argument --depth: must be 8, 14, 20, ..., got 9"),
        ("cifar_resnet", ("--epochs", "0"), "argument --epochs: must be 1 or more, got 0"),
        ("matrix_factorization", ("--ratings", "/nowhere"), "No such file or directory: '/nowhere'"),
        ("matrix_factorization", ("--ratings", "{file}"), "holds 0 ratings; 10 are needed"),
        ("matrix_factorization", ("--ratings", "{bad}"), "line 2 of .* is no user, item and rating: 'x,y,z'"),
        ("physics_informed", ("--problem", "heat"), "argument --problem: invalid choice: 'heat'"),
        ("rbf_regression", ("--resume", "--checkpoint", "{file}"), "truncated|not a safetensors"),
        ("rbf_regression", ("--checkpoint", "{folder}"), "--checkpoint: .* is a folder, and no file"),
        ("rbf_regression", ("--out", "{folder}/picture.poem"), "Format 'poem' is not supported"),
    ],
)
def test_bad_input_is_refused_in_one_line(name, arguments, message, tmp_path, capsys):
    for file, text in (("data_batch_1.bin", "abc"), ("bad.csv", "1,2,3\nx,y,z")):
        (tmp_path / file).write_text(text)
    places = {"file": tmp_path / "data_batch_1.bin", "folder": tmp_path, "bad": tmp_path / "bad.csv"}
    found = refusal(capsys, name, *[argument.format(**places) for argument in arguments])
    assert re.search(message, found), found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logistic_regression", "scikit-learn is missing, which brings the data: pip install scikit-learn"),
        ("variational_autoencoder", "the images come with scikit-learn: pip install scikit-learn"),
    ],
)
def test_missing_data_are_explained(name, message, capsys, monkeypatch):
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    assert refusal(capsys, name).endswith(message)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    checkpoint = ("--checkpoint", str(tmp_path / "run"))
    arguments = ["--quick", "--backend", "numpy", *checkpoint]
    assert importlib.import_module("matrix_factorization").main([*arguments, "--rank", "3"]) == 0
    assert (
        "picture: not drawn, since matplotlib is missing: pip install matplotlib" in capsys.readouterr().out
    )
    line = refusal(capsys, "matrix_factorization", *checkpoint, "--resume", "--rank", "4")
    assert line.endswith("the checkpoint was made with --rank 3, not 4")
    line = refusal(capsys, "rbf_regression", *checkpoint, "--resume")
    assert re.search("is no checkpoint of settings, model, optimizer$", line)


def test_names_of_backends_in_the_environment(capsys, monkeypatch):
    """The backend of the process is chosen already, so its message is what is looked at."""

    def get_backend():
        raise ValueError("NBDL_BACKEND: unknown backend 'x'\nBackends here:")

    monkeypatch.setattr(nbdl, "get_backend", get_backend)
    with pytest.raises(SystemExit, match=r"NBDL_BACKEND: unknown backend 'x'$"):
        importlib.import_module("rbf_regression").main([])


# ----------------------------------------------------------------------------------------- parts of programs
def test_ratings_are_read(tmp_path):
    ratings = importlib.import_module("matrix_factorization").read_ratings
    for separator, heading in (("\t", ""), ("::", ""), (",", "userId,movieId,rating,timestamp\n")):
        path = tmp_path / "ratings"
        lines = [separator.join((str(7 * k), str(k % 2 + 5), f"{k / 2}", "881250949")) for k in range(12)]
        path.write_text(heading + "\n".join(lines))
        users, items, values = ratings(path)
        assert sorted(users.tolist()) == list(range(12))
        assert items.tolist() == [0, 1] * 6
        assert values.tolist() == [k / 2 for k in range(12)]


def test_a_text_is_read(tmp_path, capsys):
    path = tmp_path / "text"
    path.write_text("äbc " * 200, encoding="utf-8")
    out = ("--backend", "numpy", "--out", str(tmp_path / "picture.png"))
    _, figures = run(capsys, "char_gpt", "--text", str(path), *out)
    assert figures["bits a character if all were equally likely"] == 2
    assert figures["validation loss"] < 1.5


def test_files_have_the_format_of_cifar(tmp_path):
    program = importlib.import_module("cifar_resnet")
    program.write_files(tmp_path, 3, seed=0)
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {3 * 3073}
    assert len(list(tmp_path.iterdir())) == 6
    data = nbdl.datasets.CIFAR10(tmp_path, train=True)
    assert len(data) == 15
    assert int(data.data.to(nbdl.int64).max()) > 150


def test_augmentation_moves_and_mirrors():
    program = importlib.import_module("cifar_resnet")
    images = nbdl.rand(4, 3, 32, 32) + 0.5
    nbdl.manual_seed(1)
    moved = program.augment(images)
    for image, result in zip(images, moved):
        padded = nbdl.nn.functional.pad(image, (4, 4, 4, 4))
        candidates = [
            version
            for rows in range(9)
            for columns in range(9)
            for version in (padded[:, rows : rows + 32, columns : columns + 32],)
        ]
        assert any(nbdl.equal(result, c) or nbdl.equal(result, c.flip(2)) for c in candidates)
    assert not nbdl.equal(moved, images)


def test_the_exact_solution_of_burgers_equation():
    """It satisfies the equation and its initial and boundary values."""
    program = importlib.import_module("physics_informed")
    t, x = np.array([0.2, 0.5, 0.9]), np.array([-0.7, 0.02, 0.4])

    def u(dt=0.0, dx=0.0):
        return program.burgers_exact(t + dt, x + dx)

    h = 1e-4
    u_t, u_x = (u(h) - u(-h)) / (2 * h), (u(0, h) - u(0, -h)) / (2 * h)
    u_xx = (u(0, h) - 2 * u() + u(0, -h)) / h**2
    np.testing.assert_allclose(u_t + u() * u_x, program.NU * u_xx, atol=2e-3 * abs(u_x).max())
    np.testing.assert_allclose(program.burgers_exact(t, np.ones(3)), 0, atol=1e-12)
    np.testing.assert_allclose(program.burgers_exact(np.full(3, 1e-9), x), -np.sin(np.pi * x), atol=1e-6)


def test_the_continuation_of_a_swing_uses_its_own_predictions():
    program = importlib.import_module("lstm_sequence")
    model = program.Forecaster(4)
    swings = program.make_swings(3, 6)
    continued = model.go_on(swings, 3)
    with nbdl.no_grad():
        for step in range(3):
            known = nbdl.cat([swings, continued[:, :step]], 1)
            assert nbdl.allclose(model(known)[0][:, -1], continued[:, step])


def test_a_swing_keeps_its_energy():
    program = importlib.import_module("lstm_sequence")
    x = program.make_swings(5, 60)
    velocity = (x[:, 2:] - x[:, :-2]) / (2 * program.TIME_STEP)
    energy = velocity.square() / 2 - x[:, 1:-1].cos()
    assert (energy.max(1).values - energy.min(1).values).max().item() < 0.08
