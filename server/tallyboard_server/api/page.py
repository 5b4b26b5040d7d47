"""The page at the root where the dashboard is not built: what this service is, and how to send it a first point."""

from html import escape
from typing import Final

ROOT_CSP: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tallyboard</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.55 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }}
pre {{ background: #8881; border: 1px solid #8884; border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .3rem; }}
</style>
<h1>Tallyboard</h1>
<p>Metrics logging for machine-learning training. Jobs report scalars keyed by named step counters; this service
checks that each counter only increases, stores the scalars durably and writes TensorBoard event files.</p>
<p>The dashboard is not built. In a source tree: <code>cd server/dashboard &amp;&amp; npm ci &amp;&amp; npm run
build</code></p>
<h2>Send a point</h2>
<pre>curl {base}/api/v1/scalars/mnist/try1 --json '{{"step": 1, "scalars": {{"loss": 0.5}}}}'</pre>
<h2>From Python</h2>
<pre>import tallyboard

run = tallyboard.init("mnist/try1", url="{base}")
run.log({{"loss": 0.5}}, step=1)
run.finish()</pre>
<h2>See it</h2>
{board}<pre>curl '{base}/api/v1/scalars?run=mnist/try1'{files}</pre>
<p><a href="docs">The API, route by route</a> · <a href="api/v1/runs">Runs</a> · <a href="readyz">Ready?</a> ·
<a href="metrics">Metrics</a></p>
</html>
"""

_BOARD: Final = """<p><a href="tensorboard/">TensorBoard</a>, the real one: a new point is there at the next reload.</p>
"""


def root_page(base: str, logdir: str | None, *, tensorboard: bool) -> str:
    """The page for a service reached at `base` (a URL without a trailing slash); tensorboard: it is shown, too.

    logdir: of the event files; None: not for whoever asks.
    """
    return _PAGE.format(
        base=escape(base),
        files="" if logdir is None else f"\ntensorboard --logdir {escape(logdir)}",
        board=_BOARD if tensorboard else "",
    )
