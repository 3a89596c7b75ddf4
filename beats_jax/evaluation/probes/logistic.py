"""Logistic regression with an L2 penalty, converged, for a row of strengths at once.

The objective is scikit-learn's (`LogisticRegression`: lbfgs, multinomial; one-vs-rest for several labels an example):

    sum over examples of the cross-entropy + |W|^2 / (2 C),  the intercept free

solved by L-BFGS (Nocedal & Wright 2006, algorithm 7.4) from the strongest penalty to the weakest, each from the last solution.
It is fast because the axes are principal ones, so a diagonal is a good preconditioner; because the line search moves along kept
logits without a product with the examples (`optax.lbfgs` has neither); and because all strengths share the axes. scikit-learn
with `warm_start` along the same path needs 9 to 14 times the CPU time (2,000 x 768, 50 classes: 111 to 176 ms a fit against 1512
ms).

It stops when the gradient is a small share of the pull of the penalty. At the optimum pull and loss balance, so this share bounds
the relative error of the coefficients for every C. scikit-learn's fixed bound on the gradient leaves weakly penalised fits far
from their optimum (accuracy 0.362 instead of 0.395 at C = 100 in that measurement), where the path of the solver decides the
prediction.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from beats_jax.evaluation.probes.linear import Rotated, rotate

MEMORY = 8  # pairs of steps and gradient changes that L-BFGS remembers
LINE_STEPS = 8
ENOUGH = 0.5  # the line search stops when the slope has fallen to this share
TOLERANCE = 1e-3  # probabilities within 0.005 of the optimum, and the same accuracies: docs/benchmarks.md
MOST_ITERATIONS = 500
FLOOR = 1e-7  # of the gradient, in float32
RAREST = 1e-7  # probability at which a class begins that no example has: its intercept has no optimum


class Problem(NamedTuple):
    """One fold. Examples carry a last column of ones for the intercept."""

    examples: jax.Array  # float32 [n, r + 1]
    targets: jax.Array  # float32 [C, n]: one-hot, or 0/1 of several labels
    weights: jax.Array  # float32 [n]: 1 / number of examples, 0 = padding
    energy: jax.Array  # float32 [r + 1], weighted mean square of each column
    penalised: jax.Array  # float32 [r + 1]: 1, and 0 for the intercept
    multi_label: bool


class Search(NamedTuple):
    """Where L-BFGS stands. W: float32 [C, r + 1]."""

    solution: jax.Array
    logits: jax.Array  # float32 [C, n]
    gradient: jax.Array
    steps: jax.Array  # float32 [MEMORY, C, r + 1]
    changes: jax.Array  # of the gradient, with `steps`
    products: jax.Array  # float32 [MEMORY]: 1 / <step, change>, 0 = empty
    count: jax.Array  # int32 []


class LogisticPath(NamedTuple):
    """Solutions for R strengths."""

    coefficients: jax.Array  # float32 [R, C, D], in the coordinates of the given embeddings
    intercepts: jax.Array  # float32 [R, C]


@partial(jax.jit, static_argnames="multi_label")
def logistic_path(
    train: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    strengths: jax.Array,
    *,
    multi_label: bool = False,
    tolerance: float = TOLERANCE,
) -> LogisticPath:
    """Fits every strength.

    Args:
      train: float32 [n, D], centred (`linear.standardise`); rows of padding are zeros.
      targets: float32 [n, C], one-hot, or 0/1 if `multi_label`. weights: float32 [n], 1 = an example, 0 = padding.
      strengths: float32 [R], scikit-learn's C, ascending: small = strongly penalised.
      multi_label: one binary problem a class (sigmoid) instead of one problem (softmax).
      tolerance: stops when the norm of the gradient is at most this share of that of the penalty's part of it.
    Returns:
      Coefficients and intercepts; those of one softmax add up to 0 over the classes, as scikit-learn's. A class without examples
      has an intercept so low that its probability is about 1e-7.
    """
    axes = rotate(train, train[:0])
    solutions = _path(axes, targets, weights, strengths, multi_label, tolerance)
    coefficients = jax.lax.map(lambda found: found[:, :-1] @ axes.directions.T, solutions)
    return LogisticPath(coefficients, solutions[:, :, -1])


@partial(jax.jit, static_argnames="multi_label")
def logistic_logits(
    train: jax.Array, targets: jax.Array, weights: jax.Array, test: jax.Array, strengths: jax.Array, multi_label: bool
) -> jax.Array:
    """Logits of the test examples under every strength: float32 [R, m, C]. Arguments as `logistic_path`, test float32 [m, D]."""
    axes = rotate(train, test)
    solutions = _path(axes, targets, weights, strengths, multi_label, TOLERANCE)
    return jax.lax.map(lambda found: axes.test @ found[:, :-1].T + found[None, :, -1], solutions)


def _path(
    axes: Rotated, targets: jax.Array, weights: jax.Array, strengths: jax.Array, multi_label: bool, tolerance: float
) -> jax.Array:
    """Solutions float32 [R, C, r + 1], the intercept last."""
    total = jnp.maximum(jnp.sum(weights), 1.0)
    problem = Problem(
        examples=jnp.concatenate([axes.train, weights[:, None]], axis=1),
        targets=targets.T,
        weights=weights / total,
        energy=jnp.append(axes.energy / total, 1.0),
        penalised=jnp.append(jnp.ones_like(axes.energy), 0.0),
        multi_label=multi_label,
    )

    def fit(start: tuple[jax.Array, jax.Array], strength: jax.Array) -> tuple[Any, Any]:
        penalty = problem.penalised / (strength * total)
        found = _minimise(problem, penalty, *start, tolerance)
        return (found.solution, found.logits), found.solution

    solutions = jax.lax.scan(fit, _start(problem), strengths)[1]
    return solutions if multi_label else solutions - jnp.mean(solutions, axis=1, keepdims=True)


def _start(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """No coefficients, and intercepts that give every class its frequency: (float32 [C, r + 1], logits float32 [C, n])."""
    share = jnp.clip(problem.targets @ problem.weights, RAREST, 1 - RAREST)
    intercepts = jnp.log(share) - jnp.log1p(-share) if problem.multi_label else jnp.log(share)
    solution = jnp.zeros((len(share), problem.examples.shape[1])).at[:, -1].set(intercepts)
    return solution, solution[:, -1:] * problem.examples[None, :, -1]


def _minimise(problem: Problem, penalty: jax.Array, solution: jax.Array, logits: jax.Array, tolerance: float) -> Search:
    """One strength. penalty: float32 [r + 1]."""
    predicted = _probabilities(problem, logits)
    curvature = (predicted * (1 - predicted)) @ problem.weights  # [C]: how much the loss bends along a column of mean square 1
    scaling = 1.0 / (penalty[None] + jnp.maximum(curvature, 1e-6)[:, None] * problem.energy[None] + 1e-12)
    memory = jnp.zeros((MEMORY, *solution.shape))
    start = Search(
        solution,
        logits,
        _gradient(problem, penalty, solution, predicted),
        memory,
        memory,
        jnp.zeros(MEMORY),
        jnp.zeros((), jnp.int32),
    )

    def unfinished(at: Search) -> jax.Array:
        pull = jnp.linalg.norm(penalty[None] * at.solution)
        return (jnp.linalg.norm(at.gradient) > jnp.maximum(tolerance * pull, FLOOR)) & (at.count < MOST_ITERATIONS)

    def iterate(at: Search) -> Search:
        direction = -_lbfgs(at, scaling)
        moved = jnp.einsum("ck,nk->cn", direction, problem.examples)
        length = _line_search(problem, penalty, at, direction, moved)
        solution, logits = at.solution + length * direction, at.logits + length * moved
        gradient = _gradient(problem, penalty, solution, _probabilities(problem, logits))
        step, change = length * direction, gradient - at.gradient
        product = jnp.sum(step * change)
        place = at.count % MEMORY
        return Search(
            solution,
            logits,
            gradient,
            at.steps.at[place].set(step),
            at.changes.at[place].set(change),
            at.products.at[place].set(jnp.where(product > 0, 1.0 / jnp.where(product > 0, product, 1.0), 0.0)),
            at.count + 1,
        )

    return jax.lax.while_loop(unfinished, iterate, start)


def _probabilities(problem: Problem, logits: jax.Array) -> jax.Array:
    """float32 [C, n]."""
    return jax.nn.sigmoid(logits) if problem.multi_label else jax.nn.softmax(logits, axis=0)


def _gradient(problem: Problem, penalty: jax.Array, solution: jax.Array, predicted: jax.Array) -> jax.Array:
    residual = (predicted - problem.targets) * problem.weights[None]
    return jnp.einsum("cn,nk->ck", residual, problem.examples) + penalty[None] * solution


def _lbfgs(at: Search, scaling: jax.Array) -> jax.Array:
    """The two loops: inverse Hessian times gradient, from the diagonal `scaling` and the remembered steps."""
    newest_first = (at.count - 1 - jnp.arange(MEMORY)) % MEMORY

    def down(vector: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        share = at.products[place] * jnp.sum(at.steps[place] * vector)
        return vector - share * at.changes[place], share

    def up(vector: jax.Array, both: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        place, share = both
        back = at.products[place] * jnp.sum(at.changes[place] * vector)
        return vector + (share - back) * at.steps[place], None

    vector, shares = jax.lax.scan(down, at.gradient, newest_first)
    last = newest_first[0]
    product, change = at.products[last], at.changes[last]
    bend = product * jnp.sum(scaling * change * change)
    vector = scaling * vector / jnp.where(product > 0, bend, 1.0)
    return jax.lax.scan(up, vector, (newest_first, shares), reverse=True)[0]


def _line_search(problem: Problem, penalty: jax.Array, at: Search, direction: jax.Array, moved: jax.Array) -> jax.Array:
    """A step length where the slope is nearly 0: Newton on the slope, kept between lengths known too short and too long."""
    pull = jnp.sum(penalty[None] * at.solution * direction)
    stretch = jnp.sum(penalty[None] * direction * direction)
    start = jnp.sum(at.gradient * direction)

    def slope(length: jax.Array) -> tuple[jax.Array, jax.Array]:
        predicted = _probabilities(problem, at.logits + length * moved)
        first = jnp.sum((predicted - problem.targets) * moved, axis=0) @ problem.weights
        if problem.multi_label:
            spread = jnp.sum(predicted * (1 - predicted) * moved * moved, axis=0)
        else:
            spread = jnp.sum(predicted * moved * moved, axis=0) - jnp.square(jnp.sum(predicted * moved, axis=0))
        return first + pull + length * stretch, spread @ problem.weights + stretch

    def unfinished(state: tuple[jax.Array, ...]) -> jax.Array:
        _, now, _, _, _, count = state
        return (jnp.abs(now) > ENOUGH * jnp.abs(start)) & (count < LINE_STEPS)

    def refine(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        length, now, bend, low, high, count = state
        low, high = jnp.where(now < 0, length, low), jnp.where(now < 0, high, length)
        newton = length - now / jnp.maximum(bend, 1e-30)
        halved = jnp.where(jnp.isinf(high), 2 * length, 0.5 * (low + high))
        length = jnp.where((newton > low) & (newton < jnp.minimum(high, 10 * length)), newton, halved)
        return length, *slope(length), low, high, count + 1

    one = jnp.ones(())
    state = (one, *slope(one), jnp.zeros(()), jnp.full((), jnp.inf), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, refine, state)[0]
