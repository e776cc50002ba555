"""Official files of DALL-E's discrete VAE (`dall_e.Encoder`, `dall_e.Decoder`): names end in w, b.

Our tree is {"encoder": ..., "decoder": ...} or one of the two, of `nn.dalle`; the rules follow from
its paths, whatever its sizes. The two official files have the same names, so rules are of one.
"""

import re
from collections.abc import Iterable

from maskjax.errors import UserError
from maskjax.interop.rules import Layout, Rule
from maskjax.interop.transforms import CONV, IDENTITY

_PATH = re.compile(r"(encoder|decoder)/(.+)/(kernel|bias)")


def rules(paths: Iterable[str]) -> Layout:
    """Rules of every leaf at these paths ("encoder/group_1_block_2/conv_3/kernel").

    Raises:
        UserError: The paths are of both networks.
    """
    paths = tuple(paths)
    if len({path.split("/")[0] for path in paths}) > 1:
        raise UserError(
            "layout dalle: a file holds the encoder or the decoder, but this model needs both; take"
            " the folder of a run, or leave the decoder out (tokenizer.decoder=False)"
        )
    return tuple(_rule(path) for path in paths)


def _rule(path: str) -> Rule:
    _, name, kind = _PATH.fullmatch(path).groups()
    group = re.fullmatch(r"(group_\d+)_(block_\d+)/(\w+)", name)
    if group:
        inside = "id_path" if group[3] == "id_path" else f"res_path.{group[3]}"
        name = f"{group[1]}.{group[2]}.{inside}"
    elif name == "output":
        name = "output.conv"
    letter, transform = ("w", CONV) if kind == "kernel" else ("b", IDENTITY)
    return Rule(path, f"blocks.{name}.{letter}", transform)
