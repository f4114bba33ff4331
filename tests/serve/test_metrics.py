from inkfold.serve.metrics import ServerMetrics, resident_bytes


def lines_of(metrics):
    return metrics.response().body.decode().splitlines()


def test_the_text_is_prometheuss_without_creation_times():
    metrics = ServerMetrics()
    metrics.add_gauge("inkfold_connections", "Open connections.", lambda: 3)
    for status in ("200", "200", "404"):
        metrics.requests.labels("/", status).inc()
    for size in (1, 2, 3, 99):
        metrics.batch_drawings.observe(size)
    lines = lines_of(metrics)
    for line in (
        "# HELP inkfold_requests_total Answers by path and status.",
        "# TYPE inkfold_requests_total counter",
        'inkfold_requests_total{path="/",status="200"} 2.0',
        'inkfold_requests_total{path="/",status="404"} 1.0',
        "# TYPE inkfold_refusals_total counter",
        "# TYPE inkfold_request_seconds histogram",
        "# TYPE inkfold_connections gauge",
        "inkfold_connections 3.0",
        'inkfold_batch_drawings_bucket{le="1.0"} 1.0',
        'inkfold_batch_drawings_bucket{le="2.0"} 2.0',
        'inkfold_batch_drawings_bucket{le="4.0"} 3.0',
        'inkfold_batch_drawings_bucket{le="+Inf"} 4.0',
        "inkfold_batch_drawings_count 4.0",
        "inkfold_batch_drawings_sum 105.0",
    ):
        assert line in lines
    assert not [line for line in lines if "_created" in line]
    assert dict(metrics.response().headers)["cache-control"] == "no-store"


def test_several_servers_in_one_process_count_for_themselves():
    first, second = ServerMetrics(), ServerMetrics()
    first.refusals.labels("not_found").inc()
    assert 'inkfold_refusals_total{code="not_found"} 1.0' in lines_of(first)
    assert not [line for line in lines_of(second) if "not_found" in line]


def test_this_process_holds_memory():
    assert resident_bytes() > 10e6
