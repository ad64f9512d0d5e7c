"""PyTorch on the processor: the same cases. Commands come on standard input, answers go to descriptor 3."""

import json
import os
import sys
import time
import traceback

try:
    import numpy as np
    import torch
except ImportError:
    torch = None


def read_inputs(work, path):
    values = np.fromfile(path, dtype=np.float32)
    inputs, at = {}, 0
    for entry in work["inputs"]:
        count = int(np.prod(entry["shape"]))
        t = torch.from_numpy(values[at : at + count].reshape(entry["shape"]).copy())
        inputs[entry["name"]] = t.long() if "below" in entry else t
        at += count
    return inputs


def gemm(work, inputs):
    a, b = inputs["a"], inputs["b"]
    a = a.t() if work["layout"] == "TN" else a
    b = b.t() if work["layout"] == "NT" else b

    def run():
        with torch.no_grad():
            return [a @ b]

    return run, run


def lora(work, inputs):
    x, W, A, B, dy = (inputs[name] for name in ["x", "W", "A", "B", "dy"])
    trained = [t.requires_grad_() for t in (x, A, B)]

    def run():
        y = x @ W.t() + work["scale"] * ((x @ A.t()) @ B.t())
        return torch.autograd.grad(y, trained, dy)

    return run, run


def gpt(work, inputs):
    r = work["sizes"]["r"]
    names = [n for n in inputs if n not in ("ids", "targets")]
    trained = [n for n in names if r == 0 or n.endswith((".A", ".B"))]
    parameters = [inputs[n].requires_grad_() for n in trained]
    settings = {"lr": work["learningRate"], "weight_decay": work["weightDecay"]}
    optimizer = torch.optim.AdamW(parameters, **settings)

    def step():
        loss = gpt_loss(work, inputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, lambda: [torch.stack([step().detach() for _ in range(2)])]


def gpt_loss(work, w):
    F = torch.nn.functional
    sizes = work["sizes"]
    B, T, D, H = sizes["batch"], sizes["context"], sizes["width"], sizes["heads"]

    def linear(name, x):
        y = torch.addmm(w[f"{name}.bias"], x, w[f"{name}.weight"])
        if f"{name}.A" not in w:
            return y
        return y + work["scale"] * ((x @ w[f"{name}.A"].t()) @ w[f"{name}.B"].t())

    def norm(name, x):
        return F.layer_norm(x, [D], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    def attention(name, x):
        qkv = linear(f"{name}.c_attn", x).view(B, T, 3, H, D // H).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv, is_causal=True)
        return linear(f"{name}.c_proj", y.transpose(1, 2).reshape(B * T, D))

    x = (F.embedding(w["ids"], w["wte.weight"]) + w["wpe.weight"]).view(B * T, D)
    for i in range(sizes["layers"]):
        x = x + attention(f"h.{i}.attn", norm(f"h.{i}.ln_1", x))
        inner = F.gelu(linear(f"h.{i}.mlp.c_fc", norm(f"h.{i}.ln_2", x)), approximate="tanh")
        x = x + linear(f"h.{i}.mlp.c_proj", inner)
    return F.cross_entropy(norm("ln_f", x) @ w["wte.weight"].t(), w["targets"].flatten())


run = None


def obey(command):
    global run
    if command["do"] == "open":
        return {"name": f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"}
    if command["do"] == "prepare":
        work = command["work"]
        make = {"gemm": gemm, "lora": lora, "gpt": gpt}[work["kind"]]
        run, results = make(work, read_inputs(work, command["inputs"]))
        parts = [t.detach().contiguous().numpy().ravel() for t in results()]
        np.concatenate(parts).tofile(command["results"])
        return {}
    if command["do"] == "time":
        began = time.perf_counter()
        for _ in range(command["runs"]):
            run()
        return {"ms": (time.perf_counter() - began) * 1000 / command["runs"]}
    run = None
    return {}


for line in sys.stdin:
    try:
        if torch is None:
            raise SystemExit(f"{sys.executable} has no torch; set PYTHON to one that has")
        answer = obey(json.loads(line))
    except SystemExit as stop:
        answer = {"error": str(stop)}
    except Exception:
        answer = {"error": traceback.format_exc()}
    os.write(3, (json.dumps(answer) + "\n").encode())
