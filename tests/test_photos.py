"""Models and images of one's own, from the command line."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lrs_jax import cli
from lrs_jax.errors import NotLogitsError
from lrs_jax.jobs import preparing, records, running
from lrs_jax.tasks import photos, templates
from lrs_jax.tasks.data import folders

pytestmark = pytest.mark.usefixtures("no_figures_in_module")

SMALL = ("--samples", "60", "--selection-samples", "20", "--alpha", "0.1", "--std", "0.1")


@pytest.fixture
def folder(tmp_path):
  """Two photographs, one bright above and one below, and their labels; and no image."""
  for name in ("photos", "masks"):
    (tmp_path / name).mkdir()
  for name, rows in (("one", slice(0, 8)), ("two", slice(8, 16))):
    mask = np.zeros((16, 24), np.uint8)
    mask[rows] = 1
    Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    Image.fromarray(np.repeat(mask[..., None] * 255, 3, axis=2)).save(
      tmp_path / "photos" / f"{name}.png"
    )
  (tmp_path / "photos" / "notes.txt").write_text("no image")
  return tmp_path


def read(config, classes):
  return folders.read(config.images, config.size, config.masks, classes)


def certify(folder, name, *options):
  arguments = [f"{folder / name}.py:TASK", "--images", str(folder / "photos"), *options]
  return cli.main(["certify", *arguments, *SMALL, "--out", str(folder / f"out-{name}")])


@pytest.mark.parametrize("model", templates.NAMES)
def test_a_template_runs_as_it_is(folder, monkeypatch, capsys, model):
  if model in ("torch", "onnx"):
    pytest.importorskip({"onnx": "onnxruntime"}.get(model, model))
  if model == "onnx":
    write_onnx(folder / "model.onnx")
  monkeypatch.chdir(folder)
  assert cli.main(["init", f"my_{model}.py", "--model", model]) == 0
  assert f"lrs-jax certify my_{model}.py:TASK" in (folder / f"my_{model}.py").read_text()
  assert "my_task" not in (folder / f"my_{model}.py").read_text()
  assert certify(folder, f"my_{model}", "--masks", str(folder / "masks")) == 0
  out, task = folder / f"out-my_{model}", f"my_{model}.py:TASK"
  assert cli.main(["verify", str(out), "--task", task]) == 0
  assert ("no output sees more than its view" in capsys.readouterr().out) == (model != "onnx")
  for name in ("one", "two"):
    record = records.load(out / name / "certificate.npz")
    assert record.task == f"my_{model}"
    if model == "plain":  # it is right wherever noise is far from 1/2
      assert record.certified["correct/envelope"].certified[0] == 16 * 24


def write_onnx(path):
  """A convolution of 1 x 1, which tells bright pixels from dark ones."""
  onnx = pytest.importorskip("onnx")
  helper, tensor = onnx.helper, onnx.numpy_helper.from_array
  weights = np.array([[-1] * 3, [1] * 3], np.float32)[..., None, None] / 3
  shapes = {"images": ["B", 3, "H", "W"], "logits": ["B", 2, "H", "W"]}
  ends = [
    [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
    for name, shape in shapes.items()
  ]
  node = helper.make_node("Conv", ["images", "weights", "bias"], ["logits"])
  bias = np.array([0.5, -0.5], np.float32)
  graph = helper.make_graph(
    [node], "brightness", *ends, [tensor(weights, "weights"), tensor(bias, "bias")]
  )
  version = helper.make_opsetid("", 13)
  onnx.save(helper.make_model(graph, opset_imports=[version], ir_version=8), path)


def test_labels_are_optional(folder, monkeypatch):
  monkeypatch.chdir(folder)
  assert cli.main(["init", "mine.py"]) == 0
  assert certify(folder, "mine") == 0
  summary = json.loads((folder / "out-mine" / "summary.json").read_text())
  found = summary["smoothings"]["certificate"]
  assert found["accuracy"] is None
  assert found["certified"]["envelope"]["epsilon"]["curve"][0] == 1
  assert not found["certified_accuracy"]


def test_a_template_replaces_nothing_and_needs_a_name(folder, capsys):
  path = folder / "mine.py"
  path.write_text("my work")
  assert cli.main(["init", str(path)]) == 1
  assert path.read_text() == "my work"
  assert cli.main(["init", str(folder / "my-work.py")]) == 1
  assert "must be called NAME.py" in capsys.readouterr().err


def apply(params, image):
  gray = image.mean(axis=-1)
  return jnp.stack([params[0] - gray, gray - params[0]], axis=-1)


def task_of(view=None, apply=apply):
  def load():
    return [np.full((), 0.5, np.float32)]

  return photos.segmentation("mine", apply, load, ["dark", "bright"], view=view)


def config_of(folder, **changes):
  given = {"images": str(folder / "photos"), "masks": str(folder / "masks")}
  few = {"samples": 60, "selection_samples": 20, "alpha": 0.1, "std": 0.1}
  return photos.Config(data="mine", **given, **few)._replace(**changes)


def test_the_same_samples_are_certified_with_and_without_a_view(folder):
  """As if every pixel saw everything, a perturbation pays once for all of them."""
  summary = running.certify(task_of(lambda shape: 0), config_of(folder), folder / "out")
  radius = {
    name: of["certified"]["envelope"]["epsilon"]["area"]
    for name, of in summary["smoothings"].items()
  }
  assert radius["certificate"] > 3 * radius["isotropic"] > 0
  one, other = (records.load(folder / "out" / "one" / f"{name}.npz") for name in radius)
  np.testing.assert_array_equal(one.estimation.votes, other.estimation.votes)
  summary = running.certify(task_of(), config_of(folder), folder / "whole")
  assert set(summary["smoothings"]) == {"certificate"}
  assert summary["smoothings"]["certificate"]["certified"]["envelope"]["epsilon"][
    "area"
  ] == pytest.approx(radius["isotropic"], rel=0.05)


def by_batches(images):
  gray = images.mean(axis=-1)
  return np.stack([0.5 - gray, gray - 0.5], axis=-1)


def test_a_model_outside_of_jax_has_the_votes_of_the_same_in_jax(folder):
  """Up to pixels that are at the threshold, but for rounding: there are none."""
  (folder / "weights.bin").write_bytes(b"0.5")
  files = [folder / "weights.bin"]
  task = photos.external_segmentation(
    "mine", lambda: by_batches, ["dark", "bright"], files, view=lambda shape: 0, batch_size=3
  )
  found = running.certify(task, config_of(folder), folder / "out")
  wanted = running.certify(task_of(lambda shape: 0), config_of(folder), folder / "jax")
  for name in ("one", "two"):
    one, other = (records.load(folder / out / name / "certificate.npz") for out in ("out", "jax"))
    np.testing.assert_array_equal(one.estimation.votes, other.estimation.votes)
  parts = [of["smoothings"]["certificate"]["certified"] for of in (found, wanted)]
  assert parts[0] == parts[1]
  (folder / "weights.bin").write_bytes(b"0.6")
  with pytest.raises(ValueError, match="results of another job"):
    running.certify(task, config_of(folder), folder / "out")


def test_what_a_model_outside_of_jax_cannot_do_is_refused(folder):
  def task(predict, view=None):
    name, classes = "mine", ["dark", "bright"]
    return photos.external_segmentation(name, lambda: predict, classes, [], view=view)

  def far(images):
    return by_batches(images + np.roll(images, 3, axis=2))

  refused = [
    (task(far, lambda shape: 2), {}, "sees 3 pixels far"),
    (task(lambda images: by_batches(images - images.mean(0))), {}, "whatever else is evaluated"),
    (task(by_batches), {"scores": ("votes", "kl")}, "--scores: a model that is not in JAX"),
  ]
  for number, (one, changes, message) in enumerate(refused):
    with pytest.raises(ValueError, match=message):
      running.certify(one, config_of(folder, **changes), folder / f"out-{number}")


def test_a_view_that_is_too_small_is_refused_before_sampling(folder):
  def far(params, image):
    return apply(params, image + jnp.roll(image, 3, axis=1))

  with pytest.raises(ValueError, match="sees"):
    running.certify(task_of(lambda shape: 2, far), config_of(folder), folder / "out")
  assert not list((folder / "out").glob("*/*.npz")) or all(
    path.parent.name == "models" for path in (folder / "out").glob("*/*.npz")
  )


def test_other_weights_are_another_network(folder):
  data = read(config_of(folder), ("dark", "bright"))
  paths = set()
  for threshold in (0.5, 0.6):

    def load(threshold=threshold):
      return [np.full((), threshold, np.float32)]

    task = photos.segmentation("mine", apply, load, ["dark", "bright"])
    setting = preparing.Setting(
      task, config_of(folder), folder, data,
      preparing.load(task, config_of(folder), folder).items,
    )  # fmt: skip
    paths |= set(preparing.network_files(setting, None).values())
  assert len(paths) == 2


def test_images_are_read_as_they_are_or_resized(folder):
  (one, _), classes, *_ = read(config_of(folder), ("dark", "bright"))
  assert classes == ("dark", "bright")
  assert (one.name, one.x.shape, one.x.dtype) == ("one", (16, 24, 3), np.float32)
  np.testing.assert_array_equal(one.truth.reshape(16, 24), one.x[..., 0] == 1)
  pattern = {"images": str(folder / "photos" / "t*.png"), "masks": None, "size": (8, 12)}
  (two,), *_ = read(config_of(folder, **pattern), ())
  assert (two.name, two.x.shape, two.truth) == ("two", (8, 12, 3), None)


def test_images_that_cannot_be_used_are_named(folder):
  def refused(message, **changes):
    with pytest.raises(ValueError, match=message):
      read(config_of(folder, **changes), ())

  refused("--images .*nowhere: there are no images", images=str(folder / "nowhere"))
  refused("--masks has none for the image two", masks=str(folder / "masks" / "one.png"))
  Image.new("RGB", (24, 16)).save(folder / "masks" / "two.png")
  refused("of 8 bit each, but has 16x24 of mode RGB")
  Image.new("RGB", (9, 9)).save(folder / "photos" / "three.png")
  refused("images differ in size: one has 16x24 pixels, three 9x9; give --size", masks=None)
  (folder / "photos" / "one.jpg").write_bytes(b"")
  refused("two images have the same name", masks=None)
  (folder / "photos" / "one.png").unlink()
  refused("cannot read the image .*one.jpg", masks=None)


def test_a_file_beside_the_task_is_found_and_the_name_of_the_task_may_be_left_out(
  folder, monkeypatch, capsys
):
  monkeypatch.chdir(folder)
  monkeypatch.setattr(sys, "path", [*sys.path])
  assert cli.main(["init", "mine.py"]) == 0
  text = (folder / "mine.py").read_text()
  (folder / "classes_of_mine.py").write_text('CLASSES = ("dark", "bright")\n')
  (folder / "mine.py").write_text(f"import classes_of_mine\n\n{text}")
  arguments = ["certify", "mine.py", "--images", "photos", "--masks", "masks", *SMALL]
  assert cli.main(arguments) == 0
  assert cli.main(["report", "lrs-out/mine", "--task", "mine.py"]) == 0
  capsys.readouterr()
  assert cli.main(["report", "lrs-out/mine"]) == 1
  assert "--task FILE.py:TASK" in capsys.readouterr().err


def external_task(folder, predict, files=()):
  return photos.external_segmentation("mine", lambda: predict, ["dark", "bright"], files)


def test_what_a_model_outside_of_jax_lacks_is_said(folder):
  task = external_task(folder, lambda images: images[:, ::2, ::2, :2])
  with pytest.raises(NotLogitsError, match="an image of 16x24 pixels it returns 8x12 outputs"):
    running.certify(task, config_of(folder), folder / "out")
  task = external_task(folder, lambda images: images[..., :2], [folder / "weights.pt"])
  with pytest.raises(ValueError, match=r"no file .*weights.pt, which the task mine says"):
    running.certify(task, config_of(folder), folder / "out")
