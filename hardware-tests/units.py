"""What the unit files grant, read from them: the lab's processes must have no more on a test than on the box."""

import os
import re

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "systemd")


class Unit:
    """The lines of one service that the lab can keep to: user, groups, capabilities, environment, umask, descriptors, pause before a restart."""

    def __init__(self, name):
        self.name = name
        with open(os.path.join(FOLDER, f"portcullis-{name}.service")) as file:
            self.lines = [line.strip().partition("=")[::2] for line in file if "=" in line and not line.startswith("#")]
        self.user = self._last("User", "root")
        self.groups = self._words("SupplementaryGroups")
        self.capabilities = [capability.removeprefix("CAP_").lower() for capability in self._words("AmbientCapabilities")]
        self.umask = int(self._last("UMask", "0022"), 8)
        self.descriptors = self._last("LimitNOFILE", None)
        self.restart_pause = _seconds(self._last("RestartSec", "100ms"))
        # Where things lie is the lab's own decision; everything else is the unit's.
        self.environment = dict(word.split("=", 1) for word in self._words("Environment") if not word.startswith("PORTCULLIS_"))

    def _last(self, key, otherwise):
        return next((value for name, value in reversed(self.lines) if name == key), otherwise)

    def _words(self, key):
        return [word for name, value in self.lines if name == key for word in value.split()]


def _seconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|)", text).groups()
    return float(number) / (1000 if unit == "ms" else 1)
