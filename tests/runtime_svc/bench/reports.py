"""Reports made up for tests of what reads them."""

from runtime_svc.bench.record import (
    Cold,
    Contender,
    Decode,
    Floors,
    Gpu,
    Machine,
    Model,
    Report,
    Run,
    Settings,
    Ttft,
)

QWEN3_06B = Model(
    name="qwen3-0.6b",
    family="qwen3",
    layers=28,
    hidden=1024,
    heads=16,
    kv_heads=8,
    head_dim=128,
    ffn=3072,
    vocabulary=151936,
    context_length=40960,
    tied=True,
    parameters=596_049_920,
)
QWEN25_3B = Model(
    name="qwen2.5-3b",
    family="qwen2",
    layers=36,
    hidden=2048,
    heads=16,
    kv_heads=2,
    head_dim=128,
    ffn=11008,
    vocabulary=151936,
    context_length=32768,
    tied=True,
    parameters=3_085_938_688,
)
QWEN3_4B = Model(
    name="qwen3-4b",
    family="qwen3",
    layers=36,
    hidden=2560,
    heads=32,
    kv_heads=8,
    head_dim=128,
    ffn=9728,
    vocabulary=151936,
    context_length=40960,
    tied=True,
    parameters=4_022_468_096,
)

SETTINGS = Settings(
    backend="cupy",
    element_bytes=2,
    threads=1,
    prompt_tokens=[128, 512],
    decode_context=128,
    decode_tokens=256,
    batches=[1, 8],
    repeats=3,
    peer_repeats=1,
    cold_repeats=1,
    cold_tokens=48,
    measure_limit_s=1.0,
    peer_limit_s=90.0,
    seed=0,
)

MACHINE = Machine(
    cpu="A processor",
    cores=8,
    memory_mib=1024,
    system="Linux 6",
    python="3.12.0",
    packages={"numpy": "2.4.6"},
    commit=None,
    load=0.5,
    gpu=Gpu(
        name="NVIDIA H200",
        driver="580.1",
        memory_mib=143771,
        memory_used_mib=4,
        max_sm_clock_mhz=1980,
        max_memory_clock_mhz=3201,
        power_limit_w=700.0,
        persistence_mode=True,
    ),
)


def report(model: Model = QWEN3_06B) -> Report:
    """One of every state, with figures that are easy to recompute."""
    ours = Contender(
        name="treni",
        device="NVIDIA H200",
        ttft=[
            Ttft(prompt_tokens=128, seconds=[0.001, 0.002, 0.003], counted=[128] * 3),
            Ttft(prompt_tokens=512, seconds=[0.004], counted=[512]),
        ],
        decode=[
            Decode(batch=1, tokens=[256, 256], seconds=[0.128, 0.128]),
            Decode(batch=8, tokens=[256], seconds=[0.256]),
        ],
        cold=[
            Cold(
                ready_s=0.5,
                first_token_s=0.502,
                total_s=0.53,
                outside_s=0.503,
                tokens=48,
                stages={"interpreter": 0.1, "import": 0.2, "weights": 0.2, "first token": 0.002},
            )
        ],
    )
    cut = Contender(
        name="transformers-compiled",
        state="partial",
        reason="cut at its limit of 90 s, while decoding at batch 1",
        ttft=[Ttft(prompt_tokens=128, seconds=[0.02], counted=[128])],
    )
    counted = Contender(
        name="http://127.0.0.1:1/v1",
        ttft=[Ttft(prompt_tokens=128, seconds=[0.01], counted=[127])],
        decode=[Decode(batch=1, tokens=[200], seconds=[0.4])],
    )
    absent = Contender(name="vllm", state="absent", reason="No module named 'vllm'")
    run = Run(
        started="2026-01-01T00:00:00+00:00",
        machine=MACHINE,
        model=model,
        settings=SETTINGS,
        floors=Floors(copy_bytes_per_s=[4.2e12, 4.3e12, 4.4e12], sm_clock_mhz=[1980, 1980, 1965]),
        contenders=[ours, cut, counted, absent],
    )
    return Report(runs=[run])
