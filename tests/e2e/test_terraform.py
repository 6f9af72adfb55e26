#!/usr/bin/env python3
"""terraform/: format, its own tests, every argument against the providers' schemas, boot scripts, documents.

Nothing needs a provider plugin or the network. Where a tool is missing its test is skipped by name; with CI set in the
environment a missing terraform is a failure.
"""

import concurrent.futures
import contextlib
import functools
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import tap  # noqa: E402
from tap import Skip, check, check_equal, note  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TERRAFORM = os.path.join(ROOT, "terraform")
FILES = ["main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"]
MODULES = ["modules/aws", "modules/gcp", "modules/azure", "modules/boot"]
EXAMPLES = ["examples/aws-minimal", "examples/aws-production", "examples/gcp-minimal", "examples/azure-minimal"]
META = {"for_each", "count", "depends_on", "provider", "lifecycle", "provisioner", "connection"}
NOT_ARGUMENTS = {"dynamic", "__is_block__", "__comments__", "__inline_comments__", "__start_line__", "__end_line__"}
END_S = 120
SIDE_BY_SIDE = 3  # tests
SUM = "0123456789abcdef" * 4
BOOT = {
    "aws": ("s3://releases/godwit.deb", "s3://models/llama", "arn:aws:secretsmanager:eu-central-1:1:secret:k-AbCdEf"),
    "gcp": ("gs://releases/godwit.deb", "gs://models/llama", "projects/p/secrets/k"),
    "azure": (
        "https://godwit.blob.core.windows.net/releases/godwit.deb",
        "https://godwit.blob.core.windows.net/models/llama",
        "https://godwit.vault.azure.net/secrets/k",
    ),
}


class Context:
    """A copy of terraform/, so that nothing is left in the tree."""

    def __init__(self, directory):
        self.dir = os.path.join(directory, "terraform")
        shutil.copytree(TERRAFORM, self.dir, ignore=shutil.ignore_patterns(".terraform*"))
        # No network: whatever tries gets a refused connection, not an answer.
        self.env = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0",
                    "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # fmt: skip
        self.env.pop("TF_CLI_CONFIG_FILE", None)
        self._rendered, self._lock = {}, threading.Lock()

    def rendered(self, cloud):
        """{role: script}, as terraform renders them."""
        with self._lock:
            if cloud not in self._rendered:
                self._rendered[cloud] = render(self, cloud)
        return self._rendered[cloud]

    def terraform(self, folder, *words):
        """Standard output of terraform in a folder of the copy; fails the test unless it ends well."""
        if not shutil.which("terraform"):
            if os.environ.get("CI"):
                raise tap.Failure("terraform is not installed, and CI is set")
            raise Skip("terraform is not installed")
        p = subprocess.run(
            ["terraform", *words], cwd=os.path.join(self.dir, folder), env=self.env, timeout=END_S, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        check(p.returncode == 0, f"{folder}: terraform {' '.join(words)}:\n{p.stdout[-2500:]}{p.stderr[-1500:]}")
        return p.stdout


def tested_folders():
    paths = glob.glob(os.path.join(TERRAFORM, "**/tests/*.tftest.hcl"), recursive=True)
    return sorted({os.path.relpath(os.path.dirname(os.path.dirname(p)), TERRAFORM) for p in paths})


def test_format(ctx):
    ctx.terraform(".", "fmt", "-check", "-recursive", "-diff")


def test_terraform_tests_pass_without_a_provider(ctx):
    folders, runs = tested_folders(), 0
    check_equal(len(folders), 4, f"folders with tests ({folders})")
    for folder in folders:
        ctx.terraform(folder, "init", "-no-color")
        out = ctx.terraform(folder, "test", "-no-color")
        passed = re.search(r"Success! (\d+) passed, 0 failed", out)
        check(passed, f"{folder}: {out[-1500:]}")
        runs += int(passed[1])
    note(f"{runs} runs in {len(folders)} folders")


# ---- against the schemas


PARSING = threading.Lock()  # python-hcl2 keeps what it is inside of in one object for all threads


def load(path):
    """What a file says; it is not to be changed. Any thread."""
    with PARSING:
        return parse(path)


@functools.lru_cache(maxsize=None)
def parse(path):
    try:
        import hcl2
    except ImportError:
        sys.path += glob.glob(os.path.join(ROOT, "build/venv/lib/python3*/site-packages"))
        try:
            import hcl2
        except ImportError as e:
            raise Skip("python-hcl2 is not installed (.ci/deps test)") from e
    with open(path) as f:
        return hcl2.load(f)


@tap.alone
def test_files_read_the_same_from_several_threads(ctx):
    paths = sorted(glob.glob(os.path.join(TERRAFORM, "**/*.tf"), recursive=True))
    at_a_time = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            read = list(pool.map(load, paths))
    finally:
        sys.setswitchinterval(at_a_time)
    parse.cache_clear()
    for path, got in zip(paths, read):
        check_equal(got, load(path), os.path.relpath(path, TERRAFORM))


def plain(label):
    return label.strip('"')


def blocks_of(folder, kind):
    """[(path, labels…, body)] of all blocks of a kind in a folder's files."""
    found = []
    for path in sorted(glob.glob(os.path.join(TERRAFORM, folder, "*.tf"))):
        for block in load(path).get(kind, []):
            while isinstance(block, dict) and not block.get("__is_block__"):
                (label, block), labels = next(iter(block.items())), ()
                found_labels = [plain(label)]
                while not block.get("__is_block__"):
                    label, block = next(iter(block.items()))
                    found_labels.append(plain(label))
                labels = tuple(found_labels)
                found.append((os.path.relpath(path, TERRAFORM), *labels, block))
    return found


def items_of(body):
    """(arguments, blocks): blocks are {name: [body]}; a dynamic block is one of its content."""
    arguments, blocks = {}, {}
    for name, value in body.items():
        if name in NOT_ARGUMENTS:
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("__is_block__"):
            blocks[name] = list(value)
        else:
            arguments[name] = value
    for dynamic in body.get("dynamic", []):
        for label, inner in dynamic.items():
            if label not in NOT_ARGUMENTS:
                blocks.setdefault(plain(label), []).extend(inner["content"])
    return arguments, blocks


def compare(where, body, schema, top):
    """Findings of one body against its schema."""
    arguments, blocks = items_of(body)
    found = []
    for name in arguments:
        known = name in schema["arguments"] or name in schema["blocks"] or (top and name in META)
        if not known:
            found.append(f"{where}: '{name}' is no argument of it")
    for name, bodies in blocks.items():
        if top and name in META:
            continue
        if name not in schema["blocks"]:
            found.append(f"{where}: '{name}' is no block of it")
            continue
        for inner in bodies:
            found += compare(f"{where}.{name}", inner, schema["blocks"][name], False)
    required = [n for n, needed in schema["arguments"].items() if needed]
    required += [n for n, b in schema["blocks"].items() if b["required"]]
    found += [f"{where}: '{n}' is required" for n in required if n not in arguments and n not in blocks]
    return found


def test_resources_are_as_the_providers_describe_them(ctx):
    with open(os.path.join(ROOT, "tests/terraform/schema.json")) as f:
        schema = json.load(f)
    found, count = [], 0
    for folder in MODULES + EXAMPLES:
        for kind in ("resource", "data"):
            for path, type_, name, body in blocks_of(folder, kind):
                count += 1
                if type_ not in schema[kind]:
                    found.append(f"{path}: {type_} is not in tests/terraform/schema.json (extract_schema.py makes it)")
                    continue
                found += compare(f"{path}: {type_}.{name}", body, schema[kind][type_], True)
    check(not found, "\n".join(found))
    check(count > 50, f"only {count} resources were looked at")
    note(f"{count} resources and data sources against {schema['providers']}")


def test_providers_are_pinned_to_what_the_schema_describes(ctx):
    with open(os.path.join(ROOT, "tests/terraform/schema.json")) as f:
        versions = json.load(f)["providers"]
    for folder in MODULES[:3] + EXAMPLES:
        (_, body) = blocks_of_terraform(folder)
        for name, pin in body.items():
            if name in NOT_ARGUMENTS:
                continue
            want = "~> " + ".".join(versions[name].split(".")[:2])
            check_equal(plain(pin["version"]), want, f"{folder}: version of {name}")


def blocks_of_terraform(folder):
    """(path, required_providers) of a folder's versions.tf."""
    path = os.path.join(TERRAFORM, folder, "versions.tf")
    return path, load(path)["terraform"][0]["required_providers"][0]


def variables_of(folder):
    """{name: is it required}"""
    return {name: "default" not in body for _, name, body in blocks_of(folder, "variable")}


def test_module_calls_give_what_is_required_and_nothing_unknown(ctx):
    calls = 0
    for folder in MODULES + EXAMPLES:
        for path, name, body in blocks_of(folder, "module"):
            arguments, _ = items_of(body)
            source = os.path.normpath(os.path.join(folder, plain(arguments.pop("source"))))
            known = variables_of(source)
            check(known, f"{path}: module.{name}: {source} has no variables")
            given = set(arguments) - META
            check(not given - set(known), f"{path}: module.{name}: {given - set(known)} are no variables of {source}")
            missing = {n for n, required in known.items() if required} - given
            check(not missing, f"{path}: module.{name}: {missing} are required")
            calls += 1
    check(calls >= 10, f"only {calls} calls")


def test_references_name_what_is_there(ctx):
    """var., module. and resource references of each folder."""
    found = []
    for folder in MODULES + EXAMPLES + [f for f in tested_folders() if f.endswith("logic")]:
        variables, modules = set(variables_of(folder)), {name for _, name, _ in blocks_of(folder, "module")}
        resources = {(t, n) for _, t, n, _ in blocks_of(folder, "resource")}
        outputs = {
            name: {n for _, n, _ in blocks_of(os.path.normpath(os.path.join(folder, plain(body["source"]))), "output")}
            for _, name, body in blocks_of(folder, "module")
        }
        for path in glob.glob(os.path.join(TERRAFORM, folder, "*.tf")):
            with open(path) as f:
                text = re.sub(r"#.*", "", f.read())
            short = os.path.relpath(path, TERRAFORM)
            found += [f"{short}: var.{v}" for v in re.findall(r"\bvar\.(\w+)", text) if v not in variables]
            for module, output in re.findall(r"\bmodule\.(\w+)\.(\w+)", text):
                if module not in modules or output not in outputs[module]:
                    found.append(f"{short}: module.{module}.{output}")
            for type_, name in re.findall(r"(?<!data\.)\b((?:aws|google|azurerm)_\w+)\.(\w+)", text):
                if (type_, name) not in resources:
                    found.append(f"{short}: {type_}.{name}")
    check(not found, "not there: " + ", ".join(found))


def test_sizes_are_left_to_the_controller(ctx):
    want = {
        "modules/aws": ("aws_autoscaling_group", "desired_capacity"),
        "modules/gcp": ("google_compute_region_instance_group_manager", "target_size"),
        "modules/azure": ("azurerm_linux_virtual_machine_scale_set", "instances"),
    }
    for folder, (type_, argument) in want.items():
        groups = [body for _, t, _, body in blocks_of(folder, "resource") if t == type_]
        check(groups, f"{folder}: no {type_}")
        for body in groups:
            ignored = json.dumps(body["lifecycle"][0]["ignore_changes"])
            check(argument in ignored, f"{folder}: a plan would set {argument} back to its first value")


# ---- boot scripts


def render(ctx, cloud):
    """{role: script}, from a copy of the module: what is written here is not the module's tests'."""
    package, model, secret = BOOT[cloud]
    name = f"boot-{cloud}"
    folder = shutil.copytree(os.path.join(TERRAFORM, "modules/boot"), os.path.join(ctx.dir, name))
    with open(os.path.join(folder, "terraform.tfvars.json"), "w") as f:
        json.dump({
            "cloud": cloud, "controller_address": "10.0.0.10", "package": {"location": package, "sha256": SUM},
            "model": {"location": model, "manifest_sha256": SUM, "served_as": "llama"},
            "secrets": {"cluster_key": secret, "admin_token": secret},
        }, f)  # fmt: skip
    ctx.terraform(name, "init", "-no-color")
    ctx.terraform(name, "apply", "-auto-approve", "-no-color")
    return {role: ctx.terraform(name, "output", "-raw", role) for role in ("worker", "controller")}


def test_boot_scripts_pass_shellcheck(ctx):
    if not shutil.which("shellcheck"):
        raise Skip("shellcheck is not installed")
    for cloud in BOOT:
        for role, script in ctx.rendered(cloud).items():
            check(script.startswith("#!/bin/bash\n"), f"{cloud} {role}: not a script")
            check(len(script) < 16384, f"{cloud} {role}: {len(script)} bytes; AWS takes 16 KiB")
            p = subprocess.run(["shellcheck", "-"], input=script, capture_output=True, text=True)
            check(p.returncode == 0, f"{cloud} {role}:\n{p.stdout[:3000]}")


STUBS = {
    # Commands that would change the machine, or ask a cloud: what they are told is written down.
    "apt-get": "", "systemctl": "", "chown": "", "mount": "", "mkfs.ext4": "", "logger": "cat",
    "findmnt": "echo /dev/sda1", "lsblk": 'case "$*" in *PKNAME*) echo sda ;; esac',
    "curl": """
out=; for a in "$@"; do [ "$prev" != -o ] || out=$a; prev=$a; url=$a; done
case "$*" in
*api/token*) echo TOKEN ;; *instance-id*) echo i-0abc ;; *placement/region*) echo eu-central-1 ;;
esac""",
    "aws": """
case "$*" in
*get-secret-value*) echo s3cret ;;
*SHA256SUMS*) cp "$STUB_MODEL/SHA256SUMS" "${@: -1}" ;;
*config.json*) cp "$STUB_MODEL/config.json" "${@: -1}" ;;
*godwit.deb*) cp "$STUB_MODEL/godwit.deb" "${@: -1}" ;;
*) exit 9 ;;
esac""",
}  # fmt: skip


def run_boot(ctx, tamper=None):
    """Runs the AWS worker's script with stubs in place of what would change the machine: (status, log, root)."""
    root = tempfile.mkdtemp(dir=os.path.dirname(ctx.dir))
    stubs, model = os.path.join(root, "bin"), os.path.join(root, "model")
    os.makedirs(stubs), os.makedirs(model), os.makedirs(os.path.join(root, "etc/godwit"))
    script = ctx.rendered("aws")["worker"]
    for name, text in {"godwit.deb": "a package", "config.json": "{}"}.items():
        with open(os.path.join(model, name), "w") as f:
            f.write(text)
    sums = subprocess.run(["sha256sum", "config.json"], cwd=model, capture_output=True, text=True).stdout
    with open(os.path.join(model, "SHA256SUMS"), "w") as f:
        f.write(sums)
    for name in ("godwit.deb", "SHA256SUMS"):  # the sums that terraform was given, in this order in the script
        digest = subprocess.run(["sha256sum", os.path.join(model, name)], capture_output=True, text=True).stdout[:64]
        script = script.replace(SUM, digest, 1)
    for name, text in STUBS.items():
        path = os.path.join(stubs, name)
        with open(path, "w") as f:
            f.write(f'#!/bin/bash\necho "{name} $*" >>"{root}/log"\n{text}\n')
        os.chmod(path, 0o755)
    if tamper:
        with open(os.path.join(model, tamper), "a") as f:
            f.write("x")
    script = script.replace("/etc/godwit", f"{root}/etc/godwit").replace("/var/lib/godwit-models", f"{root}/models")
    env = {"PATH": f"{stubs}:{os.environ['PATH']}", "STUB_MODEL": model}
    p = subprocess.run(["bash"], input=script, env=env, capture_output=True, text=True, timeout=60)
    with open(os.path.join(root, "log")) as f:
        return p.returncode, f.read() + p.stdout + p.stderr, root


def test_boot_script_of_a_worker_does_what_it_says(ctx):
    status, log, root = run_boot(ctx)
    check_equal(status, 0, f"status ({log[-1500:]})")
    with open(os.path.join(root, "etc/godwit/worker.conf")) as f:
        worker = f.read()
    with open(os.path.join(root, "etc/godwit/watch.conf")) as f:
        watch = f.read()
    for line in ("instance-id = i-0abc", "controller = 10.0.0.10:8002", f"model = {root}/models/llama"):
        check(line in worker, f"{line!r} is not in {worker}")
    check("instance-id = i-0abc" in watch and "controller = http://10.0.0.10:8001" in watch, watch)
    check_equal(os.stat(os.path.join(root, "etc/godwit/cluster.key")).st_mode & 0o777, 0o600, "mode of the key")
    started = re.findall(r"systemctl enable --now (\S+)", log)
    check_equal(started, ["godwit-watch", "godwit-worker"], "services, in order")
    check("s3cret" not in log, "a secret is in an argument or the log")


def test_boot_script_takes_nothing_with_a_wrong_sum(ctx):
    for name in ("godwit.deb", "SHA256SUMS", "config.json"):
        status, log, root = run_boot(ctx, tamper=name)
        check(status != 0, f"{name} was tampered with, and taken")
        check("enable --now godwit-worker" not in log, f"{name} was tampered with, and a worker started")


# ---- documents, checkov


def test_every_module_has_its_files_and_its_readme_every_input(ctx):
    for folder in MODULES + EXAMPLES:
        for name in FILES:
            check(os.path.isfile(os.path.join(TERRAFORM, folder, name)), f"{folder}/{name} is not there")
        with open(os.path.join(TERRAFORM, folder, "README.md")) as f:
            readme = f.read()
        rows = set(re.findall(r"^\| `(\w+)` \|", readme, re.M))
        want = set(variables_of(folder)) | {name for _, name, _ in blocks_of(folder, "output")}
        check_equal(rows, want, f"{folder}/README.md: rows of its tables")
    with open(os.path.join(TERRAFORM, "README.md")) as f:
        check("never yet been run against the real clouds" in " ".join(f.read().split()), "README.md does not say it")


def test_checkov_finds_nothing_unexplained(ctx):
    checkov = shutil.which("checkov") or os.environ.get("CHECKOV")
    if not checkov:
        raise Skip("checkov is not installed")
    p = subprocess.run(
        [checkov, "-d", ctx.dir, "--framework", "terraform", "-o", "json", "--download-external-modules", "false"],
        capture_output=True, text=True, timeout=END_S, env={k: v for k, v in ctx.env.items()},
    )  # fmt: skip
    report = json.loads(p.stdout)
    failed = [f"{c['check_id']} {c['resource']}: {c['check_name']}" for c in report["results"]["failed_checks"]]
    check(not failed, "\n".join(failed))
    check(report["summary"]["passed"] > 100, f"{report['summary']}")
    unexplained = [c["check_id"] for c in report["results"]["skipped_checks"] if not c["check_result"].get("suppress_comment")]
    check(not unexplained, f"skips without a reason: {unexplained}")
    note(f"{report['summary']}")


@contextlib.contextmanager
def setup(args):
    with tempfile.TemporaryDirectory(prefix="godwit-terraform-") as directory:
        yield Context(directory)


if __name__ == "__main__":
    tests = [f for name, f in list(globals().items()) if name.startswith("test_")]
    sys.exit(tap.main(__doc__, tests, setup=setup, side_by_side=SIDE_BY_SIDE))
