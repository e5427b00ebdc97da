import numpy as np
import pytest
from PIL import Image

from lrs_jax.tasks.data import camvid, cityscapes, scenes, voc


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
    ({"label": 12}, r"must lie in \[0, 11\) or be 11 \(void\), but 12 is"),
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


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(array, np.uint8)).save(path)


def make_voc(root, names=("2007_000032", "2007_000039", "2008_000002"), size=(12, 8), label=15):
  """A devkit with two training images, one for validation, and all of them in trainaug."""
  lists = root / "ImageSets" / "Segmentation"
  lists.mkdir(parents=True)
  width, height = size
  for name in names:
    save(root / "JPEGImages" / f"{name}.jpg", np.full((height, width, 3), (255, 0, 51)))
    label_map = np.full((height, width), label)
    label_map[0] = 255
    for folder in ("SegmentationClass", "SegmentationClassAug"):
      save(root / folder / f"{name}.png", label_map)
    palette = Image.open(root / "SegmentationClass" / f"{name}.png").convert("P")
    palette.putpalette([3 * i % 256 for i in range(768)])  # values are indices, whatever the color
    palette.putdata(label_map.ravel().tolist())
    palette.save(root / "SegmentationClass" / f"{name}.png")
  (lists / "train.txt").write_text("".join(f"{name}\n" for name in names[:2]))
  (lists / "val.txt").write_text(f"{names[2]}\n")
  lines = (f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in names)
  (lists / "trainaug.txt").write_text("".join(lines))


@pytest.mark.parametrize("inside", ["VOCdevkit/VOC2012", "VOC2012", ""])
def test_voc_is_found_in_its_folder_or_above_it(tmp_path, inside):
  make_voc(tmp_path / inside)
  data = voc.load(tmp_path, "train")
  assert data.names == ("2007_000032", "2007_000039")
  assert data.images.shape == (2, 8, 12, 3)
  np.testing.assert_allclose(data.images[:, 4, 6], [[1, 0, 0.2]] * 2, atol=0.02)  # JPEG
  assert (data.labels[:, 0] == voc.VOID).all()
  assert (data.labels[:, 1:] == 15).all()
  assert data.labels.dtype == np.int32
  assert data.classes[15] == "person"
  assert len(data.classes) == 21


@pytest.mark.parametrize("file", ["trainaug.txt", "train_aug.txt"])
def test_voc_with_the_additional_annotations(tmp_path, file):
  make_voc(tmp_path)
  lists = tmp_path / "ImageSets" / "Segmentation"
  (lists / "trainaug.txt").rename(lists / file)
  save(tmp_path / "SegmentationClassAug" / "2008_000002.png", np.full((8, 12), 20))
  data = voc.load(tmp_path, "trainaug")
  assert data.names == ("2007_000032", "2007_000039", "2008_000002")
  assert (data.labels[2] == 20).all()
  assert (voc.load(tmp_path, "val").labels[0, 1:] == 15).all()  # without them


def test_voc_images_of_different_sizes_need_one_to_resize_to(tmp_path):
  make_voc(tmp_path)
  save(tmp_path / "JPEGImages" / "2007_000039.jpg", np.zeros((9, 7, 3)))
  save(tmp_path / "SegmentationClass" / "2007_000039.png", np.full((9, 7), 3))
  with pytest.raises(ValueError, match="12x8 pixels and, 2007_000039, 7x9; give a size"):
    voc.load(tmp_path, "train")
  data = voc.load(tmp_path, "train", size=(4, 6))
  assert data.images.shape == (2, 4, 6, 3)
  assert (data.labels[1] == 3).all()


def test_voc_with_missing_parts(tmp_path):
  with pytest.raises(ValueError, match="`split` must be one of train, val, trainval, trainaug"):
    voc.load(tmp_path, "test")
  with pytest.raises(ValueError, match=r"no folder .*JPEGImages: Pascal VOC needs VOCdevkit"):
    voc.load(tmp_path, "train")
  make_voc(tmp_path)
  with pytest.raises(ValueError, match=r"no list trainval\.txt in .*Segmentation"):
    voc.load(tmp_path, "trainval")
  (tmp_path / "ImageSets" / "Segmentation" / "trainval.txt").write_text("\n")
  with pytest.raises(ValueError, match=r"trainval\.txt lists no images"):
    voc.load(tmp_path, "trainval")
  with pytest.raises(ValueError, match=r"`count` must lie in \[1, 2\]"):
    voc.load(tmp_path, "train", count=0)
  (tmp_path / "JPEGImages" / "2008_000002.jpg").unlink()
  with pytest.raises(ValueError, match=r"cannot read .*2008_000002\.jpg"):
    voc.load(tmp_path, "val")


def test_voc_with_a_label_that_is_none(tmp_path):
  make_voc(tmp_path, label=21)
  with pytest.raises(ValueError, match=r"must lie in \[0, 21\) or be 255 \(void\), but 21 is"):
    voc.load(tmp_path, "train")


def make_cityscapes(root, kind="labelIds", label_map=None):
  """Two cities with two images of 4 x 34 pixels each in every split; labels are the 34 ids."""
  label_map = np.tile(np.arange(34), (4, 1)) if label_map is None else np.asarray(label_map)
  for split in ("train", "val", "test"):
    for city in ("aachen", "zurich"):
      for i in range(2):
        stem = f"{city}_{i:06d}_000019"
        image = np.full((*label_map.shape, 3), (255, 0, 51))
        save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", image)
        save(root / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png", label_map)


@pytest.mark.parametrize("inside", ["", "cityscapes"])
def test_cityscapes_is_found_in_its_folder_or_above_it(tmp_path, inside):
  make_cityscapes(tmp_path / inside)
  data = cityscapes.load(tmp_path, "val")
  assert data.names == (
    "aachen_000000_000019", "aachen_000001_000019", "zurich_000000_000019", "zurich_000001_000019",
  )  # fmt: skip
  assert data.images.shape == (4, 4, 34, 3)
  np.testing.assert_allclose(data.images, np.broadcast_to([1, 0, 0.2], data.images.shape))
  assert cityscapes.load(tmp_path, "val", size=(2, 17), count=2).images.shape == (2, 2, 17, 3)


def test_cityscapes_ids_are_renumbered():
  """Of 34 ids the evaluation counts 19, in their order; by name: those that are no void."""
  void = {0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30}
  assert sorted({*range(34)} - void) == list(cityscapes.IDS)
  assert len(cityscapes.CLASSES) == len(cityscapes.IDS) == 19


def test_cityscapes_labels(tmp_path):
  make_cityscapes(tmp_path / "ids")
  labels = cityscapes.load(tmp_path / "ids", "train").labels[0, 0]
  for name, number in (("road", 7), ("traffic light", 19), ("person", 24), ("train", 31)):
    assert cityscapes.CLASSES[labels[number]] == name
  assert (np.sort(labels)[-15:] == cityscapes.VOID).all()
  assert (np.sort(labels)[:19] == np.arange(19)).all()
  make_cityscapes(tmp_path / "both", label_map=[[7, 0]])
  make_cityscapes(tmp_path / "both", kind="labelTrainIds", label_map=[[18, 255]])
  assert cityscapes.load(tmp_path / "both", "train").labels[0].tolist() == [[18, 255]]


def test_cityscapes_with_wrong_or_missing_parts(tmp_path):
  with pytest.raises(ValueError, match="`split` must be one of train, val, test"):
    cityscapes.load(tmp_path, "trainaug")
  with pytest.raises(ValueError, match=r"no folder .*leftImg8bit.train"):
    cityscapes.load(tmp_path, "train")
  (tmp_path / "leftImg8bit" / "val").mkdir(parents=True)
  (tmp_path / "gtFine" / "val").mkdir(parents=True)
  with pytest.raises(ValueError, match=r"no files CITY/\*_leftImg8bit.png"):
    cityscapes.load(tmp_path, "val")
  make_cityscapes(tmp_path, label_map=[[34, 7]])
  with pytest.raises(ValueError, match=r"must lie in \[0, 19\) or be 255 \(void\), but 34 is"):
    cityscapes.load(tmp_path, "val")
  next((tmp_path / "gtFine" / "train" / "aachen").iterdir()).unlink()
  with pytest.raises(ValueError, match=r"cannot read .*_gtFine_labelIds\.png"):
    cityscapes.load(tmp_path, "train", count=1)
