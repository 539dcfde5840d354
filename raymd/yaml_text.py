"""YAML as raymd reads it: what PyYAML's safe loader takes, but no key twice.

PyYAML keeps the last of equal keys, so the first one would be lost without a word.
"""

from collections.abc import Hashable
from typing import Any

import yaml


class _NoKeyTwice(yaml.SafeLoader):
    """The safe loader, strict about keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; an error that names a key which is there twice, and its line."""
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                text = f"{key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def load_yaml(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        yaml.YAMLError: It is not YAML, or has a key twice.
    """
    return yaml.load(text, Loader=_NoKeyTwice)  # a safe loader
