"""Holds a list of parts against its schema, against Cargo.lock, and against what deny.toml lets in.

`cargo deny` checks the latter two better, and advisories besides; this is what can be checked where it
is not installed.
"""

import json
import re
import sys
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = open(sys.argv[1], encoding="utf-8").read()
mistake = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
assert mistake is None, mistake

bom = json.loads(text)
parts = {part["purl"]: part for part in bom["components"]}
lock = tomllib.load(open("Cargo.lock", "rb"))["package"]
locked = {f"pkg:cargo/{package['name']}@{package['version']}": package for package in lock}
for purl, part in parts.items():
    package = locked[purl.replace("%2B", "+")]
    assert part["hashes"][0]["content"] == package["checksum"], purl
    assert part["licenses"], purl


def is_allowed(expression, allowed):
    """Whether an SPDX expression can be satisfied by these licences."""
    words = re.findall(r"[()]|[^\s()]+(?: WITH \S+)?", expression)
    operators = {"OR": "or", "AND": "and", "(": "(", ")": ")"}
    return eval(" ".join(operators.get(word, str(word in allowed)) for word in words))


assert is_allowed("(MIT OR GPL-3.0) AND ISC", {"MIT", "ISC"})
assert not is_allowed("MIT AND GPL-3.0", {"MIT"})
rules = tomllib.load(open("deny.toml", "rb"))
allowed = set(rules["licenses"]["allow"])
for purl, part in parts.items():
    for licence in part["licenses"]:
        assert is_allowed(licence["expression"], allowed), (purl, licence)
banned = {crate["name"] for crate in rules["bans"]["deny"]}
for package in lock:
    assert package["name"] not in banned, package["name"]
    source = package.get("source", "registry+https://github.com/rust-lang/crates.io-index")
    assert source == "registry+https://github.com/rust-lang/crates.io-index", package

# What the manifest names is in it, and what only tests use is not.
manifest = tomllib.load(open("Cargo.toml", "rb"))
names = {part["name"] for part in parts.values()}
assert set(manifest["dependencies"]) <= names, set(manifest["dependencies"]) - names
assert not set(manifest["dev-dependencies"]) & names
known = set(parts) | {bom["metadata"]["component"]["purl"]}
for entry in bom["dependencies"]:
    assert entry["ref"] in known and set(entry["dependsOn"]) <= known, entry["ref"]
print(f"{len(parts)} parts, of which {sum(part['scope'] == 'required' for part in parts.values())} are shipped")
