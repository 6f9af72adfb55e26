#!/usr/bin/env python3
"""GCP's managed instance groups and Azure's scale sets, against fakes of their APIs."""

import concurrent.futures
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import cluster  # noqa: E402
import scenarios  # noqa: E402
import tap  # noqa: E402
from fake_group_api import FakeAzureSet, FakeGcpGroup  # noqa: E402
from tap import check, check_equal  # noqa: E402

TABLE = scenarios.Table("Calls to GCP and Azure")
CLOUDS = {"gcp": FakeGcpGroup, "azure": FakeAzureSet}
END_S = 90
SIDE_BY_SIDE = 4  # tests: they wait more than they work


class Context:
    def __init__(self, directory, variant):
        self.dir, self.variant = directory, variant

    def call(self, cloud, api, *words):
        """(the answer or None, the last line)"""
        argv = [cluster.program("tests/cloud_call", self.variant), cloud, *words]
        p = subprocess.run(
            [*argv, "--endpoint", api.url, "--metadata", api.url, "--group", api.group],
            env={**os.environ, **cluster.sanitizer_env(self.dir)}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=END_S,
        )  # fmt: skip
        lines = [json.loads(line) for line in p.stdout.splitlines()]
        check(lines, f"{words}: no output; {p.stderr}")
        return (lines[0] if len(lines) > 1 else None), lines[-1]

    def good(self, cloud, api, *words):
        answer, last = self.call(cloud, api, *words)
        check_equal(last["err"], "ok", f"{cloud} {words}: {last}")
        check_equal(api.wrong, [], f"{cloud}: requests that a real service would refuse")
        return answer


def each(scenario, result):
    """Marks a test of (context, cloud, fake) that runs for all clouds, side by side."""

    def mark(test):
        def run_for(ctx, cloud):
            with CLOUDS[cloud]() as api:
                test(ctx, cloud, api)
            TABLE.ran(cloud, scenario, result)

        @functools.wraps(test)
        def run(ctx):
            with concurrent.futures.ThreadPoolExecutor(len(CLOUDS)) as pool:
                list(pool.map(lambda cloud: run_for(ctx, cloud), CLOUDS))

        return run

    return mark


@each("a group of several pages", "described, ids in order")
def test_group_is_described_page_by_page(ctx, cloud, api):
    api.resize(5)
    group = ctx.good(cloud, api, "describe group")
    check_equal(group["desired"], 5, f"{cloud}: size")
    ids = [i.get("id") or i["properties"]["vmId"] for i in api.instances]
    check_equal([i["id"] for i in group["instances"]], ids, f"{cloud}: ids, in order")
    check(all(i["state"] == "running" and i["zone"] and i["handle"] for i in group["instances"]), f"{cloud}: {group}")


@each("a size, set twice", "the size")
def test_group_grows_by_an_absolute_size(ctx, cloud, api):
    ctx.good(cloud, api, "set desired capacity", "--desired", "7")
    check_equal(api.desired, 7, f"{cloud}: size")
    ctx.good(cloud, api, "set desired capacity", "--desired", "7")
    check_equal((api.desired, len(api.instances)), (7, 7), f"{cloud}: size, asked for again")


@each("one instance is deleted by its name", "it goes, the size with it")
def test_named_instance_goes_and_the_size_with_it(ctx, cloud, api):
    victim = ctx.good(cloud, api, "describe group")["instances"][1]
    ctx.good(cloud, api, "delete instance", "--instance", victim["id"], "--handle", victim["handle"])
    after = ctx.good(cloud, api, "describe group")
    check_equal(after["desired"], 2, f"{cloud}: size")
    check(victim["id"] not in {i["id"] for i in after["instances"]}, f"{cloud}: it is still there")


@each("busy, throttled, failing", "tried again until done")
def test_busy_and_throttled_calls_are_tried_again(ctx, cloud, api):
    api.refuse_next(409, "another operation is under way")
    api.refuse_next(429, "quota")
    api.refuse_next(503, "backend")
    ctx.good(cloud, api, "set desired capacity", "--desired", "4")
    check_equal(api.desired, 4, f"{cloud}: size")


@each("a token that has ended", "renewed")
def test_token_that_has_ended_is_renewed(ctx, cloud, api):
    api.refuse_next(401, "expired")
    ctx.good(cloud, api, "describe group")
    check_equal(api.tokens_given, 2, f"{cloud}: tokens given out")


@each("permission is missing", "one line that names call and fix")
def test_refusal_is_one_line_that_names_call_and_fix(ctx, cloud, api):
    api.refuse_next(403, "Required 'update' permission for 'godwit-spot'", times=9)
    _, last = ctx.call(cloud, api, "set desired capacity", "--desired", "4")
    for part in ("set desired capacity", "Required 'update' permission", f"terraform/modules/{cloud}"):
        check(part in last["text"], f"{cloud}: {part!r} is not in {last['text']!r}")
    check_equal(len(api.calls), 1, f"{cloud}: calls; a refusal is not tried again")


@each("answers that are none", "an error each")
def test_odd_answers_are_errors_not_crashes(ctx, cloud, api):
    good = [{}, {"targetSize": -1}, {"sku": {"capacity": "x"}}, {"value": [{}]}, {"managedInstances": [{"id": "1"}]}]
    path = "/compute/v1/" if cloud == "gcp" else "/subscriptions/"
    for body in ["", "[]", "null", "<html>", '"x"', *map(json.dumps, good)]:
        with CLOUDS[cloud]() as one:
            one.fault(path=path, status=200, body=body, times=100)
            _, last = ctx.call(cloud, one, "describe group")
            check_equal(last["err"], "cloud", f"{cloud}: {body!r}: {last}")


@TABLE.row("gcp", "a deletion is asked for again when the name is another instance's", "the other one stays")
def test_gcp_deletion_asked_for_again_spares_the_name_s_next_holder(ctx):
    with FakeGcpGroup() as api:
        victim = ctx.good("gcp", api, "describe group")["instances"][0]
        words = ["delete instance", "--instance", victim["id"], "--handle", victim["handle"]]
        ctx.good("gcp", api, *words)
        api.instances.append(api.make(victim["handle"].rsplit("/", 1)[1]))  # the group makes the name anew
        ctx.good("gcp", api, *words)
        check_equal(len(api.deletions), 1, "deletions under ids of their own")
        check_equal(len(api.instances), 3, "instances")


@TABLE.row("azure", "a next page at another host", "not asked for")
def test_azure_next_link_of_another_host_is_not_followed(ctx):
    with FakeAzureSet() as api, FakeAzureSet() as evil:
        api.resize(1)
        link = evil.url + "/" + api.group + "/virtualMachines?api-version=2024-07-01&$skiptoken=2"
        api.fault(path="/virtualMachines", status=200, body=json.dumps({"value": api.instances, "nextLink": link}))
        ctx.good("azure", api, "describe group")
        check_equal(evil.requests, [], "requests at the other host")


@TABLE.row("azure", "spot prices", "one for each type, asked for without a token")
def test_azure_spot_prices_are_those_of_the_region(ctx):
    with FakeAzureSet() as api:
        types = ["Standard_NV36ads_A10_v5", "Standard_NC24ads_A100_v4"]
        words = ["spot prices", "--region", api.region, "--types"]
        prices = ctx.good("azure", api, *words, ",".join(types))["prices"]
        check_equal([(p["type"], p["zone"], p["usd_h"]) for p in prices], [(t, api.region, 1.25) for t in types], "prices")
        _, last = ctx.call("azure", api, *words, "a' or 1 eq 1 or 'a' eq 'a")
        check_equal(last["err"], "input", f"a type that is none: {last}")
        for item in ({"skuName": "x Spot"}, {**api.price("t", 1.0), "currencyCode": "EUR"}, {**api.price("t", 1.0), "retailPrice": "1"}):
            api.fault(path="/api/retail", status=200, body=json.dumps({"Items": [item]}))
            _, last = ctx.call("azure", api, *words, types[0])
            check_equal(last["err"], "cloud", f"{item}: {last}")


@contextlib.contextmanager
def setup(args):
    with tempfile.TemporaryDirectory(prefix="godwit-groups-") as directory:
        variant = cluster.variant_of(args.variant)
        cluster.program("tests/cloud_call", variant)
        yield Context(directory, variant)
        reports = cluster.sanitizer_reports(directory)
        if reports:
            raise AssertionError(reports[0][:3000])


if __name__ == "__main__":
    tests = [f for name, f in list(globals().items()) if name.startswith("test_")]
    sys.exit(tap.main(__doc__, tests, scenarios.arguments, TABLE.around(setup), side_by_side=SIDE_BY_SIDE))
