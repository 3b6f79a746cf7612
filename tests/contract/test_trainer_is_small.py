"""The trainer is epochs and steps alone: what else a stage does stands in modules of its own."""

from guie.run import PROJECT


def test_trainer_has_fewer_than_200_lines() -> None:
    assert len((PROJECT / "src/guie/train/trainer.py").read_text(encoding="utf-8").splitlines()) < 200
