"""Cards say what the certificates say, and no more."""

import json

import numpy as np
import pytest

from lrs_jax import collective, noise, storage
from lrs_jax.cli import main
from lrs_jax.confidence import certificates, corrections
from lrs_jax.jobs import cards, records
from lrs_jax.tasks import common, images
from tests.making import image_record as make

FAMILIES = {
  "gaussian": (noise.gaussian([[0.2, np.inf]], [0, 1]), "||delta||_2 <= epsilon"),
  "laplace": (noise.laplace([[0.2, 0.4]], [0, 1]), "||delta||_1 <= epsilon"),
  "uniform": (noise.uniform([[0.2, 0.4]], [0, 1]), "||delta||_1 <= epsilon"),
  "ablation": (noise.ablation([[0.9, 0.95]], [0, 1]), "number of entries"),
  "flips": (noise.flips([[0.1, 0.2]], [[0.6, 0.9]], [0, 1]), "additions (0 to 1) and deletions"),
}
SECTIONS = {
  *("claim", "perturbations", "confidence", "certified", "outputs", "noise", "samples"),
  *("context", "assumptions", "trusted", "recheck"),
}


def card_of(smoothing, budgets, alpha=0.01, forfeit=None):
  votes = np.array([[990, 10], [800, 200], [520, 480]])
  base = certificates.from_votes(smoothing, [0, 0, 0], votes, votes, alpha=alpha)
  certificate = collective.certify(
    base.weights,
    base.groups,
    base.eta,
    budgets,
    forfeit=base.forfeit if forfeit is None else forfeit,
  )
  return certificate, cards.of_certificate(
    smoothing,
    base,
    certificate,
    alpha=0.01,
    num_samples=1000,
    selection_samples=100,
    context={"model": "abc", "seed": 3},
  )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_card_that_json_takes(family):
  smoothing, perturbations = FAMILIES[family]
  kinds = smoothing.weights.shape[0]
  _, card = card_of(smoothing, np.zeros((1, kinds)))
  assert set(card) == SECTIONS
  assert perturbations in card["perturbations"]
  assert card["noise"]["family"] == family
  assert json.loads(json.dumps(card)) == card
  text = cards.markdown(card)
  assert cards.markdown(json.loads(json.dumps(card))) == text
  for part in (card["claim"], "seed 3", "model abc", *cards.ASSUMPTIONS, "estimation 1000"):
    assert part in text
  assert "2 or more of 3 predictions cannot change" in card["claim"]
  assert card["outputs"]["abstaining"] == 1


def test_hidden_cells_are_counted_and_not_called_infinite():
  _, card = card_of(FAMILIES["gaussian"][0], [0.0])
  assert card["noise"] == {
    "family": "gaussian",
    "standard deviation": "0.2",
    "hidden cells": 1,
  }


def test_numbers_are_those_of_the_certificate():
  radii = np.linspace(0, 0.5, 21)
  certificate, card = card_of(noise.gaussian([[0.2]], [0]), radii**2)
  (row,) = card["certified"]["rows"]
  for budget, certified in zip(card["certified"]["budgets"], row["certified"], strict=True):
    i = np.flatnonzero(np.isclose(radii, float(budget.removeprefix("epsilon = ")), atol=1e-3))[0]
    assert certified == certificate.certified[i]
  assert row["certified"][0] == 2
  assert min(row["certified"]) > 0  # not a table of zeros
  assert row["method"].startswith("envelope")


def test_a_generous_correction_forfeits():
  generous = corrections.k_fwer(0.01, 3, 2)
  certificate, card = card_of(noise.gaussian([[0.2]], [0]), [0.0], alpha=generous)
  assert certificate.certified.tolist() == [1]
  assert card["certified"]["rows"][0]["certified"] == [1]  # given up once
  assert "1 or more of 3" in card["claim"]
  assert "all but at most 1" in card["confidence"]
  with pytest.raises(ValueError, match=r"give `forfeit=base\.forfeit` to"):
    card_of(noise.gaussian([[0.2]], [0]), [0.0], alpha=generous, forfeit=0)


def test_nothing_certified_is_said():
  _, card = card_of(noise.gaussian([[0.2]], [0]), [9.0])
  assert card["claim"] == "Nothing is certified of 3 predictions."
  assert "Nothing is certified" in cards.markdown(card)


def test_a_record_on_disk(tmp_path, capsys):
  record = make()
  path = tmp_path / "image" / "certificate.npz"
  records.save(path, record)
  card = cards.of_file(path)
  assert len(card["certified"]["rows"]) == len(record.certified)
  assert "device" not in card["context"]
  storage.save_json(tmp_path / "summary.json", {"job": record.meta["job"], "device": "8 x gpu"})
  assert cards.of_file(path)["context"]["device"] == "8 x gpu"
  storage.save_json(tmp_path / "summary.json", {"job": {"seed": 1}, "device": "8 x gpu"})
  assert "device" not in cards.of_file(path)["context"]  # another job's
  cards.save(path.parent, card)
  assert json.loads((path.parent / "card.json").read_text()) == card
  assert main(["card", str(path)]) == 0
  assert capsys.readouterr().out == (path.parent / "card.md").read_text()
  assert main(["card", str(path), "--json"]) == 0
  assert json.loads(capsys.readouterr().out) == card


def test_no_card_for_what_is_not_proven(tmp_path, capsys):
  record = make()
  records.save(
    tmp_path / "certificate.npz", record._replace(bounds=record.bounds._replace(alpha=0.5), meta={})
  )
  assert main(["card", str(tmp_path / "certificate.npz")]) == 1
  captured = capsys.readouterr()
  assert "does not follow" in captured.err
  assert not captured.out


@pytest.mark.parametrize(
  ("number", "text"),
  [(0.42375, "0.423"), (0.3, "0.3"), (0.09**0.5, "0.3"), (1.0, "1"), (0.9999, "0.999")]
  + [(123456.0, "1.23e+05"), (1.0019, "1"), (2.999e-7, "2.99e-07"), (0.0, "0")],
)
def test_a_radius_is_never_rounded_up(number, text):
  assert cards._budget(noise.laplace([[0.2]], [0]), (number,)) == f"epsilon = {text}"


def test_the_claim_states_alpha_as_it_is():
  _, card = card_of(noise.gaussian([[0.2]], [0]), [0.0])
  assert card["claim"].startswith("With probability at least 1 - 0.01, ")


def test_what_a_record_says_of_views_and_options_is_taken_on_trust():
  record = make()
  config = images.Config()
  known = record._replace(meta={**record.meta, "job": common.plain_config(config)})
  older = record._replace(meta={**known.meta, "job": {**known.meta["job"], "gone": 1}})
  told = [" ".join(cards.trusted(one)) for one in (known, older)]
  assert "options are not those of this version" not in told[0]
  assert "options are not those of this version" in told[1]
  for option, then in (("until", 0), ("view", 1)):  # off by default, and not
    job = {name: value for name, value in known.meta["job"].items() if name != option}
    without = known._replace(meta={**known.meta, "job": job})
    assert cards.trusted(without) == cards.trusted((known, older)[then])
  seen = known._replace(meta={**known.meta, "view": "layers\nof a network"})
  assert "no output sees more than its view" not in told[0]
  assert cards.trusted(seen)[-1].endswith("would over-claim: layers of a network")
