#!/usr/bin/env python3
"""`make install`, `make uninstall` and `make deb`: what lands where, and that the installed programs run from there."""
import configparser
import contextlib
import os
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))
import tap  # noqa: E402

PROGRAMS = ["godwit", "godwit-controller", "godwit-worker", "godwit-watch"]
UNITS = ["godwit-controller.service", "godwit-worker.service", "godwit-watch.service"]
CONFS = ["controller.conf", "worker.conf", "watch.conf"]
MODEL = "share/godwit/models/tattler-3m"
MAKE_LIMIT_S = 400
PROGRAM_LIMIT_S = 20


def make(*args):
    """Runs make in a clean environment (we may run below another make); fails the test with its output."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    p = subprocess.run(["make", "-s", *args], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=MAKE_LIMIT_S)
    tap.check(p.returncode == 0, f"make {' '.join(args)}:\n{p.stdout}")


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PROGRAM_LIMIT_S)


def tree(root):
    """{path: mode} of every file below root."""
    found = {}
    for folder, _, files in os.walk(root):
        for f in files:
            path = os.path.join(folder, f)
            found[os.path.relpath(path, root)] = os.stat(path).st_mode & 0o7777
    return found


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def parse_unit(text):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    return unit


def check_wanted(files, prefix):
    modes = {f"{prefix}/bin/{p}": 0o755 for p in PROGRAMS}
    modes |= {f"{prefix}/lib/systemd/system/{u}": 0o644 for u in UNITS}
    modes |= {f"etc/godwit/{c}": 0o644 for c in CONFS}
    modes |= {f"{prefix}/{MODEL}/{f}": 0o644 for f in ("config.json", "model.safetensors", "tokenizer.json", "README.md")}
    modes |= {f"{prefix}/share/doc/godwit/README.md": 0o644}
    for path, mode in modes.items():
        tap.check(path in files, f"{path} is not there; these are:\n" + "\n".join(sorted(files)))
        tap.check_equal(oct(files[path]), oct(mode), path)


@contextlib.contextmanager
def installed(args):
    with tempfile.TemporaryDirectory(prefix="godwit-install-") as root:
        make("install", f"DESTDIR={root}", "PREFIX=/opt/godwit")
        yield root


def test_install_puts_every_file_in_its_place(root):
    check_wanted(tree(root), "opt/godwit")


def test_install_leaves_no_unresolved_path(root):
    for path in tree(root):
        if path.endswith((".service", ".conf")):
            tap.check("@" not in read(root, path), f"{path} holds an @:\n{read(root, path)}")


def test_installed_programs_tell_their_version_and_flags(root):
    for program in PROGRAMS:
        path = os.path.join(root, "opt/godwit/bin", program)
        version = run(path, "--version")
        tap.check_equal(version.returncode, 0, f"{program} --version")
        tap.check(version.stdout.startswith(f"{program} ") and len(version.stdout.split()) == 2, version.stdout)
        usage = run(path, "--help")
        tap.check_equal(usage.returncode, 0, f"{program} --help")
        tap.check("usage: godwit" in usage.stdout, usage.stdout)


def test_installed_units_run_the_installed_programs(root):
    for unit in UNITS:
        text = parse_unit(read(root, "opt/godwit/lib/systemd/system", unit))
        program, flag, conf = text["Service"]["ExecStart"].split()
        tap.check(os.access(root + program, os.X_OK), f"{unit}: {program} is not there")
        tap.check_equal(flag, "--config", unit)
        tap.check(os.path.isfile(root + conf), f"{unit}: {conf} is not there")
        tap.check_equal(text["Service"]["User"], "godwit", unit)


def test_installed_configuration_is_understood(root):
    """Every name in it is a flag: the program complains of the key file that is not there, and of nothing before."""
    for conf, program in zip(CONFS[:2], PROGRAMS[1:]):  # the watch has nothing to miss
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write(read(root, "etc/godwit", conf).replace("/opt/godwit", root + "/opt/godwit")
                    .replace("/etc/godwit", root + "/etc/godwit"))
            f.flush()
            p = run(os.path.join(root, "opt/godwit/bin", program), "--config", f.name)
        tap.check(p.returncode != 0, f"{program} ran without a key")
        tap.check("cluster.key" in p.stdout, f"{program} --config {conf}: {p.stdout}")


def test_install_again_keeps_an_edited_configuration(root):
    path = os.path.join(root, "etc/godwit/controller.conf")
    with open(path, "a", encoding="utf-8") as f:
        f.write("# mine\n")
    make("install", f"DESTDIR={root}", "PREFIX=/opt/godwit")
    tap.check(read(path).endswith("# mine\n"), "the edit is gone")


def test_uninstall_leaves_the_configuration_only(root):
    make("uninstall", f"DESTDIR={root}", "PREFIX=/opt/godwit")
    tap.check_equal(sorted(tree(root)), sorted(f"etc/godwit/{c}" for c in CONFS), "files left")


def test_deb_holds_the_same_files_and_real_dependencies(root):
    make("deb")
    debs = [f for f in os.listdir(os.path.join(ROOT, "build")) if f.startswith("godwit_") and f.endswith("_amd64.deb")]
    tap.check_equal(len(debs), 1, "packages in build/")
    deb = os.path.join(ROOT, "build", debs[0])
    with tempfile.TemporaryDirectory(prefix="godwit-deb-") as out:
        subprocess.run(["dpkg-deb", "--raw-extract", deb, out], check=True)
        check_wanted(tree(out), "usr")
        tap.check_equal(read(out, "DEBIAN/conffiles").split(), [f"/etc/godwit/{c}" for c in sorted(CONFS)], "conffiles")
        for script in ("postinst", "prerm", "postrm"):
            tap.check_equal(run("sh", "-n", os.path.join(out, "DEBIAN", script)).returncode, 0, script)
        check_depends(deb, [os.path.join(out, "usr/bin", p) for p in PROGRAMS])
        unit = parse_unit(read(out, "usr/lib/systemd/system", UNITS[0]))
        tap.check_equal(unit["Service"]["ExecStart"], "/usr/bin/godwit-controller --config /etc/godwit/controller.conf", "ExecStart")


def check_depends(deb, programs):
    """The package that holds each library which the programs are linked to is among the dependencies."""
    depends = run("dpkg-deb", "--field", deb, "Depends").stdout
    names = {d.split()[0].split(":")[0] for d in depends.split(",") if d.strip()}
    for program in programs:
        needed = {line.split()[1] for line in run("objdump", "-p", program).stdout.splitlines() if "NEEDED" in line}
        for library, _, path, *_ in (line.split() for line in run("ldd", program).stdout.splitlines() if "=> /" in line):
            if library in needed:
                # By pattern: where /usr is merged, a package may list it below /usr/lib.
                owner = run("dpkg-query", "--search", "*" + path).stdout.split(":")[0]
                tap.check(owner in names, f"{program} needs {path} of '{owner}'; Depends: {depends}")


TESTS = [test_install_puts_every_file_in_its_place,
         test_install_leaves_no_unresolved_path,
         test_installed_programs_tell_their_version_and_flags,
         test_installed_units_run_the_installed_programs,
         test_installed_configuration_is_understood,
         test_install_again_keeps_an_edited_configuration,
         test_uninstall_leaves_the_configuration_only,
         test_deb_holds_the_same_files_and_real_dependencies]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=installed))
