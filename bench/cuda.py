"""What PyTorch does on CUDA: f32 products, and a LoRA step of a model shaped like GPT-2 124M by peft.

    python bench/cuda.py [--json file] [--small]

Without CUDA it says so and writes nothing; --small runs a tiny model on whatever there is, to check the script.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time


def median_ms(torch, run, rounds):
    """Median of rounds after three that warm up (and compile)."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times = []
    for i in range(rounds + 3):
        wait()
        began = time.perf_counter()
        run()
        wait()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[3:])


def products(torch, device, n, rounds):
    """f32 without TF32, and f16, both n by n."""
    for dtype in (torch.float32, torch.float16):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        ms = median_ms(torch, lambda: a @ b, rounds)
        yield {"name": f"gemm {n}³ {str(dtype)[6:]}", "ms": ms, "gflops": 2 * n**3 / ms / 1e6}


def lora_steps(torch, device, small, rounds):
    """Eager and compiled, in f32 and under f16 autocast."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    batch, length, r = (2, 16, 4) if small else (8, 1024, 16)
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 128}
    sizes |= {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(
        **(sizes if small else {}), embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0, use_cache=False
    )
    targets = ["c_attn", "c_proj", "c_fc"]
    for half in (False, True):
        for compiled in (False,) if small else (False, True):  # compiling takes minutes
            torch.manual_seed(1)
            lora = LoraConfig(r=r, lora_alpha=2 * r, target_modules=targets, fan_in_fan_out=True)
            model = get_peft_model(GPT2LMHeadModel(config), lora).to(device)
            parameters = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(parameters, lr=1e-4)
            scaler = torch.amp.GradScaler(device, enabled=half and device == "cuda")
            ids = torch.randint(config.vocab_size, (batch, length), device=device)
            forward = torch.compile(model) if compiled else model

            def step():
                dtype = torch.float16 if device == "cuda" else torch.bfloat16
                with torch.autocast(device, dtype=dtype, enabled=half):
                    loss = forward(input_ids=ids, labels=ids).loss
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()

            precision = "f16 autocast" if half else "f32"
            name = f"gpt2 LoRA step, {precision}, {'torch.compile' if compiled else 'eager'}"
            try:
                ms = median_ms(torch, step, rounds)
                yield {"name": name, "ms": ms, "tokens_per_second": 1000 * batch * length / ms}
            except Exception as error:  # such as no compiler on this machine
                yield {"name": name, "ms": None, "why": f"{type(error).__name__}: {error}"[:300]}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--json")
    arguments.add_argument("--small", action="store_true")
    options = arguments.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit(f"cuda.py: {sys.executable} has no torch. Set PYTHON to one that has.")
    cuda = torch.cuda.is_available()
    if not cuda and not options.small:
        sys.exit("cuda.py: PyTorch finds no CUDA device here; nothing was measured.")
    device = "cuda" if cuda else "cpu"
    rounds = 1 if options.small else 10
    rows = []
    for part in (
        products(torch, device, 64 if options.small else 4096, rounds),
        lora_steps(torch, device, options.small, rounds),
    ):
        for row in part:
            print(json.dumps(row), flush=True)
            rows.append(row)
    if not options.json:
        return
    content = {
        "bench": "cuda",
        "adapter": "cuda" if cuda else "cpu",
        "driver": torch.cuda.get_device_name() if cuda else "none",
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "rows": rows,
    }
    partial = f"{options.json}.{os.getpid()}.partial"
    with open(partial, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    os.replace(partial, options.json)


if __name__ == "__main__":
    main()
