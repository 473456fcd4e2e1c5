"""The report page's style sheet: light and dark, phone and desktop, screen and paper."""

STYLE = """
:root{color-scheme:light dark;--page:#f4f6f9;--card:#fff;--ink:#182233;--soft:#566173;--line:#dde3eb;
--mine:#1f5fd0;--other:#a9b4c4;--good:#12734a;--good-back:#e2f4ea;--bad:#b3261e;--bad-back:#fce8e6;
--plain:#7a5200;--plain-back:#fdf1d6;--strong:#fff}
@media (prefers-color-scheme:dark){:root{--page:#0f141b;--card:#181f29;--ink:#e7ecf3;--soft:#a3afc0;--line:#2c3645;
--mine:#6ea3ff;--other:#5d6a7d;--good:#6fdca6;--good-back:#12351f;--bad:#ff9a91;--bad-back:#431b19;
--plain:#f2c56b;--plain-back:#3a2c0d;--strong:#0b1017}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif;-webkit-text-size-adjust:100%;text-size-adjust:100%}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:32px}
footer{padding-bottom:48px;color:var(--soft);font-size:14px}
h1{font-size:30px;line-height:1.2;margin:4px 0 18px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:22px;line-height:1.25;margin:0 0 12px;overflow-wrap:anywhere}
h3{font-size:16px;margin:30px 0 8px}
p{margin:0 0 12px;max-width:75ch;overflow-wrap:anywhere}
a{color:var(--mine)}
code,pre{font:14px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
code{overflow-wrap:anywhere}
pre{background:var(--page);border:1px solid var(--line);border-radius:8px;padding:12px 14px;white-space:pre-wrap;
overflow-wrap:anywhere;margin:0 0 14px}
.over{color:var(--soft);font-size:14px;margin:0;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:24px;margin:0 0 20px}
.verdict{border-left:5px solid var(--mine);font-size:18px}
.verdict p:last-child,section>p:last-child{margin-bottom:0}
.verdict ul{margin:0;padding:0;list-style:none}
.verdict li+li{margin-top:12px}
.pill{display:inline-block;border-radius:99px;padding:1px 11px;font-size:13px;font-weight:600;line-height:1.7;
margin:0 8px 4px 0;white-space:nowrap;color:var(--plain);background:var(--plain-back)}
.pill.good{color:var(--good);background:var(--good-back)}
.pill.bad{color:var(--bad);background:var(--bad-back)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:0 0 20px;padding:0}
.tiles>div{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px;margin:0}
section .tiles{margin-top:16px}
section .tiles>div{background:var(--page)}
.tiles dt{color:var(--soft);font-size:13.5px;line-height:1.35;min-height:2.7em;display:flex;align-items:end}
.tiles dd{margin:2px 0 0;overflow-wrap:anywhere}
.tiles b{display:block;font-size:25px;line-height:1.3;font-weight:650;letter-spacing:-.01em}
.tiles small{color:var(--soft);font-size:13px;line-height:1.4;display:block}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:24px;margin:20px 0 0}
figure{margin:0;min-width:0}
figcaption{font-size:13.5px;color:var(--soft);line-height:1.45;margin-top:6px;max-width:60ch}
figcaption b{color:var(--ink)}
.chart{display:block;width:100%;height:auto;max-width:calc(var(--wide)*1.15)}
.map{overflow-x:auto}
.map .chart{min-width:min(var(--wide),640px)}
.chart text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;fill:var(--ink)}
.chart .tick,.chart .axis{fill:var(--soft);font-size:11px}
.chart .label.mine{font-weight:650}
.chart .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.chart .grid{stroke:var(--line);stroke-width:1}
.chart .bar.mine,.chart .dot,.chart .cell.right{fill:var(--mine)}
.chart .bar.other{fill:var(--other)}
.chart .dot{fill-opacity:.85;stroke:var(--card);stroke-width:1.5}
.chart .whisker{stroke:var(--ink);stroke-width:1.5}
.chart .ideal,.chart .wanted{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:5 4}
.chart .curve{fill:none;stroke:var(--mine);stroke-width:2.5;stroke-linejoin:round}
.chart .curve.other{stroke:var(--other)}
.chart .curve.expected{stroke-dasharray:6 4}
.chart .band{fill:var(--mine);fill-opacity:.14}
.chart .band.other{fill:var(--other)}
.chart .cell.wrong{fill:var(--bad)}
.chart .cell.none{fill:var(--line);fill-opacity:.35}
.chart .count{font-size:10.5px}
.chart .count.strong{fill:var(--strong)}
.scroll{overflow-x:auto;margin:14px 0 4px}
.scroll:focus-visible,summary:focus-visible,a:focus-visible{outline:2px solid var(--mine);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:14.5px;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);font-size:13.5px;padding:0 0 6px}
th,td{text-align:left;padding:7px 14px 7px 0;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;border-bottom:1px solid var(--soft);color:var(--soft);font-size:13px;font-weight:600;
vertical-align:bottom}
tbody th{font-weight:500;min-width:9em;max-width:26em;overflow-wrap:anywhere}
td{max-width:26em;overflow-wrap:anywhere}
th.n,td.n{text-align:right;padding-left:10px;overflow-wrap:normal}
th:last-child,td:last-child{padding-right:2px}
td.n{white-space:nowrap}
td i,.tiles i{font-style:normal;color:var(--soft);font-size:13px}
tbody th small{display:block;color:var(--soft);font-weight:400;line-height:1.4;font-size:13px}
tr.chosen th,tr.chosen td{font-weight:650}
.meter{display:inline-block;width:64px;height:8px;border-radius:4px;background:var(--line);margin-left:8px;overflow:hidden;
vertical-align:middle}
.meter span{display:block;height:100%;background:var(--mine);width:var(--part)}
dl{margin:0}
dl.facts>div{display:grid;grid-template-columns:minmax(120px,200px) 1fr;gap:4px 16px;padding:6px 0;
border-top:1px solid var(--line)}
dl.facts>div:first-child{border-top:0}
.facts dt{color:var(--soft)}
.facts dd{margin:0;overflow-wrap:anywhere}
ul{margin:0 0 12px;padding-left:22px;max-width:85ch}
li{margin:4px 0;overflow-wrap:anywhere}
.notice{background:var(--plain-back);border-radius:10px;padding:12px 16px;margin:14px 0}
.notice ul{margin:0}
.notice p{margin:0}
details{margin-top:14px}
summary{cursor:pointer;font-weight:600;padding:4px 0}
nav{margin:0 0 20px;font-size:15px}
nav a{margin-right:16px;display:inline-block}
@media (max-width:600px){main,header,footer{padding:0 12px}header{padding-top:18px}h1{font-size:24px}
section{padding:16px 14px;border-radius:12px}.verdict{font-size:16.5px}
.tiles{grid-template-columns:repeat(2,1fr);gap:8px}.tiles>div{padding:11px 12px}.tiles b{font-size:21px}
dl.facts>div{grid-template-columns:1fr;gap:0}}
@media print{body{background:#fff}section,.tiles>div,figure,tr{break-inside:avoid}section{border:0;padding:0}}
"""
