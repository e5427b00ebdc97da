"""The README's Python runs as it stands."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_ten_lines_run(capsys):
  blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
  assert blocks
  for block in blocks:
    namespace: dict = {}
    exec(block, namespace)
    certified = namespace["certificate"].certified
    assert 0 < certified[0] <= 24 * 32
    assert certified[-1] < certified[0]
  assert capsys.readouterr().out
