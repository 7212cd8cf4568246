"""The frame of report.html: light, readable on a phone, nothing loaded from elsewhere."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{title}</title>
<style>
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 62rem; background: #fff; color: #1f2328;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .4rem 0 .8rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid #d8dee4; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; }
li { margin: .35rem 0; }
blockquote { margin: 1.2rem 0; padding: .6rem 1.1rem; background: #f4f7fa; border-left: 4px solid #0072b2;
  border-radius: 0 6px 6px 0; font-size: .95rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid #d8dee4; text-align: left; vertical-align: top; }
td:first-child { min-width: 5.5rem; }
th { background: #f4f7fa; }
/* --share: width as a share of the widest picture, so that letters are of one size */
.picture img { display: block; width: calc(100% * var(--share, 1)); height: auto; }
.picture + p { margin-top: 0; color: #424a53; font-size: .93rem; }
@media (max-width: 40rem) {
  .picture img { width: max(100%, 46rem * var(--share, 1)); }
  h1 { font-size: 1.4rem; } ul { padding-left: 1.2rem; }
}
pre { padding: .8rem; overflow-x: auto; background: #f4f7fa; border-radius: 6px; }
.outcome { padding: .05em .45em; border-radius: .7em; background: #e8eaed; white-space: nowrap; }
.supported { background: #d7f0e4; }
.contradicted { background: #fbe0d3; }
.practically { background: #dceaf6; }
</style>
</head>
<body>
{body}
</body>
</html>
"""
