"""The page at `/`: a form for the model's columns that needs nothing from the web."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any
from urllib.parse import quote

from headstart.core import VERSION
from headstart.server.models.served import Served

POLICY = (
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: nothing but itself."""

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
label { display: block; margin: .8rem 0 .2rem; font-weight: 600 }
input, textarea { width: 100%; box-sizing: border-box; font: inherit; padding: .4rem }
button { font: inherit; margin: 1rem 0; padding: .4rem 1.2rem }
pre { padding: .8rem; overflow: auto; border: 1px solid #8886 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
.note { opacity: .7; font-weight: 400 }
</style>
</head>
<body>
$models
<h1>$name</h1>
<p>Predicts <b>$targets</b>.</p>
<form>
$inputs
<button>Predict</button>
</form>
<pre role="status" aria-label="answer">$answer</pre>
<h2>Fields of an answer</h2>
<table>
$outputs
</table>
<h2>From a program</h2>
<pre id="curl">curl URL -H 'Content-Type: application/json' -d '$request'</pre>
<p>Many rows at once: <code>{"rows": [row, …]}</code>.
<a href="openapi.json">openapi.json</a> has the whole schema; <a href="docs">docs</a> shows it, with a script from the
web; <a href="metrics">metrics</a> are for Prometheus.</p>
<p class="note">headstart $version</p>
<script>
const form = document.querySelector("form"), shown = document.querySelector("[role=status]");
const url = new URL("$path", location.href);
document.getElementById("curl").firstChild.data = document.getElementById("curl").textContent.replace("URL", () => url);
const content = file => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(file);
});
form.addEventListener("submit", async event => {
  event.preventDefault();
  const row = {};
  for (const [name, cell] of new FormData(form)) {
    if (cell instanceof File ? cell.size : cell.trim()) row[name] = cell instanceof File ? await content(cell) : cell;
  }
  try {
    const answer = await fetch(url, {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(row)
    });
    shown.textContent = JSON.stringify(await answer.json(), null, 2);
  } catch (error) { shown.textContent = "The server cannot be reached: " + error.message }
});
</script>
</body>
</html>
""")


NOTHING = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>headstart</title>
<p>No model is served. Load one: <code>headstart rollout load NAME PATH</code></p>
<p>headstart $version</p>
</html>
""")


def html(every: Sequence[Served], name: str = "") -> str:
    """Return the page of one of several models, with its example filled in and answered.

    Args:
        every: the models.
        name: the one that is asked; the first where there is none of that name.
    """
    if not every:
        return NOTHING.substitute(version=escape(VERSION))
    served = next((each for each in every if each.name == name), every[0])
    request = json.dumps(served.example, ensure_ascii=False).replace("'", "'\\''")
    return PAGE.substitute(
        name=escape(served.name),
        models=_models(every, served) if len(every) > 1 else "",
        path="predict" if len(every) == 1 else f"models/{quote(served.name)}/predict",
        version=escape(VERSION),
        targets=escape(", ".join(served.targets)),
        inputs="\n".join(_input(served, name, each) for name, each in served.input_schema().items()),
        outputs="\n".join(_output(name, each) for name, each in served.answer_schema().items()),
        answer=escape(json.dumps(served.example_answer, indent=2, ensure_ascii=False)),
        request=escape(request),
    )


def _models(every: Sequence[Served], served: Served) -> str:
    links = [
        f"<b>{escape(each.name)}</b>"
        if each is served
        else f'<a href="?model={quote(each.name)}">{escape(each.name)}</a>'
        for each in every
    ]
    return f"<nav>{' · '.join(links)}</nav>"


def _input(served: Served, name: str, schema: dict[str, Any]) -> str:
    own, cell = escape(name), escape(str(served.example.get(name, "")))
    label = f'<label for="{own}">{own} <span class="note">{escape(str(schema.get("description", "")))}</span></label>'
    if name in served.fields.texts:
        return f'{label}\n<textarea id="{own}" name="{own}" rows="3">\n{cell}</textarea>'
    if name in served.fields.files:
        accepted = cell.removeprefix("data:").partition("/")[0]
        return f'{label}\n<input id="{own}" name="{own}" type="file" accept="{accepted}/*">'
    return f'{label}\n<input id="{own}" name="{own}" value="{cell}">'


def _output(name: str, schema: dict[str, Any]) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(str(schema.get('description', '')))}</td></tr>"
