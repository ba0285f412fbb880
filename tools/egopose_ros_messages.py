"""Find the generated messages of an editable environment: `egopose_ros.msg` and its type supports.

The package's sources are imported from the repository and its generated part lies in the environment, so that neither
hides the other wherever Python is started. Installed beside a .pth file that imports this module at start.
"""

import sys
from importlib.machinery import PathFinder

GENERATED = f"{sys.prefix}/lib/egopose_ros/python/egopose_ros"


class MessageFinder:
    """Look into the generated package for what the sources do not have; comes after every other finder."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("egopose_ros.") and name.count(".") == 1:
            return PathFinder.find_spec(name, [GENERATED], target)
        return None


sys.meta_path.append(MessageFinder)
