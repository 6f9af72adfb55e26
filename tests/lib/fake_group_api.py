"""A GCP managed instance group and an Azure scale set behind their APIs, as far as Godwit asks them: sizes, pages,
deletion by name, operations that exclude each other, tokens that end."""

import json
import re
import secrets
import urllib.parse

from fake_metadata import Answer, Fake


class FakeGroupApi(Fake):
    """What both have in common: a group of instances, bearer tokens from a metadata service, refusals."""

    page = 2  # instances per page

    def __init__(self):
        super().__init__()
        self.token, self.tokens_given, self._refusals, self.calls = None, 0, [], []
        self.desired, self.instances, self._number = 0, [], 0
        self.resize(3)

    def resize(self, size):
        self.desired = size
        while len(self.instances) < size:
            self.instances.append(self.make())

    def refuse_next(self, status, message="said the test", times=1):
        with self.lock:
            self._refusals.append([status, message, times])

    def new_token(self):
        self.tokens_given += 1
        self.token = "ya29." + secrets.token_urlsafe(24)
        return self.token

    def answer(self, method, path, query, headers, body):
        self.answer_metadata(path, query, headers)
        self.calls.append((method, path, query, json.loads(body) if body else None))
        if headers.get("Authorization") != f"Bearer {self.token}":
            raise Answer(401, json.dumps({"error": {"code": 401, "message": "Request had invalid credentials"}}))
        with self.lock:
            for r in self._refusals:
                if r[2] > 0:
                    r[2] -= 1
                    raise Answer(r[0], json.dumps({"error": {"code": r[0], "message": r[1]}}))
        self.answer_api(method, path, query, json.loads(body) if body else None)


class FakeGcpGroup(FakeGroupApi):
    group = "projects/p1/regions/europe-west4/instanceGroupManagers/godwit-spot"
    zone = "https://www.googleapis.com/compute/v1/projects/p1/zones/europe-west4-a/instances/"

    def __init__(self):
        self.deletions = {}  # requestId → names
        super().__init__()

    def make(self, name=None):
        self._number += 1
        name = name or f"godwit-spot-{self._number:04d}"
        return {"id": str(4711000000000000000 + self._number), "instance": self.zone + name,
                "instanceStatus": "RUNNING", "currentAction": "NONE"}  # fmt: skip

    def answer_metadata(self, path, query, headers):
        if path != "/computeMetadata/v1/instance/service-accounts/default/token":
            return
        if headers.get("Metadata-Flavor") != "Google":
            self.refuse(403, "no Metadata-Flavor")
        raise Answer(200, json.dumps({"access_token": self.new_token(), "expires_in": 3599, "token_type": "Bearer"}))

    def answer_api(self, method, path, query, body):
        base = "/compute/v1/" + self.group
        if (method, path) == ("GET", base):
            raise Answer(200, json.dumps({"kind": "compute#instanceGroupManager", "targetSize": self.desired}))
        if (method, path) == ("POST", base + "/listManagedInstances"):
            at = int(urllib.parse.unquote(query.get("pageToken", "page=0"))[5:])
            document = {"managedInstances": self.instances[at : at + self.page]}
            if at + self.page < len(self.instances):
                document["nextPageToken"] = f"page={at + self.page}"
            raise Answer(200, json.dumps(document))
        if (method, path) == ("POST", base + "/resize"):
            self.resize(int(query["size"]))
        elif (method, path) == ("POST", base + "/deleteInstances"):
            self.delete(query["requestId"], body["instances"])
        else:
            raise Answer(404, json.dumps({"error": {"code": 404, "message": f"The resource '{path}' was not found"}}))
        raise Answer(200, json.dumps({"kind": "compute#operation", "name": "operation-1", "status": "RUNNING"}))

    def delete(self, request_id, names):
        if not re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", request_id):
            self.refuse(400, f"requestId {request_id!r} is no UUID")
        if request_id in self.deletions:
            return  # asked before: the same operation is given again, nothing happens
        self.deletions[request_id] = names
        gone = [i for i in self.instances if any(i["instance"].endswith("/" + n) for n in names)]
        self.instances = [i for i in self.instances if i not in gone]
        self.desired -= len(gone)


class FakeAzureSet(FakeGroupApi):
    region = "westeurope"
    group = "subscriptions/s1/resourceGroups/g1/providers/Microsoft.Compute/virtualMachineScaleSets/godwit-spot"

    def make(self):
        self._number += 1
        return {
            "instanceId": str(self._number), "name": f"godwit-spot_{self._number}", "zones": ["2"],
            "sku": {"name": "Standard_NV36ads_A10_v5", "tier": "Standard"},
            "properties": {"vmId": f"02aab8a4-74ef-476e-8182-{self._number:012d}", "provisioningState": "Succeeded",
                           "priority": "Spot"},
        }  # fmt: skip

    def answer_metadata(self, path, query, headers):
        if path == "/api/retail/prices":
            self.answer_prices(query, headers)
        if path != "/metadata/identity/oauth2/token":
            return
        if headers.get("Metadata") != "true" or query.get("resource") != "https://management.azure.com/":
            self.refuse(400, f"{path} {query}")
        raise Answer(200, json.dumps({"access_token": self.new_token(), "expires_in": "86399", "token_type": "Bearer"}))

    def price(self, type_, usd, spot=True, windows=False):
        """An item of the Retail Prices API."""
        series = "Virtual Machines NVadsA10v5 Series" + (" Windows" if windows else "")
        return {
            "currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": usd, "unitPrice": usd, "location": "EU West",
            "armRegionName": self.region, "effectiveStartDate": "2026-11-01T00:00:00Z", "meterName": "NV36ads A10 v5 Spot",
            "productName": series, "skuName": "NV36ads A10 v5" + (" Spot" if spot else ""), "serviceName": "Virtual Machines",
            "serviceFamily": "Compute", "unitOfMeasure": "1 Hour", "type": "Consumption", "armSkuName": type_,
        }  # fmt: skip

    def answer_prices(self, query, headers):
        """Open to all, at an address of its own: whoever brings a token gives it away."""
        if "Authorization" in headers:
            self.refuse(400, "prices: a token")
        names = re.findall(r"armSkuName eq '([^']+)'", query["$filter"])
        ours = f"armRegionName eq '{self.region}'" in query["$filter"]
        if query.get("api-version") != "2023-01-01-preview" or not names or not ours:
            self.refuse(400, f"prices: {query}")
        items = [i for n in names for i in (self.price(n, 9.0, spot=False), self.price(n, 3.3, windows=True), self.price(n, 1.25))]
        at = int(query.get("$skip", "0"))
        following = urllib.parse.urlencode({**query, "$skip": at + self.page})
        link = f"https://prices.azure.com:443/api/retail/prices?{following}" if at + self.page < len(items) else None
        page = items[at : at + self.page]
        raise Answer(200, json.dumps({"BillingCurrency": "USD", "Items": page, "NextPageLink": link, "Count": len(page)}))

    def answer_api(self, method, path, query, body):
        base = "/" + self.group
        if query.get("api-version") != "2024-07-01":
            self.refuse(400, "no api-version")
        if (method, path) == ("GET", base):
            raise Answer(200, json.dumps({"name": "godwit-spot", "sku": {"name": "x", "capacity": self.desired}}))
        if (method, path) == ("GET", base + "/virtualMachines"):
            at = int(query.get("$skiptoken", "0"))
            document = {"value": self.instances[at : at + self.page]}
            if at + self.page < len(self.instances):
                following = urllib.parse.urlencode({"api-version": "2024-07-01", "$skiptoken": at + self.page})
                document["nextLink"] = f"https://management.azure.com{base}/virtualMachines?{following}"
            raise Answer(200, json.dumps(document))
        if (method, path) == ("PATCH", base):
            self.resize(body["sku"]["capacity"])
            raise Answer(200, json.dumps({"name": "godwit-spot", "sku": {"capacity": self.desired}}))
        if (method, path) == ("POST", base + "/delete"):
            self.instances = [i for i in self.instances if i["instanceId"] not in body["instanceIds"]]
            self.desired = len(self.instances)
            raise Answer(202)
        raise Answer(404, json.dumps({"error": {"code": "ResourceNotFound", "message": "The Resource was not found"}}))


if __name__ == "__main__":
    raise SystemExit("a library: see tests/e2e")
