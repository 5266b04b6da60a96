"""Compares a CycloneDX bill of materials with "go version -m".

usage: sbom.py BILL OUTPUT-OF-GO-VERSION PROGRAM VERSION
"""

import hashlib
import json
import sys

bill_file, modules_file, program_file, version = sys.argv[1:]
with open(bill_file) as f:
    bill = json.load(f)
with open(modules_file) as f:
    lines = [line.split() for line in f]
with open(program_file, "rb") as f:
    digest = hashlib.sha256(f.read()).hexdigest()

want = {(words[1], words[2]) for words in lines if words[0] == "dep"}
want.add(("std", lines[0][1]))
got = {(c["name"], c["version"]) for c in bill["components"]}
if got != want or len(want) < 10:
    sys.exit(f"{bill_file} has {sorted(got - want)} too much and {sorted(want - got)} too little")
for c in bill["components"]:
    if not c["licenses"] or not c["licenses"][0]["expression"] or not c["purl"].startswith("pkg:golang/" + c["name"] + "@"):
        sys.exit(f"{bill_file}: {c}")
main = bill["metadata"]["component"]
if main["version"] != version or main["hashes"] != [{"alg": "SHA-256", "content": digest}]:
    sys.exit(f"{bill_file} describes another program: {main}")
if set(bill["dependencies"][0]["dependsOn"]) != {c["bom-ref"] for c in bill["components"]}:
    sys.exit(f"{bill_file}: dependencies and components differ")
