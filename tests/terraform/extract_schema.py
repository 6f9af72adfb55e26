#!/usr/bin/env python3
"""Makes tests/terraform/schema.json: of each resource and data source that terraform/ uses, arguments and blocks, and
which are required, as the generated bindings of the providers describe them.

The bindings are PyPI's cdktf-cdktf-provider-{aws,google,azurerm}, made by HashiCorp from the providers' own schemas and
frozen in December 2025. Give the wheels' files (pip download --no-deps NAME):

    tests/terraform/extract_schema.py WHEEL... >tests/terraform/schema.json
"""

import glob
import io
import json
import os
import re
import sys
import tarfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
USED = re.compile(r'^(resource|data)\s+"(\w+)"', re.M)
META = {"count", "dependsOn", "forEach", "lifecycle", "provider", "provisioners", "connection"}


def used():
    """{(kind, type)} over all files of terraform/."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, "terraform/**/*.tf"), recursive=True):
        with open(path) as f:
            found |= set(USED.findall(f.read()))
    return found


def assembly(wheel):
    """(the bindings' types, {"source", "version"} of the provider they describe)"""
    with zipfile.ZipFile(wheel) as z:
        name = next(n for n in z.namelist() if n.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(z.read(name))) as t:
            package = json.load(t.extractfile("package/package.json"))
            types = json.load(t.extractfile("package/.jsii"))["types"]
    return types, package["cdktf"]["provider"]


def snake(prop):
    """The argument's name in HCL: the summary's link ends in it."""
    link = re.search(r"#(\w+) \w+#\w+", prop.get("docs", {}).get("summary", ""))
    return link[1] if link else re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), prop["name"])


def block_of(types, prop):
    """The type of the block that a property is, or None for a plain argument."""
    names = re.findall(r'"fqn": "([^"]+)"', json.dumps(prop["type"]))
    return next((n for n in names if n in types and types[n].get("datatype")), None)


def describe(types, fqn, depth=0):
    """{"arguments": {name: required}, "blocks": {name: {"required", "arguments", "blocks"}}}"""
    out = {"arguments": {}, "blocks": {}}
    for prop in types[fqn].get("properties", []):
        if depth == 0 and prop["name"] in META:
            continue
        required, inner = not prop.get("optional", False), block_of(types, prop)
        if inner:
            out["blocks"][snake(prop)] = {"required": required, **describe(types, inner, depth + 1)}
        else:
            out["arguments"][snake(prop)] = required
    return out


def config_of(types, kind, name):
    """The bindings' class of a resource: aws_sqs_queue → SqsQueueConfig."""
    words = name.split("_")[1:]
    class_name = "".join(w.capitalize() for w in words)
    if kind == "data":
        class_name = "Data" + name.split("_")[0].capitalize() + class_name
    wanted = (class_name + "Config").lower(), (class_name + "AConfig").lower()
    return next((f for f in types if f.rsplit(".", 1)[1].lower() in wanted), None)


def main():
    schema, missing = {"providers": {}, "resource": {}, "data": {}}, used()
    for wheel in sys.argv[1:]:
        types, provider = assembly(wheel)
        short = provider["name"].rsplit("/", 1)[1]
        schema["providers"][short] = provider["version"]
        for kind, name in sorted(missing):
            if name.split("_")[0] != short:
                continue
            fqn = config_of(types, kind, name)
            if fqn:
                schema[kind][name] = describe(types, fqn)
                missing = missing - {(kind, name)}
    if missing:
        sys.exit(f"no binding describes {sorted(missing)}")
    json.dump(schema, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
