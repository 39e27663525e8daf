"""Reads the metrics of a server as Prometheus does, by the parser of its client library: metrics.py PORT"""

import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=20) as answer:
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers
    text = answer.read().decode()
families = {}
for family in text_string_to_metric_families(text):
    assert family.name not in families, f"{family.name} twice"
    families[family.name] = family
    assert family.type in ("gauge", "counter", "histogram"), (family.name, family.type)
    assert family.documentation and family.samples, family
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    assert len(series) == len(set(series)), f"{family.name} has a series twice"
assert len(families) > 150, len(families)
# What this parser does not read as a family of its own it leaves without documentation, so all lines were understood.
lines = [line for line in text.splitlines() if not line.startswith("#")]
assert len(lines) == sum(len(family.samples) for family in families.values())
ping = [sample for sample in families["spinel_command_duration_seconds"].samples if sample.labels["command"] == "ping"]
buckets = [sample.value for sample in ping if sample.name.endswith("_bucket")]
assert buckets == sorted(buckets) and buckets[-1] >= 1, buckets
print(f"{len(families)} families, {len(lines)} samples")
