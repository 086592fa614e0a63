#!/usr/bin/env python
"""Second-order methods of nbdl and SciPy on the same problems.

    python examples/benchmarks/second_order.py
    python examples/benchmarks/second_order.py --methods bfgs,trust-exact --problems Wood,Beale
    python examples/benchmarks/second_order.py --plot second_order.png

Both get the same functions and exact derivatives, by automatic differentiation, and the same tolerance of the
gradient. What is counted are evaluations of the function. Nothing is timed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import machine
import numpy as np
import report
from contenders import NBDL_NUMPY
from harness import FOLDER
from second_order_problems import Problem, problems

import nbdl

# Where SciPy has no such method, its most similar one.
COUNTERPARTS = {
    "cg": "CG",
    "bfgs": "BFGS",
    "l-bfgs": "L-BFGS-B",
    "newton": "trust-exact",
    "newton-cg": "Newton-CG",
    "saddle-free-newton": "trust-exact",
    "dogleg": "dogleg",
    "trust-ncg": "trust-ncg",
    "trust-krylov": "trust-krylov",
    "trust-exact": "trust-exact",
    "arc": "trust-exact",
    "levenberg-marquardt": "least_squares, lm",
}
GTOL = 1e-6
MAX_ITERATIONS = 2000
SCIPY_OPTIONS: dict[str, dict[str, float]] = {
    "Newton-CG": {
        "xtol": 1e-8,
        "maxiter": 300,
    },  # it has no tolerance of the gradient, and may go on for hours
    "L-BFGS-B": {"gtol": GTOL, "ftol": 0.0, "maxfun": 10 * MAX_ITERATIONS},
}
RELATIVE, ABSOLUTE = 1e-3, 2e-7  # how near to a published minimum counts as there


class Run(NamedTuple):
    """One method on one problem."""

    value: float
    evaluations: int
    status: str


def is_near(value: float, least: float) -> bool:
    """Whether a value is as good as a minimum."""
    return abs(value - least) <= RELATIVE * abs(least) + ABSOLUTE


def reached(problem: Problem, value: float) -> bool:
    """Whether a value is one of the published minima."""
    return any(is_near(value, least) for least in problem.minima)


def ratio_of(problem: Problem, ours: Run, theirs: Run) -> float | None:
    """Evaluations of nbdl for one of SciPy, if both reached the same minimum."""
    same = any(is_near(ours.value, least) and is_near(theirs.value, least) for least in problem.minima)
    return ours.evaluations / theirs.evaluations if same else None


def run_nbdl(method: str, problem: Problem) -> Run:
    """Minimize with nbdl."""
    if method == "levenberg-marquardt":
        found = nbdl.optim.least_squares(
            problem.residuals, problem.start, method="lm", max_nfev=MAX_ITERATIONS
        )
        return Run(2 * found.cost, found.nfev, str(found.status))
    found = nbdl.optim.minimize(
        problem.function, problem.start, method=method, tol=GTOL, options={"maxiter": MAX_ITERATIONS}
    )
    return Run(found.fun, found.nfev, found.status.name)


def run_scipy(method: str, problem: Problem) -> Run:
    """Minimize with SciPy."""
    import scipy.optimize

    calls = 0

    def counted(function: Any) -> Any:
        def call(x: np.ndarray) -> np.ndarray:
            nonlocal calls
            calls += 1
            return function(nbdl.tensor(np.array(x))).numpy()

        return call

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal calls
        calls += 1
        gradient, value = nbdl.func.grad_and_value(problem.function)(nbdl.tensor(np.array(x)))
        return value.item(), gradient.numpy()

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            if method.startswith("least_squares"):
                jacobian = nbdl.func.jacfwd(problem.residuals)
                found = scipy.optimize.least_squares(
                    counted(problem.residuals),
                    problem.start,
                    lambda x: jacobian(nbdl.tensor(np.array(x))).numpy(),
                    method="lm",
                    max_nfev=MAX_ITERATIONS,
                )
                return Run(2 * found.cost, calls, str(found.status))
            found = scipy.optimize.minimize(
                value_and_gradient,
                problem.start,
                jac=True,
                **second_derivatives(method, problem),
                method=method,
                options={"maxiter": MAX_ITERATIONS} | SCIPY_OPTIONS.get(method, {"gtol": GTOL}),
            )
        except (np.linalg.LinAlgError, ValueError, OverflowError) as error:
            return Run(float("nan"), calls, type(error).__name__)
    return Run(found.fun, calls, str(found.status))


def second_derivatives(method: str, problem: Problem) -> dict[str, Any]:
    """What SciPy's method wants of them."""
    if method in ("Newton-CG", "trust-ncg", "trust-krylov"):
        product = nbdl.func.hvp
        return {
            "hessp": lambda x, v: product(
                problem.function, nbdl.tensor(np.array(x)), nbdl.tensor(np.array(v))
            ).numpy()
        }
    if method in ("dogleg", "trust-exact"):
        hessian = nbdl.func.hessian(problem.function)
        return {"hess": lambda x: hessian(nbdl.tensor(np.array(x))).numpy()}
    return {}


def compare(method: str, chosen: list[Problem]) -> dict[str, tuple[Run, Run]]:
    """Both packages on all problems: name of the problem -> (nbdl, SciPy)."""
    suitable = [p for p in chosen if p.residuals is not None or method != "levenberg-marquardt"]
    return {p.name: (run_nbdl(method, p), run_scipy(COUNTERPARTS[method], p)) for p in suitable}


def detail_table(method: str, chosen: list[Problem], found: dict[str, tuple[Run, Run]]) -> str:
    """A line a problem."""
    rows = []
    for problem in chosen:
        if problem.name not in found:
            continue
        ours, theirs = found[problem.name]
        ratio = ratio_of(problem, ours, theirs)
        rows.append([
            problem.name, f"{ours.value:.6g}", str(ours.evaluations), ours.status, f"{theirs.value:.6g}",
            str(theirs.evaluations), report.MISSING if ratio is None else f"{ratio:.2f}",
        ])  # fmt: skip
    header = ["problem", "nbdl f", "evaluations", "status", "SciPy f", "evaluations", "ratio"]
    return f"\n## {method}, beside SciPy's {COUNTERPARTS[method]}\n\n{report.table(header, rows)}"


def summary_table(chosen: list[Problem], results: dict[str, dict[str, tuple[Run, Run]]]) -> str:
    """A line a method."""
    rows = []
    by_name = {problem.name: problem for problem in chosen}
    for method, found in results.items():
        ours = [name for name, runs in found.items() if reached(by_name[name], runs[0].value)]
        theirs = [name for name, runs in found.items() if reached(by_name[name], runs[1].value)]
        compared = [ratio_of(by_name[name], *runs) for name, runs in found.items()]
        ratios = [ratio for ratio in compared if ratio is not None]
        rows.append([
            method, COUNTERPARTS[method], f"{len(ours)}/{len(found)}", f"{len(theirs)}/{len(found)}",
            ", ".join(name for name in theirs if name not in ours) or report.MISSING,
            f"{statistics.median(ratios):.2f}" if ratios else report.MISSING,
            f"{max(ratios):.2f}" if ratios else report.MISSING,
        ])  # fmt: skip
    header = [
        "nbdl",
        "SciPy",
        "nbdl solved",
        "SciPy solved",
        "solved by SciPy only",
        "median ratio",
        "largest",
    ]
    return f"\n## Evaluations of nbdl for one of SciPy\n\n{report.table(header, rows)}"


def plot(results: dict[str, dict[str, tuple[Run, Run]]], path: Path) -> None:
    """Evaluations of both on logarithmic axes, a dot a problem."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 6))
    for method, found in results.items():
        axes.loglog(
            [theirs.evaluations for _, theirs in found.values()],
            [ours.evaluations for ours, _ in found.values()],
            ".",
            label=method,
        )
    limits = axes.get_xlim()
    axes.loglog(limits, limits, color="gray", linewidth=0.8)
    axes.set(xlabel="evaluations of SciPy", ylabel="evaluations of nbdl")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare second-order methods of nbdl with SciPy's.")
    parser.add_argument("--methods", default=",".join(COUNTERPARTS), help="some of %(default)s")
    parser.add_argument("--problems", help="names of problems, separated by commas; default: all")
    parser.add_argument("--out", type=Path, default=FOLDER / "results", help="folder of the report")
    parser.add_argument("--plot", type=Path, help="where to save a picture; default: none")
    options = parser.parse_args(argv)
    methods = options.methods.split(",")
    for method in methods:
        if method not in COUNTERPARTS:
            parser.error(f"--methods: {method!r} is unknown; there are {', '.join(COUNTERPARTS)}")
    chosen = problems()
    if options.problems is not None:
        wanted = options.problems.split(",")
        chosen = [problem for problem in chosen if problem.name in wanted]
        if len(chosen) < len(wanted):
            parser.error(f"--problems: there are {', '.join(problem.name for problem in problems())}")
    described = machine.describe([NBDL_NUMPY]) | {"tolerance of the gradient": f"{GTOL:g}"}
    print(report.facts(described), flush=True)
    results, sections = {}, []
    for method in methods:
        results[method] = compare(method, chosen)
        sections.append(detail_table(method, chosen, results[method]))
        print(sections[-1], flush=True)
    sections.insert(0, summary_table(chosen, results))
    print(sections[0])
    report.write(options.out, "second_order", "Second-order methods", described, [], sections, results)
    if options.plot is not None:
        plot(results, options.plot)
    print(f"\nwritten: {options.out / 'second_order'}.md and .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
