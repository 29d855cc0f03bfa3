"""Reads Prometheus text, just enough to ask a test's questions of it."""

import re

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """Samples as `(name, labels, value)`, and the types of the families."""

    def __init__(self, text):
        self.text = text
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        self.samples = []
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = _SAMPLE.match(line)
            if not match:
                raise AssertionError(f"not a Prometheus sample: {line!r}")
            labels = {name: value for name, value in _LABEL.findall(match[2] or "")}
            self.samples.append((match[1], labels, float(match[3])))

    def find(self, name, **labels):
        """The samples of `name` whose labels include `labels`."""
        return [s for s in self.samples if s[0] == name and labels.items() <= s[1].items()]

    def value(self, name, **labels):
        """The sum of the samples found; 0.0 when there is none."""
        return sum(value for _, _, value in self.find(name, **labels))

    def __contains__(self, name):
        return name in self.types
