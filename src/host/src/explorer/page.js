"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const byHash = new Map(data.networks.map((n) => [n.hash, n]));
const ms = (n) => n.parts_ms[0] + n.parts_ms[1] + n.parts_ms[2];
const front = data.networks.filter((n) => n.front).sort((a, b) => ms(a) - ms(b));
const measured = new Map(data.measured.map((m) => [m.hash, m]));
let chosen = front[Math.floor(front.length / 2)] || data.networks[0];

const node = (name, attributes, ...children) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
};
const el = (name, attributes, ...children) => {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (k === "onclick") e.addEventListener("click", v);
    else if (k === "style") e.style.cssText = v;
    else e.setAttribute(k, v);
  }
  e.append(...children);
  return e;
};

// Axes with round ticks.
function frame(svg, box, xs, ys, xLabel, yLabel, equal) {
  svg.replaceChildren();
  const span = (values, pad) => {
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (!isFinite(low)) [low, high] = [0, 1];
    const margin = (high - low || Math.abs(high) || 1) * pad;
    return [low - margin, high + margin];
  };
  let [x0, x1] = span(xs, 0.05), [y0, y1] = span(ys, 0.06);
  if (equal) { x0 = y0 = Math.min(x0, y0); x1 = y1 = Math.max(x1, y1); }
  const x = (v) => box.left + ((v - x0) / (x1 - x0)) * box.width;
  const y = (v) => box.top + box.height - ((v - y0) / (y1 - y0)) * box.height;
  const ticks = (low, high, n) => {
    const raw = (high - low) / n, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const out = [];
    for (let v = Math.ceil(low / step) * step; v <= high + 1e-12; v += step) out.push(v);
    return out.map((v) => [v, v.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))]);
  };
  for (const [v, text] of ticks(x0, x1, box.width / 75)) {
    svg.append(node("line", { class: "grid", x1: x(v), x2: x(v), y1: box.top, y2: box.top + box.height }),
      node("text", { x: x(v), y: box.top + box.height + 15, "text-anchor": "middle" }, text));
  }
  for (const [v, text] of ticks(y0, y1, box.height / 45)) {
    svg.append(node("line", { class: "grid", x1: box.left, x2: box.left + box.width, y1: y(v), y2: y(v) }),
      node("text", { x: box.left - 6, y: y(v) + 4, "text-anchor": "end" }, text));
  }
  svg.append(node("text", { x: box.left + box.width / 2, y: box.top + box.height + 32, "text-anchor": "middle" }, xLabel),
    node("text", { transform: `translate(12 ${box.top + box.height / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  return { x, y, x0, x1, y0, y1 };
}

const summary = (n) => {
  const depth = n.arch.stages.map((s) => s.length).join("-");
  const sources = (part) => n.arch[part].map((l) => l.sources.length).join("-");
  return `${n.hash}\n${ms(n).toFixed(2)} ms, F ${n.f_max.toFixed(4)}, MAE ${n.mae.toFixed(4)}\n` +
    `layers ${depth}; sources transport ${sources("transport")}, decoder ${sources("decoder")}\n` +
    `generation ${n.generation}, ${n.origin}${n.share < 1 ? `; judged on ${(n.share * 100).toFixed(0)} % of the images` : ""}`;
};
function tip(e, text) {
  const t = $("tip");
  t.hidden = !text;
  if (!text) return;
  t.textContent = text;
  t.style.left = Math.min(e.clientX + 14, innerWidth - 310) + "px";
  t.style.top = Math.min(e.clientY + 14, innerHeight - 110) + "px";
}
function ancestors(n) {
  const seen = new Map(), open = [n.hash];
  while (open.length) {
    const found = byHash.get(open.pop());
    if (!found || seen.has(found.hash)) continue;
    seen.set(found.hash, found);
    open.push(...found.parents);
  }
  return [...seen.values()].sort((a, b) => b.generation - a.generation);
}

const last = Math.max(0, ...data.networks.map((n) => n.generation));
const shown = { until: last, kin: true, onlyFront: false };
function controls() {
  const range = el("input", { type: "range", min: 0, max: last, value: last, "aria-label": "last generation shown" });
  const text = el("span", {}, `up to generation ${last}`);
  range.addEventListener("input", () => { shown.until = +range.value; text.textContent = `up to generation ${range.value}`; scatter(); });
  const box = (name, label) => {
    const input = el("input", { type: "checkbox" });
    input.checked = shown[name];
    input.addEventListener("change", () => { shown[name] = input.checked; scatter(); });
    return el("label", {}, input, label);
  };
  $("controls").append(el("label", {}, range, text), box("kin", "mark ancestors"), box("onlyFront", "front only"));
}
function scatter() {
  const svg = $("scatter"), box = { left: 62, top: 10, width: 565, height: 362 };
  const all = data.networks;
  const { x, y } = frame(svg, box, all.map(ms), all.map((n) => n.f_max), "Predicted latency, ms", "Maximum F");
  const path = front.map((n, i) => (i ? `H${x(ms(n))}V${y(n.f_max)}` : `M${x(ms(n))} ${y(n.f_max)}`)).join("");
  svg.append(node("path", { class: "line", d: path }));
  const kin = new Set(shown.kin ? ancestors(chosen).map((n) => n.hash) : []);
  const order = [...all].sort((a, b) => (a.front - b.front) || ((a === chosen) - (b === chosen)));
  for (const n of order) {
    if (n.generation > shown.until || (shown.onlyFront && !n.front)) continue;
    const names = ["dot", n.front && "front", n === chosen && "chosen", kin.has(n.hash) && n !== chosen && "kin"];
    const dot = node("circle", { class: names.filter(Boolean).join(" "), cx: x(ms(n)), cy: y(n.f_max), r: n === chosen ? 7 : n.front ? 5 : 3.5, "data-hash": n.hash });
    dot.addEventListener("mousemove", (e) => tip(e, summary(n)));
    dot.addEventListener("mouseleave", (e) => tip(e, ""));
    dot.addEventListener("click", () => choose(n));
    svg.append(dot);
  }
}

function pairs(rows) {
  const list = el("dl", { class: "pairs" });
  for (const [label, value] of rows) list.append(el("dt", {}, label), el("dd", {}, value));
  return list;
}
function details() {
  const n = chosen, m = measured.get(n.hash), rows = [
    ["architecture", n.hash], ["predicted", `${ms(n).toFixed(3)} ms`],
    ["of it", `backbone ${n.parts_ms[0].toFixed(2)}, transport ${n.parts_ms[1].toFixed(2)}, decoder ${n.parts_ms[2].toFixed(2)} ms`],
  ];
  if (m) rows.push(["measured", `${m.measured_ms.toFixed(3)} ms (prediction ${((m.predicted_ms / m.measured_ms - 1) * 100).toFixed(1)} %)`]);
  rows.push(["maximum F", n.f_max.toFixed(4)], ["MAE", n.mae.toFixed(4)], ["on the front", n.front ? "yes" : "no"], ["made by", `${n.origin}, generation ${n.generation}`]);
  const line = ancestors(n).slice(1);
  const links = el("p", { class: "quiet" }, line.length ? `${line.length} ${line.length > 1 ? "ancestors" : "ancestor"}: ` : "First of its line.");
  line.slice(0, 8).forEach((a, i) => links.append(i ? ", " : "", el("button", { class: "link", type: "button", onclick: () => choose(a) }, `${a.hash.slice(0, 6)} (g${a.generation})`)));
  if (line.length > 8) links.append(", …");
  $("details").replaceChildren(pairs(rows), links, pairs([
    ["layers", n.arch.stages.map((s) => s.length).join(" ")], ["stem", `${n.arch.stem} channels`],
    ["transport", n.arch.transport.map((l) => `{${l.sources}}`).join(" ")], ["decoder", n.arch.decoder.map((l) => `{${l.sources}}`).join(" ")],
  ]));
}

function diagram() {
  const svg = $("diagram"), arch = chosen.arch, space = data.space;
  svg.replaceChildren();
  const widest = Math.max(...arch.stages.flat().map((l) => l.channels), arch.stem), biggest = Math.max(...space.stage.flatMap((s) => s.kernels), 3);
  const rowH = 48, top = 46, layerX = 96, boxMax = 84, boxGap = 8;
  const deepest = Math.max(...arch.stages.map((s) => s.length));
  const stageY = (i) => top + (i + 1) * rowH, tX = layerX + deepest * (boxMax + boxGap) + 90, dX = tX + 200;
  const height = stageY(arch.stages.length) + 14, width = dX + 150;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const [x, text] of [[layerX, "backbone"], [tX - 22, "transport"], [dX - 22, "decoder"]]) svg.append(node("text", { x, y: 14, "font-weight": 600 }, text));
  const shade = (kernels) => 0.25 + 0.75 * (Math.max(...kernels) / biggest) ** 1.2;
  const box = (x, y, channels, kernels, part, title) => {
    const w = 26 + (boxMax - 26) * Math.sqrt(channels / widest);
    const g = node("g", {}, node("title", {}, title), node("rect", { x, y: y - 15, width: w, height: 30, rx: 4, class: `part${part}`, "fill-opacity": shade(kernels) }),
      node("text", { x: x + w / 2, y: y - 2, "text-anchor": "middle", style: "fill:#fff;font-weight:600" }, String(channels)),
      node("text", { x: x + w / 2, y: y + 10, "text-anchor": "middle", style: "fill:#fff;font-size:9px" }, kernels.join("·")));
    svg.append(g);
    return x + w;
  };
  svg.append(node("text", { x: 8, y: stageY(-1) + 4 }, "stem"));
  box(layerX, stageY(-1), arch.stem, [space.stem.kernel], 0, `stem: ${arch.stem} channels`);
  const ends = arch.stages.map((layers, i) => {
    svg.append(node("text", { x: 8, y: stageY(i) + 4 }, `stage ${i + 1}${space.stage[i].stride > 1 ? " /2" : ""}`));
    let x = layerX, end = x;
    layers.forEach((l, d) => { end = box(x, stageY(i), l.channels, l.kernels, 0, `stage ${i + 1}, layer ${d}: ${l.channels} channels, kernels ${l.kernels}`); x = end + boxGap; });
    return end;
  });
  const levels = space.level, levelY = (j) => stageY(levels[j].stage - 1);
  const curve = (x1, y1, x2, y2, part, weight) => svg.append(node("path", { d: `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`, fill: "none", stroke: part === 1 ? "#0f766e" : "#c2410c", "stroke-width": weight, "stroke-opacity": 0.55 }));
  arch.transport.forEach((l, j) => l.sources.forEach((s) => curve(ends[levels[s].stage - 1], levelY(s), tX - 17, levelY(j), 1, s === j ? 2.5 : 1.5)));
  arch.decoder.forEach((l, j) => l.sources.forEach((s) => {
    if (s === j) curve(tX + 17, levelY(j), dX - 17, levelY(j), 2, 2.5);
    else { const bend = dX + 26 + 16 * (s - j); svg.append(node("path", { d: `M${dX + 17} ${levelY(s)}C${bend} ${levelY(s)} ${bend} ${levelY(j)} ${dX + 17} ${levelY(j)}`, fill: "none", stroke: "#c2410c", "stroke-width": 1.5, "stroke-opacity": 0.6 })); }
  }));
  for (const [part, x, key] of [["transport", tX, 1], ["decoder", dX, 2]]) {
    arch[part].forEach((l, j) => {
      svg.append(node("g", {}, node("title", {}, `${part} level ${j}: sources ${l.sources}, kernels ${l.kernels}`),
        node("circle", { cx: x, cy: levelY(j), r: 16, class: `part${key}`, "fill-opacity": shade(l.kernels) }),
        node("text", { x, y: levelY(j) - 1, "text-anchor": "middle", style: "fill:#fff;font-weight:600" }, String(j)),
        node("text", { x, y: levelY(j) + 10, "text-anchor": "middle", style: "fill:#fff;font-size:8px" }, l.kernels.join("·"))));
      if (part === "transport") svg.append(node("text", { x: x, y: levelY(j) - 19, "text-anchor": "middle", style: "font-size:9px" }, `1/${2 ** (j + 1)}`));
    });
  }
  svg.append(node("text", { x: dX, y: levelY(0) - 20, "text-anchor": "middle", style: "font-size:10px" }, "to the map"));
}

function blocks() {
  const n = chosen, total = ms(n), names = ["backbone", "transport", "decoder and head"], out = $("blocks");
  const whole = el("div", { class: "whole" }), legend = el("div", { class: "legend" });
  names.forEach((name, i) => {
    whole.append(el("i", { class: `part${i}`, style: `width:${(n.parts_ms[i] / total) * 100}%`, title: name }));
    legend.append(el("span", {}, el("i", { class: `part${i}` }), `${name} ${n.parts_ms[i].toFixed(2)} ms (${((n.parts_ms[i] / total) * 100).toFixed(0)} %)`));
  });
  out.replaceChildren(whole, legend);
  if (!n.blocks) return out.append(el("p", { class: "quiet" }, "Blocks are listed for networks of the front."));
  const most = Math.max(...n.blocks.map((b) => b[1]), 1e-9), bars = el("div", { class: "bars" });
  for (const [name, us] of n.blocks.filter((b) => b[1] > 0)) {
    const part = name.startsWith("backbone") ? 0 : name.startsWith("transport") ? 1 : 2;
    bars.append(el("div", { class: "bar" }, el("span", {}, name.replace("branches.level_", "branch ").replace("mainops.level_", "fusion ").replace("decoder_dict.level_", "head ")),
      el("i", { class: `part${part}`, style: `width:${(us / most) * 100}%` }), el("span", {}, `${us.toFixed(0)} us`)));
  }
  out.append(bars);
}

function masks() {
  if (!data.masks || !data.masks.maps.length) return void $("s-masks").remove();
  const table = el("table", { class: "masks" });
  const row = (label, images, hash) => {
    const tr = el("tr", hash ? { "data-hash": hash, onclick: () => choose(byHash.get(hash)) } : {}, el("th", {}, label));
    images.forEach((src, i) => tr.append(el("td", {}, el("img", { src, alt: `${label.replace("\n", ", ")}, photo ${i + 1}` }))));
    table.append(tr);
  };
  row("photo", data.masks.photos);
  row("label", data.masks.labels);
  for (const [hash, maps] of data.masks.maps) {
    const n = byHash.get(hash);
    if (n) row(`${ms(n).toFixed(2)} ms\nF ${n.f_max.toFixed(4)}`, maps, hash);
  }
  $("masks").replaceChildren(table);
}

function groups() {
  const [low, high, count] = data.groups, svg = $("groups"), box = { left: 50, top: 10, width: 340, height: 205 };
  const of = (n) => Math.max(0, Math.min(count - 1, Math.floor(((ms(n) - low) / (high - low || 1)) * count)));
  const all = Array(count).fill(0), best = Array(count).fill(0);
  for (const n of data.networks) { all[of(n)]++; if (n.front) best[of(n)]++; }
  svg.replaceChildren();
  const top = Math.max(...all, 1), w = box.width / count, y = (v) => box.top + box.height * (1 - v / top);
  all.forEach((v, g) => {
    const x = box.left + g * w + 2;
    const bar = node("g", {}, node("rect", { x, y: y(v), width: w - 4, height: box.top + box.height - y(v), fill: "var(--bar)" }),
      node("rect", { x, y: y(best[g]), width: w - 4, height: box.top + box.height - y(best[g]), fill: "var(--front)" }));
    bar.addEventListener("mousemove", (e) => tip(e, `${(low + (g * (high - low)) / count).toFixed(2)} to ${(low + ((g + 1) * (high - low)) / count).toFixed(2)} ms\n${v} evaluated, ${best[g]} on the front`));
    bar.addEventListener("mouseleave", (e) => tip(e, ""));
    svg.append(bar, node("text", { x: x + w / 2 - 2, y: y(v) - 3, "text-anchor": "middle" }, String(v)));
  });
  svg.append(node("line", { class: "axis", x1: box.left, x2: box.left + box.width, y1: box.top + box.height, y2: box.top + box.height }),
    node("text", { x: box.left, y: box.top + box.height + 16 }, low.toFixed(1)), node("text", { x: box.left + box.width, y: box.top + box.height + 16, "text-anchor": "end" }, high.toFixed(1)),
    node("text", { x: box.left + box.width / 2, y: box.top + box.height + 32, "text-anchor": "middle" }, "Predicted latency, ms"));
}
function generations() {
  const svg = $("generations"), box = { left: 58, top: 10, width: 330, height: 205 }, g = data.generations;
  const { x, y } = frame(svg, box, g.map((p) => p.generation), g.map((p) => p.hypervolume), "Generation", "Hypervolume");
  svg.append(node("path", { class: "line", d: g.map((p, i) => `${i ? "L" : "M"}${x(p.generation)} ${y(p.hypervolume)}`).join("") }));
  for (const p of g) {
    const dot = node("circle", { class: "dot front", cx: x(p.generation), cy: y(p.hypervolume), r: 4 });
    dot.addEventListener("mousemove", (e) => tip(e, `generation ${p.generation}: ${p.evaluated} evaluated\nhypervolume ${p.hypervolume.toFixed(4)}${p.shortfall ? `\n${p.shortfall} not found` : ""}`));
    dot.addEventListener("mouseleave", (e) => tip(e, ""));
    svg.append(dot);
  }
}
function comparison() {
  if (!data.measured.length) return void $("s-measured").remove();
  const svg = $("measured"), box = { left: 50, top: 10, width: 340, height: 205 }, m = data.measured;
  const { x, y, x0, x1 } = frame(svg, box, m.map((p) => p.predicted_ms), m.map((p) => p.measured_ms), "Predicted, ms", "Measured, ms", true);
  svg.append(node("line", { class: "equal", x1: x(x0), y1: y(x0), x2: x(x1), y2: y(x1) }));
  for (const p of m) {
    const dot = node("circle", { class: p.front ? "dot front" : "dot", cx: x(p.predicted_ms), cy: y(p.measured_ms), r: 5 });
    dot.addEventListener("mousemove", (e) => tip(e, `${p.hash}\npredicted ${p.predicted_ms.toFixed(2)}, measured ${p.measured_ms.toFixed(2)} ms\nprediction ${((p.predicted_ms / p.measured_ms - 1) * 100).toFixed(1)} %`));
    dot.addEventListener("mouseleave", (e) => tip(e, ""));
    dot.addEventListener("click", () => byHash.has(p.hash) && choose(byHash.get(p.hash)));
    svg.append(dot);
  }
}
function table() {
  const head = ["architecture", "predicted ms", ...(measured.size ? ["measured ms", "error %"] : []), "maximum F", "MAE", "generation", "made by"];
  const body = el("tbody");
  for (const n of front) {
    const m = measured.get(n.hash), cells = [n.hash, ms(n).toFixed(2)];
    if (measured.size) cells.push(m ? m.measured_ms.toFixed(2) : "–", m ? ((m.predicted_ms / m.measured_ms - 1) * 100).toFixed(1) : "–");
    cells.push(n.f_max.toFixed(4), n.mae.toFixed(4), String(n.generation), n.origin);
    body.append(el("tr", { "data-hash": n.hash, onclick: () => choose(n) }, ...cells.map((c) => el("td", {}, c))));
  }
  $("table").replaceChildren(el("thead", {}, el("tr", {}, ...head.map((h) => el("th", { scope: "col" }, h)))), body);
}
function choose(n) {
  chosen = n;
  scatter(); details(); diagram(); blocks();
  for (const row of document.querySelectorAll("tr[data-hash]")) row.classList.toggle("chosen", row.dataset.hash === n.hash);
}
$("scatter").addEventListener("keydown", (e) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
  if (!step) return;
  e.preventDefault();
  const at = front.indexOf(chosen);
  choose(front[Math.max(0, Math.min(front.length - 1, (at < 0 ? 0 : at) + step))]);
});
$("lead").textContent = `${data.networks.length} networks evaluated, ${front.length} on the front, ${data.generations.length} generations`;
for (const [label, value] of [...data.facts, ["command", data.command], ["version", data.version], ["created", data.created]]) $("facts").append(el("dt", {}, label), el("dd", {}, value));
controls(); masks(); groups(); generations(); comparison(); table(); choose(chosen);
document.body.dataset.ready = "yes";
