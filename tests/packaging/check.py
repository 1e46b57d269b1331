#!/usr/bin/env python3
"""Checks engine/packaging: each file by the tool of those who read it, and all of it against the binary.

usage: check.py BINARY [--promtool FILE] [--deb FILE]

Needs kubernetes-validate (which brings PyYAML). What a machine has no tool for is said and counted as skipped.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import yaml

PACKAGING = Path(__file__).resolve().parents[2] / "engine" / "packaging"
# systemd-analyze's own measure, times ten: below 20 is its best grade but "safe".
EXPOSURE_MAX = 20


class Failed(Exception):
    """A check found something."""


def run(*command, env=None, ok=(0,)):
    """Runs a command; gives back what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    output = done.stdout + done.stderr
    if done.returncode not in ok:
        raise Failed(f"{' '.join(map(str, command))} ends with {done.returncode}:\n{output}")
    return output


def need(condition, message):
    if not condition:
        raise Failed(message)


def documents():
    with open(PACKAGING / "kubernetes.yaml") as file:
        return list(yaml.safe_load_all(file))


def document(kind):
    return next(document for document in documents() if document["kind"] == kind)


# ---- the checks ------------------------------------------------------------


def units_are_understood_and_hardened(context):
    """systemd-analyze verify and security."""
    if not shutil.which("systemd-analyze"):
        return "there is no systemd-analyze"
    with tempfile.TemporaryDirectory() as folder:
        units = []
        for unit in sorted(PACKAGING.glob("systemd/**/fanfare*.s*")):
            copy = Path(folder) / unit.name
            copy.write_text(unit.read_text().replace("/usr/bin/fanfare", str(context.binary)))
            units.append(copy)
        need(len(units) == 3, f"there should be three units: {units}")
        output = run("systemd-analyze", "verify", "--man=no", *units)
        need(not output.strip(), output)
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", Path(folder) / "fanfare.service")
    return None


def the_stop_timeout_of_the_unit_is_enough_for_the_configuration(context):
    """The unit's own limit counts until the server has told how long it takes."""
    unit = (PACKAGING / "systemd" / "fanfare.service").read_text()
    limit = int(re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.M)[1])
    need(limit > shutdown_s(effective(context, "--config", PACKAGING / "fanfare.toml")), f"TimeoutStopSec={limit}s")


def the_dockerfile_has_no_faults(_):
    """dockerfilelint, of npm."""
    if not shutil.which("npx"):
        return "there is no npx"
    run("npx", "--yes", "dockerfilelint@1.8.0", PACKAGING / "Dockerfile")
    return None


def the_image_starts_with_its_environment(context):
    """As it is: refused for want of authentication; with a word: accepted. And nothing it copies is left out."""
    text = (PACKAGING / "Dockerfile").read_text().replace("\\\n", " ")
    variables = dict(re.findall(r"(FANFARE_\w+)=(\S+)", "\n".join(re.findall(r"^ENV (.*)$", text, re.M))))
    need(variables.get("FANFARE_LISTEN") == "0.0.0.0:8080", f"{variables}")
    refused = run(context.binary, "--check-config", env=variables, ok=(2,))
    need("open" in refused, refused)
    run(context.binary, "--check-config", env={**variables, "FANFARE_OPEN": "true"})
    ignored = (PACKAGING / "Dockerfile.dockerignore").read_text().splitlines()
    members = re.search(r"members = \[(.*)\]", (PACKAGING.parents[1] / "Cargo.toml").read_text())[1]
    for member in re.findall(r'"(\w+)"', members):
        need(f"!{member}" in ignored, f"the workspace needs {member}, which the image does not get")


def the_default_configuration_is_accepted(context):
    """--check-config."""
    effective(context, "--config", PACKAGING / "fanfare.toml")


def kubernetes_understands_the_manifests(_):
    """kubernetes-validate, strictly."""
    tool = Path(sys.executable).with_name("kubernetes-validate")
    run(tool, "--strict", PACKAGING / "kubernetes.yaml")


def the_pod_is_configured_as_it_is_run(context):
    """Configuration accepted; probes and ports served; the time for the end enough; selectors select."""
    pod = document("Deployment")["spec"]["template"]
    container = pod["spec"]["containers"][0]
    with tempfile.TemporaryDirectory() as folder:
        token, config = Path(folder) / "api-token", Path(folder) / "fanfare.toml"
        token.write_text("0123456789abcdef0123456789abcdef\n")
        token.chmod(0o440)
        text = document("ConfigMap")["data"]["fanfare.toml"]
        mount = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "secrets")
        need(f"{mount}/api-token" in text, "the token is not where the secret is")
        config.write_text(text.replace(mount, folder))
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        settings = effective(context, "--config", config, env=env)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    need(settings["listen"] == f'["0.0.0.0:{ports["websocket"]}"]', f"{settings['listen']}")
    need(settings["api_listen"] == f'"0.0.0.0:{ports["http"]}"', f"{settings['api_listen']}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        need(get["port"] in ports and get["path"] in ("/healthz", "/readyz"), f"{probe}: {get}")
    period = pod["spec"]["terminationGracePeriodSeconds"]
    need(period > shutdown_s(settings), f"terminationGracePeriodSeconds is {period}")
    labels = pod["metadata"]["labels"].items()
    for kind in ("Service", "PodDisruptionBudget"):
        for one in (one for one in documents() if one["kind"] == kind):
            selector = one["spec"]["selector"]
            need(selector.get("matchLabels", selector).items() <= labels, f"{one['metadata']['name']} selects nothing")
            for port in one["spec"].get("ports", []):
                need(port["targetPort"] in ports, f"{port}")


def prometheus_understands_the_alerts(context):
    """promtool check rules."""
    if not context.promtool:
        return "there is no promtool"
    run(context.promtool, "check", "rules", "--lint=all", "--lint-fatal", PACKAGING / "alerts.yaml")
    return None


def what_alerts_and_dashboard_ask_for_is_there(context):
    """Every metric, and every label of it that an expression names."""
    alerts = yaml.safe_load((PACKAGING / "alerts.yaml").read_text())
    dashboard = json.loads((PACKAGING / "grafana.json").read_text())
    expressions = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    need(len(expressions) > 5 and len(targets) > 10, "expressions are found")
    samples = scrape(context.binary)
    for expression in expressions + targets:
        named = re.findall(r"(fanfare_\w+)(?:\{([^}]*)\})?", expression)
        need(named or "up{" in expression, f"it asks for nothing of ours: {expression}")
        for name, labels in named:
            need(name in samples, f"{name} is no metric: {expression}")
            for label, operator, value in re.findall(r'(\w+)(=~|!=|=|!~)"([^"]*)"', labels):
                if label in ("instance", "job"):
                    continue
                seen = samples[name].get(label)
                need(seen, f"{name} has no label {label}: {expression}")
                for one in value.split("|") if operator in ("=", "=~", "!=") else []:
                    need(one in seen, f"{name} never has {label}={one}, but {sorted(seen)}: {expression}")


def the_debian_package_is_complete(context):
    """Contents and scripts."""
    if not context.deb:
        return "no package was built"
    contents = run("dpkg-deb", "--contents", context.deb)
    for path in ("./usr/bin/fanfare", "./etc/fanfare/fanfare.toml", "/system/fanfare.service", "/examples/fanfare.socket",
                 "/examples/fanfare-http.socket", "/examples/alerts.yaml", "/examples/grafana.json"):
        need(path in contents, f"{path} is missing:\n{contents}")
    with tempfile.TemporaryDirectory() as folder:
        run("dpkg-deb", "--control", context.deb, folder)
        conffiles = (Path(folder) / "conffiles").read_text().split()
        need("/etc/fanfare/fanfare.toml" in conffiles, f"{conffiles}")
        for script in ("postinst", "postrm"):
            run("sh", "-n", Path(folder) / script)
        postinst = (Path(folder) / "postinst").read_text()
        need("adduser" in postinst and "fanfare.service" in postinst, postinst)
        need("fanfare.socket" not in postinst, "the sockets are for those who ask for them")
        need("fanfare-http.service" not in contents, "there is one service")
    return None


# ---- helpers ----------------------------------------------------------------


def effective(context, *arguments, env=None):
    """The settings that would be used, as --check-config prints them."""
    output = run(context.binary, *arguments, "--check-config", env=env or {})
    return dict(re.findall(r"^(\w+) = (.*?)(?:\s+#.*)?$", output, re.M))


def shutdown_s(settings):
    """How long an end may take by its settings."""
    milliseconds = sum(int(settings[f"shutdown_{name}_ms"]) for name in ("grace", "spread"))
    return milliseconds / 1000 + int(settings["shutdown_timeout_s"])


def scrape(binary):
    """The metrics of a fresh server: by name, by label, the values seen."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # With a certificate, as some metrics are only there then; without TLS where it is asked.
    listen = f"ws://{address}"
    server = subprocess.Popen([binary, "--listen", listen, "--tls-dev"], stdout=subprocess.DEVNULL, env={})
    try:
        for _ in range(300):
            if subprocess.run([binary, "--health", "--listen", listen], capture_output=True, env={}).returncode == 0:
                break
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        server.terminate()
        server.wait()
    samples = {}
    for name, labels in re.findall(r"^(\w+)(?:\{([^}]*)\})? ", text, re.M):
        seen = samples.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            seen.setdefault(label, set()).add(value)
    return samples


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("--promtool")
    parser.add_argument("--deb")
    context = parser.parse_args()
    context.binary = context.binary.resolve()
    os.environ.pop("FANFARE_CONFIG", None)
    checks = [
        units_are_understood_and_hardened,
        the_stop_timeout_of_the_unit_is_enough_for_the_configuration,
        the_dockerfile_has_no_faults,
        the_image_starts_with_its_environment,
        the_default_configuration_is_accepted,
        kubernetes_understands_the_manifests,
        the_pod_is_configured_as_it_is_run,
        prometheus_understands_the_alerts,
        what_alerts_and_dashboard_ask_for_is_there,
        the_debian_package_is_complete,
    ]
    passed = failed = 0
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            skipped = check(context)
        except Failed as error:
            failed += 1
            print(f"not ok: {name}\n{error}")
            continue
        if skipped:
            print(f"skipped: {name}: {skipped}")
        else:
            passed += 1
            print(f"ok: {name}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
