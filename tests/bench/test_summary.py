import pytest

from octavo.bench import BenchError, Goodput, Load, RequestRecord, Run, summarise
from octavo.bench.gauges import parse_gauges
from octavo.bench.summary import Distribution, peak_concurrency, tokens_by_second


def record(sent, chunks, *, end=None, tokens=None, prompt=10, error=None, due=None, cached=4):
    return RequestRecord(
        sent_s=sent,
        due_s=sent if due is None else due,
        end_s=chunks[-1] if end is None else end,
        chunk_s=tuple(chunks),
        prompt_tokens=prompt,
        output_tokens=len(chunks) if tokens is None else tokens,
        cached_tokens=cached,
        has_usage=True,
        finish_reason="length",
        turn=0,
        text="x",
        error=error,
    )


# TTFT 100, 200 ms; ITL 50, 150 and 100 ms; E2EL 300, 500 ms
FIRST = record(0.0, [0.1, 0.15, 0.3])
SECOND = record(1.0, [1.2, 1.3], end=1.5, tokens=5)
FAILED = record(1.1, [1.2], end=2.0, error="HTTP 500: oops")
RUN = Run(Load(concurrency=2), "2026-01-01T00:00:00+00:00", 2.0, (FIRST, SECOND, FAILED))


def test_latencies_of_one_request() -> None:
    assert SECOND.ttft_s == pytest.approx(0.2)
    assert SECOND.itl_s == pytest.approx((0.1,))
    assert SECOND.e2el_s == pytest.approx(0.5)
    assert SECOND.tpot_s == pytest.approx(0.3 / 4)  # (0.5 - 0.2) over 5 tokens less one


def test_a_single_token_has_no_tpot_and_no_text_no_ttft() -> None:
    assert record(0.0, [0.1]).tpot_s is None
    silent = record(0.0, [], end=0.4, tokens=3)
    assert (silent.ttft_s, silent.itl_s, silent.tpot_s) == (None, (), None)


def test_counts_and_throughputs_leave_failures_out() -> None:
    summary = summarise(RUN)
    assert (summary.successful, summary.failed) == (2, 1)
    assert (summary.input_tokens, summary.output_tokens, summary.cached_tokens) == (20, 8, 8)
    assert summary.request_throughput == pytest.approx(1.0)
    assert summary.output_throughput == pytest.approx(4.0)
    assert summary.total_throughput == pytest.approx(14.0)
    assert summary.request_goodput is None and summary.late is None
    assert summary.errors == {"HTTP 500: oops": 1}


def test_distributions_are_over_requests_and_for_itl_over_gaps() -> None:
    summary = summarise(RUN)
    assert summary.ttft and summary.itl and summary.tpot and summary.e2el
    assert (summary.ttft.num, summary.itl.num) == (2, 3)
    assert summary.ttft.mean_ms == pytest.approx(150) == summary.ttft.median_ms
    assert summary.ttft.p99_ms == pytest.approx(199)  # 100 + 0.99 * (200 - 100)
    assert summary.itl.mean_ms == pytest.approx(100) == summary.itl.median_ms
    assert summary.itl.p99_ms == pytest.approx(149)
    assert summary.tpot.mean_ms == pytest.approx((100 + 75) / 2)
    assert summary.e2el.mean_ms == pytest.approx(400)


def test_a_distribution_of_one_value_and_of_none() -> None:
    one = Distribution.of([0.25])
    assert one is not None
    assert (one.mean_ms, one.std_ms, one.median_ms, one.p99_ms) == (250, 0, 250, 250)
    assert Distribution.of([]) is None


def test_an_empty_run_has_zeros() -> None:
    summary = summarise(Run(Load(concurrency=1), "", 0.0, ()))
    assert (summary.successful, summary.output_throughput, summary.peak_concurrency) == (0, 0, 0)
    assert (summary.ttft, summary.cached_tokens) == (None, None)


def test_tokens_of_a_second_count_whole_chunks_by_their_share() -> None:
    # SECOND's 5 tokens came in 2 chunks, both within the second second
    assert tokens_by_second(RUN) == [3.0, 5.0, 0.0]
    assert summarise(RUN).peak_output_throughput == 5.0


def test_peak_concurrency_counts_what_is_open_at_one_moment() -> None:
    assert peak_concurrency(RUN.records) == 2
    after_another = [record(0.0, [1.0]), record(1.0, [2.0]), record(2.0, [3.0])]
    assert peak_concurrency(after_another) == 1


@pytest.mark.parametrize(
    ("terms", "per_second"),
    [
        (["ttft:150"], 0.5),
        (["ttft:200.1"], 1.0),
        (["ttft:99"], 0.0),
        (["itl:100.1"], 1.0),
        (["tpot:80"], 0.5),
        (["e2el:300.1"], 0.5),
        (["ttft:150", "tpot:80"], 0.0),  # each is met, by different requests
    ],
)
def test_goodput_counts_requests_within_all_limits(terms, per_second) -> None:
    summary = summarise(RUN, Goodput.parse(terms))
    assert summary.request_goodput == pytest.approx(per_second)


def test_a_failed_request_is_never_good() -> None:
    assert not Goodput(ttft_ms=1e9).is_met(FAILED)


@pytest.mark.parametrize("term", ["ttft", "ttft:", "ttft:-1", "ttft:x", "speed:3", "ttft:nan"])
def test_wrong_goodput_terms_are_named(term: str) -> None:
    with pytest.raises(BenchError, match="--goodput"):
        Goodput.parse([term])


def test_lateness_is_that_of_an_open_loop() -> None:
    records = (record(0.5, [0.6], due=0.498), record(1.0, [1.1]))
    summary = summarise(Run(Load(request_rate=2.0), "", 1.1, records))
    assert summary.late is not None
    assert summary.late.max_ms == pytest.approx(2.0)


def test_gauges_of_both_names() -> None:
    ours = parse_gauges(
        '# HELP octavo_x y\noctavo_kv_cache_usage_perc{model_name="m v",engine="0"} 0.5\n'
        'octavo_num_requests_waiting{engine="0"} 3.0\noctavo_other 9\n',
        1.5,
    )
    assert ours is not None
    assert (ours.at_s, ours.kv_usage, ours.num_running, ours.num_waiting) == (1.5, 0.5, None, 3.0)
    theirs = parse_gauges(
        'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_running{engine="1"} 5\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.1\nvllm:kv_cache_usage_perc{engine="1"} 0.3\n',
        0.0,
    )
    assert theirs is not None
    assert (theirs.kv_usage, theirs.num_running) == (0.3, 7.0)
    assert parse_gauges("python_info 1\n", 0.0) is None
