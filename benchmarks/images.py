"""Localized smoothing against its alternatives on CamVid: the study behind the README's main plot.

    PYTHONPATH=. python benchmarks/images.py --data-dir DIR --work lrs-out/images

does every piece that is not done yet, in an order that gives a first comparison early: networks,
counts and certificates; `--size 180x240` does it on larger images. It may be stopped at any time.
Results are one small JSON file for every way of smoothing under benchmarks/results/images, and
images_report.py makes tables and figures of them. Configurations, networks, counts, certificates
and pilots are in image_study/.
"""

import argparse
import textwrap
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.image_study import certifying, counting, networks, pilots
from benchmarks.image_study.configurations import STUDIES, Sizes, Smoothing, marks, smoothings
from lrs_jax import storage
from lrs_jax.jobs.networks import Obtained
from lrs_jax.tasks.data import camvid
from lrs_jax.tasks.data.images import LabelledImages

EXTRA = ("certified-iou", "choice", "noises", "rates")
"""Pieces beside the ways of smoothing."""


def main(arguments: list[str] | None = None) -> None:
  pieces_of = {size: (*smoothings(sizes), *EXTRA) for size, sizes in STUDIES.items()}
  parser = argparse.ArgumentParser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="\n\n".join(
      textwrap.fill(f"Pieces at {size}: {', '.join(pieces)}.", 100, break_on_hyphens=False)
      for size, pieces in pieces_of.items()
    ),
  )
  parser.add_argument("--data-dir", required=True, help="folder of camvid/")
  parser.add_argument(
    "--work", type=Path, default=Path("lrs-out/images"), help="folder of networks and counts"
  )
  parser.add_argument(
    "--out", type=Path, default=Path("benchmarks/results/images"), help="folder of JSON files"
  )
  parser.add_argument("--size", choices=STUDIES, default="64x96", help="of the images")
  parser.add_argument("--only", nargs="*", metavar="PIECE", help="pieces to do, of those below")
  options = parser.parse_args(arguments)
  sizes = STUDIES[options.size]
  pieces = pieces_of[options.size]
  unknown = set(options.only or ()) - set(pieces)
  if unknown:
    parser.error(f"--only takes {', '.join(pieces)}; not {', '.join(sorted(unknown))}")
  out = options.out if sizes.crop is None else options.out / options.size
  run(sizes, options.data_dir, options.work, out, options.only or pieces)


def run(sizes: Sizes, data_dir: str, work: Path, out: Path, names: tuple[str, ...]) -> None:
  """Does every piece of the named ways of smoothing that is not done yet."""
  test = camvid.load(data_dir, "test", sizes.size, sizes.images)
  known = smoothings(sizes)
  counts = work / ("counts" if sizes.crop is None else f"counts-{sizes.size[0]}x{sizes.size[1]}")
  for name in names:
    smoothing = known.get(name, known["localized-0.4"])
    network = networks.obtain(smoothing.network, sizes, data_dir, work / "networks")
    if name in known:
      folder = counts / name.removesuffix("-exact").removesuffix("-more")
      result = one(name, smoothing, sizes, network, test, folder)
    elif name == "rates":
      result = pilots.rates(sizes, test.images[0], network.params)
    elif name == "certified-iou":
      folders = {n: counts / n for n in ("localized-0.4", "isotropic-0.4")}
      result = certifying.certify_iou(sizes, test, folders)
    else:
      pilot = camvid.load(data_dir, "val", sizes.size, min(sizes.images, 4))
      if name == "choice":
        result = pilots.choose(sizes, pilot, network.params)
      else:
        trained = {
          name: networks.obtain(name, sizes, data_dir, work / "networks").params
          for name in dict.fromkeys(smoothing.network for smoothing in known.values())
          if (work / "networks" / f"{name}.npz").exists() and name != "strict"
        }
        result = pilots.compare_noises(sizes, pilot, trained)
    storage.save_json(out / f"{name}.json", result)
    print(f"{name}: done", flush=True)


def one(
  name: str,
  smoothing: Smoothing,
  sizes: Sizes,
  network: Obtained,
  test: LabelledImages,
  counts: Path,
) -> dict[str, Any]:
  """Counts and certifies all images under one way of smoothing."""
  folders = [counts / image for image in test.names]
  samples = sum(wanted[-1] for wanted in marks(smoothing, sizes))
  with tqdm(total=len(folders) * samples, desc=name, unit="sample") as progress:
    for i, folder in enumerate(folders):
      counting.count(smoothing, sizes, network, test.images[i], i, folder, progress)
  result = certifying.certify(smoothing, sizes, network.digest, test, folders)
  if smoothing.centers:
    for i, folder in enumerate(folders):
      counting.center(smoothing, sizes, network.params, test.images[i], i, folder)
    result["center"] = certifying.center_curves(smoothing, sizes, test, folders)
  return result


if __name__ == "__main__":
  main()
