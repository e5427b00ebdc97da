import numpy as np
import pytest
from PIL import Image

from lrs_jax.data import camvid, scenes


def test_scenes_are_labelled_images_of_the_size_asked():
  data = scenes.load("test", (24, 40), count=3)
  assert data.images.shape == (3, 24, 40, 3)
  assert data.images.dtype == np.float32
  assert 0 <= data.images.min() < data.images.max() <= 1
  assert data.labels.shape == (3, 24, 40)
  assert set(np.unique(data.labels)) <= set(range(11))
  assert len(data.classes) == 11


def test_a_scene_depends_on_its_number_split_and_seed_alone():
  three, five = (scenes.load("val", (24, 24), count=n) for n in (3, 5))
  np.testing.assert_array_equal(three.images, five.images[:3])
  assert not np.array_equal(three.images, scenes.load("val", (24, 24), count=3, seed=1).images)
  assert not np.array_equal(three.images, scenes.load("test", (24, 24), count=3).images)


def test_every_digit_appears():
  labels = scenes.load("train", (48, 64), count=50).labels
  assert (np.bincount(labels.ravel(), minlength=11) > 0).all()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [(("none", (24, 24)), "`split` must be one of"), (("test", (8, 24)), "at least 16x16")],
)
def test_scenes_that_cannot_be(arguments, message):
  with pytest.raises(ValueError, match=message):
    scenes.load(*arguments, count=1)


def make_camvid(root, size=(12, 8), label_size=None, label=3, count=3):
  for split in ("train", "val", "test"):
    for i in range(count):
      for folder, image in (
        (split, Image.new("RGB", size, (255, 0, 51))),
        (f"{split}annot", Image.new("L", label_size or size, label)),
      ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        image.save(root / folder / f"{i:03d}.png")


@pytest.mark.parametrize("inside", ["", "camvid"])
def test_camvid_is_found_in_its_folder_or_above_it(tmp_path, inside):
  make_camvid(tmp_path / inside)
  data = camvid.load(tmp_path, "val", size=(4, 6))
  assert data.images.shape == (3, 4, 6, 3)
  np.testing.assert_allclose(data.images, np.broadcast_to([1, 0, 0.2], data.images.shape))
  assert (data.labels == 3).all()
  assert data.names == ("000", "001", "002")


def test_fewer_images_are_spread_over_the_split(tmp_path):
  make_camvid(tmp_path, count=5)
  assert camvid.load(tmp_path, "test", count=3).names == ("000", "002", "004")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"label_size": (6, 4)}, "has 12x8 pixels, but its label map .* has 6x4"),
    ({"label": 12}, "must lie in .0, 11., but reach 12"),
  ],
)
def test_camvid_with_wrong_labels(tmp_path, options, message):
  make_camvid(tmp_path, **options)
  with pytest.raises(ValueError, match=message):
    camvid.load(tmp_path, "test")


def test_camvid_with_missing_parts(tmp_path):
  with pytest.raises(ValueError, match=r"no folder .*train"):
    camvid.load(tmp_path, "train")
  make_camvid(tmp_path)
  with pytest.raises(ValueError, match=r"`count` must lie in \[1, 3\]"):
    camvid.load(tmp_path, "train", count=4)
  (tmp_path / "testannot" / "001.png").unlink()
  with pytest.raises(ValueError, match=r"cannot read .*001\.png"):
    camvid.load(tmp_path, "test")
