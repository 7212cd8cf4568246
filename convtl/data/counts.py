"""How many training images the largest class of a domain has, without opening one."""

import numpy as np

from convtl.config.domains import (
    DomainConfig,
    ImageFolderConfig,
    NoiseConfig,
    PatchesConfig,
    TypedScriptConfig,
)
from convtl.data import folder
from convtl.data.formats import may_be_a_picture, unread_format
from convtl.errors import UserError


def largest_class(config: DomainConfig) -> int:
    """Training images of the largest class: what `n_per_class=all` stands for.

    Files that by their names are no pictures, or cannot be read, are not counted. Those that turn out to be none
    are; a class that has fewer gives what it has.

    Raises:
      UserError: the kind of domain does not say before its images are decoded; or as `folder.scan`.
    """
    match config:
        case ImageFolderConfig():
            return _of_folder(config)
        case TypedScriptConfig() | PatchesConfig() | NoiseConfig():
            return config.per_class.train
        case _:
            raise UserError(
                f"n_per_class: got 'all' with a target of kind {config.kind}; accepted: numbers, or a folder of "
                "pictures as target"
            )


def _of_folder(config: ImageFolderConfig) -> int:
    tree = folder.scan(config)
    labels = [label for path, label in tree.files["train"] if _counts(path.name)]
    largest = int(np.max(np.bincount(labels, minlength=len(tree.class_names))))
    left = largest
    for split, share in folder.SHARES.items():
        if split not in tree.files:
            drawn, cap = max(1, round(share * largest)), getattr(config.per_class, split)
            left -= drawn if cap is None else min(drawn, cap)
    most = config.per_class.train or left
    return max(1, min(left, most))


def _counts(name: str) -> bool:
    return may_be_a_picture(name) and unread_format(name) is None
