"""The page at `/`: a form for the model's columns that needs nothing from the web."""

from __future__ import annotations

import json
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any

from headstart.core import VERSION

if TYPE_CHECKING:
    from headstart.server.app import Service

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
const url = new URL("predict", location.href);
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


def html(service: Service) -> str:
    """Return the page, with the example filled in and answered."""
    request = json.dumps(service.example, ensure_ascii=False).replace("'", "'\\''")
    return PAGE.substitute(
        name=escape(service.name),
        version=escape(VERSION),
        targets=escape(", ".join(service.runtime.targets)),
        inputs="\n".join(_input(service, name, each) for name, each in service.runtime.input_schema().items()),
        outputs="\n".join(_output(name, each) for name, each in service.runtime.answer_schema().items()),
        answer=escape(json.dumps(service.example_answer, indent=2, ensure_ascii=False)),
        request=escape(request),
    )


def _input(service: Service, name: str, schema: dict[str, Any]) -> str:
    own, cell = escape(name), escape(str(service.example.get(name, "")))
    label = f'<label for="{own}">{own} <span class="note">{escape(str(schema.get("description", "")))}</span></label>'
    if name in service.fields.texts:
        return f'{label}\n<textarea id="{own}" name="{own}" rows="3">\n{cell}</textarea>'
    if name in service.fields.files:
        accepted = cell.removeprefix("data:").partition("/")[0]
        return f'{label}\n<input id="{own}" name="{own}" type="file" accept="{accepted}/*">'
    return f'{label}\n<input id="{own}" name="{own}" value="{cell}">'


def _output(name: str, schema: dict[str, Any]) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(str(schema.get('description', '')))}</td></tr>"
