"""The file of a trained folder: good it serves a policy; damaged or foreign it is refused by name everywhere."""

import json
import re
import struct
import zlib

import pytest
import yaml

from classify.kit import MODEL, ask, refused, write
from helpers.process import ROOT


def parts(file):
    """Header and tensor bytes of a safetensors file."""
    whole = file.read_bytes()
    [length] = struct.unpack("<Q", whole[:8])
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def signed(metadata, header, data):
    """The file again, with the checksum its format asks for."""
    metadata = {key: metadata[key] for key in sorted(metadata) if key != "crc32"}
    crc = zlib.crc32(b"".join(f"{key}\0{value}\0".encode() for key, value in metadata.items()) + data)
    text = json.dumps({**header, "__metadata__": {**metadata, "crc32": f"{crc:08x}"}}).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def flipped(at):
    def damage(file):
        whole = bytearray(file.read_bytes())
        whole[at(whole)] ^= 1
        return bytes(whole)

    return damage


def without_the_encoder(file):
    """One wrong letter in the name of a tensor that a file may lack: half of the classifier would be gone unseen."""
    whole = file.read_bytes()
    assert whole.count(b'"encoder_weights"') == 1
    return whole.replace(b'"encoder_weights"', b'"encoder_weightz"')


def resigned(**changes):
    def change(file):
        header, data = parts(file)
        return signed(header.pop("__metadata__") | changes, header, data)

    return change


DAMAGED = {
    "the last byte": flipped(lambda _: -1),
    "a byte in the middle": flipped(lambda whole: len(whole) // 2),
    "a byte of a label": flipped(lambda whole: whole.index(b"card_lost")),
    "the length of the header": flipped(lambda _: 0),
    "the encoder's weights": without_the_encoder,
    "half of it": lambda file: file.read_bytes()[: file.stat().st_size // 2],
    "more behind it": lambda file: file.read_bytes() + b"\0" * 8,
    "nothing": lambda _: b"",
    "text": lambda _: b"version https://git-lfs.github.com/spec/v1\n",
    "an older format": resigned(format="waypost-model-v1"),
    "a newer format": resigned(format="waypost-model-v99"),
    "another encoder": resigned(encoder="00000000"),
    "the gates of nobody": resigned(gates="{}"),
    "labels that do not fit": resigned(labels='["a","b"]'),
    "another kind of file": lambda _: (ROOT / "models/static.safetensors").read_bytes(),
}


def test_a_file_signed_anew_is_still_good(bank, tmp_path):
    """Otherwise the tests below would prove nothing."""
    (tmp_path / MODEL).write_bytes(resigned()(bank[0] / MODEL))
    assert len(ask(tmp_path, [{"text": "my card was stolen"}])[0]["probabilities"]) == 15


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_or_foreign_file_is_refused_by_name(bank, tmp_path, damage):
    file = tmp_path / "cards" / MODEL
    file.parent.mkdir()
    file.write_bytes(DAMAGED[damage](bank[0] / MODEL))
    data = write(tmp_path / "rows.jsonl", [{"text": "x", "label": "fees"}])
    for command in (
        ("classify", "--classifier", str(file.parent), "x"),
        ("eval", "--classifier", str(file.parent), "--data", str(data)),
    ):
        error = refused(*command)
        assert str(file) in error
        if "format" in damage:
            assert re.search(r"waypost-model-v(1|99)\b.*waypost-model-v\d", error), "what it is and what is wanted"
    policy = {"name": "p", "classifier": {"path": "cards"}, "routes": {"fees": "m"}, "default": "m"}
    config = tmp_path / "waypost.yaml"
    config.write_text(
        yaml.safe_dump({"models": [{"name": "m", "endpoint": "http://127.0.0.1:9"}], "policies": [policy]})
    )
    for command in (("check", str(config)), ("serve", "--config", str(config), "--listen", "127.0.0.1:0")):
        error = refused(*command)
        assert str(file) in error and "`p`" in error


def test_a_trained_folder_serves_a_policy(bank, waypost, recorder):
    upstream = recorder()
    models = [{"name": name, "endpoint": upstream.url} for name in ("cards", "other")]
    policy = {
        "name": "p", "classifier": {"path": str(bank[0])}, "routes": {"card_lost_or_stolen": "cards"}, "default": "other",
        "classify_timeout": "30s",
    }  # fmt: skip
    gate = waypost({"models": models, "policies": [policy], "encoder": {"threads": 1, "deadline": "30s"}})
    for text, model in (("my card was stolen", "cards"), ("how do I change my pin", "other")):
        answer = gate.chat({"model": "p", "messages": [{"role": "user", "content": text}]})
        assert upstream.last().json()["model"] == model
        decision = gate.decision(answer)
        [told] = ask(bank[0], [{"text": text}])
        assert (decision["label"], decision["tier"]) == (told["label"], told["tier"])
        assert decision["confidence"] == pytest.approx(told["confidence"], abs=1e-3)
