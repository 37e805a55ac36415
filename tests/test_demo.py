from __future__ import annotations

import numpy as np

from samespace.demo.run import DemoSettings, run_demo, summary
from samespace.report import markdown_table

TINY = DemoSettings(classes=24, images=8, epochs=3, embedding_dim=16, replicates=200)


def test_the_demo_leaves_recipes_models_certificates_and_pages(tmp_path):
    said = []
    result = run_demo(tmp_path, TINY, say=said.append, quiet=True)
    assert [line[:3] for line in said if line[0].isdigit() and line[1] == "/"] == [f"{step}/5" for step in range(1, 6)]
    assert set(result.certificates) == {"independent", "compatible (matched)"}
    assert result.report.read_text().count("data:image/png") > 10
    assert result.comparison.exists()
    for name in ("old", "independent", "compatible"):
        assert (tmp_path / name / "model" / "config.json").exists()
        assert (tmp_path / "recipes" / f"{name}.yaml").exists()
    assert "rank@1" in markdown_table(result.certificates)
    assert str(result.report) in summary(result)
    # three epochs make no compatible model: the gallery refuses it, and stays as it was
    assert result.upgrade.permission == "refused"
    assert sum(line.startswith("  refused") for line in said) == 2
    assert f"samespace gallery status {tmp_path / 'gallery'}" in summary(result)
    assert summary(result).splitlines()[-1] == f"  samespace serve demo={tmp_path / 'gallery'}"


def test_the_successors_do_not_start_from_the_old_models_weights(tmp_path):
    """Models that share a start are half way to compatible, which would flatter the independent one."""
    run_demo(tmp_path, TINY, say=lambda line: None, quiet=True)
    seeds = [(tmp_path / name / "recipe.yaml").read_text().split("seed:")[-1] for name in ("old", "independent")]
    assert seeds[0] != seeds[1]


def test_a_second_demo_trains_nothing_and_finds_the_same(tmp_path):
    first = run_demo(tmp_path, TINY, say=lambda line: None, quiet=True)
    stamp = (tmp_path / "old" / "model" / "model.safetensors").stat().st_mtime_ns
    second = run_demo(tmp_path, TINY, say=lambda line: None, quiet=True)
    assert (tmp_path / "old" / "model" / "model.safetensors").stat().st_mtime_ns == stamp
    for name, certificate in first.certificates.items():
        for metric in certificate.metrics:
            np.testing.assert_equal(
                second.certificates[name].to_dict()["metrics"][metric], certificate.to_dict()["metrics"][metric]
            )
