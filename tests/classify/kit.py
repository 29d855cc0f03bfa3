"""What the classifier tests share: rows as files, the commands that read them, and our own development prompts."""

import functools
import json
import pathlib
import re

from helpers.process import ROOT, run

COMMAND_S = 60
MODEL = "model.safetensors"
INTENTS = ROOT / "examples" / "bank-intents.jsonl"
INTENTS_TEST = ROOT / "examples" / "bank-intents-test.jsonl"

DOMAINS = {
    "bio": "biology", "bus": "business", "che": "chemistry", "cs": "computer science", "eco": "economics",
    "eng": "engineering", "hea": "health", "his": "history", "law": "law", "mat": "math", "oth": "other",
    "phi": "philosophy", "phy": "physics", "psy": "psychology",
}  # fmt: skip

# Two labels a person tells apart at a glance; twenty rows are the least anybody trains on.
TINY = [
    {"text": text, "label": label}
    for label, texts in {
        "refund": (
            "I want my money back", "please refund my order", "can I return this for a refund",
            "how long does a refund take", "refund not received yet", "give me back what I paid",
            "I was promised a refund last week", "the refund is too small", "refund to another card please",
            "I returned it, where is the money",
        ),
        "weather": (
            "will it rain tomorrow", "how cold is it outside", "is it sunny in Porto today",
            "do I need an umbrella", "what is the forecast for Sunday", "snow at the weekend?",
            "how windy will it get tonight", "temperature in Oslo right now", "any storms coming our way",
            "is the fog going to lift",
        ),
    }.items()
    for text in texts
]  # fmt: skip


def lines(objects):
    """JSON Lines of objects; a string stands for itself."""
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in objects)


def write(path, rows):
    """Writes rows as JSON Lines; returns the path."""
    path = pathlib.Path(path)
    path.write_text(lines(rows))
    return path


def read(path):
    """The rows of a file of JSON Lines."""
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def ask(classifier, objects):
    """`classify --jsonl`, every line of which must be good: the answers."""
    done = run("classify", "--classifier", str(classifier), "--jsonl", stdin=lines(objects), timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def train(data, out, *options):
    """`train`, which must work: what it said."""
    done = run("train", "--data", str(data), "--out", str(out), *options, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


def refused(*args, **how):
    """A command that must fail with status 1 and say why as its last word: what it says."""
    done = run(*args, timeout=COMMAND_S, **how)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "panicked" not in done.stderr
    found = re.findall(r"^error: (.+)", done.stderr, re.M | re.S)
    assert len(found) == 1, done.stderr
    return found[0]


def evaluate(classifier, *data, options=()):
    """`eval --json`: the object, and what was said on the side."""
    files = [str(file) for file in data]
    done = run("eval", "--classifier", str(classifier), "--data", *files, "--json", *options, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@functools.cache
def dev(name):
    """A development file of `training/dev` as (section, domain, text)."""
    found, section = [], None
    for line in (ROOT / "training/dev" / f"{name}.txt").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            code, _, text = line.split(" ", 2)
            found.append((section, DOMAINS[code], text.replace("\\n", "\n")))
    assert found
    return found
