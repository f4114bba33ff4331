from inkfold.serve.metrics import Counters, resident_bytes


def test_the_text_is_prometheuss():
    counters = Counters()
    counters.add_counter("asked_total", "Questions.")
    counters.add_gauge("open", "Connections.", lambda: 3)
    counters.add_histogram("took_seconds", "Time.", (0.1, 1.0))
    for status in ("200", "200", "404"):
        counters.count("asked_total", status=status, path="/")
    for value in (0.05, 0.1, 0.5, 7):
        counters.observe("took_seconds", value)
    assert counters.text().splitlines() == [
        "# HELP asked_total Questions.",
        "# TYPE asked_total counter",
        'asked_total{path="/",status="200"} 2',
        'asked_total{path="/",status="404"} 1',
        "# HELP open Connections.",
        "# TYPE open gauge",
        "open 3",
        "# HELP took_seconds Time.",
        "# TYPE took_seconds histogram",
        'took_seconds_bucket{le="0.1"} 2',
        'took_seconds_bucket{le="1"} 3',
        'took_seconds_bucket{le="+Inf"} 4',
        "took_seconds_sum 7.650000",
        "took_seconds_count 4",
    ]


def test_this_process_holds_memory():
    assert resident_bytes() > 10e6
