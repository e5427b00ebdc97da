"""A denoiser in front of a model that never saw noise."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lrs_jax import cli, noise
from lrs_jax.cells import views
from lrs_jax.jobs import records
from lrs_jax.tasks import denoising, photos

pytestmark = pytest.mark.usefixtures("no_figures_in_module")

SIZE, STD = (16, 24), 0.3
MODEL = """
import jax.numpy as jnp
import numpy as np

from lrs_jax.tasks import photos


def apply(params, image):
  gray = image.mean(axis=-1)
  return jnp.stack([params - gray, gray - params], axis=-1)


def predict(images):
  gray = images.mean(axis=-1)
  return np.stack([np.float32(0.5) - gray, gray - np.float32(0.5)], axis=-1)


load, classes, view = lambda: np.float32(0.5), ("dark", "bright"), lambda shape: 0
INSIDE = photos.segmentation("inside", apply, load, classes, view=view)
OUTSIDE = photos.external_segmentation(
  "outside", lambda: predict, classes, [__file__], view=view, batch_size=4
)
"""


def photograph(seed):
  """Two flat halves of a random color each, in levels of 8 bit."""
  rng = np.random.default_rng(seed)
  image = np.zeros((*SIZE, 3), np.uint8) + rng.integers(0, 256, 3, np.uint8)
  image[:, rng.integers(4, 20) :] = rng.integers(0, 256, 3)
  return image


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with photographs, a denoiser that has learnt from them, and two models."""
  folder = tmp_path_factory.mktemp("place")
  for name, numbers in (("many", range(20)), ("photos", (50, 51))):
    (folder / name).mkdir()
    for i in numbers:
      Image.fromarray(photograph(i)).save(folder / name / f"{i}.png")
  (folder / "mine.py").write_text(MODEL)
  small = ("--network", "patchnet", "--width", "16", "--depth", "1")
  steps = ("--steps", "250", "--learning-rate", "0.01")
  arguments = ("--images", str(folder / "many"), "--std", str(STD), *small, *steps)
  model = str(folder / "denoiser.npz")
  assert cli.main(["train", "denoiser", *arguments, "--model", model]) == 0
  return folder


def test_it_takes_noise_away(place):
  denoiser = denoising.load(str(place / "denoiser.npz"))
  assert denoiser.std == STD
  smoothing = noise.gaussian([[STD]], np.zeros((*SIZE, 1), int))
  before, after = [], []
  for i in range(100, 110):  # none that it has seen
    image = jnp.asarray(photograph(i), jnp.float32) / 255
    noisy = noise.sample(jax.random.key(i), smoothing, image, 0)
    cleaned = denoiser.apply(denoiser.params, noisy)
    assert ((cleaned >= 0) & (cleaned <= 1)).all()
    before.append(float(jnp.mean((noisy - image) ** 2)))
    after.append(float(jnp.mean((cleaned - image) ** 2)))
  assert np.mean(after) < np.mean(before) / 2


def test_what_is_seen_through_it_is_exact(place):
  """Outputs change with the first pixel of the view, and with none beyond it."""
  denoiser = denoising.load(str(place / "denoiser.npz"))
  seen = views.through(views.around(SIZE, 2), denoiser.view(SIZE))
  own, inner = views.around(SIZE, 2).axes[1], denoiser.view(SIZE).axes[1]
  for i, (first, end) in enumerate(seen.axes[1]):
    pixels = {j for m in range(*own[i]) for j in range(*inner[m])}
    assert pixels == set(range(first, end))


@pytest.mark.parametrize("name", ["INSIDE", "OUTSIDE"])
def test_both_are_certified_as_one_model(place, name, capsys):
  task, out = f"{place / 'mine.py'}:{name}", place / name
  given = ("--images", str(place / "photos"), "--std", str(STD), "--out", str(out))
  counted = ("--samples", "80", "--selection-samples", "20", "--alpha", "0.1")
  before = ("--denoiser", str(place / "denoiser.npz"))
  assert cli.main(["certify", task, *given, *counted, *before]) == 0
  record = records.load(out / "50" / "certificate.npz")
  assert "of an image from the layers of a PatchNet" in record.meta["view"]
  assert cli.main(["verify", str(out), "--task", task]) == 0
  assert cli.main(["certify", task, *given, *counted]) == 1  # without it, it is another job
  assert "denoiser" in capsys.readouterr().err
  assert cli.main(["certify", task, *given[:4], "--out", f"{out}-bare", *counted]) == 0
  bare = records.load(place / f"{name}-bare" / "50" / "certificate.npz")
  assert record.base.q_lower.mean() > bare.base.q_lower.mean()


def test_votes_are_the_same_inside_and_outside_of_jax(place):
  votes = []
  for name in ("INSIDE", "OUTSIDE"):
    summary = json.loads((place / name / "summary.json").read_text())
    assert summary["job"]["denoiser"].endswith("denoiser.npz")
    votes.append(records.load(place / name / "50" / "certificate.npz").estimation.votes)
  differing = np.abs(votes[0] - votes[1]).sum() / 2
  assert differing <= 1e-3 * votes[0].sum()  # near ties, which are rounded otherwise in a batch


def test_a_denoiser_is_what_train_denoiser_made(place, tmp_path):
  np.savez(tmp_path / "other.npz", a=np.zeros(3))
  with pytest.raises(ValueError, match="is no denoiser of lrs-jax train denoiser"):
    denoising.load(str(tmp_path / "other.npz"))
  with np.load(place / "denoiser.npz") as whole:
    arrays = dict(whole)
  name = next(name for name in arrays if name.endswith("kernel"))
  np.savez(tmp_path / "cut.npz", **arrays | {name: arrays[name][:1]})
  with pytest.raises(ValueError, match="holds another network"):
    denoising.load(str(tmp_path / "cut.npz"))


def test_a_photo_job_knows_nothing_of_it_by_default():
  assert photos.Config().denoiser is None
