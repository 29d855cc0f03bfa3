"""Writes the tables of models/README.md from what the trainer left: metrics.json and the gates inside the classifiers.

A table stands between `<!-- name -->` and `<!-- end name -->`; everything else in the card is written by hand.
Usage: card.py MODELS_DIR
"""

import json
import re
import struct
import sys
from pathlib import Path

CLASSIFIERS = ("task", "complexity", "domain", "safety")
NAMES = {
    "unseen dolly": "Dolly",
    "unseen t0": "T0 templates",
    "unseen mmlu:": "MMLU stems",
    "unseen own:street": "own, `street`",
    "unseen own:careful": "own, `careful`",
    "unseen wild": "jailbreaks in the wild (attacks)",
    "unseen ownsafe:jailbreak/story": "own, jailbreaks by story (attacks)",
    "unseen ownsafe:injection/few": "own, injections by examples (attacks)",
    "unseen ownsafe:injection/payload": "own, injections by split payload (attacks)",
    "unseen ownsafe:injection/virtual": "own, injections by virtual machine (attacks)",
    "unseen ownsafe:benign/trigger": "own, harmless, trigger words",
    "unseen ownsafe:benign/sounds": "own, harmless, sounding dangerous",
    "dev:typed": "dev, as typed",
    "dev:domain": "dev, by domain",
    "dev:pasted": "dev, pasted texts",
    "dev:jailbreak/x": "dev, jailbreaks (attacks)",
    "dev:injection/x": "dev, injections (attacks)",
    "dev:benign/trigger_words": "dev, harmless, trigger words",
    "dev:benign/everyday": "dev, harmless, everyday",
    "familiar": "familiar rows",
    "familiar mmlupro": "familiar: MMLU-Pro stems",
    "familiar own": "familiar: own prompts",
    "familiar ownsafe": "familiar: own safety prompts",
}
PERCENT = lambda share: f"{100 * share:.1f}"


def rows(parts):
    """The parts that have a name, in the order of the names."""
    return [(shown, parts[key]) for key, shown in NAMES.items() if key in parts]


def accuracy(report):
    out = ["| rows of | n | tier 0 alone | both always | **as shipped** | macro-F1 | ECE | asked tier 1 |", "|---|---|---|---|---|---|---|---|"]
    for shown, part in rows(report["parts"]):
        shipped = part["cascade"]
        figures = [PERCENT(part["ngram"]["accuracy"]), PERCENT(part["both"]["accuracy"]), f"**{PERCENT(shipped['accuracy'])}**"]
        figures += [PERCENT(shipped["macro_f1"]), f"{shipped['ece']:.3f}", f"{100 * shipped['escalated']:.0f} %"]
        out.append(f"| {shown} | {part['n']:,} | {' | '.join(figures)} |")
    return out


def alarms(report):
    out = ["| rows of | n | flagged | labelled exactly right | ECE | asked tier 1 |", "|---|---|---|---|---|---|"]
    for shown, part in rows(report["parts"]):
        _, recall, false = part["alarm"]
        hostile, harmless = (any(label in part["recall"] for label in labels) for labels in (("jailbreak", "injection"), ("benign",)))
        flagged = f"**{PERCENT(recall)} %**" if hostile else f"{PERCENT(false)} %"
        if hostile and harmless:
            flagged = f"{PERCENT(recall)} % of attacks, {PERCENT(false)} % of harmless"
        shipped = part["cascade"]
        out.append(f"| {shown} | {part['n']:,} | {flagged} | {PERCENT(shipped['accuracy'])} | {shipped['ece']:.3f} | {100 * shipped['escalated']:.0f} % |")
    return out


def gates(models):
    """The gates as they stand in the classifiers' files."""

    def of(name):
        raw = (models / f"{name}.safetensors").read_bytes()
        header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
        return json.loads(header["__metadata__"]["gates"])

    all_gates = [of(name) for name in CLASSIFIERS]
    line = lambda shown, text: f"| {shown} | {' | '.join(map(text, all_gates))} |"
    return [
        "| | task | complexity | domain | safety |",
        "|---|---|---|---|---|",
        line("tier 0: temperature, growth with novelty", lambda g: f"{g['temperature']:.2f}, {g['novelty_slope']}"),
        line("tier 1 asked below confidence", lambda g: f"{g['sure_from']:.2f}"),
        line("… or above novelty", lambda g: f"{g['familiar_to']:.2f}"),
        line("tier 1: weight, temperature", lambda g: f"{g['encoder_weight']:.1f}, {g['encoder_temperature']:.2f}"),
        line("both: temperature, growth with novelty", lambda g: f"{g['blend_temperature']:.2f}, {g['blend_novelty_slope']}"),
    ]


def taught(reports):
    """Rows by label: public and our own."""
    columns = []
    for name in CLASSIFIERS[:3]:
        column = []
        for label, families in reports[name]["taught"].items():
            ours = sum(n for family, n in families.items() if family in ("own", "ownsafe", "compose", "template", "defs"))
            column.append((label, f"{sum(families.values()) - ours:,} + {ours:,}"))
        columns.append(column)
    out = ["| task | rows | complexity | rows | domain | rows |", "|---|---|---|---|---|---|"]
    for at in range(max(map(len, columns))):
        cells = [cell for column in columns for cell in (column[at] if at < len(column) else ("", ""))]
        out.append(f"| {' | '.join(cells)} |")
    return out


def main(folder):
    models = Path(folder)
    reports = json.loads((models / "metrics.json").read_text())
    tables = {"gates": gates(models), "taught": taught(reports), "safety": alarms(reports["safety"])}
    tables |= {name: accuracy(reports[name]) for name in CLASSIFIERS[:3]}
    card = (models / "README.md").read_text()
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.S)
        if not pattern.search(card):
            sys.exit(f"{models}/README.md has no place for the table {name!r}")
        card = pattern.sub(lambda m: m[1] + "\n".join(table) + "\n" + m[2], card)
    (models / "README.md").write_text(card)


if __name__ == "__main__":
    main(*sys.argv[1:])
