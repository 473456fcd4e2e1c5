"""Write docs/benchmarks.md from docs/benchmarks.json, which `python benchmarks/run.py` measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ENGINES = ("engines_texts", "engines_pictures", "engines_recordings")
DOCS = Path(__file__).parents[1] / "docs"


def share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def lines(rows: list[list[str]]) -> list[str]:
    head, *body = rows
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body]]


def accuracy(results: dict[str, Any]) -> list[str]:
    rows = [["table: target", "accuracy [95 %]", "from scratch", "majority", "ECE", "automated (right)", "seconds"]]
    found: dict[str, Any] = {}
    for machine, each in results.get("banking77", {}).items():
        found[f"banking77, its test file: category ({machine})"] = each
    for target, each in results.get("clinc150", {}).items():
        found[f"clinc150, its test file: {target} (all rows)"] = each
    found |= results.get("tables", {})
    for name, each in found.items():
        low, high = each["accuracy_ci"]
        interval = f"{share(each['accuracy'])} [{100 * low:.1f}, {100 * high:.1f}]"
        automated = f"{share(each['automation_rate'])} ({share(each['automation_precision'])})"
        rows.append(
            [
                name,
                interval,
                share(each["scratch"]),
                share(each["majority"]),
                f"{each['ece']:.3f}",
                automated,
                f"{each['seconds']:.0f}",
            ]
        )
    return lines(rows)


def scope(results: dict[str, Any]) -> list[str]:
    page = []
    for target, each in results.get("clinc150", {}).items():
        out, inside = each["out_of_scope"], each["in_scope"]
        page.append(
            f"* clinc150 {target}: in scope {share(inside['accuracy'])} of {inside['rows']:,} rows; out-of-scope AUROC "
            f"{out['auroc']:.4f} on {out['rows']:,} rows, none of that kind in training; at the threshold chosen on "
            f"training rows {share(out['rejected'])} of them are called unknown, and {share(out['in_scope_rejected'])} "
            "of the rows in scope."
        )
    return page


def fewshot(results: dict[str, Any]) -> list[str]:
    rows = [["rows per class", "accuracy, mean of 5 draws", "draws", "from scratch"]]
    for count, each in results.get("fewshot", {}).items():
        draws = ", ".join(f"{100 * draw:.1f}" for draw in each["draws"])
        rows.append([count, share(each["accuracy"]), draws, share(each["scratch"])])
    return lines(rows)


def peers(results: dict[str, Any]) -> list[str]:
    rows = [["banking77", "tool", "accuracy", "seconds"]]
    for name, tools in results.get("peers", {}).items():
        for tool, each in tools.items():
            if "accuracy" in each:
                rows.append([name, tool, share(each["accuracy"]), f"{each['seconds']:.0f}"])
            elif "hours" in each:
                about = f"{each['default_steps']:,} steps at {each['seconds_per_step']} s = {each['hours']} hours"
                rows.append([name, tool, "not run to its end", about])
            else:
                rows.append([name, tool, each["skipped"], "-"])
    return lines(rows)


def embedding(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    for machine, found in results.get("embedding", {}).items():
        rows = [["path", "seconds", "ratio", "cosine mean", "cosine min"]]
        for name, each in found["runs"].items():
            cosines = [f"{each['cosine_mean']:.5f}", f"{each['cosine_min']:.5f}"]
            rows.append([name, f"{each['seconds']:.2f}", f"{each['ratio']:.2f}x", *cosines])
        page += ["", f"{found['texts']:,} texts, {machine}:", "", *lines(rows)]
    return page


def engines(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    for section in ENGINES:
        for machine, found in results.get(section, {}).items():
            rows = [["way", "rows/s", "ratio", "lowest cosine"]]
            for name, each in found["ways"].items():
                rows.append([name, f"{each['rows_per_s']:.1f}", f"{each['ratio']:.2f}x", f"{each['cosine_min']:.5f}"])
            page += ["", f"{found['what']}; {machine}; medians of {found['rounds']} rounds:", "", *lines(rows)]
            if "from_jpeg" in found:
                each = found["from_jpeg"]
                page += ["", f"From JPEG files {each['rows_per_s']:.1f} a second, {share(each['share'])} of that."]
    return page


def writing(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    for machine, found in results.get("engines_writing", {}).items():
        sides = [f"{each} text{'s' if each > 1 else ''}" for each in found["sides"]]
        heads = ["way", *(f"{side}: {what}" for side in sides for what in ("tokens/s", "ratio"))]
        rows = [[*heads, "nats off at most", "size"]]
        for name, each in found["ways"].items():
            pairs = zip(each["tokens_per_s"], each["ratio"], strict=True)
            speed = [cell for rate, ratio in pairs for cell in (f"{rate:.1f}", f"{ratio:.2f}x")]
            rows.append([name, *speed, f"{100 * each['nats_off']:.3f} %", f"{each['megabytes']:.0f} MB"])
        page += ["", f"{found['what']}, writing on; {machine}; medians of {found['rounds']} rounds:", "", *lines(rows)]
    for machine, found in results.get("engines_dictation", {}).items():
        rows = [["way", "seconds", "ratio", "the same tokens"]]
        for name, each in found["ways"].items():
            rows.append([name, f"{each['seconds']:.2f}", f"{each['ratio']:.2f}x", share(each["same_tokens"])])
        page += ["", f"{found['what']}; {machine}; medians of {found['rounds']} rounds:", "", *lines(rows)]
    for machine, found in results.get("engines_boxes", {}).items():
        rows = [["network", "way", "ms", "ratio", "boxes alike"]]
        for network, ways in found["ways"].items():
            for name, each in ways.items():
                rows.append([network, name, f"{each['ms']:.1f}", f"{each['ratio']:.2f}x", share(each["alike"])])
        page += ["", f"{found['what']}; {machine}; medians of {found['rounds']} rounds:", "", *lines(rows)]
    for machine, found in results.get("engines_single", {}).items():
        told = f"{found['what']}; {machine}; medians of {found['rounds']} rounds"
        times = f"a fitted model's answer takes {found['answer_ms']:.2f} ms, its network's graph alone"
        page += ["", f"{told}: {times} {found['graph_ms']:.2f} ms; {found['ratio']:.2f} times that."]
    return page


def footprint(results: dict[str, Any]) -> list[str]:
    rows = [["what", "seconds", "peak memory"]]
    for name, each in results.get("cold", {}).items():
        if "seconds" in each:
            rows.append([f"cold: {name}", f"{each['seconds']:.2f}", f"{each['megabytes']} MB"])
    if "million" in results:
        each = results["million"]
        rows.append([f"predict {each['rows']:,} rows of CSV", f"{each['seconds']:,}", f"{each['megabytes']} MB"])
    return lines(rows)


def files(results: dict[str, Any]) -> list[str]:
    rows = [["data: network", "accuracy", "macro-F1", "from scratch", "random split, from scratch", "seconds", "again"]]
    for name, each in results.get("pictures", {}).items():
        splits = f" (mean of {each['splits']} splits)" if each["splits"] > 1 else ""
        costs = [f"{each[key]:.0f}" for key in ("seconds", "seconds_again")]
        measured = [share(each[key]) for key in ("accuracy", "macro_f1", "scratch", "random_split")]
        rows.append([name + splits, *measured, *costs])
    page = lines(rows) if len(rows) > 1 else []
    if "recordings" in results:
        each = results["recordings"]
        splits = ", ".join(share(split) for split in each["splits"])
        told = f"{share(each['accuracy'])} ({splits}) by `{each['method']}` (MFCC)"
        page += ["", f"* fsdd, one speaker held out at a time (`--group speaker`): {told}, {each['seconds']:.0f} s; no"]
        page += ["  pretrained audio network is at hand."]
    if "decoding" in results:
        each = results["decoding"]
        told = (
            f"{each['seconds']} s, {each['photos_per_s']} a second, {share(each['network_share'])} of it in the network"
        )
        page += [f"* {each['photos']:,} photos through MobileNetV2 ({each['engine']}): {told}."]
        engines = ", ".join(f"{name} {seconds} s" for name, seconds in each.get("seconds_of_64", {}).items())
        page += [f"* 64 decoded photos through it, median of 5: {engines}."] if engines else []
    return page


def curves(results: dict[str, Any]) -> list[str]:
    rows = [["table: method", "labels", "accuracy", "forecast [90 %]", "came", "labels then", "points off", "in band"]]
    for name, each in results.get("curve", {}).items():
        band = f"{share(each['score'])} [{100 * each['low']:.1f}, {100 * each['high']:.1f}]"
        inside = f"{each['inside']} of {len(each['off'])}"
        off = f"{each['mean_off']:.1f}" + (f" ({len(each['refused'])} refused)" if each["refused"] else "")
        later = [share(each["later"]), f"{each['later_labels']:,}"]
        rows.append([name, f"{each['labels']:,}", share(each["now"]), band, *later, off, inside])
    page = lines(rows) if len(rows) > 1 else []
    found = results.get("next", {})
    if found:
        rows = [["table", "labels", "accuracy", "with more at random", "with more by label-next"]]
        for name, each in found.items():
            more = f"{each['labels']:,} + {each['added']:,}"
            rows.append([name, more, share(each["before"]), share(each["random"]), share(each["label-next"])])
        page += ["", "### Which rows to label next", "", *lines(rows)]
    return page


LADDERS = {
    "ladder_banking77": "banking77, whole ladder in 6 minutes",
    "ladder_sst2": "sst2, MiniLM fine-tuned",
    "ladder_clothing": "clothing_small, MobileNetV2 fine-tuned",
    "ladder_tile": "magnetic_tile, MobileNetV2 fine-tuned",
}


def training(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    if "steps" in results:
        found = results["steps"]
        rows = [["one epoch of banking77 rows", "ms a row", "ratio to headstart"]]
        for name, each in found["milliseconds_a_row"].items():
            rows.append([name, f"{each:.1f}", f"{found['ratio_to_headstart'][name]:.2f}x"])
        page += [
            f"{found['rows']} texts in batches of {found['batch']}, medians of 5 interleaved rounds; "
            "headstart's includes its checkpoint after the epoch:",
            "",
        ]
        page += [*lines(rows), ""]
    rows = [["table", "test accuracy [95 %]", "macro-F1", "from scratch", "seconds", "rungs on held-out training rows"]]
    for key, name in LADDERS.items():
        if each := results.get(key):
            low, high = each["accuracy_ci"]
            rungs = "; ".join(f"{rung['name']}: {rung['why'] or 'where it starts'}" for rung in each["ladder"])
            interval = f"{share(each['accuracy'])} [{100 * low:.1f}, {100 * high:.1f}]"
            figures = [share(each["macro_f1"]), share(each["scratch"]), f"{each['seconds']:.0f}"]
            rows.append([name, interval, *figures, rungs])
    page += lines(rows) if len(rows) > 1 else []
    return [*page, "", *taught(results)]


def taught(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    if each := results.get("boxes"):
        page += [
            f"* bccd, {each['network']}: mAP50 {each['map50']:.3f}, mAP {each['map']:.3f} on {each['rows']} test "
            f"pictures after {each['epochs']} epochs of {each['train_rows']} pictures; {each['seconds']:.0f} s in all."
        ]
    for name, each in results.get("speech", {}).items():
        low, high = each["wer_ci"]
        page += [
            f"* Spoken digits of a speaker whom nobody has heard, {name}: WER {share(each['wer'])} "
            f"[{100 * low:.1f}, {100 * high:.1f}], CER {share(each['cer'])} after {each['epochs']} epochs of "
            f"{each['train_rows']} recordings; {each['seconds']:.0f} s in all."
        ]
    return page


def smaller(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    kinds = (
        ("prune", "banking77, MiniLM", "category", "right"),
        ("prune_pictures", "clothing_small, MobileNetV2", "label", "right"),
        ("precisions_banking77", "banking77, MiniLM", "category", "right"),
        ("precisions_sst2", "sst2, MiniLM", "label", "right"),
        ("precisions_clothing", "clothing_small, MobileNetV2", "label", "right"),
        ("small_speech", "spoken digits, builtin:ctc-small", "transcribe", "WER"),
        ("small_boxes", "blood cells, Faster R-CNN on MobileNetV2", "detect", "mAP"),
    )
    for section, what, target, measure in kinds:
        found = results.get(section)
        if not found:
            continue
        rows = [[what, measure, "points lost (bound)", "one row", "rows/s", "size", "what became of it"]]
        for each in found["trials"]:
            right, drop, pace = each["accuracy"].get(target), each["drop"].get(target), each["pace"]
            lost = f"{drop['points']:+.2f} (< {drop['bound']:.2f})" if drop else "-"
            if pace:
                speed = [f"{pace[name]:.2f} times as fast" for name in ("latency", "throughput")]
            else:
                speed = [f"{each['speed']['p50_ms']:.1f} ms", f"{each['speed']['rows_per_s']:.0f}"]
            size = f"{each['size'] / 1e6:.1f} MB" if each["size"] else "-"
            rows.append([each["name"], share(right["value"]) if right else "-", lost, *speed, size, each["why"] or "-"])
        most = f"at most {found['max_drop']:g} points may be lost"
        whole = f" As it is: {found['engine']}." if "engine" in found else ""
        page += [f"Judged on {found['rows']:,} rows of the test file; {most}.{whole}", "", *lines(rows), ""]
    return ["## Smaller forms", "", *page] if page else []


def serving(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    if found := results.get("serving_overhead"):
        rows = [["a model that costs nothing, 16 clients", "CPU-ms a request", "requests/s", "memory"]]
        for name, each in found["runs"].items():
            figures = [f"{each['cpu_ms']:.2f}", f"{each['requests_per_s']:,.0f}", f"{each['megabytes']} MB"]
            rows.append([name, *figures])
        page += ["CPU time is of the server's whole process tree; the load generator's is apart.", "", *lines(rows), ""]
    if found := results.get("serving_mixed"):
        rows = [[f"MiniLM, {found['texts']:,} texts of mixed lengths, 64 clients", "texts/s", "p50", "p99"]]
        for name, each in found["runs"].items():
            waits = [f"{each[key]:,.0f} ms" if key in each else "-" for key in ("p50_ms", "p99_ms")]
            rows.append([name, f"{each['requests_per_s']:,.0f}", *waits])
        times = [f"{each:g} times LitServe {kind}" for kind, each in found["ratio_to_litserve"].items()]
        page += [*lines(rows), ""]
        page += [
            f"Medians of {found['rounds']} rounds in turns; headstart with --queue-batches 64, so that all clients may "
            f"wait. It reaches {share(found['share_of_offline'])} of what its own runtime answers offline, "
            f"all texts at once, and {' and '.join(times)} at LitServe's better batch size. Packed means "
            "that LitServe was given headstart's runtime; padded is sentence-transformers, the same network and "
            "dtype, as LitServe batches it: in order of arrival.",
            "",
        ]
    return page + steadiness(results)


def steadiness(results: dict[str, Any]) -> list[str]:
    page: list[str] = []
    if found := results.get("serving_overload"):
        page += [
            f"* Overload: {found['sent_per_s']:,.0f} texts/s sent to a server that can answer "
            f"{found['capacity_per_s']:,.0f}, for {found['seconds']:.0f} s: accepted p99 {found['accepted_p99_ms']} ms "
            f"(unloaded {found['unloaded_p99_ms']}, one batch {found['batch_ms']}), refused p99 "
            f"{found['rejected_p99_ms']} ms, health p99 {found['health_p99_ms']} ms; "
            f"usual again {found['recovery_s']} s after the load."
        ]
    if found := results.get("serving_growth"):
        sizes = f"{found['megabytes_after_a_tenth']} MB after a tenth of them, {found['megabytes']} MB after all"
        page += [f"* Memory over {found['requests']:,} requests of all kinds: {sizes} ({share(found['growth'])})."]
    for name, each in results.get("serving_redeploy", {}).items():
        answers = f"{each['answers'].get('200', 0):,} answered, {each['failed']} failed"
        page += [f"* Redeploying under load, {name}: {answers}."]
    if found := results.get("serving_storm"):
        page += [
            f"* {found['clients']:,} clients leave at once ({found['waiting_when_they_left']:.0f} rows waiting): the "
            f"queue is empty {found['queue_empty_after_s']} s later, the next answer takes {found['next_answer_s']} s."
        ]
    return page


def machines(results: dict[str, Any]) -> list[str]:
    by: dict[str, list[str]] = {}
    for section, machine in results.get("machines", {}).items():
        by.setdefault(machine, []).append(section)
    told = [f"* {machine}: {', '.join(sections)}" for machine, sections in by.items()]
    if busy := results.get("busy"):
        told += [
            f"* measured while the machine did other work, too, so that their seconds are too long: {', '.join(busy)}"
        ]
    told += [f"* {note}" for note in results.get("notes", [])]
    others = [f"engines_{name}" for name in ("writing", "dictation", "boxes", "single")]
    each = ("banking77", "embedding", *ENGINES, *others)
    known = {*results.get("machines", {}), "machines", "busy", "notes", *each}
    earlier = [section for section in results if section not in known]
    return told + ([f"* an earlier machine, not recorded: {', '.join(earlier)}"] if earlier else [])


def gpu(results: dict[str, Any]) -> list[str]:
    """Return what was measured on a GPU; without one nothing is."""
    page: list[str] = []
    if "gpu_limits" in results:
        each = results["gpu_limits"]
        rates = ", ".join(f"{rate:,} TFLOP/s in {name}" for name, rate in each["tflops"].items())
        page += [f"{each['machine']}, PyTorch {each['torch']}: a matrix product of 8192 x 8192 x 8192 runs at {rates};",
                 f"a copy moves {each['copy_gb_per_s']:,} GB/s, bytes read and written."]  # fmt: skip
    if "gpu_texts" in results:
        page += [
            "",
            "MiniLM, texts to vectors. `texts in` counts tokenising; the network alone starts from tokens.",
            "",
        ]
        kinds = [name for name in results["gpu_texts"] if isinstance(results["gpu_texts"][name], dict)][:2]
        rows = [["path", *[f"{kind}: {what}" for kind in kinds for what in ("texts/s", "ratio", "lowest cosine")]]]
        for path in results["gpu_texts"][kinds[0]]["texts_per_s"]:
            cells = []
            for kind in kinds:
                each = results["gpu_texts"][kind]
                cosine = f"{each['cosine_min'][path]:.5f}"
                cells += [f"{each['texts_per_s'][path]:,}", f"{each['ratio'][path]:.1f}x", cosine]
            rows.append([path, *cells])
        page += [*lines(rows), ""]
        for kind in kinds:
            each = results["gpu_texts"][kind]
            page.append(
                f"* {kind}: {each['texts']:,} texts of {each['tokens_a_text']} tokens; the network alone in bf16 reads "
                f"{each['tokens_per_s']:,} tokens/s, {share(each['share_of_peak'])} of the matrix product's rate."
            )
        one = ", ".join(f"{name} {each}" for name, each in results["gpu_texts"]["milliseconds_of_one"].items())
        page.append(f"* one text, from tokens to vector, milliseconds: {one}.")
    if "gpu_pictures" in results:
        page += ["", "Pictures of 224 x 224 pixels. ResNet-50's weights are random.", ""]
        nets = {name: each for name, each in results["gpu_pictures"].items() if isinstance(each, dict)}
        rows = [["path", *[f"{name}: {what}" for name in nets for what in ("pictures/s", "ratio")]]]
        for path in next(iter(nets.values()))["pictures_per_s"]:
            cells = []
            for each in nets.values():
                known = path in each["pictures_per_s"]
                cells += [f"{each['pictures_per_s'][path]:,}", f"{each['ratio'][path]:.1f}x"] if known else ["-", "-"]
            rows.append([path, *cells])
        page += [*lines(rows), ""]
        for name, each in nets.items():
            page.append(
                f"* {name}: lowest cosine of bf16 to f32 {each['cosine_min']:.5f}, {share(each['share_of_peak'])} of "
                f"the matrix product's rate; from JPEG files {each['from_jpeg_per_s']:,} pictures/s."
            )
    for name, title in (("gpu_fit_texts", "`fit` of banking77"), ("gpu_fit_pictures", "`fit` of clothing_small")):
        if name in results:
            each = results[name]
            rungs = ", ".join(f"{rung['name']} {rung['score']:.3f}" for rung in each["ladder"] if rung["score"])
            page += ["", f"* {title}: {share(each['accuracy'])} in {each['seconds']:.0f} s; held-out rows: {rungs}."]
    if "gpu_steps" in results:
        each = results["gpu_steps"]
        took = ", ".join(
            f"{name} {taken:.2f} ({each['ratio_to_headstart'][name]:.2f}x)"
            for name, taken in each["milliseconds_a_row"].items()
        )
        page += ["", f"* fine-tuning MiniLM, milliseconds a row, and the ratio to headstart's: {took}."]
    return page or ["Nothing was measured: no GPU was lent."]


def main() -> None:
    results = json.loads((DOCS / "benchmarks.json").read_text(encoding="utf-8"))
    page = [
        "# Benchmarks",
        "",
        "Measured by `make bench` and written by `benchmarks/page.py`. Typed by hand are the machine of the",
        "older embedding table, whose run did not record it, and which sections were measured on a busy machine.",
        "The engines' figures for pictures and recordings, the GPU's, and an AMX machine's were copied from what",
        "their commands printed or wrote, not written by `run.py` itself.",
        "Seconds are of the whole command with an empty cache: start, embedding, race, baseline, calibration, report.",
        "",
        "## Accuracy",
        "",
        *accuracy(results),
        "",
        *scope(results),
        "",
        "### Few rows",
        "",
        *fewshot(results),
        "",
        "## Peers, at their defaults, same rows, same run",
        "",
        *peers(results),
        "",
        "## Embedding throughput",
        "",
        "Ratios are to `SentenceTransformer.encode` at its defaults, tokenising included.",
        *embedding(results),
        "",
        "## Engines",
        "",
        "Ratios are to the first way. sentence-transformers and the pipeline are at their defaults, but that the",
        "pipeline cuts long texts as all others do; it is timed on the first 100. fastembed alone cuts them at 128",
        "tokens, as the tokenizer's settings say, so it gives other vectors for long ones. Peers that need another",
        "transformers run in environments and processes of their own. ResNet-50, Wav2Vec2-base and GPT-2 have random",
        "weights.",
        *engines(results),
        *writing(results),
        "",
        "## Cold start and memory",
        "",
        *footprint(results),
        "",
        "## Pictures and recordings, with frozen features",
        "",
        *files(results),
        "",
        "## Changing weights",
        "",
        *training(results),
        "",
        *smaller(results),
        "## Serving",
        "",
        *serving(results),
        "",
        "## Forecasts of what more labels bring",
        "",
        "A curve is measured on the first column's labels; figures are means of 3 draws. The forecast begins at the",
        "accuracy that the method itself has with them on other rows, and is compared with what came there with more.",
        "",
        *curves(results),
        "",
        "## On which machine",
        "",
        "Speeds differ by several times between processors with and without bf16 arithmetic (AMX, AVX-512 with bf16).",
        "",
        *machines(results),
        "",
        "## GPU",
        "",
        *gpu(results),
        "",
    ]
    (DOCS / "benchmarks.md").write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
