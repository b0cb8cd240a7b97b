"""The stored run of the profile ``default`` shows what a working chapter must show; verdicts are the ledger's business."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECORD = (
    Path(__file__).resolve().parents[2] / "book" / "runs" / "compositionality" / "default" / "results.json"
)


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    if not RECORD.is_file():
        pytest.skip("the profile default was not run yet")
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    assert record["data_source"] == "real"
    return {name: np.array(m["values"]) for name, m in record["metrics"].items()}


def test_model_has_learned_its_language(values: dict[str, np.ndarray]) -> None:
    assert (values["skill_at_end"] >= 0.95).all()


def test_coherent_text_is_ordered_by_k_trained_and_untrained(values: dict[str, np.ndarray]) -> None:
    for name in (
        "id_smallest_step_in_k",
        "id_smallest_step_in_k_untrained",
        "bag_of_words_smallest_step_in_k",
    ):
        assert len(values[name]) >= 3
        assert values[name].mean() > 0


def test_shuffles(values: dict[str, np.ndarray]) -> None:
    assert (values["id_coherent_minus_shuffled"] > 0).all()
    assert values["separation_ratio_shuffled_to_coherent_dot"].mean() < 0.25
    assert (values["d_shuffled_minus_coherent_dot"] > 0).all()
    assert (values["coherent_id_dip_k1"] > 0).all()
