"""The PyTorch side of generate.py: `generate` of transformers.

Reads {"prompts", "new_tokens", "dtype"} a line and answers {"seconds", "tokens"}.
"""

import json
import sys
import time

import torch  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM


def main(directory: str, threads: int) -> None:
    torch.set_num_threads(threads)
    models = {}
    for line in sys.stdin:
        question = json.loads(line)
        dtype = question["dtype"]
        if dtype not in models:
            models = {  # the other dtype's goes
                dtype: AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
            }
        prompts = torch.tensor(question["prompts"])
        start = time.perf_counter()
        with torch.inference_mode():
            tokens = models[dtype].generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=False,
                min_new_tokens=question["new_tokens"],
                max_new_tokens=question["new_tokens"],
                pad_token_id=0,
            )
        seconds = time.perf_counter() - start
        new = tokens[:, prompts.shape[1] :].tolist()
        print(json.dumps({"seconds": seconds, "tokens": new}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
