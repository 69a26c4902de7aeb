"""Pieces of an HTML page that loads nothing, runs at most one script of its own and trusts no text."""

import base64
import hashlib
import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f6f7f9; --ink: #1f2328; --muted: #6a7079;
  --grid: #d9dce0; --series-1: #0072b2; --series-2: #d55e00; --series-3: #009e73; --series-4: #b8578a;
  --series-5: #b87700; --series-6: #2b8cc4; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1e2226; --ink: #e6e8ea; --muted: #9aa2ab;
  --grid: #343a40; --series-1: #4aa8e0; --series-2: #f08a4b; --series-3: #2fc79a; --series-4: #e39ac3;
  --series-5: #eab54d; --series-6: #8fd0f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem clamp(.8rem, 3vw, 2rem) 4rem; max-width: 76rem;
  background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4rem 0 .8rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--grid); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, ul { max-width: 60rem; } ul { padding-left: 1.2rem; }
.headline { font-size: 1.1rem; padding-left: 0; list-style: none; }
.headline li { padding: .3rem .8rem; margin: .4rem 0;
  border-left: 4px solid var(--mark, var(--ink)); background: var(--card); }
.note, figcaption, small { color: var(--muted); } .note, figcaption { font-size: .88rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td small { display: block; font-size: .7rem; font-weight: 400; }
table.text :is(th, td) { text-align: left; white-space: normal; }
.up { color: var(--series-1); font-weight: 700; }
.down { color: var(--series-2); font-weight: 700; }
.unclear { color: var(--muted); }
.wide { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.2rem; }
.wide > :only-child { max-width: 46rem; }
.panels { display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .8rem; }
figure { margin: 0; min-width: 0; } svg { display: block; width: 100%; height: auto; }
.legend span { margin-right: 1.2rem; white-space: nowrap; }
.chip { display: inline-block;
  width: 1.4em; margin-right: .4em; vertical-align: .25em; border-top: 3px solid; }
.bar { display: flex; height: 1rem; min-width: 12rem; border-radius: 3px; overflow: hidden; }
.bar i { display: block; }
.box { display: inline-block;
  width: .9em; height: .9em; margin-right: .4em; border-radius: 2px; vertical-align: -.08em; }
details { margin: .5rem 0; } summary { cursor: pointer; font-weight: 600; }
.sample { margin: .7rem 0; padding: .6rem .8rem;
  background: var(--card); border-left: 4px solid var(--mark, var(--grid)); }
pre { margin: .3rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 24rem; overflow-y: auto; font-size: .85rem; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; max-width: none; }
select, button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--grid);
  border-radius: 4px; padding: .25rem .5rem; max-width: 100%; }
.policies { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 0 1.2rem; }
.policy { min-width: 0; } .policy h3 { margin-bottom: 0; } .policy .note { margin: 0; }
.token { border-radius: 2px; padding: .05em 0; } .prompt { font-weight: 600; }
dt { font-weight: 600; margin-top: .5rem; } dd { margin: 0 0 0 1rem; max-width: 60rem; }
code { overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { font-size: 15px; } th, td { padding: .25rem .4rem; }
  .panels { grid-template-columns: repeat(auto-fill, minmax(min(46%, 17rem), 1fr)); gap: .4rem; } }
@media print { :root { color-scheme: light; } details > * { display: block; } .scroll { overflow: visible; }
  .controls button { display: none; } pre { max-height: none; } .sample, figure { break-inside: avoid; }
  .token { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
# Should text ever get past the escaping, this keeps a browser from loading anything, and from running what is not ours.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def text(value: object) -> str:
    """`value` as HTML text: markup is escaped, and characters that cannot be seen are shown as \\u escapes."""
    shown = "".join(mark if mark.isprintable() or mark in "\n\t" else ascii(mark)[1:-1] for mark in str(value))
    return html.escape(shown)


def page(title: str, body: Sequence[str], script: str = "") -> str:
    """A whole document. `title` is escaped here; `body` is HTML; `script` is the only one that may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"{_POLICY}; script-src 'sha256-{digest}'" if script else _POLICY
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            *([f"<script>{script}</script>"] if script else []),
            "</body>",
            "</html>",
            "",
        ]
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table that scrolls sideways on a narrow screen. All cells are HTML. kind "text" wraps and left-aligns."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def figure(svg: str, caption: str = "", label: str = "") -> str:
    """An SVG with its caption (HTML) and a label for those who cannot see it (escaped here)."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure role="img" aria-label="{text(label)}">{svg}{below}</figure>'


def details(title: str, content: str, opened: bool = False) -> str:
    """A part that unfolds. Both are HTML."""
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n{content}</details>"


def bullets(items: Sequence[str], kind: str = "") -> str:
    """A list of HTML items; none for no items."""
    return f'<ul class="{kind}">{"".join(f"<li>{item}</li>" for item in items)}</ul>' if items else ""
