"""AdamW, against the formulas of the papers in float64."""

from __future__ import annotations

import numpy as np

from lrc.refine.adam import AdamW, cosine_rate


def test_steps_are_those_of_the_papers() -> None:
    rng = np.random.default_rng(2)
    adam = AdamW[str](0.8, 0.9, 1e-6, 0.1)
    x = {"a": rng.standard_normal(5).astype(np.float32), "b": np.ones(2, np.float32)}
    before = {key: value.copy() for key, value in x.items()}
    y, m, v = x["a"].astype(np.float64), np.zeros(5), np.zeros(5)
    for step in range(1, 6):
        g = rng.standard_normal(5).astype(np.float32)
        x = adam.moved(x, {"a": g}, 0.05)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g.astype(np.float64) ** 2
        first, second = m / (1 - 0.8**step), v / (1 - 0.9**step)
        y = y - 0.05 * (first / (np.sqrt(second) + 1e-6) + 0.1 * y)
    np.testing.assert_allclose(x["a"], y, rtol=1e-5)
    np.testing.assert_array_equal(x["b"], before["b"])
    assert x["a"].dtype == np.float32


def test_the_first_step_has_the_size_of_the_rate() -> None:
    x = AdamW[int]().moved({0: np.zeros(3, np.float32)}, {0: np.array([1e-3, -5, 70.0])}, 0.25)
    np.testing.assert_allclose(x[0], [-0.25, 0.25, -0.25], rtol=1e-4)


def test_rates_rise_and_fall_to_nothing() -> None:
    rates = [cosine_rate(step, 20, 4) for step in range(20)]
    assert max(rates) == rates[3] == rates[4] == 1.0
    assert rates[:4] == sorted(rates[:4])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.02
