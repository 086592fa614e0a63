#!/usr/bin/env python
"""Second-order methods of nbdl and SciPy on the same problems.

    python examples/benchmarks/second_order.py
    python examples/benchmarks/second_order.py --methods bfgs,trust-exact --problems Wood,Beale
    python examples/benchmarks/second_order.py --plot examples/benchmarks/results/second_order.png

Both get the same functions and exact derivatives, by automatic differentiation, and the same tolerance of the
gradient. What is counted are evaluations of the function. Nothing is timed.

The program fails if what is claimed does not hold: a method reaches every minimum that its counterpart
reaches, with at most 1.5 times as many evaluations on the median problem and 3 times as many on any; and
where there is no minimum to be found, all methods say so.
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
from second_order_problems import Ending, Problem, bounded_problems, endings, problems

import nbdl
from nbdl.optim.methods import METHODS

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
    "l-bfgs-b": "L-BFGS-B",
    "levenberg-marquardt-b": "least_squares, trf",
}
MEDIAN_RATIO, LARGEST_RATIO = 1.5, 3.0  # evaluations for one of SciPy, at most
MAX_ITERATIONS = 2000
SCIPY_OPTIONS: dict[str, dict[str, float]] = {
    "Newton-CG": {
        "xtol": 1e-8,
        "maxiter": 300,
    },  # it has no tolerance of the gradient, and may go on for hours
    "L-BFGS-B": {"ftol": 0.0, "maxfun": 10 * MAX_ITERATIONS},
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
    if needs_residuals(method):
        found = nbdl.optim.least_squares(
            problem.residuals,
            problem.start,
            bounds=sides(problem),
            max_nfev=MAX_ITERATIONS,
        )
        return Run(2 * found.cost, found.nfev, str(found.status))
    found = nbdl.optim.minimize(
        problem.function, problem.start, method=method, bounds=problem.bounds, tol=problem.gtol,
        options={"maxiter": MAX_ITERATIONS},
    )  # fmt: skip
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
                    bounds=sides(problem),
                    method=method.split(", ")[1],
                    max_nfev=MAX_ITERATIONS,
                )
                return Run(2 * found.cost, calls, str(found.status))
            tolerance = {} if method == "Newton-CG" else {"gtol": problem.gtol}
            found = scipy.optimize.minimize(
                value_and_gradient,
                problem.start,
                jac=True,
                **second_derivatives(method, problem),
                method=method,
                bounds=problem.bounds,
                options={"maxiter": MAX_ITERATIONS, **tolerance} | SCIPY_OPTIONS.get(method, {}),
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


def sides(problem: Problem) -> tuple[Any, Any]:
    """Lower and upper bounds, as `least_squares` wants them."""
    if problem.bounds is None:
        return -np.inf, np.inf
    return (
        np.array([-np.inf if low is None else low for low, _ in problem.bounds]),
        np.array([np.inf if high is None else high for _, high in problem.bounds]),
    )


def needs_residuals(method: str) -> bool:
    """Whether a method is one of least squares."""
    return method.startswith("levenberg-marquardt")


def suitable(method: str, problem: Problem) -> bool:
    """Whether a method is meant for a problem: of residuals, with or without bounds."""
    wants_bounds = method in ("l-bfgs-b", "levenberg-marquardt-b")
    has_residuals = problem.residuals is not None or not needs_residuals(method)
    return has_residuals and wants_bounds == (problem.bounds is not None)


def compare(method: str, chosen: list[Problem]) -> dict[str, tuple[Run, Run]]:
    """Both packages on all problems: name of the problem -> (nbdl, SciPy)."""
    counterpart = COUNTERPARTS[method]
    return {p.name: (run_nbdl(method, p), run_scipy(counterpart, p)) for p in chosen if suitable(method, p)}


class Summary(NamedTuple):
    """A method beside its counterpart.

    Attributes:
        ours: the problems whose published minimum it reached.
        theirs: likewise, of its counterpart.
        ratios: evaluations for one of SciPy, where both reached the same minimum.
    """

    ours: list[str]
    theirs: list[str]
    ratios: list[float]

    @property
    def missed(self) -> list[str]:
        """The problems that only SciPy solved."""
        return [name for name in self.theirs if name not in self.ours]

    def broken(self) -> str:
        """Which claim does not hold; nothing where all hold."""
        if self.missed:
            return f"did not reach the minimum of {', '.join(self.missed)}"
        if self.ratios and statistics.median(self.ratios) > MEDIAN_RATIO:
            return f"median ratio {statistics.median(self.ratios):.2f}"
        if self.ratios and max(self.ratios) > LARGEST_RATIO:
            return f"largest ratio {max(self.ratios):.2f}"
        return ""


def summarized(chosen: list[Problem], found: dict[str, tuple[Run, Run]]) -> Summary:
    """What a method did on all problems."""
    by_name = {problem.name: problem for problem in chosen}
    ours, theirs = (
        [name for name, runs in found.items() if reached(by_name[name], runs[k].value)] for k in range(2)
    )
    ratios = [ratio_of(by_name[name], *runs) for name, runs in found.items()]
    return Summary(ours, theirs, [ratio for ratio in ratios if ratio is not None])


def ends(method: str, ending: Ending) -> tuple[str, bool]:
    """The status with which a method ends where there is no minimum, and whether it is honest."""
    found = nbdl.optim.minimize(ending.function, ending.start, method=method, tol=1e-6)
    knows = METHODS[method]().needs_hessian
    status = found.status.name
    is_honest = status in (ending.curved if knows else ending.honest)
    if knows and ending.note:
        status = f"{status}, {ending.note}" if ending.note in found.message else status
        is_honest &= ending.note in found.message
    return status, is_honest


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


def summary_table(summaries: dict[str, Summary], counts: dict[str, int]) -> str:
    """A line a method."""
    rows = []
    for method, found in summaries.items():
        ratios, count = found.ratios, counts[method]
        rows.append([
            method, COUNTERPARTS[method], f"{len(found.ours)}/{count}", f"{len(found.theirs)}/{count}",
            ", ".join(found.missed) or report.MISSING,
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


def endings_table(found: dict[str, dict[str, tuple[str, bool]]]) -> str:
    """A line a problem without a minimum: how methods end there, those that end alike together."""
    rows = []
    for name, by_method in found.items():
        alike: dict[str, list[str]] = {}
        for method, (status, _) in by_method.items():
            alike.setdefault(status, []).append(method)
        rows += [[name, status, ", ".join(methods)] for status, methods in alike.items()]
    return f"\n## Where there is no minimum\n\n{report.table(['problem', 'status', 'methods'], rows)}"


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
    chosen = every = [*problems(), *bounded_problems()]
    if options.problems is not None:
        wanted = options.problems.split(",")
        chosen = [problem for problem in chosen if problem.name in wanted]
        if len(chosen) < len(wanted):
            parser.error(f"--problems: there are {', '.join(problem.name for problem in every)}")
    described = machine.describe([NBDL_NUMPY]) | {
        "tolerance of the gradient": "1e-06; 1e-08 for Watson 9 and 12"
    }
    print(report.facts(described), flush=True)
    results, summaries, details = {}, {}, []
    for method in methods:
        results[method] = compare(method, chosen)
        summaries[method] = summarized(chosen, results[method])
        details.append(detail_table(method, chosen, results[method]))
        print(details[-1], flush=True)
    sections = [summary_table(summaries, {method: len(found) for method, found in results.items()})]
    broken = {method: found.broken() for method, found in summaries.items() if found.broken()}
    without = [method for method in METHODS if method in methods or methods == list(COUNTERPARTS)]
    found = {one.name: {method: ends(method, one) for method in without} for one in endings()}
    sections.append(endings_table(found))
    for name, by_method in found.items():
        broken |= {f"{method}, {name}": end for method, (end, honest) in by_method.items() if not honest}
    print("\n".join(sections))
    if options.plot is not None:
        plot(results, options.plot)
        sections.append(f"\n![Evaluations of nbdl and SciPy, a dot a problem]({options.plot.name})")
    report.write(
        options.out, "second_order", "Second-order methods", described, [], sections + details, results
    )
    print(f"\nwritten: {options.out / 'second_order'}.md and .json")
    for name, claim in broken.items():
        print(f"does not hold: {name}: {claim}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
