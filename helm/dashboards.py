#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the dashboards for Grafana, helm/jetrouter/dashboards/*.json, from the list below.

usage: dashboards.py [--check]      --check: compares, and ends with 1 when they differ"""
import json
import os
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jetrouter", "dashboards")

R = "[$__rate_interval]"
POOL = 'namespace=~"$pool_namespace",component=~"$component"'


def rate(metric, by="", labels=""):
    of = " by (%s)" % by if by else ""
    return "sum%s(rate(%s{%s}%s))" % (of, metric, labels, R)


def quantiles(metric, labels="", by=""):
    """p50, p90 and p99 of a histogram."""
    le = by + ", le" if by else "le"
    return [("histogram_quantile(%s, sum by (%s) (rate(%s_bucket{%s}%s)))" % (q, le, metric, labels, R),
             "p" + q[2:] + ("0" if len(q) == 3 else "") + (" {{%s}}" % by if by else ""))
            for q in ("0.5", "0.9", "0.99")]


def share(part, whole, labels=POOL, by="component"):
    of = " by (%s)" % by if by else ""
    return "sum%s(rate(%s{%s}%s)) / (sum%s(rate(%s{%s}%s)) > 0)" % (of, part, labels, R, of, whole, labels, R)


# Dashboard: (uid, title, [(row, [(panel, unit, [(query, legend), ...]), ...]), ...])
DASHBOARDS = {
    "jetrouter-overview": ("JetRouter", [
        ("Is it well?", [
            ("Replicas that are ready", "short", [("sum(jetrouter_ready)", "ready"), ("count(jetrouter_ready)", "there are")]),
            ("Workers by state", "short", [("max by (component, state) (jetrouter_workers{%s})" % POOL, "{{component}} {{state}}")]),
            ("Without NATS", "s", [("jetrouter_degraded_seconds", "{{instance}}")]),
            ("Replicas of another state", "short", [("sum by (component) (jetrouter_digest_mismatch{%s})" % POOL, "{{component}}")]),
        ]),
        ("Requests", [
            ("Requests by outcome", "reqps", [(rate("dynamo_frontend_requests_total", "model, status"), "{{model}} {{status}}")]),
            ("Under way", "short", [("sum by (instance) (jetrouter_http_requests_inflight)", "{{instance}}")]),
            ("Time to first token", "s", quantiles("dynamo_frontend_time_to_first_token_seconds")),
            ("Whole time of a request", "s", quantiles("dynamo_frontend_request_duration_seconds")),
            ("Prompts", "short", quantiles("dynamo_frontend_input_sequence_tokens")),
            ("Answers", "short", quantiles("dynamo_frontend_output_sequence_tokens")),
            ("Tokens of answers", "short", [(rate("dynamo_frontend_output_tokens_total", "model"), "{{model}}")]),
            ("Errors by status", "reqps", [(rate("jetrouter_http_errors_total", "code"), "{{code}}")]),
            ("Sent to another worker, by reason", "reqps", [(rate("jetrouter_proxy_retries_total", "reason"), "{{reason}}")]),
            ("Answered by no worker, by reason", "reqps", [(rate("jetrouter_proxy_failures_total", "reason"), "{{reason}}")]),
            ("Clients that went away", "reqps", [(rate("dynamo_frontend_disconnected_clients"), "clients")]),
        ]),
        ("Connections", [
            ("Clients' connections", "short", [("sum by (instance) (jetrouter_http_connections)", "{{instance}}")]),
            ("Refused, and pauses", "short", [(rate("jetrouter_http_connections_refused_total"), "refused"),
                                              (rate("jetrouter_http_accept_pauses_total"), "pauses"),
                                              (rate("jetrouter_http_bodies_refused_total"), "bodies refused")]),
            ("Requests that are no HTTP", "reqps", [(rate("jetrouter_http_bad_requests_total", "reason"), "{{reason}}")]),
            ("Bodies held", "bytes", [("sum by (instance) (jetrouter_http_bodies_bytes)", "{{instance}}")]),
            ("TLS handshakes", "short", [(rate("jetrouter_tls_handshakes_total", "result"), "{{result}}")]),
            ("Certificate ends in", "s", [("jetrouter_tls_certificate_expiry_timestamp_seconds - time()", "{{instance}}")]),
            ("Access log", "short", [(rate("jetrouter_access_log_lines_total", "result"), "{{result}}")]),
        ]),
        ("Versions", [
            ("Replicas by version", "short", [("count by (version) (jetrouter_build_info)", "{{version}}")]),
            ("Up for", "s", [("jetrouter_uptime_seconds", "{{instance}}")]),
        ]),
    ]),
    "jetrouter-routing": ("JetRouter: routing and caches", [
        ("Decisions", [
            ("Decisions by reason", "reqps", [(rate("jetrouter_decisions_total", "component, reason", POOL), "{{component}} {{reason}}")]),
            ("Rejections by reason", "reqps", [(rate("jetrouter_rejections_total", "component, reason", POOL), "{{component}} {{reason}}")]),
            ("Requests in the queue", "short", [("sum by (component) (jetrouter_queue_requests{%s})" % POOL, "{{component}}")]),
            ("Wait in the queue", "s", quantiles("jetrouter_queue_wait_seconds", POOL)),
            ("Bookings of all replicas", "short", [("max by (component) (jetrouter_bookings{%s})" % POOL, "{{component}}")]),
            ("Measured over estimated prefill time", "short", [("avg by (component) (jetrouter_speed_factor{%s})" % POOL, "{{component}}")]),
        ]),
        ("Caches", [
            ("Prompt blocks that the chosen worker held", "percentunit", [
                (share("jetrouter_overlap_blocks_total", "jetrouter_prompt_blocks_total"), "{{component}}")]),
            ("Hits as workers report them, of all prompt tokens", "percentunit", [
                (share("jetrouter_reported_cached_tokens_total", "jetrouter_prompt_tokens_total"), "{{component}}")]),
            ("Predicted, and not there", "percentunit", [
                (share("jetrouter_predicted_not_cached_tokens_total", "jetrouter_predicted_cached_tokens_total"), "{{component}}")]),
            ("There, and not predicted", "percentunit", [
                (share("jetrouter_cached_not_predicted_tokens_total", "jetrouter_reported_cached_tokens_total"), "{{component}}")]),
            ("Hit rate of a request", "percentunit", quantiles("dynamo_frontend_kv_hit_rate")),
            ("Cached tokens of a request", "short", quantiles("dynamo_frontend_cached_tokens")),
        ]),
        ("Workers", [
            ("Live requests", "short", [("max by (worker_id, dp_rank) (jetrouter_worker_active_requests{%s})" % POOL, "{{worker_id}} {{dp_rank}}")]),
            ("Estimated backlog", "s", [("max by (worker_id, dp_rank) (jetrouter_worker_backlog_seconds{%s})" % POOL, "{{worker_id}} {{dp_rank}}")]),
            ("Blocks in the index", "short", [("max by (worker_id, dp_rank) (jetrouter_worker_blocks{%s})" % POOL, "{{worker_id}} {{dp_rank}}")]),
            ("Blocks of live requests", "short", [("max by (worker_id, dp_rank) (dynamo_frontend_worker_active_decode_blocks)", "{{worker_id}} {{dp_rank}}")]),
            ("Prompt tokens that wait", "short", [("max by (worker_id, dp_rank) (dynamo_frontend_worker_active_prefill_tokens)", "{{worker_id}} {{dp_rank}}")]),
            ("Put aside", "short", [("sum by (component) (jetrouter_workers_aside{%s})" % POOL, "now {{component}}"),
                                    (rate("jetrouter_workers_put_aside_total", "component", POOL), "a second {{component}}")]),
        ]),
        ("Tokens of text", [
            ("Where token ids came from", "reqps", [(rate("jetrouter_tokenize_total", "result"), "{{result}}")]),
            ("Questions to workers' tokenizers", "reqps", [(rate("jetrouter_tokenizer_requests_total", "result"), "{{result}}")]),
            ("Time of a question", "s", quantiles("jetrouter_tokenize_seconds")),
            ("Memory", "bytes", [("sum by (instance) (jetrouter_tokenizer_cache_bytes)", "{{instance}}")]),
        ]),
    ]),
    "jetrouter-state": ("JetRouter: log, index and recovery", [
        ("Log", [
            ("Messages not applied yet", "short", [("max by (instance, component) (jetrouter_lag_messages{%s})" % POOL, "{{instance}} {{component}}")]),
            ("Age of messages on arrival", "s", quantiles("jetrouter_event_delay_seconds", POOL)),
            ("Messages", "short", [(rate("jetrouter_log_messages_total", "instance, component", POOL), "{{instance}} {{component}}")]),
            ("KV events", "short", [(rate("jetrouter_kv_events_total", "instance, component", POOL), "{{instance}} {{component}}")]),
            ("KV events without effect, by reason", "short", [(rate("jetrouter_kv_events_dropped_total", "component, reason", POOL), "{{component}} {{reason}}")]),
            ("Stream", "bytes", [("max by (component) (jetrouter_stream_bytes{%s})" % POOL, "size {{component}}"),
                                 ("max by (component) (jetrouter_stream_bytes_max{%s})" % POOL, "limit {{component}}")]),
            ("Stream: first, applied, last", "short", [("max by (component) (jetrouter_stream_first_seq{%s})" % POOL, "first {{component}}"),
                                                      ("min by (component) (jetrouter_applied_seq{%s})" % POOL, "applied {{component}}"),
                                                      ("max by (component) (jetrouter_stream_last_seq{%s})" % POOL, "last {{component}}")]),
            ("May forget; consumers of others", "short", [("max by (component) (jetrouter_stream_may_forget{%s})" % POOL, "may forget {{component}}"),
                                                         ("max by (component) (jetrouter_stream_foreign_consumers{%s})" % POOL, "others {{component}}")]),
        ]),
        ("Index", [
            ("Entries", "short", [("max by (component) (jetrouter_index_entries{%s})" % POOL, "{{component}}")]),
            ("Blocks", "short", [("max by (component) (jetrouter_index_blocks{%s})" % POOL, "{{component}}")]),
            ("Memory", "bytes", [("max by (component) (jetrouter_index_bytes{%s})" % POOL, "index {{component}}"),
                                 ("max by (component) (jetrouter_pool_bytes{%s})" % POOL, "pool {{component}}"),
                                 ("max by (component) (jetrouter_pool_reserve_bytes{%s})" % POOL, "held ready {{component}}")]),
            ("At its limit; old", "short", [("max by (component) (jetrouter_index_truncated{%s})" % POOL, "at its limit {{component}}"),
                                           ("max by (component) (jetrouter_index_old{%s})" % POOL, "old {{component}}")]),
        ]),
        ("Snapshots and recovery", [
            ("Age of the newest snapshot", "s", [("min by (component) (jetrouter_snapshot_age_seconds{%s})" % POOL, "{{component}}")]),
            ("Its size", "bytes", [("max by (component) (jetrouter_snapshot_bytes{%s})" % POOL, "{{component}}")]),
            ("Written and failed", "short", [("sum by (component) (jetrouter_snapshots_total{%s})" % POOL, "written {{component}}"),
                                            ("sum by (component) (jetrouter_snapshot_failures_total{%s})" % POOL, "failed {{component}}")]),
            ("How long one took, on average", "s", [
                ("sum by (component) (jetrouter_snapshot_duration_seconds_sum{%s})"
                 " / sum by (component) (jetrouter_snapshot_duration_seconds_count{%s})" % (POOL, POOL), "{{component}}")]),
            ("State of recovery", "short", [("sum by (component, state) (jetrouter_recovery_state{%s}) > 0" % POOL, "{{component}} {{state}}")]),
            ("Recoveries, resets, adoptions, reloads", "short", [
                ("sum by (component) (jetrouter_%s{%s})" % (m, POOL), what + " {{component}}") for m, what in (
                    ("recoveries_total", "recoveries"), ("resets_total", "resets"), ("adoptions_total", "adoptions"),
                    ("digest_reloads_total", "reloads"), ("reannounce_total", "ranks asked anew"), ("history_checks_total", "checks"))]),
            ("Purged up to", "short", [("max by (component) (jetrouter_purged_to_seq{%s})" % POOL, "{{component}}"),
                                       ("sum by (component) (jetrouter_purges_total{%s})" % POOL, "purges {{component}}")]),
        ]),
        ("Replicas", [
            ("Peers by state", "short", [("min by (component, state) (jetrouter_peers{%s})" % POOL, "{{component}} {{state}}")]),
            ("Leaders", "short", [("sum by (component) (jetrouter_leader{%s})" % POOL, "{{component}}")]),
            ("Delay of what peers do", "s", quantiles("jetrouter_sync_delay_seconds", POOL)),
            ("Sync batches", "short", [(rate("jetrouter_sync_batches_sent_total", "component", POOL), "sent {{component}}"),
                                       (rate("jetrouter_sync_batches_received_total", "component", POOL), "received {{component}}"),
                                       (rate("jetrouter_sync_batches_failed_total", "component", POOL), "failed {{component}}")]),
            ("Gaps", "short", [(rate("jetrouter_sync_gaps_total", "component", POOL), "{{component}}")]),
            ("NATS connected; connections after the first", "short", [("min(jetrouter_nats_connected)", "connected"),
                                                                     ("sum(jetrouter_nats_reconnects_total)", "reconnects")]),
        ]),
        ("Bridges", [
            ("Engines: healthy, registered", "short", [("sum(jetrouter_bridge_engine_healthy)", "healthy"), ("sum(jetrouter_bridge_registered)", "registered"),
                                                      ("sum(jetrouter_bridge_block_size_refused)", "of another block size")]),
            ("Events of engines", "short", [(rate("jetrouter_bridge_engine_events_total", "type"), "{{type}}")]),
            ("Not acknowledged yet", "short", [("sum by (worker_id) (jetrouter_bridge_pending_events)", "{{worker_id}}")]),
            ("To the acknowledgement", "s", quantiles("jetrouter_bridge_ack_seconds")),
            ("Batches", "short", [(rate("jetrouter_bridge_batches_total"), "published"), (rate("jetrouter_bridge_acks_total"), "acknowledged"),
                                  (rate("jetrouter_bridge_batch_events_total"), "events in them")]),
            ("Histories begun anew, by reason", "short", [("sum by (reason) (jetrouter_bridge_begins_total)", "{{reason}}")]),
            ("Blocks of engines", "short", [("sum by (worker_id) (jetrouter_bridge_mirror_blocks)", "{{worker_id}}")]),
        ]),
    ]),
}


def panel(number, title, unit, queries, x, y):
    return {
        "id": number, "type": "timeseries", "title": title, "gridPos": {"h": 7, "w": 8, "x": x, "y": y},
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
                        "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend,
                     "datasource": {"type": "prometheus", "uid": "${datasource}"}}
                    for i, (expr, legend) in enumerate(queries)]}


def variable(name, label, metric):
    query = "label_values(%s, %s)" % (metric, label)
    return {"name": name, "type": "query", "label": name.replace("_", " "), "query": {"query": query, "refId": name},
            "datasource": {"type": "prometheus", "uid": "${datasource}"}, "includeAll": True, "allValue": ".*",
            "multi": True, "current": {"text": "All", "value": "$__all"}, "refresh": 2}


def dashboard(uid, title, rows):
    panels, number, y = [], 0, 0
    for row, content in rows:
        number += 1
        panels.append({"id": number, "type": "row", "title": row, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        y += 1
        for i, (name, unit, queries) in enumerate(content):
            number += 1
            panels.append(panel(number, name, unit, queries, i % 3 * 8, y + i // 3 * 7))
        y += (len(content) + 2) // 3 * 7
    return {
        "uid": uid, "title": title, "tags": ["jetrouter"], "schemaVersion": 39, "version": 1, "editable": True,
        "time": {"from": "now-1h", "to": "now"}, "refresh": "30s", "timezone": "",
        "links": [{"type": "dashboards", "tags": ["jetrouter"], "title": "JetRouter", "asDropdown": True}],
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "data source"},
            variable("pool_namespace", "namespace", "jetrouter_applied_seq"),
            variable("component", "component", "jetrouter_applied_seq")]},
        "panels": panels}


def main():
    status = 0
    os.makedirs(FOLDER, exist_ok=True)
    for uid, (title, rows) in DASHBOARDS.items():
        path = os.path.join(FOLDER, uid + ".json")
        text = json.dumps(dashboard(uid, title, rows), indent=1) + "\n"
        if "--check" not in sys.argv:
            with open(path, "w") as f:
                f.write(text)
            continue
        with open(path) as f:
            if f.read() != text:
                print("%s is not what helm/dashboards.py makes: run it" % path, file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
