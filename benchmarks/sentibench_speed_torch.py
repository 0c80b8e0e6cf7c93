"""The PyTorch side of sentibench_speed.py: the published procedure with transformers.

Reads {"prompts", "label_words", "batch"} a line. Label tasks: scores of the first new token, at the
first token of each label word. Others: greedy, at most 150 new tokens, the whole batch until its
last row has ended. Answers {"seconds"} and "logits" or "texts".
"""

import json
import sys
import time

import torch  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(directory: str, dtype: str, threads: int) -> None:
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
    for line in sys.stdin:
        question = json.loads(line)
        prompts, batch, words = question["prompts"], question["batch"], question["label_words"]
        ids = [tokenizer.encode(word, add_special_tokens=False)[0] for word in words]
        logits, texts = [], []
        start = time.perf_counter()
        for first in range(0, len(prompts), batch):
            inputs = tokenizer(prompts[first : first + batch], return_tensors="pt", padding=True)
            with torch.inference_mode():
                output = model.generate(
                    **inputs,
                    do_sample=False,
                    max_new_tokens=1 if ids else 150,
                    output_scores=bool(ids),
                    return_dict_in_generate=True,
                    pad_token_id=tokenizer.pad_token_id,
                )
            if ids:
                (scores,) = output.scores  # pyright: ignore[reportGeneralTypeIssues]
                logits += scores[:, ids].float().tolist()
            else:
                new = output.sequences[:, inputs["input_ids"].shape[1] :]
                texts += tokenizer.batch_decode(new, skip_special_tokens=True)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "logits": logits, "texts": texts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
